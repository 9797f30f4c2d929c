/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_ORDERS_H
#define REDIS_ORDERS_H

/*
 * Bans, and plans given for a time, for all hosts that count in one Redis: all of them in one key,
 * each with its end. What stands in that key is not believed: it may have been written by anybody
 * who may write there.
 */

#include "redis/connection.h"

#include "rlp.h"

#define REDIS_ORDERS_MAX 4096
#define REDIS_ORDERS_IDENTITY_MAX 1200 /* bytes: more than any that is counted has */
#define REDIS_ORDERS_SPAN (INT64_C(3660) * 86400 * RLP_SECOND) /* the longest: ten years */

/* What is in force for one identity. */
typedef struct {
    const char *identity; /* as it is counted */
    const char *plan;     /* "": none */
    rlp_time_t ban;       /* for so long; 0: none */
    rlp_time_t until;     /* of the plan, likewise */
} redis_order_t;

/* What a look has found. */
typedef struct {
    bool whole; /* else there is nothing behind the version */
    uint64_t version;
    int n;
    int bad; /* lines that are none of ours, or one too many */
    redis_order_t orders[REDIS_ORDERS_MAX];
} redis_orders_t;

typedef enum {
    REDIS_ORDERED,
    REDIS_ORDERED_NONE, /* there was nothing to end */
    REDIS_ORDERED_FULL,
    REDIS_ORDERED_UNCLEAR /* no such answer */
} redis_ordered_t;

/* A question; it stays where it was made. */
typedef struct {
    redis_call_t call;
    const char *argv[8];
    size_t lens[8];
} redis_orders_call_t;

/* Asks for all of them, or for their version alone. */
void redis_orders_look(redis_orders_call_t *made, const char *prefix, bool whole, apr_pool_t *pool);

/* Reads the answer, which is changed and must live on. NULL: it is none. */
redis_orders_t *redis_orders_read(redisReply *reply, apr_pool_t *pool);

/* Orders for the identity a ban (plan NULL) or a plan for so long, REDIS_ORDERS_SPAN at most; 0
   ends what there is of that kind. The other kind stays as it is. */
void redis_orders_change(redis_orders_call_t *made, const char *prefix, const char *identity,
                         const char *plan, rlp_time_t span, apr_pool_t *pool);

/* What came of it, and what then is in force for the identity. The answer is changed and must live
   on. */
redis_ordered_t redis_orders_changed(redis_order_t *now, redisReply *reply, apr_pool_t *pool);

#endif
