/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_LEDGER_H
#define REDIS_LEDGER_H

/*
 * What one process has counted in place of Redis, until Redis is told. Threads may share it; the
 * process takes it along when it dies.
 */

#include "redis/subject.h"

#include <apr_pools.h>

#define REDIS_LEDGER_MAX 4096 /* limits of identities; what is counted of more is not told */

typedef struct redis_ledger_t redis_ledger_t;

/* One limit of one identity. */
typedef struct redis_debt_t {
    struct redis_debt_t *next;
    redis_subject_t *subject;
    uint64_t outage;   /* which of them: redis_denials_level(), redis_level_t.server */
    rlp_units_t units; /* in use at the time `at`, all of them gone after `reset` */
    rlp_time_t at;
    rlp_time_t reset;
} redis_debt_t;

/* units * part / whole, rounded down; none below 0, and whole above. */
rlp_units_t redis_part(rlp_units_t units, int64_t part, int64_t whole);

/* What is left in use of so many units, so long after all of them would be gone after a span. */
rlp_units_t redis_left(const rlp_limit_t *limit, rlp_units_t units, rlp_time_t age,
                       rlp_time_t reset);

/* An empty one, for this process or for its children, each its own. NULL: no memory. Lives in the
   pool. */
redis_ledger_t *redis_ledger_create(apr_pool_t *pool);

/* Notes that so many units were charged to the limit of a charge, of which, as a whole, its
   decision tells; below 0: were given back. */
void redis_ledger_note(redis_ledger_t *ledger, const rlp_charge_t *charge, rlp_units_t units,
                       uint64_t outage, rlp_time_t now);

/* Takes one of them out, whose turn it is. It is the caller's, to free (redis_debt_free()) or to
   put back: meanwhile nothing can be given back of it. NULL: there is none. */
redis_debt_t *redis_ledger_take(redis_ledger_t *ledger);

/* Puts one back that was taken out: Redis has not heard of it. */
void redis_ledger_put(redis_ledger_t *ledger, redis_debt_t *debt);

/* Frees one that was taken out. */
void redis_debt_free(redis_debt_t *debt);

/* How many it has. */
int redis_ledger_size(redis_ledger_t *ledger);

#endif
