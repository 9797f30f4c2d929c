/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef RLPCTL_REDIS_H
#define RLPCTL_REDIS_H

/*
 * rlpctl try on Redis: a store of its own.
 */

#include "option.h"
#include "rlp.h"

/* A store for try, under a prefix of its own; the moment of a question is its clock. NULL, or what
   went wrong. */
const char *redis_try_open(rlp_store_t **store, const option_place_t *place, apr_pool_t *pool);

/* Why it did not answer. */
const char *redis_try_why(const rlp_store_t *store, apr_pool_t *pool);

/* NULL, or why a limit cannot be counted there. */
const char *redis_try_refuses(const rlp_limit_t *limit, rlp_time_t max_wait, apr_pool_t *pool);

/* Removes what the questions about an identity have left there. */
void redis_try_close(rlp_store_t *store, const char *identity);

#endif
