/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef LOG_KEY_H
#define LOG_KEY_H

/*
 * Whom a line is counted for: parts of it, as key= of a rule names them.
 */

#include "log_format.h"

#define LOG_KEY_SIZE 1024 /* bytes of an identity at most */

typedef struct log_key_t log_key_t;

/* Compiles a key: PART[+PART]... or several of those with commas between them, of which the first
   that a line has counts. A part is ip[/V4[,V6]], user, vhost, method, path, identity or a
   directive of the format. NULL, or what was expected. */
const char *log_key_compile(log_key_t **key, const char *text, log_format_t *format,
                            apr_pool_t *pool);

/* Writes the identity of a line; its length, 0 if the line has none. */
size_t log_key_of(const log_key_t *key, const log_line_t *said, char identity[LOG_KEY_SIZE]);

/* The identity as people may see it: what was sent in header fields and cookies is a secret, for
   which its digest stands. From the pool. */
const char *log_key_show(const log_key_t *key, const char *identity, size_t len, apr_pool_t *pool);

#endif
