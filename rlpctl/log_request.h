/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef LOG_REQUEST_H
#define LOG_REQUEST_H

/*
 * What the request line of a log says.
 */

#include "log_format.h"

/* A word of it: 0 is the method, 1 what was asked for. Empty if there is none. */
log_text_t log_request_word(log_text_t line, int word);

/* The path of what was asked for (%r) as httpd makes it for <Location>: without scheme, host and
   query, decoded, and without "/./", "/../" and "//". To has room for one byte more than came.
   False if httpd refuses such a path. */
bool log_request_path(char *to, log_text_t asked);

#endif
