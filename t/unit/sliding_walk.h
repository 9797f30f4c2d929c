/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef SLIDING_WALK_H
#define SLIDING_WALK_H

/*
 * A walk of random steps of a sliding window or a sliding log, beside a model that keeps every
 * request there was and searches where the steps calculate.
 */

#include "unit.h"

#define STEPS unit_steps()
#define STEPS_PER_LIMIT 250
#define STATE_WORDS (4 + 8192)
#define DAY (86400 * RLP_SECOND)

/* Every request that was served, by the instant of its service. */
typedef struct {
    const rlp_limit_t *limit;
    int n;
    struct served {
        rlp_time_t at;
        rlp_units_t units;
    } served[STEPS_PER_LIMIT];
} world_t;

typedef struct {
    const char *name;
    unsigned digits; /* of the largest counts */
    int periods;     /* within which all is forgotten */
    rlp_time_t ahead_max;
    /* the first instant from now on at which the units fit */
    rlp_time_t (*turn)(const world_t *world, rlp_units_t units, rlp_time_t now);
    /* from when on a request may wait for that turn */
    rlp_time_t (*reservable)(const world_t *world, rlp_time_t turn);
} kind_t;

#define KINDS 2

extern const kind_t walk_kinds[KINDS];

/* One key under test. */
typedef struct {
    const kind_t *kind;
    const char *words;
    const rlp_limit_t *limit;
    world_t world;
    uint64_t state[STATE_WORDS];
    uint32_t written; /* bytes of the state, by the limit that changed it last */
    uint64_t random;
    rlp_time_t now;
    rlp_units_t units;
    rlp_time_t max_wait;
    bool waits;
    bool strict; /* the model is a bound: the log may be stricter (rounding, merged entries) */
    rlp_decision_t last;
} walk_t;

/* Units served after one instant and up to another. */
rlp_units_t world_sum(const world_t *world, rlp_time_t after, rlp_time_t to);

/* The turn of the log; a walk under the log has it. */
rlp_time_t log_turn(const world_t *world, rlp_units_t units, rlp_time_t now);

/* A new walk. */
walk_t *walk_of(const kind_t *kind);

/* A walk under a new limit. */
void walk_begin(walk_t *walk);

/* A cost, and the time until the next request. */
rlp_units_t random_units(walk_t *walk);
rlp_time_t random_gap(walk_t *walk);

/* A limit of that count and period, in milliseconds. */
const rlp_limit_t *random_limit(walk_t *walk, int64_t count, int64_t period);

/* What is asked of a step. */
rlp_op_t walk_op(const walk_t *walk, rlp_op_kind_t kind, rlp_units_t units, rlp_time_t now);

/* Steps; on a copy, so that it leaves no trace; looks on a copy. */
rlp_decision_t walk_do(walk_t *walk, const rlp_op_t *op);
rlp_decision_t walk_try(const walk_t *walk, const rlp_op_t *op);
rlp_decision_t walk_peek(const walk_t *walk, rlp_units_t units, rlp_time_t now);

/* Fails unless it holds, with the limit and the moment. */
void walk_expect(const walk_t *walk, bool holds, const char *what);

#endif
