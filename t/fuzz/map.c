/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Files beside a configuration: up to RS (0x1e) a plan map, compared with a plain reading of it;
 * behind it a list of networks, each of which has its own address.
 */

#include "fuzz.h"
#include "httpd.h"
#include "plan_map.h"

#include <apr_strings.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEPARATOR 0x1e
#define ENTRIES_MAX 4096
#define PLANS 3

const char fuzz_name[] = "map";

static const char map_conf[] = "RateLimitPlan free rate=1/s\nRateLimitPlan pro rate=2/s\n"
                               "RateLimitPlan x rate=3/s\nRateLimitExempt file:FILE\n";

/* --- the plain reading of a plan map */

typedef struct {
    const char *value; /* with a NUL behind it */
    size_t len;
    const plan_t *plan;
} entry_t;

typedef struct {
    entry_t entries[ENTRIES_MAX];
    int n;
    bool wrong;
} table_t;

static size_t table_word(const char **at, const char *end, const char **word)
{
    while (*at < end && strchr(" \t\r", **at) != NULL && **at != '\0') {
        ++*at;
    }
    *word = *at;
    while (*at < end && (**at == '\0' || strchr(" \t\r", **at) == NULL)) {
        ++*at;
    }
    return (size_t)(*at - *word);
}

/* As digests are compared: without regard to case. */
static bool table_same(const entry_t *entry, const char *value, size_t len)
{
    const bool digest = len >= 7 && memcmp(value, "sha256:", 7) == 0;

    return entry->len == len &&
           (digest ? strncasecmp(entry->value, value, len) : memcmp(entry->value, value, len)) == 0;
}

static bool table_is_value(const char *value, size_t len)
{
    if (len >= 3 && memcmp(value, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
        return false;
    }
    return len < 7 || memcmp(value, "sha256:", 7) != 0 ||
           (len == 71 && strspn(value + 7, "0123456789abcdefABCDEF") >= 64);
}

static void table_line(table_t *table, const char *at, const char *end, apr_pool_t *pool)
{
    const char *value;
    const char *name;
    const char *more;
    const size_t len = table_word(&at, end, &value);
    const size_t name_len = table_word(&at, end, &name);
    const size_t more_len = table_word(&at, end, &more);

    if (len == 0 || *value == '#') {
        return;
    }
    const plan_t *plan =
        name_len > 0 ? apr_hash_get(rlp_world->plans, name, (apr_ssize_t)name_len) : NULL;

    table->wrong |= plan == NULL || (more_len > 0 && *more != '#') || !table_is_value(value, len);
    for (int i = 0; i < table->n; i++) {
        table->wrong |= table_same(&table->entries[i], value, len);
    }
    table->entries[table->n++] =
        (entry_t){ .value = apr_pstrmemdup(pool, value, len), .len = len, .plan = plan };
}

static void table_read(table_t *table, const char *text, size_t size, apr_pool_t *pool)
{
    const char *const end = text + size;

    table->n = 0;
    table->wrong = false;
    while (text < end && table->n < ENTRIES_MAX && !table->wrong) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));

        line_end = line_end ? line_end : end;
        table_line(table, text, line_end, pool);
        text = line_end + 1;
    }
}

/* --- comparing */

static void map_compare(const txt_t *txt, const table_t *table)
{
    uint32_t counts[PLANS + 1] = { 0 };
    uint32_t sum = 0;

    for (int i = 0; i < table->n; i++) {
        const entry_t *entry = &table->entries[i];

        if (strlen(entry->value) == entry->len && strncmp(entry->value, "sha256:", 7) != 0) {
            fuzz_expect(txt_find(txt, entry->value) == entry->plan, "a value has its plan");
        }
    }
    txt_count_plans(txt, counts);
    for (int i = 0; i <= PLANS; i++) {
        sum += counts[i];
    }
    fuzz_expect(sum == (uint32_t)table->n, "there are as many values as lines");
    fuzz_expect(txt_find(txt, "nobody has this") == NULL, "a value that is not there has none");
}

/* A file that has no name but this one. */
static const char *map_file(int fd, const char *text, size_t size, apr_pool_t *pool)
{
    if (fd < 0 || write(fd, text, size) != (ssize_t)size) {
        abort();
    }
    return apr_psprintf(pool, "/proc/self/fd/%d", fd);
}

static void map_try(const char *text, size_t size, apr_pool_t *pool)
{
    static table_t table;
    const int file = memfd_create("map", MFD_CLOEXEC);
    const int room = memfd_create("room", MFD_CLOEXEC);
    const txt_request_t request = { .path = map_file(file, text, size, pool), .fd = room };
    const txt_t *txt = NULL;
    file_mark_t mark;

    table_read(&table, text, size, pool);
    const char *error = txt_read(&txt, &mark, &request, pool);

    fuzz_expect((error == NULL) == !table.wrong, "a map is read where every line is one");
    if (error == NULL) {
        const txt_t *other = txt_open(room);

        map_compare(txt, &table);
        map_compare(other, &table);
        txt_close(other, txt_size(other));
        txt_close(txt, txt_size(txt));
    }
    close(file);
    close(room);
}

/* --- networks */

static bool network_address(apr_sockaddr_t *address, const char *text)
{
    memset(address, 0, sizeof(*address));
    address->family = strchr(text, ':') ? APR_INET6 : APR_INET;
    return address->family == APR_INET6
               ? inet_pton(AF_INET6, text, &address->sa.sin6.sin6_addr) == 1
               : inet_pton(AF_INET, text, &address->sa.sin.sin_addr) == 1;
}

static void network_try(const httpd_conf_t *conf, char *text)
{
    const dir_conf_t *dir = *(dir_conf_t **)(void *)conf->main->lookup_defaults;
    char *rest = NULL;

    for (char *line = apr_strtok(text, "\n", &rest); line; line = apr_strtok(NULL, "\n", &rest)) {
        apr_sockaddr_t address;
        request_rec r = { .useragent_addr = &address };

        line += strspn(line, " \t\r");
        line[strcspn(line, "/# \t\r")] = '\0';
        if (network_address(&address, line)) {
            fuzz_expect(exempt_matches(dir->exempts, &r), "a network has its own address");
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_pool_t *pool = fuzz_pool();
    char *text = apr_pstrmemdup(pool, (const char *)data, size);
    char *end = memchr(text, SEPARATOR, size);
    const size_t len = end ? (size_t)(end - text) : size;
    const int file = memfd_create("networks", MFD_CLOEXEC);
    httpd_conf_t conf;

    httpd_file = map_file(file, text + len + (end != NULL), size - len - (end != NULL), pool);
    httpd_read(&conf, map_conf, pool);
    if (conf.error == NULL && end != NULL && memchr(end, '\0', size - len) == NULL) {
        network_try(&conf, end + 1);
    }
    map_try(text, len, pool);
    close(file);
    return 0;
}
