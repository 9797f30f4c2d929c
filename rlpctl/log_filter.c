/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which lines count. Paths are compared by the code of the module.
 */

#include "log_filter.h"
#include "glob.h"
#include "log_request.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FILTER_METHODS 16
#define FILTER_PATH 65536 /* bytes; what is longer matches nothing */

struct log_filter_t {
    bool by_status;
    bool statuses[1000];
    int status; /* where the value is */

    int methods_n;
    bool methods_negated;
    const char *methods[FILTER_METHODS];
    int method;
    bool method_of_line; /* it is the first word there */

    path_glob_t *glob;
    int path;
    bool path_of_line;
    char *room; /* for a path */
    apr_pool_t *pool;
};

log_filter_t *log_filter_create(apr_pool_t *pool)
{
    log_filter_t *filter = apr_pcalloc(pool, sizeof(*filter));

    filter->pool = pool;
    return filter;
}

/* --- what it is told */

/* 200, 4xx: the first and how many there are; false if it is neither. */
static bool filter_class(const char *text, int *first, int *n)
{
    if (strlen(text) != 3 || text[0] < '1' || text[0] > '5') {
        return false;
    }
    *first = atoi(text);
    *n = 1;
    if (strcmp(text + 1, "xx") == 0) {
        *first = (text[0] - '0') * 100;
        *n = 100;
        return true;
    }
    return strspn(text, "0123456789") == 3;
}

static bool filter_statuses(log_filter_t *filter, const char *word)
{
    const bool counts = word[0] != '!';
    int first = 0;
    int n = 0;

    if (!filter_class(word + !counts, &first, &n)) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        filter->statuses[first + i] = counts;
    }
    return true;
}

const char *log_filter_status(log_filter_t *filter, const char *list)
{
    char *rest = NULL;
    char *words = apr_pstrdup(filter->pool, list);
    bool known = list[strspn(list, ",")] != '\0';

    for (int i = 0; i < 1000; i++) {
        filter->statuses[i] = list[0] == '!';
    }
    for (char *word = apr_strtok(words, ",", &rest); word && known;
         word = apr_strtok(NULL, ",", &rest)) {
        known = filter_statuses(filter, word);
    }
    filter->by_status = true;
    return known ? NULL
                 : apr_psprintf(filter->pool,
                                "expected statuses such as 200,4xx or !429, got \"%s\"", list);
}

/* Letters and dashes, as all methods that httpd knows. */
static bool filter_is_method(const char *word)
{
    for (const char *at = word; *at; at++) {
        if (!apr_isalpha(*at) && *at != '-') {
            return false;
        }
    }
    return true;
}

const char *log_filter_method(log_filter_t *filter, const char *list)
{
    char *rest = NULL;

    filter->methods_n = 0;
    filter->methods_negated = *list == '!';
    char *words = apr_pstrdup(filter->pool, list + filter->methods_negated);
    bool known = true;

    for (char *word = apr_strtok(words, ",", &rest); word && known;
         word = apr_strtok(NULL, ",", &rest)) {
        known = filter->methods_n < FILTER_METHODS && filter_is_method(word);
        if (known) {
            filter->methods[filter->methods_n++] = word;
        }
    }
    return known && filter->methods_n > 0
               ? NULL
               : apr_psprintf(filter->pool,
                              "expected methods such as GET,POST or !OPTIONS, got \"%s\"", list);
}

const char *log_filter_path(log_filter_t *filter, const char *glob)
{
    const char *error = glob_compile(&filter->glob, glob, filter->pool);

    return error ? apr_psprintf(filter->pool, "expected --path with %s, got \"%s\"", error, glob)
                 : NULL;
}

/* --- what the format has */

/* Where the value of a directive is, or else the request line; -1: neither. */
static int filter_want(log_format_t *format, const char *directive, bool *of_line)
{
    const int wanted = log_format_want(format, directive);

    *of_line = wanted < 0;
    return *of_line ? log_format_want(format, "%r") : wanted;
}

const char *log_filter_settle(log_filter_t *filter, log_format_t *format)
{
    const char *error = NULL;

    if (filter->by_status) {
        filter->status = log_format_want(format, "%s");
        error = filter->status < 0 ? "expected %>s in the log format for --status" : error;
    }
    if (filter->methods_n > 0) {
        filter->method = filter_want(format, "%m", &filter->method_of_line);
        error = filter->method < 0 ? "expected %r or %m in the log format for --method" : error;
    }
    if (filter->glob != NULL) {
        filter->room = apr_palloc(filter->pool, FILTER_PATH + 1);
        filter->path = filter_want(format, "%U", &filter->path_of_line);
        error = filter->path < 0 ? "expected %r or %U in the log format for --path" : error;
    }
    return error;
}

/* --- lines */

static bool filter_digits(log_text_t value)
{
    return value.len == 3 && value.text[0] >= '0' && value.text[0] <= '9' && value.text[1] >= '0' &&
           value.text[1] <= '9' && value.text[2] >= '0' && value.text[2] <= '9';
}

static bool filter_status_passes(const log_filter_t *filter, const log_line_t *said)
{
    const log_text_t value = said->values[filter->status];

    return filter_digits(value) &&
           filter->statuses[(value.text[0] - '0') * 100 + (value.text[1] - '0') * 10 +
                            value.text[2] - '0'];
}

static bool filter_same(log_text_t value, const char *word)
{
    return value.len == strlen(word) && strncasecmp(value.text, word, value.len) == 0;
}

static bool filter_method_passes(const log_filter_t *filter, const log_line_t *said)
{
    const log_text_t value = said->values[filter->method];
    const log_text_t method = filter->method_of_line ? log_request_word(value, 0) : value;
    bool listed = false;

    for (int i = 0; i < filter->methods_n; i++) {
        listed |= filter_same(method, filter->methods[i]) ||
                  (filter_same(method, "HEAD") && strcasecmp(filter->methods[i], "GET") == 0);
    }
    return listed != filter->methods_negated;
}

static bool filter_path_passes(const log_filter_t *filter, const log_line_t *said)
{
    const log_text_t value = said->values[filter->path];
    const log_text_t path = filter->path_of_line ? log_request_word(value, 1) : value;

    if (path.len == 0 || path.len > FILTER_PATH) {
        return false;
    }
    if (filter->path_of_line) {
        return log_request_path(filter->room, path) && glob_matches(filter->glob, filter->room);
    }
    filter->room[log_unescape(filter->room, path)] = '\0';
    return glob_matches(filter->glob, filter->room);
}

bool log_filter_passes(const log_filter_t *filter, const log_line_t *said)
{
    return (!filter->by_status || filter_status_passes(filter, said)) &&
           (filter->methods_n == 0 || filter_method_passes(filter, said)) &&
           (filter->glob == NULL || filter_path_passes(filter, said));
}
