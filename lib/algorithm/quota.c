/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Quota: COUNT in each period of the calendar, or COUNT once and for all. A count of 0 blocks. One
 * that is never renewed never expires by itself; eviction gives up the least used first.
 *
 * Periods go by the wall clock and never run backwards: after a small step back a request is
 * counted in the period that has already begun. A state left further ahead than that counts as the
 * current period's with all its used units, so nobody is given units again or locked out for longer
 * than a period. A quota never waits (max_wait is ignored): its renewal is hours away.
 *
 * What is used is one number, charged under each limit that asks for the key.
 */

#include "rlp_algorithm.h"

typedef struct {
    rlp_time_t begin; /* of the period, wall clock; 0 if never renewed */
    rlp_units_t used;
    rlp_units_t burst; /* the largest that it was charged under in this period; 0: never written */
} quota_t;

/* A state is kept that much longer than its period, by the store's time: a wall clock set back by
   no more does not make it begin anew. */
#define QUOTA_GRACE (INT64_C(86400) * RLP_SECOND)

_Static_assert(sizeof(quota_t) <= RLP_STATE_MAX, "a quota fits into a slot of one cache line");

#define QUOTA_TIME_MAX (INT64_C(1) << 61)

typedef struct {
    rlp_time_t begin;
    rlp_time_t end; /* RLP_TIME_NEVER */
} period_t;

static period_t quota_period(const rlp_limit_t *limit, rlp_time_t at)
{
    if (!limit->calendar) {
        return (period_t){ .end = RLP_TIME_NEVER };
    }
    const int64_t number = rlp_period_number(limit, at);

    return (period_t){ .begin = rlp_period_edge(limit, number),
                       .end = rlp_period_edge(limit, number + 1) };
}

static bool quota_sound(const quota_t *quota, const rlp_limit_t *limit)
{
    if (quota->burst == 0) {
        return (quota->used | quota->begin) == 0;
    }
    if (!limit->calendar && quota->begin != 0) {
        return false;
    }
    return quota->burst > 0 && quota->burst <= RLP_UNITS_MAX && quota->used >= 0 &&
           quota->used <= quota->burst && quota->begin >= -QUOTA_TIME_MAX &&
           quota->begin <= QUOTA_TIME_MAX;
}

/* The state as it is to be judged now, and its period. True if a clock that stepped back had left
   it ahead. */
static bool quota_turn(quota_t *quota, period_t *period, const rlp_limit_t *limit, rlp_time_t wall)
{
    bool healed = false;

    *period = quota_period(limit, wall);
    if (!quota->burst) {
        *quota = (quota_t){ .begin = period->begin, .used = limit->burst - limit->initial };
    } else if (quota->begin < period->begin) {
        *quota = (quota_t){ .begin = period->begin };
    } else if (quota->begin - wall > RLP_CLOCK_SKEW) {
        quota->begin = period->begin;
        healed = true;
    } else if (quota->begin >= period->end) {
        *period = quota_period(limit, quota->begin);
    }
    if (quota->burst < limit->burst) {
        quota->burst = limit->burst;
    }
    return healed;
}

/* Was the charge made in the period that is counted? It was made on the store's time line. */
static bool quota_charged(const quota_t *quota, const rlp_limit_t *limit, const rlp_op_t *op)
{
    return !limit->calendar || op->wall - (op->now - op->charged_at) >= quota->begin;
}

/* Cut at what the largest limit holds: what a larger plan has used stays so, and what is charged
   late under a smaller one counts under it, too. */
static void quota_settle(quota_t *quota, rlp_units_t units)
{
    quota->used += units;
    if (quota->used < 0) {
        quota->used = 0;
    } else if (quota->used > quota->burst) {
        quota->used = quota->burst;
    }
}

/* A plan with a smaller quota is empty, not in debt. */
static rlp_units_t quota_left(const quota_t *quota, const rlp_limit_t *limit)
{
    return quota->used < limit->burst ? limit->burst - quota->used : 0;
}

static void quota_report(rlp_decision_t *d, const quota_t *quota, rlp_time_t left,
                         const rlp_limit_t *limit, rlp_time_t now)
{
    d->remaining = quota_left(quota, limit) / RLP_UNIT;
    d->reset = left;
    d->next = d->remaining > 0 ? 0 : left;
    d->loss = limit->burst ? rlp_loss((uint64_t)quota->used, (uint64_t)limit->burst) : 0;
    d->expires = left == RLP_TIME_NEVER ? RLP_TIME_NEVER : now + left + QUOTA_GRACE;
}

/* Charges what was asked for, or refuses it until the next period. */
static void quota_take(quota_t *quota, rlp_decision_t *d, rlp_time_t left, const rlp_limit_t *limit,
                       const rlp_op_t *op)
{
    if (op->units < 0 || op->units > limit->burst || limit->burst == 0) {
        d->verdict = RLP_NEVER;
    } else if (op->units > quota_left(quota, limit)) {
        d->verdict = left == RLP_TIME_NEVER ? RLP_NEVER : RLP_DENY;
        d->retry = left == RLP_TIME_NEVER ? 0 : left;
    } else if (op->kind == RLP_TAKE && op->units > 0) {
        d->late = limit->calendar ? rlp_late(quota->begin, op->wall) : 0;
        quota->used += op->units;
        d->changed = true;
    }
}

static void quota_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op, rlp_decision_t *d)
{
    quota_t *kept = state;
    period_t period;

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW };
    if (!quota_sound(kept, limit)) {
        *kept = (quota_t){ 0 };
        d->damaged = true;
    }
    quota_t quota = *kept;
    const bool healed = quota_turn(&quota, &period, limit, op->wall);
    const bool renewed = period.end != RLP_TIME_NEVER && limit->burst > 0;
    const rlp_time_t left = renewed ? period.end - op->wall : RLP_TIME_NEVER;

    if (op->kind == RLP_SETTLE) {
        /* what is given back was charged in this period, or not at all; nothing is charged to a
           key that is blocked for all */
        d->changed = quota.burst > 0 &&
                     (op->units > 0 || (kept->burst > 0 && quota_charged(&quota, limit, op)));
        quota_settle(&quota, d->changed ? op->units : 0);
    } else {
        quota_take(&quota, d, left, limit, op);
        d->changed |= healed && op->kind == RLP_TAKE && d->verdict == RLP_DENY;
    }
    if (d->changed) {
        *kept = quota;
    }
    quota_report(d, &quota, left, limit, op->now);
}

const rlp_algorithm_t rlp_quota = {
    .name = "quota",
    .state_size = sizeof(quota_t),
    .takes = RLP_TAKES_INITIAL,
    .windowed = true,
    .lasting = true,
    .quota = true,
    .step = quota_step,
};
