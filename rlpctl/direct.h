/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef DIRECT_H
#define DIRECT_H

/*
 * What is counted in the file of a store or in a Redis, looked at and changed without a server's
 * help.
 */

#include "option.h"
#include "rlp.h"

/* What is asked. */
typedef struct {
    const char *command;
    bool json;
    bool secret;
    option_place_t place;
    const char *plan_name; /* that the counters belong to; NULL: to none */
    const char *identity;  /* NULL: all of them */
    const char *rule;      /* NULL: each */
    const char *const *limits;
    int n;
    rlp_units_t units;
    rlp_plan_t *plan; /* of the limits; NULL: none are given */
    rlp_store_t *store;
    apr_pool_t *pool;
} direct_t;

#define DIRECT_NOTHING 1 /* exit status: nothing is counted there */

extern const char direct_usage[];

/* Is it such a command? */
bool direct_is_command(int argc, const char *const argv[]);

/* Runs it, its name being the first word; the exit status. */
int direct_main(int argc, const char *const argv[], apr_pool_t *pool);

/* A charge of one unit of a limit; its identity must live as long. */
void direct_charge(const direct_t *job, rlp_charge_t *charge, const char *identity,
                   const rlp_limit_t *limit);

/* The rule as it stands in the names of keys. */
const char *direct_scope(const direct_t *job);

/* Seconds of a span, rounded up; -1: never. And a number as a word: below 0 none. */
int64_t direct_seconds(rlp_time_t span);
const char *direct_number(const direct_t *job, int64_t number);

/* Prints what stands there of one limit: "SIGNATURE bytes=N expires=SECONDS". */
void direct_print_state(const direct_t *job, uint64_t signature, size_t bytes, int64_t expires);

/* --- Redis (redis.c); each returns NULL, or what went wrong */

struct redis_ctl_t;

/* Prepares job->store. */
const char *redis_direct_open(direct_t *job, struct redis_ctl_t **ctl);

/* What went wrong with the store. */
const char *redis_direct_why(struct redis_ctl_t *ctl, apr_pool_t *pool);

/* Prints what stands under the key; the exit status. */
const char *redis_direct_look(const direct_t *job, struct redis_ctl_t *ctl, int *status);

/* Removes the keys of a rule, or of all. */
const char *redis_direct_reset(const direct_t *job, struct redis_ctl_t *ctl, int *status);

/* Prints who has least left. */
const char *redis_direct_top(direct_t *job, struct redis_ctl_t *ctl);

#endif
