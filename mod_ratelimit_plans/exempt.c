/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Who is let through uncounted: networks, sorted when they are configured, and expressions.
 */

#include "private.h"

#include <apr_file_io.h>
#include <apr_network_io.h>
#include <apr_strings.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define EXEMPT_BYTES 16     /* of the longest address; shorter ones have zeros behind */
#define EXEMPT_LINE_MAX 512 /* of a file */

enum { EXEMPT_V4, EXEMPT_V6, EXEMPT_FAMILIES };

/* All addresses from one to another. */
typedef struct {
    unsigned char first[EXEMPT_BYTES];
    unsigned char last[EXEMPT_BYTES];
} exempt_range_t;

/* One directive. */
struct exempt_t {
    const ap_expr_info_t *expr; /* NULL: networks */
    struct {
        const exempt_range_t *ranges; /* in order, none touches another */
        int n;
    } families[EXEMPT_FAMILIES];
};

/* What is read before it is sorted; of exempt_range_t. */
typedef struct {
    apr_array_header_t *families[EXEMPT_FAMILIES];
} exempt_reading_t;

/* --- reading */

/* 0 to most; -1 for anything else. */
static int exempt_bits(const char *text, int most)
{
    const size_t digits = strspn(text, "0123456789");
    const int bits = digits >= 1 && digits <= 3 && text[digits] == '\0' ? atoi(text) : -1;

    return bits <= most ? bits : -1;
}

static bool exempt_is_mapped(const unsigned char *address)
{
    static const unsigned char mapped[] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

    return memcmp(address, mapped, sizeof(mapped)) == 0;
}

/* An IPv4 address inside IPv6 is an IPv4 address: puts it to the front. */
static void exempt_unmap(unsigned char *address)
{
    memmove(address, address + 12, 4);
    memset(address + 4, 0, EXEMPT_BYTES - 4);
}

/* From the first address of a network to the last. False: the first has bits behind the network's,
   which are cleared. */
static bool exempt_spread(exempt_range_t *range, int bytes, int bits)
{
    bool clean = true;

    for (int i = 0; i < bytes; i++, bits -= 8) {
        const int kept = bits < 0 ? 0 : bits;
        const unsigned char rest = (unsigned char)(kept < 8 ? 0xff >> kept : 0);

        clean &= (range->first[i] & rest) == 0;
        range->first[i] &= (unsigned char)~rest;
        range->last[i] = range->first[i] | rest;
    }
    return clean;
}

/* NULL, or what was expected. */
static const char *exempt_network(exempt_reading_t *reading, const char *text, apr_pool_t *pool)
{
    const char *slash = strchr(text, '/');
    const char *host = slash ? apr_pstrmemdup(pool, text, (apr_size_t)(slash - text)) : text;
    int family = strchr(host, ':') ? EXEMPT_V6 : EXEMPT_V4;
    const int most = family == EXEMPT_V6 ? 128 : 32;
    int bits = slash ? exempt_bits(slash + 1, most) : most;
    exempt_range_t range = { .first = { 0 } };
    char name[INET6_ADDRSTRLEN] = "";

    if (bits < 0 || inet_pton(family == EXEMPT_V6 ? AF_INET6 : AF_INET, host, range.first) != 1) {
        return apr_psprintf(pool,
                            "expected an address or a network, such as 192.0.2.0/24 or "
                            "2001:db8::/32, got \"%s\"",
                            text);
    }
    if (family == EXEMPT_V6 && bits >= 96 && exempt_is_mapped(range.first)) {
        exempt_unmap(range.first);
        family = EXEMPT_V4;
        bits -= 96;
    }
    if (!exempt_spread(&range, family == EXEMPT_V6 ? 16 : 4, bits)) {
        inet_ntop(family == EXEMPT_V6 ? AF_INET6 : AF_INET, range.first, name, sizeof(name));
        return apr_psprintf(pool,
                            "expected nothing behind the bits of the network: %s/%d, got \"%s\"",
                            name, bits, text);
    }
    APR_ARRAY_PUSH(reading->families[family], exempt_range_t) = range;
    return NULL;
}

/* One line, with its end unless it is the last. NULL, or what was expected. */
static const char *exempt_line(exempt_reading_t *reading, char *line, bool last, apr_pool_t *pool)
{
    const size_t len = strlen(line);
    char *rest = NULL;
    const char *network;

    if (len == EXEMPT_LINE_MAX - 1) {
        return "expected lines of less than 510 bytes";
    }
    if (len == 0 || (line[len - 1] != '\n' && !last)) {
        return "expected text, got a NUL byte"; /* as a crash of the system leaves files */
    }
    line[strcspn(line, "#")] = '\0';
    network = apr_strtok(line, " \t\r\n", &rest);
    if (network == NULL) {
        return NULL;
    }
    const char *more = apr_strtok(NULL, " \t\r\n", &rest);

    return more ? apr_psprintf(pool,
                               "expected one address or network on a line, got \"%s\" behind it",
                               more)
                : exempt_network(reading, network, pool);
}

static const char *exempt_lines(exempt_reading_t *reading, apr_file_t *file, const char *path,
                                apr_pool_t *pool)
{
    char line[EXEMPT_LINE_MAX];
    char reason[120];
    apr_status_t rv;

    for (int n = 1; (rv = apr_file_gets(line, sizeof(line), file)) == APR_SUCCESS; n++) {
        const char *error = exempt_line(reading, line, apr_file_eof(file) == APR_EOF, pool);

        if (error != NULL) {
            return apr_psprintf(pool, "line %d of %s: %s", n, path, error);
        }
    }
    return APR_STATUS_IS_EOF(rv) ? NULL
                                 : apr_psprintf(pool, "cannot read %s: %s", path,
                                                apr_strerror(rv, reason, sizeof(reason)));
}

static const char *exempt_file(exempt_reading_t *reading, const char *name, apr_pool_t *pool)
{
    const char *path = *name ? ap_server_root_relative(pool, name) : NULL;
    apr_file_t *file;
    apr_finfo_t info;
    char reason[120];

    if (path == NULL) {
        return apr_psprintf(pool, "expected file:PATH with a path, got \"file:%s\"", name);
    }
    apr_status_t rv = apr_stat(&info, path, APR_FINFO_TYPE, pool);

    if (rv == APR_SUCCESS && info.filetype == APR_PIPE) { /* to open it may take for ever */
        return apr_psprintf(pool, "expected a file: %s", path);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_file_open(&file, path, APR_READ | APR_BUFFERED, APR_OS_DEFAULT, pool);
    }
    if (rv != APR_SUCCESS) {
        return apr_psprintf(pool, "cannot open %s: %s", path,
                            apr_strerror(rv, reason, sizeof(reason)));
    }
    const char *error = exempt_lines(reading, file, path, pool);

    apr_file_close(file);
    return error;
}

/* --- sorting */

static int exempt_compare(const void *a, const void *b)
{
    return memcmp(((const exempt_range_t *)a)->first, ((const exempt_range_t *)b)->first,
                  EXEMPT_BYTES);
}

/* In order, and networks inside others left out. */
static void exempt_sort(exempt_t *exempt, int family, const apr_array_header_t *read,
                        apr_pool_t *pool)
{
    exempt_range_t *ranges =
        apr_pmemdup(pool, read->elts, sizeof(*ranges) * (apr_size_t)read->nelts);
    int n = 0;

    qsort(ranges, (size_t)read->nelts, sizeof(*ranges), exempt_compare);
    for (int i = 0; i < read->nelts; i++) {
        if (n == 0 || memcmp(ranges[i].first, ranges[n - 1].last, EXEMPT_BYTES) > 0) {
            ranges[n++] = ranges[i];
        } else if (memcmp(ranges[i].last, ranges[n - 1].last, EXEMPT_BYTES) > 0) {
            ranges[n - 1] = ranges[i];
        }
    }
    exempt->families[family].ranges = ranges;
    exempt->families[family].n = n;
}

/* --- the directive */

static const char *exempt_networks(exempt_t *exempt, cmd_parms *cmd, int argc, char *const argv[])
{
    const bool file = strncmp(argv[0], "file:", 5) == 0;
    exempt_reading_t reading;
    const char *error = NULL;

    for (int i = 0; i < EXEMPT_FAMILIES; i++) {
        reading.families[i] = apr_array_make(cmd->temp_pool, 16, sizeof(exempt_range_t));
    }
    if (file) {
        error = exempt_file(&reading, argv[0] + 5, cmd->temp_pool);
    }
    for (int i = 1; i < argc && error == NULL; i++) {
        error = exempt_network(&reading, argv[i], cmd->temp_pool);
    }
    for (int i = 0; i < EXEMPT_FAMILIES && error == NULL; i++) {
        exempt_sort(exempt, i, reading.families[i], cmd->pool);
    }
    return error;
}

const char *exempt_parse(const exempt_t **exempt, cmd_parms *cmd, int argc, char *const argv[])
{
    static const char *const names[] = { "ip", "file:", "expr=", NULL };
    exempt_t *made = apr_pcalloc(cmd->pool, sizeof(*made));
    const char *error = config_quotes(argv[0], cmd->pool);

    *exempt = made;
    if (error != NULL) {
        return error;
    }
    if (ap_cstr_casecmp(argv[0], "ip") == 0 && argc > 1) {
        return exempt_networks(made, cmd, argc, argv);
    }
    if (strncmp(argv[0], "file:", 5) == 0 && argc == 1) {
        return exempt_networks(made, cmd, argc, argv);
    }
    if (ap_cstr_casecmpn(argv[0], "expr=", 5) == 0 && argc == 1) {
        return config_expression(&made->expr, cmd, "expr=", argv[0] + 5, 0);
    }
    /* one word too many, or the first is none of these */
    const bool begun =
        strncmp(argv[0], "file:", 5) == 0 || ap_cstr_casecmpn(argv[0], "expr=", 5) == 0;

    return apr_psprintf(cmd->pool, "expected ip CIDR..., file:PATH or \"expr=EXPR\", got \"%s\"%s",
                        argv[begun ? argc - 1 : 0],
                        begun ? "" : config_near(argv[0], names, cmd->pool));
}

const char *exempt_describe(const exempt_t *exempt, apr_pool_t *pool)
{
    const int v4 = exempt->families[EXEMPT_V4].n;
    const int v6 = exempt->families[EXEMPT_V6].n;

    return exempt->expr ? "who meets an expression"
                        : apr_psprintf(pool, "%d networks of IPv4 and %d of IPv6", v4, v6);
}

/* --- at request time */

/* The client's address as networks are kept; its family, or EXEMPT_FAMILIES for none. */
static int exempt_key(unsigned char key[EXEMPT_BYTES], const apr_sockaddr_t *address)
{
    memset(key, 0, EXEMPT_BYTES);
    if (address->family == APR_INET) {
        memcpy(key, &address->sa.sin.sin_addr, 4);
        return EXEMPT_V4;
    }
    if (address->family != APR_INET6) {
        return EXEMPT_FAMILIES;
    }
    memcpy(key, &address->sa.sin6.sin6_addr, EXEMPT_BYTES);
    if (!exempt_is_mapped(key)) {
        return EXEMPT_V6;
    }
    exempt_unmap(key);
    return EXEMPT_V4;
}

/* The last network that begins at the address or before it has the address, or none has. */
static bool exempt_has(const exempt_range_t *ranges, int n, const unsigned char *key)
{
    int low = 0;

    while (low < n) {
        const int middle = low + (n - low) / 2;

        if (memcmp(ranges[middle].first, key, EXEMPT_BYTES) > 0) {
            n = middle;
        } else {
            low = middle + 1;
        }
    }
    return low > 0 && memcmp(key, ranges[low - 1].last, EXEMPT_BYTES) <= 0;
}

static bool exempt_meets(const exempt_t *exempt, request_rec *r)
{
    const char *error = NULL;
    const int met = ap_expr_exec(r, exempt->expr, &error);

    if (error != NULL) {
        denial_log_expression(r, "RateLimitExempt", "", error);
    }
    return met > 0;
}

bool exempt_matches(const apr_array_header_t *exempts, request_rec *r)
{
    unsigned char key[EXEMPT_BYTES];
    const int family = exempt_key(key, r->useragent_addr);
    bool matches = false;

    for (int i = 0; i < exempts->nelts && !matches; i++) {
        const exempt_t *exempt = APR_ARRAY_IDX(exempts, i, const exempt_t *);

        if (exempt->expr != NULL) {
            matches = exempt_meets(exempt, r);
        } else if (family < EXEMPT_FAMILIES) {
            matches = exempt_has(exempt->families[family].ranges, exempt->families[family].n, key);
        }
    }
    return matches;
}
