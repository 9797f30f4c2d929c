/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Whom a line is counted for. An identity is kept as the lines have it, escaped: TYPE:VALUE, with
 * an end of line, which no line contains, between its parts.
 */

#include "log_key.h"
#include "log_request.h"

#include <apr_strings.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_PARTS_MAX 8
#define KEY_VALUE_MAX 96 /* longer values are told apart by their digests */
#define KEY_BETWEEN '\n'

typedef struct key_part_t key_part_t;

/* Writes the value of a part to a room of KEY_VALUE_MAX bytes or more; its length, 0: absent. */
typedef size_t key_value_fn(const key_part_t *part, log_text_t value, char *to);

struct key_part_t {
    const char *type;
    size_t type_len;
    int wanted;
    key_value_fn *value;
    bool secret;
    bool next; /* begins another identity, for lines that have not all parts before it */
    int bits[2];
};

struct log_key_t {
    int n;
    key_part_t parts[KEY_PARTS_MAX];
};

/* --- values */

static size_t key_digest(log_text_t value, char *to)
{
    uint8_t digest[RLP_DIGEST_SIZE];
    char hex[2 * 16 + 1];

    rlp_digest(digest, value.text, value.len);
    for (size_t i = 0; i < 16; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    memcpy(to, hex, sizeof(hex) - 1);
    return sizeof(hex) - 1;
}

/* httpd writes a dash for what is not there. */
static bool key_absent(log_text_t value)
{
    return value.len == 0 || (value.len == 1 && value.text[0] == '-');
}

static size_t key_plain(const key_part_t *part, log_text_t value, char *to)
{
    (void)part;
    if (key_absent(value)) {
        return 0;
    }
    if (value.len > KEY_VALUE_MAX) {
        return key_digest(value, to);
    }
    memcpy(to, value.text, value.len);
    return value.len;
}

/* Of an empty name httpd writes two quotes: that is nobody. */
static size_t key_user(const key_part_t *part, log_text_t value, char *to)
{
    return value.len == 2 && memcmp(value.text, "\"\"", 2) == 0 ? 0 : key_plain(part, value, to);
}

static void key_mask(unsigned char *bytes, int size, int bits)
{
    for (int i = 0; i < size; i++, bits -= 8) {
        const int kept = bits >= 8 ? 0xff : bits <= 0 ? 0 : 0xff & (0xff00 >> bits);

        bytes[i] = (unsigned char)(bytes[i] & kept);
    }
}

/* 192.0.2.0/24, or without bits where all count. */
static size_t key_network(char *to, int family, unsigned char *bytes, int bits)
{
    const int all = family == AF_INET ? 32 : 128;

    key_mask(bytes, all / 8, bits);
    inet_ntop(family, bytes, to, KEY_VALUE_MAX);
    size_t len = strlen(to);

    if (bits < all) {
        len += (size_t)snprintf(to + len, KEY_VALUE_MAX - len, "/%d", bits);
    }
    return len;
}

/* Four numbers with dots between them, without leading zeros: then the text is the address. */
static bool key_is_v4(log_text_t value)
{
    const char *at = value.text;
    const char *const end = at + value.len;

    for (int i = 0; i < 4; i++) {
        const char *const first = at;
        int number = 0;

        for (; at < end && at - first < 4 && *at >= '0' && *at <= '9'; at++) {
            number = number * 10 + (*at - '0');
        }
        if (at == first || number > 255 || (*first == '0' && at - first > 1) ||
            (i < 3 && (at == end || *at++ != '.'))) {
            return false;
        }
    }
    return at == end;
}

/* An address, masked as the module does it; a name, where the server looked it up, as it is. */
static size_t key_ip(const key_part_t *part, log_text_t value, char *to)
{
    static const unsigned char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
    unsigned char bytes[16];
    char text[64];

    if (part->bits[0] == 32 && value.len <= 15 && key_is_v4(value)) {
        memcpy(to, value.text, value.len);
        return value.len;
    }
    if (value.len >= sizeof(text)) {
        return key_plain(part, value, to);
    }
    memcpy(text, value.text, value.len);
    text[value.len] = '\0';
    if (inet_pton(AF_INET, text, bytes) == 1) {
        return key_network(to, AF_INET, bytes, part->bits[0]);
    }
    if (inet_pton(AF_INET6, text, bytes) != 1) {
        return key_plain(part, value, to);
    }
    if (memcmp(bytes, mapped, sizeof(mapped)) == 0) {
        return key_network(to, AF_INET, bytes + sizeof(mapped), part->bits[0]);
    }
    return key_network(to, AF_INET6, bytes, part->bits[1]);
}

static size_t key_request_method(const key_part_t *part, log_text_t value, char *to)
{
    return key_plain(part, log_request_word(value, 0), to);
}

/* Without what was asked. */
static size_t key_request_path(const key_part_t *part, log_text_t value, char *to)
{
    log_text_t path = log_request_word(value, 1);
    const char *query = memchr(path.text, '?', path.len);

    if (query != NULL) {
        path.len = (size_t)(query - path.text);
    }
    return key_plain(part, path, to);
}

/* --- compiling */

static const struct {
    const char *word;
    const char *directives[4]; /* the first that the format has */
    key_value_fn *value;
} key_words[] = {
    { "ip", { "%a", "%h", "%{c}a", "%{c}h" }, key_ip },
    { "user", { "%u" }, key_user },
    { "vhost", { "%v", "%V" }, key_plain },
    { "method", { "%m" }, key_plain },
    { "method", { "%r" }, key_request_method },
    { "path", { "%U" }, key_plain },
    { "path", { "%r" }, key_request_path },
    { "identity", { "%{RATELIMIT_IDENTITY}e" }, key_plain },
};

static const char *key_word_part(key_part_t *part, const char *word, log_format_t *format,
                                 apr_pool_t *pool)
{
    bool known = false;

    for (size_t i = 0; i < sizeof(key_words) / sizeof(key_words[0]); i++) {
        const bool same = strcmp(key_words[i].word, word) == 0;

        known |= same;
        for (int k = 0; same && part->wanted < 0 && k < 4 && key_words[i].directives[k]; k++) {
            part->wanted = log_format_want(format, key_words[i].directives[k]);
            part->value = key_words[i].value;
        }
    }
    if (!known) {
        return apr_psprintf(pool,
                            "expected ip, user, vhost, method, path, identity or a %%... of the "
                            "log format as --key, got \"%s\"",
                            word);
    }
    return NULL;
}

/* A directive as the format has it: its type is its name, or its letter. */
static void key_directive_part(key_part_t *part, const char *directive, log_format_t *format,
                               apr_pool_t *pool)
{
    const char *name = strchr(directive, '{');
    const char *end = name ? strchr(name, '}') : NULL;

    part->wanted = log_format_want(format, directive);
    part->value = key_plain;
    part->type = end ? apr_pstrmemdup(pool, name + 1, (apr_size_t)(end - name - 1)) : directive + 1;
    part->secret = end != NULL && (end[1] == 'i' || end[1] == 'C');
}

/* ip/24,48 as the word and the bits. */
static const char *key_bits(key_part_t *part, char *word, apr_pool_t *pool)
{
    char *slash = strchr(word, '/');
    char *rest = slash;

    part->bits[0] = 32;
    part->bits[1] = 64;
    if (slash == NULL) {
        return NULL;
    }
    *slash = '\0';
    part->bits[0] = (int)strtol(slash + 1, &rest, 10);
    if (*rest == ',') {
        part->bits[1] = (int)strtol(rest + 1, &rest, 10);
    }
    if (strcmp(word, "ip") != 0 || *rest != '\0' || part->bits[0] < 1 || part->bits[0] > 32 ||
        part->bits[1] < 1 || part->bits[1] > 128) {
        return apr_psprintf(pool, "expected ip/V4[,V6] with up to 32 and 128 bits, got \"%s/%s\"",
                            word, slash + 1);
    }
    return NULL;
}

static const char *key_part(log_key_t *key, char *text, log_format_t *format, apr_pool_t *pool)
{
    if (key->n == KEY_PARTS_MAX) {
        return "expected at most 8 parts in --key";
    }
    key_part_t *part = &key->parts[key->n++];
    const char *error = NULL;

    part->wanted = -1;
    if (text[0] == '%') {
        key_directive_part(part, text, format, pool);
    } else {
        error = key_bits(part, text, pool);
        part->type = text;
        error = error ? error : key_word_part(part, text, format, pool);
    }
    if (error == NULL && part->wanted < 0) {
        return apr_psprintf(pool, "the log format has nothing for \"%s\" of --key", text);
    }
    part->type_len = strlen(part->type);
    return error;
}

/* The end of a part: a plus, or a comma that no digit follows, outside of braces. */
static size_t key_part_length(const char *text)
{
    bool braces = false;
    size_t len = 0;

    for (; text[len] != '\0'; len++) {
        braces = text[len] == '{' || (braces && text[len] != '}');
        if (!braces && (text[len] == '+' ||
                        (text[len] == ',' && strchr("0123456789", text[len + 1]) == NULL))) {
            break;
        }
    }
    return len;
}

const char *log_key_compile(log_key_t **key, const char *text, log_format_t *format,
                            apr_pool_t *pool)
{
    log_key_t *made = apr_pcalloc(pool, sizeof(*made));
    bool next = false;

    for (;;) {
        const size_t len = key_part_length(text);
        const char *error = key_part(made, apr_pstrmemdup(pool, text, len), format, pool);

        if (error != NULL) {
            return error;
        }
        made->parts[made->n - 1].next = next;
        if (text[len] == '\0') {
            break;
        }
        next = text[len] == ',';
        text += len + 1;
    }
    *key = made;
    return NULL;
}

/* --- identities */

/* The identity that begins with a part; its length, 0 if the line has not all of it. */
static size_t key_one(const log_key_t *key, int first, const log_line_t *said, char *to)
{
    size_t len = 0;

    for (int i = first; i < key->n && (i == first || !key->parts[i].next); i++) {
        const key_part_t *part = &key->parts[i];

        if (len > 0) {
            to[len++] = KEY_BETWEEN;
        }
        if (part->type_len + KEY_VALUE_MAX + 2 > LOG_KEY_SIZE - len) {
            return 0;
        }
        memcpy(to + len, part->type, part->type_len);
        len += part->type_len;
        to[len++] = ':';
        const size_t value = part->value(part, said->values[part->wanted], to + len);

        if (value == 0) {
            return 0;
        }
        len += value;
    }
    return len;
}

size_t log_key_of(const log_key_t *key, const log_line_t *said, char identity[LOG_KEY_SIZE])
{
    size_t len = 0;

    for (int i = 0; i < key->n && len == 0; i++) {
        len = i == 0 || key->parts[i].next ? key_one(key, i, said, identity) : 0;
    }
    return len;
}

static bool key_is_secret(const log_key_t *key, const char *text, size_t len)
{
    for (int i = 0; i < key->n; i++) {
        const key_part_t *part = &key->parts[i];

        if (part->secret && len > part->type_len && text[part->type_len] == ':' &&
            memcmp(text, part->type, part->type_len) == 0) {
            return true;
        }
    }
    return false;
}

/* One part; the value of the module's own variable has its type already. */
static const char *key_show_part(const log_key_t *key, const char *text, size_t len,
                                 apr_pool_t *pool)
{
    static const char own[] = "identity:";

    if (len > sizeof(own) && memcmp(text, own, sizeof(own) - 1) == 0) {
        return apr_pstrmemdup(pool, text + sizeof(own) - 1, len - (sizeof(own) - 1));
    }
    if (!key_is_secret(key, text, len)) {
        return apr_pstrmemdup(pool, text, len);
    }
    const char *value = (const char *)memchr(text, ':', len) + 1;
    char *plain = apr_palloc(pool, len);
    char hex[KEY_VALUE_MAX];
    const size_t plain_len =
        log_unescape(plain, (log_text_t){ value, (size_t)(text + len - value) });

    (void)key_digest((log_text_t){ plain, plain_len }, hex);
    return apr_psprintf(pool, "%.*s:sha256:%.16s...", (int)(value - 1 - text), text, hex);
}

const char *log_key_show(const log_key_t *key, const char *identity, size_t len, apr_pool_t *pool)
{
    const char *const end = identity + len;
    const char *shown = "";

    for (const char *at = identity; at < end;) {
        const char *between = memchr(at, KEY_BETWEEN, (size_t)(end - at));
        const char *behind = between != NULL ? between : end;

        shown = apr_pstrcat(pool, shown, *shown ? "+" : "",
                            key_show_part(key, at, (size_t)(behind - at), pool), NULL);
        at = behind + 1;
    }
    return shown;
}
