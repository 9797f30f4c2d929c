/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef PROPERTY_WALK_H
#define PROPERTY_WALK_H

/*
 * A walk of random steps under random limits, and a model in exact arithmetic, written without a
 * look at the steps, that says what must come out.
 */

#include "unit.h"

#define STEPS unit_steps()
#define STEPS_PER_LIMIT 500
#define WAIT_MAX (INT64_C(10) * 366 * 86400 * RLP_SECOND)

__extension__ typedef __int128 wide_t;

/* What a model knows of one key. */
typedef struct {
    const rlp_limit_t *limit;
    bool seen;
    rlp_time_t at; /* of the level, of the latest refill, or the number of the last window in use */
    wide_t level;  /* in use or reserved: thousandths times period (buckets) or thousandths */
} world_t;

/* Brings the world to the instant now. */
typedef void turn_t(world_t *world, rlp_time_t now);

typedef struct {
    const char *words; /* behind the rate */
    turn_t *turn;
    wide_t scale; /* of the level; 0: the period */
    bool has_burst;
    bool has_initial;
} kind_t;

/* Bring the world to the instant now. */
void turn_window(world_t *world, rlp_time_t now);
void turn_steps(world_t *world, rlp_time_t now);

#define KINDS 5
#define WAITING 4 /* of them let requests wait, */
#define BURSTS 2  /* and so many are buckets with a burst */

extern const kind_t walk_kinds[KINDS];
extern const kind_t *const walk_leaky; /* one of them */

/* One key under test. */
typedef struct {
    const kind_t *kind;
    const char *words;
    const rlp_limit_t *limit;
    world_t world;  /* as kept */
    world_t judged; /* as of now */
    uint64_t state[RLP_STATE_MAX / 8];
    uint64_t random;
    rlp_time_t now;
    rlp_units_t units;
    rlp_time_t longest; /* of the waits under this limit */
    rlp_time_t max_wait;
    rlp_time_t turn; /* of the latest request */
    rlp_decision_t last;
} walk_t;

/* A new walk. */
walk_t walk_of(const kind_t *kind);

/* A walk under a new limit. */
void walk_begin(walk_t *walk);

/* Adds a test for each of the first n kinds. */
void walk_add(const char *id, CMUnitTestFunction run, size_t n);

/* A rate of that period in milliseconds, without its options. */
const char *random_rate(uint64_t *random, const kind_t *kind, int64_t period);

/* A cost, and the time until the next request. */
rlp_units_t random_units(walk_t *walk);
rlp_time_t random_gap(walk_t *walk);

/* One step. */
rlp_decision_t walk_step_of(const rlp_limit_t *limit, void *state, const rlp_op_t *op);

/* A step on a copy of the state, so that it leaves no trace. */
rlp_decision_t walk_try(const walk_t *walk, rlp_op_kind_t kind, rlp_units_t units, rlp_time_t now);

/* What may be used at once. */
rlp_units_t walk_capacity(const walk_t *walk);

/* For how long a key may be locked out at most: what others have reserved comes on top, to the end
   of its last window or step. */
rlp_time_t walk_lockout(const walk_t *walk, rlp_time_t reserved);

/* Fails unless it holds, with the limit and the moment. */
void walk_expect(const walk_t *walk, bool holds, const char *what);

/* The unit of the level. */
wide_t walk_scale(const walk_t *walk);

/* What the model says: the verdict, and walk->judged. What a store would not keep changes no world:
   all but charges, and the first refusal, which starts the clock of a key. */
rlp_verdict_t world_take(walk_t *walk, rlp_time_t wait);

/* What is left by the model. */
int64_t world_remaining(const walk_t *walk);

/* What holds for a refusal. */
void rule_refusal(const walk_t *walk, const rlp_decision_t *d);

#endif
