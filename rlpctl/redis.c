/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis.h"

#include "redis_ctl.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_time.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* What rlp_store_t is asked of, and what is behind it. */
typedef struct {
    rlp_store_t head;
    redis_ctl_t *ctl;
    apr_pool_t *pool;
} redis_try_t;

static apr_status_t try_decide(rlp_store_t *head, rlp_charge_t *charges, int n,
                               const rlp_question_t *question, rlp_op_kind_t kind,
                               rlp_answer_t *answer)
{
    rlp_store_t *store = ((redis_try_t *)head)->ctl->store;

    return store->type->decide(store, charges, n, question, kind, answer);
}

static const rlp_store_type_t try_type = { .name = "redis try", .decide = try_decide };

static const char *try_prefix(apr_pool_t *pool)
{
    uint64_t random = 0;

    (void)apr_generate_random_bytes((unsigned char *)&random, sizeof(random));
    return apr_psprintf(pool, "rlpctl-try-%016" PRIx64 ":", random);
}

const char *redis_try_open(rlp_store_t **store, const option_place_t *place, apr_pool_t *pool)
{
    option_place_t own = *place;
    redis_try_t *made = apr_pcalloc(pool, sizeof(*made));
    rlp_charge_t none = { .entry = { .key = { .identity = "" } } };
    redisReply *reply = NULL;

    own.prefix = try_prefix(pool);
    const char *error = redis_ctl_open(&made->ctl, &own, pool);

    if (error != NULL) {
        return error;
    }
    redis_ctl_make_store(made->ctl, true, pool);
    made->head = *made->ctl->store;
    made->head.type = &try_type;
    made->pool = pool;
    *store = &made->head;
    const script_key_t key = redis_ctl_key(made->ctl, &none, pool);

    error = redis_ctl_ask_key(made->ctl, &reply, "GET", &key, pool);
    freeReplyObject(reply);
    return error;
}

const char *redis_try_why(const rlp_store_t *store, apr_pool_t *pool)
{
    return redis_ctl_why(((const redis_try_t *)store)->ctl, REDIS_FAULT_ERROR, pool);
}

const char *redis_try_refuses(const rlp_limit_t *limit, rlp_time_t max_wait, apr_pool_t *pool)
{
    return redis_store_limit_error(limit, max_wait, pool);
}

void redis_try_close(rlp_store_t *store, const char *identity)
{
    const redis_try_t *made = (const redis_try_t *)store;
    const rlp_charge_t charge = { .entry = { .key = { .identity = identity,
                                                      .identity_len = strlen(identity) } } };
    const script_key_t key = redis_ctl_key(made->ctl, &charge, made->pool);
    redisReply *reply = NULL;

    (void)redis_ctl_ask_key(made->ctl, &reply, "DEL", &key, made->pool);
    freeReplyObject(reply);
}
