/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef INSTANT_H
#define INSTANT_H

/*
 * Moments as people write them, 2026-11-21T14:00:00Z. Without httpd: the tool has them, too.
 */

#include <apr_pools.h>
#include <apr_time.h>

#pragma GCC visibility push(hidden)

/* The moment by the wall clock; 0: it is none, or before 1970. */
apr_time_t instant_read(const char *text);

/* Writes it, to the nearest second. */
const char *instant_write(apr_time_t moment, apr_pool_t *pool);

#pragma GCC visibility pop

#endif
