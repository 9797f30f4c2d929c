/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef LOG_FILTER_H
#define LOG_FILTER_H

/*
 * Which lines count, as method= and path= of a rule say it, and by their statuses.
 */

#include "log_format.h"

typedef struct log_filter_t log_filter_t;

/* Makes one that all lines pass. */
log_filter_t *log_filter_create(apr_pool_t *pool);

/* Only these statuses (200,4xx), or all but these (!429,!5xx). NULL, or what was expected. */
const char *log_filter_status(log_filter_t *filter, const char *list);

/* Only these methods (GET,POST; GET includes HEAD), or all but these (!OPTIONS). NULL, or what was
   expected. */
const char *log_filter_method(log_filter_t *filter, const char *list);

/* Only paths that match a pattern of glob.h. NULL, or what was expected. */
const char *log_filter_path(log_filter_t *filter, const char *glob);

/* Asks the format for what the filter looks at. NULL, or what the format lacks. */
const char *log_filter_settle(log_filter_t *filter, log_format_t *format);

/* Does the line count? */
bool log_filter_passes(const log_filter_t *filter, const log_line_t *said);

#endif
