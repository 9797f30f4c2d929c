/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_LOCAL_H
#define REDIS_LOCAL_H

/*
 * While Redis is away: the same limits, by this host's share, in a store of its own; seeded from
 * what Redis said last, and told to Redis when it is back.
 */

#include "redis/denial.h"
#include "redis/hosts.h"
#include "redis/ledger.h"

/* What all processes of a host share; all zero at first. */
typedef struct {
    redis_hosts_t hosts;
    uint32_t away; /* 1: Redis cannot charge, as far as is known (redis_store_settings_t.away) */
} redis_local_shared_t;

typedef struct {
    rlp_store_t *redis;
    rlp_store_t *local; /* has the counters of this host */
    const redis_denials_t *denials;
    redis_local_shared_t *shared;
    int64_t hosts;              /* how many have a share; 0: those that live */
    redis_hosts_settings_t own; /* by which this host tells that it lives */
} redis_local_settings_t;

typedef struct redis_local_t redis_local_t;

/* Lives in the pool; NULL: no memory. May be made in a parent and used in its children, each of
   which notes for itself what it counts here. */
redis_local_t *redis_local_create(const redis_local_settings_t *settings, apr_pool_t *pool);

/* Answers in the place of Redis. Charges made here have no counted_at; their corrections come here,
   too. */
apr_status_t redis_local_decide(redis_local_t *local, rlp_charge_t *charges, int n,
                                const rlp_question_t *question, rlp_op_kind_t kind,
                                rlp_answer_t *answer);

/* Tells Redis that this host lives, and, when it is back, what was counted here: a part of it at a
   time, each charge once at most; what a server that is still away has not heard, it is told later.
   For one thread of each process, ten times a second or so. */
void redis_local_maintain(redis_local_t *local);

#endif
