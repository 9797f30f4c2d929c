/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_STORE_H
#define REDIS_STORE_H

/*
 * The store in Redis: the script decides there, in one round trip for all identities of a request.
 */

#include "redis/denial.h"
#include "redis/topology.h"

/* What it is made of. */
typedef struct {
    redis_endpoint_t *endpoint;
    const char *prefix;          /* of all keys; "" for none */
    rlp_time_t timeout;          /* of one exchange, names and errors included */
    rlp_owners_t *owners;        /* the head's (rlp_store_t) */
    const unsigned char *secret; /* the head's */
    redis_denials_t *denials;    /* what is remembered of answers; NULL: nothing */
    uint32_t *away; /* is told, for all processes, of a question without an answer (1), and of the
                       first that is charged again (0); NULL */
    bool told_time; /* the question's now is the clock, not the server's: for tools and tests */
} redis_store_settings_t;

/* Makes the store. Lives in the pool; contacts nobody yet. */
rlp_store_t *redis_store_create(const redis_store_settings_t *settings, apr_pool_t *pool);

/* Renews the places that are due, as long as the store answers; every tenth of a second or so, in
   each process that asks it. */
void redis_store_renew(rlp_store_t *store, const rlp_question_t *question);

/* The name of a charge's key in Redis, and its length; 0: it does not fit into the room. */
size_t redis_store_key(const rlp_store_t *store, const rlp_charge_t *charge, char *at, size_t room);

/* NULL if the store can count the limit for requests that wait up to max_wait; else what was
   expected. From the pool. */
const char *redis_store_limit_error(const rlp_limit_t *limit, rlp_time_t max_wait,
                                    apr_pool_t *pool);

/* The text that a session loads when it opens (redis_session_t.scripts). */
const char *redis_store_script(apr_pool_t *pool);

#endif
