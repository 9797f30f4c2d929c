/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Stepped bucket: COUNT units come back at once every PERIOD, up to the burst, as a reservation
 * scheduler does it. The steps keep their phase: it is that of the first request of the key, or of
 * `start`. At most burst + COUNT * (whole periods + 1) in any span of time.
 */

#include "rlp_algorithm.h"

typedef struct {
    rlp_units_t used;
    rlp_time_t step; /* the latest refill that is in `used` */
    uint64_t seen;   /* 1 once written */
} steps_t;

_Static_assert(sizeof(steps_t) <= RLP_STATE_MAX, "fits into a slot of one cache line");

#define STEPS_TIME_MAX (INT64_C(1) << 61)

static bool steps_sound(const steps_t *steps)
{
    if (steps->seen != 1) {
        return (steps->seen | (uint64_t)steps->used | (uint64_t)steps->step) == 0;
    }
    return steps->used >= 0 && steps->step >= -STEPS_TIME_MAX && steps->step <= STEPS_TIME_MAX;
}

static rlp_time_t steps_floor(rlp_time_t now, const rlp_limit_t *limit)
{
    const rlp_time_t past = (now - limit->start) % limit->period;

    return now - (past < 0 ? past + limit->period : past);
}

/* Periods in which so many units come back, rounded up. */
static int64_t steps_periods(rlp_units_t units, const rlp_limit_t *limit)
{
    return (units - 1) / (limit->count * RLP_UNIT) + 1;
}

/* The instant from which nothing is in use any more. */
static rlp_time_t steps_full(const steps_t *steps, const rlp_limit_t *limit)
{
    return steps->used ? steps->step + steps_periods(steps->used, limit) * limit->period
                       : steps->step;
}

/* The latest step at the instant now: that of `start`, or now itself begins the steps. */
static rlp_time_t steps_phase(rlp_time_t now, const rlp_limit_t *limit)
{
    return limit->start ? steps_floor(now, limit) : now;
}

/* A bucket that has been full for a whole period has no phase any more: it is as good as a new one,
   which the store may put in its place. */
static bool steps_forgotten(const steps_t *steps, rlp_time_t now, const rlp_limit_t *limit)
{
    return limit->initial == limit->burst && now - limit->period >= steps_full(steps, limit);
}

/* The state as it is to be judged now. True if a clock that stepped back had left it too far
   ahead. */
static bool steps_turn(steps_t *steps, rlp_time_t now, const rlp_limit_t *limit)
{
    if (!steps->seen) {
        *steps = (steps_t){ .used = limit->burst - limit->initial,
                            .step = steps_phase(now, limit),
                            .seen = 1 };
    }
    if (now < steps->step) {
        if (steps->step - now <= limit->period + RLP_CLOCK_SKEW) {
            return false;
        }
        steps->step = steps_phase(now, limit);
        return true;
    }
    const int64_t gone = (now - steps->step) / limit->period;

    steps->step += gone * limit->period;
    if (steps->used == 0 || gone >= steps_periods(steps->used, limit)) {
        steps->used = 0;
    } else {
        steps->used -= gone * limit->count * RLP_UNIT;
    }
    return false;
}

/* Until so many of the used units are back. */
static rlp_time_t steps_until(const steps_t *steps, rlp_units_t units, rlp_time_t now,
                              const rlp_limit_t *limit)
{
    return units <= 0 ? 0 : steps->step + steps_periods(units, limit) * limit->period - now;
}

static void steps_report(rlp_decision_t *d, const steps_t *steps, rlp_time_t now,
                         const rlp_limit_t *limit)
{
    const rlp_units_t missing = RLP_UNIT - (limit->burst - steps->used);

    d->remaining = (limit->burst - steps->used) / RLP_UNIT;
    d->next = limit->burst < RLP_UNIT ? RLP_TIME_NEVER : steps_until(steps, missing, now, limit);
    d->reset = steps_until(steps, steps->used, now, limit);
    d->loss = rlp_loss((uint64_t)steps->used, (uint64_t)limit->burst);
    d->expires =
        limit->initial == limit->burst ? steps_full(steps, limit) + limit->period : RLP_TIME_NEVER;
}

static void steps_settle(steps_t *steps, const rlp_limit_t *limit, const rlp_op_t *op)
{
    steps->used += op->units;
    if (steps->used < 0) {
        steps->used = 0;
    } else if (steps->used > limit->burst) {
        steps->used = limit->burst;
    }
}

/* Refuses. The first request of a key that starts with too little starts its clock. A wait longer
   than all steps from empty to full comes from a clock that stepped back. */
static void steps_deny(steps_t *steps, rlp_decision_t *d, const rlp_limit_t *limit,
                       const rlp_op_t *op)
{
    const rlp_units_t missing = steps->used + op->units - limit->burst;
    const rlp_time_t longest = steps_periods(limit->burst, limit) * limit->period;

    if (steps_until(steps, missing, op->now, limit) > longest + RLP_CLOCK_SKEW) {
        steps->step = steps_phase(op->now, limit);
        d->changed = true;
    }
    d->verdict = RLP_DENY;
    d->retry = steps_until(steps, missing, op->now, limit);
}

static void steps_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op, rlp_decision_t *d)
{
    steps_t *kept = state;

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW };
    if (!steps_sound(kept)) {
        *kept = (steps_t){ 0 };
        d->damaged = true;
    }
    steps_t steps = *kept;
    if (steps.used > limit->burst) {
        steps.used = limit->burst; /* a plan with a smaller burst is empty, not in debt */
    }
    if (steps_forgotten(&steps, op->now, limit)) {
        steps = (steps_t){ 0 };
    }
    const bool fresh = !steps.seen;
    const bool healed = steps_turn(&steps, op->now, limit);

    if (op->kind == RLP_SETTLE) {
        if (!fresh) { /* or nothing was charged */
            steps_settle(&steps, limit, op);
            d->changed = true;
        }
    } else if (op->units < 0 || op->units > limit->burst) {
        d->verdict = RLP_NEVER;
    } else if (op->units > limit->burst - steps.used) {
        steps_deny(&steps, d, limit, op);
        d->changed = (d->changed || healed || fresh) && op->kind == RLP_TAKE;
    } else if (op->kind == RLP_TAKE && op->units > 0) {
        steps.used += op->units;
        d->changed = true;
    }
    if (d->changed) {
        *kept = steps;
    }
    steps_report(d, &steps, op->now, limit);
}

const rlp_algorithm_t rlp_stepped_bucket = {
    .name = "stepped-bucket",
    .state_size = sizeof(steps_t),
    .takes = RLP_TAKES_BURST | RLP_TAKES_INITIAL | RLP_TAKES_START,
    .step = steps_step,
};
