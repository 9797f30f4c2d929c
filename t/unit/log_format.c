/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Log formats: what lines say, whom they are counted for, and what is refused.
 */

#include "unit.h"

#include "log_key.h"

#include <apr_strings.h>

#include <string.h>

#define NOON (INT64_C(1763726400) * RLP_SECOND) /* 2025-11-21 12:00:00 UTC */

/* A line and what it says: when, and the identity by the key. at -1: it is not of the format;
   identity NULL: the line has none. */
typedef struct {
    const char *name;
    const char *format;
    const char *key;
    const char *line;
    rlp_time_t at;
    const char *identity;
} line_t;

#define CLF "[21/Nov/2025:12:00:00 +0000]"

static const line_t lines[] = {
    { "common", "common", "ip", "192.0.2.1 - - " CLF " \"GET / HTTP/1.1\" 200 5", NOON,
      "ip:192.0.2.1" },
    { "combined", "combined", "ip", "192.0.2.1 - - " CLF " \"GET / HTTP/1.1\" 200 5 \"-\" \"curl\"",
      NOON, "ip:192.0.2.1" },
    { "vhost_combined", "vhost_combined", "vhost+ip",
      "www.example:80 192.0.2.1 - - " CLF " \"GET / HTTP/1.1\" 200 5 \"-\" \"curl\"", NOON,
      "vhost:www.example+ip:192.0.2.1" },
    { "our own: the microseconds count", "ratelimit", "identity",
      "192.0.2.1 - - " CLF
      " \"GET / HTTP/1.1\" 200 5 \"-\" \"curl\" 1763726400123456 pass user:ann -",
      NOON + 123456, "user:ann" },

    { "our own: the moment of the decision counts more", "ratelimit", "identity",
      "192.0.2.1 - - " CLF " \"GET / HTTP/1.1\" 200 5 \"-\" \"curl\" 1763726400123456 pass "
      "user:ann 1763726400654321",
      NOON + 654321, "user:ann" },
    { "no moment but that of no decision", "%{RATELIMIT_TIME}e %h", "ip", "- a", -1, NULL },
    { "the moment of the decision by itself", "%{RATELIMIT_TIME}e %h", "ip", "1763726400000007 a",
      NOON + 7, "ip:a" },

    { "east", "%h %t", "ip", "192.0.2.1 [21/Nov/2025:13:30:00 +0130]", NOON, "ip:192.0.2.1" },
    { "west", "%h %t", "ip", "192.0.2.1 [21/Nov/2025:04:00:00 -0800]", NOON, "ip:192.0.2.1" },
    { "the epoch", "%h %t", "ip", "a [01/Jan/1970:00:00:00 +0000]", 0, "ip:a" },
    { "a leap day", "%h %t", "ip", "a [29/Feb/2024:00:00:00 +0000]", INT64_C(1709164800000000),
      "ip:a" },
    { "no leap day", "%h %t", "ip", "a [29/Feb/2025:00:00:00 +0000]", -1, NULL },
    { "no month", "%h %t", "ip", "a [21/Nop/2025:12:00:00 +0000]", -1, NULL },
    { "no hour", "%h %t", "ip", "a [21/Nov/2025:24:00:00 +0000]", -1, NULL },
    { "no zone", "%h %t", "ip", "a [21/Nov/2025:12:00:00 0000]", -1, NULL },
    { "before the epoch", "%h %t", "ip", "a [31/Dec/1969:23:59:59 +0000]", -1, NULL },
    { "sec", "%{sec}t %h", "ip", "1763726400 a", NOON, "ip:a" },
    { "msec", "%{msec}t %h", "ip", "1763726400123 a", NOON + 123000, "ip:a" },
    { "usec", "%{usec}t %h", "ip", "1763726400123456 a", NOON + 123456, "ip:a" },
    { "sec and usec_frac", "%{sec}t.%{usec_frac}t %h", "ip", "1763726400.000456 a", NOON + 456,
      "ip:a" },
    { "nothing between them", "%{sec}t%{usec_frac}t %h", "ip", "1763726400000456 a", -1, NULL },
    { "strftime", "[%{%d/%b/%Y:%T}t.%{msec_frac}t %{%z}t] %h", "ip",
      "[21/Nov/2025:13:00:00.250 +0100] a", NOON + 250000, "ip:a" },
    { "strftime without a zone is UTC", "%{%F %T}t %h", "ip", "2025-11-21 12:00:00 a", NOON,
      "ip:a" },
    { "strftime with short years and blanks", "%{%e/%m/%y %R:%S %%}t %h", "ip",
      " 1/11/25 12:00:00 % a", NOON - INT64_C(20) * 86400 * RLP_SECOND, "ip:a" },
    { "msec_frac beside usec_frac", "%t %{msec_frac}t %{usec_frac}t %h", "ip", CLF " 123 123456 a",
      NOON + 123456, "ip:a" },
    { "msec with its msec_frac", "%{msec}t %{msec_frac}t %h", "ip", "1763726400123 123 a",
      NOON + 123000, "ip:a" },
    { "msec with usec_frac", "%{msec}t %{usec_frac}t %h", "ip", "1763726400123 123456 a",
      NOON + 123456, "ip:a" },
    { "the begin, not the end", "%{begin:usec}t %{end:usec}t %h", "ip",
      "1763726400000001 1763726409000000 a", NOON + 1, "ip:a" },
    { "too many digits", "%{usec}t %h", "ip", "1763726400123456789 a", -1, NULL },

    { "quotes in the request", "common", "path",
      "a - - " CLF " \"GET /\\\"x\\\"?a=b HTTP/1.1\" 200 5", NOON, "path:/\\\"x\\\"" },
    { "a backslash at its end", "combined", "user",
      "a - ann " CLF " \"GET /\\\\\" 200 5 \"-\" \"\\\\\"", NOON, "user:ann" },
    { "a quote that ends nothing", "common", "ip", "a - - " CLF " \"GET /\" x\" 200 5", -1, NULL },
    { "no end of the quotes", "common", "ip", "a - - " CLF " \"GET / 200 5", -1, NULL },
    { "cut off", "combined", "ip", "a - - " CLF " \"GET / HTTP/1.1\" 200 5 \"-\" \"cu", -1, NULL },
    { "more than the format has", "common", "ip",
      "a - - " CLF " \"GET / HTTP/1.1\" 200 5 \"-\" \"curl\"", -1, NULL },
    { "no status", "common", "ip", "a - - " CLF " \"GET / HTTP/1.1\" ok 5", -1, NULL },
    { "nothing", "common", "ip", "", -1, NULL },
    { "a user of two words", "common", "user", "a - ann b " CLF " \"-\" 408 -", NOON,
      "user:ann b" },
    { "no user", "common", "user", "a - - " CLF " \"-\" 408 -", NOON, NULL },
    { "no user, hence the address", "common", "user,ip", "a - - " CLF " \"-\" 408 -", NOON,
      "ip:a" },
    { "a user, not the address", "common", "user,ip/24,48", "192.0.2.9 - x " CLF " \"-\" 408 -",
      NOON, "user:x" },
    { "all parts or none", "common", "user+ip", "a - - " CLF " \"-\" 408 -", NOON, NULL },

    { "a network", "%a %t", "ip/24", "192.0.2.9 " CLF, NOON, "ip:192.0.2.0/24" },
    { "odd bits", "%a %t", "ip/20,44", "192.0.255.9 " CLF, NOON, "ip:192.0.240.0/20" },
    { "IPv6 counts by its first 64 bits", "%a %t", "ip", "2001:db8:1:2:3::4 " CLF, NOON,
      "ip:2001:db8:1:2::/64" },
    { "odd bits of IPv6", "%a %t", "ip/24,44", "2001:db8:1fff:: " CLF, NOON,
      "ip:2001:db8:1ff0::/44" },
    { "IPv4 in IPv6", "%a %t", "ip", "::ffff:192.0.2.1 " CLF, NOON, "ip:192.0.2.1" },
    { "a name where an address might be", "%h %t", "ip/24", "host.example " CLF, NOON,
      "ip:host.example" },
    { "no address", "%a %t", "ip", "192.0.2.256 " CLF, NOON, "ip:192.0.2.256" },

    { "a field of the request is a secret", "%t \"%{X-API-Key}i\"", "%{X-API-Key}i", CLF " \"abc\"",
      NOON, "X-API-Key:sha256:ba7816bf8f01cfea..." },
    { "unescaped before its digest", "%t \"%{X-API-Key}i\"", "%{X-API-Key}i", CLF " \"\\x61bc\"",
      NOON, "X-API-Key:sha256:ba7816bf8f01cfea..." },
    { "a field of the response is none", "%t %{X-Org}o", "%{X-Org}o", CLF " abc", NOON,
      "X-Org:abc" },
    { "a variable", "%t %{ORG}e %D", "%{ORG}e", CLF " abc 5", NOON, "ORG:abc" },
    { "modifiers do not count", "%t %!200,304{X-Org}o %>s %<u", "%{X-Org}o+user",
      CLF " abc 200 ann", NOON, "X-Org:abc+user:ann" },
    { "method and path of the request line", "%t \"%r\"", "method+path",
      CLF " \"GET /a/b?c HTTP/1.1\"", NOON, "method:GET+path:/a/b" },
    { "method and path by themselves", "%t %m %U", "method+path", CLF " GET /a/b", NOON,
      "method:GET+path:/a/b" },
    { "a request of one word", "%t \"%r\"", "path", CLF " \"x\"", NOON, NULL },
    { "as httpd's configuration has it", "%a \\\"%u\\\"\\t%t %%", "user", "a \"x\"\t" CLF " %",
      NOON, "user:x" },
};

static void test_line(void **state)
{
    const line_t *row = unit_row(state);
    log_format_t *format = NULL;
    log_key_t *key = NULL;
    log_line_t said;
    char identity[LOG_KEY_SIZE];

    assert_null(log_format_compile(&format, row->format, unit_pool()));
    assert_null(log_key_compile(&key, row->key, format, unit_pool()));
    if (!log_format_match(format, row->line, strlen(row->line), &said)) {
        assert_int_equal(row->at, -1);
        return;
    }
    assert_int_equal(said.at, row->at);
    const size_t len = log_key_of(key, &said, identity);

    if (row->identity == NULL) {
        assert_int_equal(len, 0);
        return;
    }
    assert_string_equal(log_key_show(key, identity, len, unit_pool()), row->identity);
}

/* What is refused, and how it is said. */
typedef struct {
    const char *format;
    const char *key;
    const char *expected;
} wrong_t;

static const wrong_t wrongs[] = {
    { "comon", NULL, "expected common, combined, vhost_combined, ratelimit or a LogFormat" },
    { "%a %u", NULL, "with %t, got \"%a %u\"" },
    { "%a%u %t", NULL, "expected something between %a and what follows it" },
    { "%a %{usec", NULL, "expected a } behind each {" },
    { "%a %t %", NULL, "expected a letter behind each %" },
    { "%a %{%Q}t", NULL, "expected one of %Y" },
    { "%a %{%H:%M}t", NULL, "with %t" },
    { "%a %{usec_frac}t", NULL, "with %t" },
    { "common", "address", "expected ip, user, vhost" },
    { "common", "vhost", "the log format has nothing for \"vhost\"" },
    { "common", "%{X-Key}i", "the log format has nothing for \"%{X-Key}i\"" },
    { "common", "ip/33", "expected ip/V4[,V6] with up to 32 and 128 bits, got \"ip/33\"" },
    { "common", "ip/24,129", "got \"ip/24,129\"" },
    { "common", "user/24", "got \"user/24\"" },
    { "common", "ip,,user", "expected ip, user" },
    { "common", "ip+ip+ip+ip+ip+ip+ip+ip+ip", "at most 8 parts" },
};

static void test_wrong(void **state)
{
    const wrong_t *row = unit_row(state);
    log_format_t *format = NULL;
    log_key_t *key = NULL;
    const char *error = log_format_compile(&format, row->format, unit_pool());

    if (error == NULL && row->key != NULL) {
        error = log_key_compile(&key, row->key, format, unit_pool());
    }
    assert_non_null(error);
    if (strstr(error, row->expected) == NULL) {
        fail_msg("expected \"%s\" in \"%s\"", row->expected, error);
    }
}

static void test_ticks(void **state)
{
    static const struct {
        const char *format;
        rlp_time_t tick;
    } ticks[] = {
        { "%t", RLP_SECOND },
        { "%{sec}t", RLP_SECOND },
        { "%{msec}t", 1000 },
        { "%{usec}t", 1 },
        { "%t %{msec_frac}t", 1000 },
        { "%t %{usec_frac}t", 1 },
        { "%{msec}t %{usec_frac}t", 1 },
        { "%t %{usec}t", 1 },
        { "%{%F %T}t", RLP_SECOND },
        { "%{%F %T}t.%{usec_frac}t", 1 },
        { "%{end:usec}t %t", RLP_SECOND },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(ticks); i++) {
        log_format_t *format = NULL;

        assert_null(log_format_compile(&format, ticks[i].format, unit_pool()));
        assert_int_equal(log_format_tick(format), ticks[i].tick);
    }
}

static void test_unescape(void **state)
{
    static const char *const texts[][2] = {
        { "plain", "plain" },     { "\\\"", "\"" },   { "\\\\n", "\\n" }, { "\\n\\t\\r", "\n\t\r" },
        { "\\x41\\x7eb", "A~b" }, { "\\xZ1", "xZ1" }, { "\\x4", "x4" },   { "end\\", "end\\" },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(texts); i++) {
        char plain[32];
        const log_text_t value = { texts[i][0], strlen(texts[i][0]) };
        const size_t len = log_unescape(plain, value);

        assert_int_equal(len, strlen(texts[i][1]));
        assert_memory_equal(plain, texts[i][1], len);
    }
}

/* A long value counts by its digest, so that two that begin alike are two. */
static void test_long(void **state)
{
    log_format_t *format = NULL;
    log_key_t *key = NULL;
    log_line_t said;
    char identity[2][LOG_KEY_SIZE];
    size_t len[2];

    (void)state;
    assert_null(log_format_compile(&format, "%u %t", unit_pool()));
    assert_null(log_key_compile(&key, "user", format, unit_pool()));
    for (int i = 0; i < 2; i++) {
        const char *line = apr_psprintf(unit_pool(), "%0200d%d " CLF, 1, i);

        assert_true(log_format_match(format, line, strlen(line), &said));
        len[i] = log_key_of(key, &said, identity[i]);
        assert_int_equal(len[i], strlen("user:") + 32);
    }
    assert_memory_not_equal(identity[0], identity[1], len[0]);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(lines); i++) {
        unit_add(lines[i].name, test_line, &lines[i]);
    }
    for (size_t i = 0; i < UNIT_N(wrongs); i++) {
        unit_add_case("refused", wrongs[i].key ? wrongs[i].key : wrongs[i].format, test_wrong,
                      &wrongs[i]);
    }
    unit_add("how exactly formats tell the time", test_ticks, NULL);
    unit_add("what the server has escaped", test_unescape, NULL);
    unit_add("long values", test_long, NULL);
    return unit_run();
}
