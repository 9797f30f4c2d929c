/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_STORE_H
#define REDIS_STORE_H

/*
 * The store in Redis: the script decides there, in one round trip for all identities of a request.
 */

#include "redis/topology.h"
#include "rlp.h"

/* What it is made of. */
typedef struct {
    redis_endpoint_t *endpoint;
    const char *prefix;          /* of all keys; "" for none */
    rlp_time_t timeout;          /* of one exchange, names and errors included */
    rlp_owners_t *owners;        /* the head's (rlp_store_t) */
    const unsigned char *secret; /* the head's */
    bool told_time; /* the question's now is the clock, not the server's: for tools and tests */
} redis_store_settings_t;

/* Makes the store. Lives in the pool; contacts nobody yet. */
rlp_store_t *redis_store_create(const redis_store_settings_t *settings, apr_pool_t *pool);

/* NULL if the store can count the limit for requests that wait up to max_wait; else what was
   expected. From the pool. */
const char *redis_store_limit_error(const rlp_limit_t *limit, rlp_time_t max_wait,
                                    apr_pool_t *pool);

/* The text that a session loads when it opens (redis_session_t.scripts). */
const char *redis_store_script(apr_pool_t *pool);

#endif
