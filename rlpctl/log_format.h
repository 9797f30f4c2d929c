/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef LOG_FORMAT_H
#define LOG_FORMAT_H

/*
 * A LogFormat of httpd, compiled to what takes the values out of the lines written with it.
 */

#include "log_time.h"

#include <apr_pools.h>

#include <stdbool.h>
#include <stddef.h>

#define LOG_WANTED_MAX 16 /* values that may be taken out of each line */

/* A piece of a line, escaped as the server wrote it. */
typedef struct {
    const char *text;
    size_t len;
} log_text_t;

typedef struct log_format_t log_format_t;

/* What a line says. */
typedef struct {
    rlp_time_t at;                     /* microseconds since the epoch */
    log_text_t values[LOG_WANTED_MAX]; /* as log_format_want() has numbered them */
} log_line_t;

/* Compiles a LogFormat as httpd's configuration has it, or one of the names common, combined,
   vhost_combined and ratelimit. NULL, or what was expected. */
const char *log_format_compile(log_format_t **format, const char *text, apr_pool_t *pool);

/* Asks for the value of a directive such as %u or %{X-API-Key}i (modifiers do not count) in each
   line; where it will be, or -1 if the format has none such or too much is asked. */
int log_format_want(log_format_t *format, const char *directive);

/* How exactly the lines tell the time: 1 microsecond, 1000 or 1000000. */
rlp_time_t log_format_tick(const log_format_t *format);

/* Takes a line apart, which comes without its end; false if it was not written so. The values
   point into the line. */
bool log_format_match(log_format_t *format, const char *line, size_t len, log_line_t *said);

/* Undoes what the server did to a value (\" \\ \n \xhh); to has room for as many bytes as came. How
   many they are. */
size_t log_unescape(char *to, log_text_t value);

#endif
