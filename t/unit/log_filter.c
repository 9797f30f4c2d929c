/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which lines count, by method, path and status, and what a field of a line says it costs.
 */

#include "unit.h"

#include "log_cost.h"
#include "log_filter.h"
#include "log_request.h"

#include <apr_strings.h>

#include <string.h>

#define CLF "[21/Nov/2025:12:00:00 +0000]"

/* What was asked for, as a log has it, and its path; NULL: httpd refuses it. */
typedef struct {
    const char *asked;
    const char *path;
} path_t;

static const path_t paths[] = {
    { "/", "/" },
    { "/a/b", "/a/b" },
    { "/a/b/", "/a/b/" },
    { "/a/b?c=/d", "/a/b" },
    { "/a#b?c", NULL },
    { "/a?b#c", NULL },
    { "/a/%62/%2e%2E/c", "/a/c" },
    { "/a/%3Fb?c", "/a/?b" },
    { "/a/%252e/b", "/a/%2e/b" },
    { "/a/./b/.", "/a/b/" },
    { "/a/b/../c", "/a/c" },
    { "/a/b/..", "/a/" },
    { "/a/../../a", NULL },
    { "/..", NULL },
    { "/a%2Fb", NULL },
    { "/.", "/" },
    { "//a///b", "/a/b" },
    { "/a//", "/a/" },
    { "/...", "/..." },
    { "/.a/..b", "/.a/..b" },
    { "http://www.example/a/../b?c", "/b" },
    { "http://www.example?a=/b", "" },
    { "/a?b=http://c/d", "/a" },
    { "*", "*" },
    { "/a\\\\b", "/a\\b" },
    { "/a\\x7f", "/a\x7f" },
    { "/a%zz", NULL },
    { "/a%4", NULL },
    { "/a%", NULL },
    { "/a%00b", NULL },
};

static void test_path(void **state)
{
    const path_t *row = unit_row(state);
    char path[64];
    const bool known = log_request_path(path, (log_text_t){ row->asked, strlen(row->asked) });

    assert_int_equal(known, row->path != NULL);
    if (known) {
        assert_string_equal(path, row->path);
    }
}

/* A line, and whether it passes; NULL: there is no such condition. */
typedef struct {
    const char *format;
    const char *status;
    const char *method;
    const char *path;
    const char *line;
    bool passes;
} line_t;

static const line_t lines[] = {
    { "common", NULL, NULL, NULL, "a - - " CLF " \"-\" 408 -", true },
    { "common", NULL, "GET", NULL, "a - - " CLF " \"GET / HTTP/1.1\" 200 5", true },
    { "common", NULL, "GET", NULL, "a - - " CLF " \"HEAD / HTTP/1.1\" 200 5", true },
    { "common", NULL, "HEAD", NULL, "a - - " CLF " \"GET / HTTP/1.1\" 200 5", false },
    { "common", NULL, "get", NULL, "a - - " CLF " \"GET / HTTP/1.1\" 200 5", true },
    { "common", NULL, "POST,GET", NULL, "a - - " CLF " \"get / HTTP/1.1\" 200 5", true },
    { "common", NULL, "POST", NULL, "a - - " CLF " \"GET / HTTP/1.1\" 200 5", false },
    { "common", NULL, "!OPTIONS,GET", NULL, "a - - " CLF " \"HEAD / HTTP/1.1\" 200 5", false },
    { "common", NULL, "!OPTIONS", NULL, "a - - " CLF " \"GET / HTTP/1.1\" 200 5", true },
    { "common", NULL, "!OPTIONS", NULL, "a - - " CLF " \"OPTIONS * HTTP/1.1\" 200 5", false },
    { "%t %m", NULL, "VERSION-CONTROL", NULL, CLF " VERSION-CONTROL", true },
    { "%t %m", NULL, "GET", NULL, CLF " GETS", false },
    { "common", NULL, NULL, "/a/**", "a - - " CLF " \"GET /a/b?c HTTP/1.1\" 200 5", true },
    { "common", NULL, NULL, "/a/*", "a - - " CLF " \"GET /%61/b/ HTTP/1.1\" 200 5", true },
    { "common", NULL, NULL, "/a/*", "a - - " CLF " \"GET /a/b/c HTTP/1.1\" 200 5", false },
    { "common", NULL, NULL, "/**", "a - - " CLF " \"GET /%zz HTTP/1.1\" 400 5", false },
    { "common", NULL, NULL, "/**", "a - - " CLF " \"-\" 408 -", false },
    { "common", NULL, NULL, "/a", "a - - " CLF " \"GET /a\" 200 5", true },
    { "%t %U", NULL, NULL, "/a%61", CLF " /a%61", true },
    { "%t %U", NULL, NULL, "/aa", CLF " /a%61", false },
    { "%t \"%r\" %U", NULL, NULL, "/b", CLF " \"GET /a HTTP/1.1\" /b", true },
    { "common", "2xx", "GET", "/a", "a - - " CLF " \"GET /a HTTP/1.1\" 204 -", true },
    { "common", "2xx", "GET", "/a", "a - - " CLF " \"GET /a HTTP/1.1\" 304 -", false },
    { "common", "2xx", "GET", "/a", "a - - " CLF " \"GET /b HTTP/1.1\" 204 -", false },
    { "common", "2xx", "GET", "/a", "a - - " CLF " \"PUT /a HTTP/1.1\" 204 -", false },
    { "common", "2xx", NULL, NULL, "a - - " CLF " \"GET /a HTTP/1.1\" - -", false },
};

static void test_line(void **state)
{
    const line_t *row = unit_row(state);
    log_filter_t *filter = log_filter_create(unit_pool());
    log_format_t *format = NULL;
    log_line_t said;

    assert_null(log_format_compile(&format, row->format, unit_pool()));
    assert_null(row->status ? log_filter_status(filter, row->status) : NULL);
    assert_null(row->method ? log_filter_method(filter, row->method) : NULL);
    assert_null(row->path ? log_filter_path(filter, row->path) : NULL);
    assert_null(log_filter_settle(filter, format));
    assert_true(log_format_match(format, row->line, strlen(row->line), &said));
    assert_int_equal(log_filter_passes(filter, &said), row->passes);
}

/* A path longer than any that is compared is none. */
static void test_long(void **state)
{
    enum { LONG = 70000 };
    log_filter_t *filter = log_filter_create(unit_pool());
    log_format_t *format = NULL;
    log_line_t said;
    static char line[LONG + 64] = CLF " \"GET /";

    (void)state;
    memset(line + strlen(line), 'a', LONG);
    line[strlen(line)] = '"';
    assert_null(log_format_compile(&format, "%t \"%r\"", unit_pool()));
    assert_null(log_filter_path(filter, "/**"));
    assert_null(log_filter_settle(filter, format));
    assert_true(log_format_match(format, line, strlen(line), &said));
    assert_false(log_filter_passes(filter, &said));
}

/* --- costs */

/* A value and its thousandths of units; -1: it is no number. */
typedef struct {
    const char *directive;
    const char *value;
    rlp_units_t units;
} cost_t;

static const cost_t costs[] = {
    { "%b", "0", 0 },
    { "%b", "700", 700000 },
    { "%b", "-", 0 },
    { "%{X-Cost}o", "-", -1 },
    { "%{X-Cost}o", "2.5", 2500 },
    { "%{X-Cost}o", "0.001", 1 },
    { "%{X-Cost}o", ".5", 500 },
    { "%{X-Cost}o", "5.", -1 },
    { "%{X-Cost}o", "0.0001", -1 },
    { "%{X-Cost}o", ".", -1 },
    { "%{X-Cost}o", "-5", -1 },
    { "%{X-Cost}o", "5x", -1 },
    { "%{X-Cost}o", "999999999999999.999", INT64_C(999999999999999999) },
    { "%{X-Cost}o", "1000000000000000", -1 },
};

static void test_cost(void **state)
{
    const cost_t *row = unit_row(state);
    const char *line = apr_pstrcat(unit_pool(), row->value, " " CLF, NULL);
    log_format_t *format = NULL;
    log_cost_t cost;
    log_line_t said;
    rlp_units_t units = -1;

    assert_null(log_format_compile(&format, apr_pstrcat(unit_pool(), row->directive, " %t", NULL),
                                   unit_pool()));
    assert_null(log_cost_compile(&cost, row->directive, format, unit_pool()));
    assert_true(log_format_match(format, line, strlen(line), &said));
    assert_int_equal(log_cost_of(&cost, &said, &units), row->units >= 0);
    assert_int_equal(units, row->units >= 0 ? row->units : RLP_UNIT);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(paths); i++) {
        unit_add_case("path", paths[i].asked, test_path, &paths[i]);
    }
    for (size_t i = 0; i < UNIT_N(lines); i++) {
        unit_add_case(lines[i].passes ? "passes" : "does not pass", lines[i].line, test_line,
                      &lines[i]);
    }
    unit_add("a long path", test_long, NULL);
    for (size_t i = 0; i < UNIT_N(costs); i++) {
        unit_add_case(costs[i].directive, costs[i].value, test_cost, &costs[i]);
    }
    return unit_run();
}
