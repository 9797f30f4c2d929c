/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef HOSTS_REDIS_H
#define HOSTS_REDIS_H

/*
 * Redis as one place that decides as the script does, by the algorithms in C: one limit of keys 0
 * to n - 1, and its leases. No latency, no clock: those are the simulation's.
 */

#include "redis/lease.h"

typedef struct redis_sim_t redis_sim_t;

/* The limit must live as long. */
redis_sim_t *redis_sim_create(const rlp_limit_t *limit, uint32_t keys, apr_pool_t *pool);
void redis_sim_destroy(redis_sim_t *redis);

/* A request, decided by rlp_check(). */
rlp_decision_t redis_sim_check(redis_sim_t *redis, uint32_t key, rlp_units_t cost, rlp_time_t now);

/* A question for a lease, as script/lease.lua answers it. */
lease_answer_t redis_sim_lease(redis_sim_t *redis, uint32_t key, const lease_question_t *question,
                               rlp_time_t now);

/* It begins again without data. */
void redis_sim_forget(redis_sim_t *redis);

/* How many keys it has at that time. */
uint32_t redis_sim_living(const redis_sim_t *redis, rlp_time_t now);

/* States of a limit by themselves, for who wants to know what it would have admitted. */
typedef struct {
    const rlp_limit_t *limit;
    unsigned char *states;
} oracle_t;

oracle_t oracle_create(const rlp_limit_t *limit, uint32_t keys);
void oracle_destroy(oracle_t *oracle);

/* Charges units to a key, if it admits them. */
bool oracle_take(oracle_t *oracle, uint32_t key, rlp_units_t units, rlp_time_t now);

#endif
