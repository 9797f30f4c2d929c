/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Quota without renewal: COUNT once and for all. A count of 0 blocks. It never expires by itself;
 * eviction gives up the least used first.
 */

#include "rlp_algorithm.h"

typedef struct {
    rlp_units_t used;
    uint64_t seen; /* 1 once written */
} quota_t;

_Static_assert(sizeof(quota_t) <= RLP_STATE_MAX, "a quota fits into a slot of one cache line");

static rlp_units_t quota_used(const quota_t *quota, const rlp_limit_t *limit)
{
    const rlp_units_t used = quota->seen ? quota->used : limit->burst - limit->initial;

    return used < limit->burst ? used : limit->burst;
}

static bool quota_sound(const quota_t *quota)
{
    return quota->seen == 1 ? quota->used >= 0 : (quota->seen | (uint64_t)quota->used) == 0;
}

static void quota_write(quota_t *quota, rlp_decision_t *d, rlp_units_t used)
{
    *quota = (quota_t){ .used = used, .seen = 1 };
    d->changed = true;
}

/* Corrects what was used, and says what that is now. */
static rlp_units_t quota_settle(quota_t *quota, rlp_decision_t *d, const rlp_limit_t *limit,
                                rlp_units_t units)
{
    rlp_units_t used = quota_used(quota, limit);

    if (quota->seen) { /* or nothing was charged */
        used += units;
        used = used < 0 ? 0 : used > limit->burst ? limit->burst : used;
        quota_write(quota, d, used);
    }
    return used;
}

static void quota_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op, rlp_decision_t *d)
{
    quota_t *quota = state;

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW,
                           .reset = RLP_TIME_NEVER,
                           .expires = RLP_TIME_NEVER };
    if (!quota_sound(quota)) {
        *quota = (quota_t){ 0 };
        d->damaged = true;
    }
    rlp_units_t used = quota_used(quota, limit);

    if (op->kind == RLP_SETTLE) {
        used = quota_settle(quota, d, limit, op->units);
    } else if (op->units < 0 || op->units > limit->burst - used || limit->burst == 0) {
        d->verdict = RLP_NEVER;
    } else if (op->kind == RLP_TAKE && op->units > 0) {
        used += op->units;
        quota_write(quota, d, used);
    }
    d->remaining = (limit->burst - used) / RLP_UNIT;
    d->next = d->remaining > 0 ? 0 : RLP_TIME_NEVER;
    d->loss = limit->burst ? rlp_loss((uint64_t)used, (uint64_t)limit->burst) : 0;
}

const rlp_algorithm_t rlp_quota = {
    .name = "quota",
    .state_size = sizeof(quota_t),
    .takes = RLP_TAKES_INITIAL,
    .windowed = true,
    .quota = true,
    .step = quota_step,
};
