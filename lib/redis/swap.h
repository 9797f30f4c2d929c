/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_SWAP_H
#define REDIS_SWAP_H

/*
 * Algorithms that the script does not have: their states are read from Redis, stepped here, and
 * written back if nobody has changed them meanwhile; else all over again.
 */

#include "redis/store.h"

/* The largest state, bytes. */
#define SWAP_STATE_MAX 65640

/* Makes a store that is asked for the limits of one identity at a time. Lives in the pool. */
rlp_store_t *redis_swap_create(const redis_store_settings_t *settings, apr_pool_t *pool);

#endif
