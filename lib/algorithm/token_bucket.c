/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Token bucket: at most burst + rate * span in any span of time.
 *
 * Kept is the used credit and the instant at which it was used; credit comes in units in which
 * nothing rounds: a request costs `period`, a microsecond earns `count`. The unit depends on the
 * period alone, so what is used stays used when another plan has another count or burst. This is
 * the same line as GCRA's theoretical arrival time (ITU-T I.371), read at another place: a request
 * whose clock reading is a little older than the state is judged further up that line and loses
 * nothing to the order.
 */

#include "rlp_algorithm.h"

__extension__ typedef unsigned __int128 wide_t;

typedef struct {
    uint64_t used; /* credit */
    rlp_time_t at;
    uint64_t seen; /* 1 once written: tells a new key from a full bucket */
} bucket_t;

_Static_assert(sizeof(bucket_t) <= RLP_STATE_MAX, "a bucket fits into a slot of one cache line");

#define BUCKET_TIME_MAX (INT64_C(1) << 62)

static uint64_t bucket_credit(rlp_units_t units, const rlp_limit_t *limit)
{
    return (uint64_t)units * (uint64_t)limit->price;
}

/* Microseconds, rounded up, in which the limit earns the credit. */
static rlp_time_t bucket_span(uint64_t credit, const rlp_limit_t *limit)
{
    return (rlp_time_t)((credit + (uint64_t)limit->count - 1) / (uint64_t)limit->count);
}

static bool bucket_sound(const bucket_t *bucket)
{
    if (bucket->seen != 1) {
        return (bucket->seen | bucket->used | (uint64_t)bucket->at) == 0;
    }
    return bucket->at >= 0 && bucket->at <= BUCKET_TIME_MAX;
}

/* A plan with a smaller burst is empty, not in debt: what does not fit it is cut off before
   anything is earned. */
static uint64_t bucket_kept(const bucket_t *bucket, const rlp_limit_t *limit)
{
    return bucket->used < limit->capacity ? bucket->used : limit->capacity;
}

/* Credit in use at an instant before that of the state; may be more than the capacity. */
static wide_t bucket_used_before(const bucket_t *bucket, rlp_time_t now, const rlp_limit_t *limit)
{
    return bucket_kept(bucket, limit) +
           (wide_t)(uint64_t)(bucket->at - now) * (uint64_t)limit->count;
}

/* The same for a new key or such an instant; more than twice the capacity is twice the capacity. */
__attribute__((noinline)) static uint64_t bucket_used_seldom(const bucket_t *bucket, rlp_time_t now,
                                                             const rlp_limit_t *limit)
{
    if (!bucket->seen) {
        return limit->capacity - bucket_credit(limit->initial, limit);
    }
    const wide_t used = bucket_used_before(bucket, now, limit);
    const uint64_t most = 2 * limit->capacity;

    return used < most ? (uint64_t)used : most;
}

/* Credit in use at the instant now. */
__attribute__((always_inline)) static inline uint64_t
bucket_used(const bucket_t *bucket, rlp_time_t now, const rlp_limit_t *limit)
{
    const rlp_time_t elapsed = now - bucket->at;

    if (!bucket->seen || elapsed < 0) {
        return bucket_used_seldom(bucket, now, limit);
    }
    if (elapsed >= limit->drain) {
        return 0;
    }
    const uint64_t used = bucket_kept(bucket, limit);
    const uint64_t earned = (uint64_t)elapsed * (uint64_t)limit->count;

    return used > earned ? used - earned : 0;
}

static void bucket_write(bucket_t *bucket, uint64_t used, rlp_time_t now)
{
    bucket->used = used;
    bucket->at = now;
    bucket->seen = 1;
}

/* What there is to tell of a bucket with so much in use. */
static void bucket_report(rlp_decision_t *d, uint64_t used, rlp_time_t now,
                          const rlp_limit_t *limit)
{
    const uint64_t left = used < limit->capacity ? limit->capacity - used : 0;

    d->remaining = (int64_t)(left / (uint64_t)limit->period);
    if (d->remaining == 0) {
        d->next = limit->burst < RLP_UNIT
                      ? RLP_TIME_NEVER
                      : bucket_span(used - (limit->capacity - (uint64_t)limit->period), limit);
    }
    d->reset = bucket_span(used, limit);
    d->loss = rlp_loss((uint64_t)d->reset, (uint64_t)limit->drain);
    /* a bucket that starts with less than it holds is not as good as new when it is full */
    d->expires = limit->initial == limit->burst ? now + d->reset : RLP_TIME_NEVER;
}

/* Corrects what was used at the later of now and the state's instant, where it is within the
   capacity. */
__attribute__((noinline)) static void bucket_settle(bucket_t *bucket, rlp_decision_t *d,
                                                    const rlp_limit_t *limit, const rlp_op_t *op)
{
    const rlp_units_t units = op->units < 0 ? -op->units : op->units;
    const uint64_t amount = units < limit->burst ? bucket_credit(units, limit) : limit->capacity;
    const rlp_time_t at = bucket->at > op->now ? bucket->at : op->now;
    uint64_t used = bucket_used(bucket, at, limit);

    if (!bucket->seen) {
        return;
    }
    if (op->units < 0) {
        used = used > amount ? used - amount : 0;
    } else {
        used = used < limit->capacity - amount ? used + amount : limit->capacity;
    }
    bucket_write(bucket, used, at);
    d->changed = true;
}

/* Refuses; the credit in use from then on. The first request of a key that starts with too little
   starts its clock. A wait longer than a drain comes from a clock that stepped back: heal, or it
   would refuse until that future. */
__attribute__((noinline)) static uint64_t bucket_deny(bucket_t *bucket, rlp_decision_t *d,
                                                      const rlp_limit_t *limit, const rlp_op_t *op)
{
    const uint64_t cost = bucket_credit(op->units, limit);
    uint64_t used = bucket_used(bucket, op->now, limit);
    bool kept = bucket->seen;

    d->verdict = RLP_DENY;
    d->retry = bucket_span(used - (limit->capacity - cost), limit);
    if (kept && bucket->at > op->now) {
        const wide_t excess = bucket_used_before(bucket, op->now, limit) + cost - limit->capacity;
        d->retry = (rlp_time_t)((excess + (uint64_t)limit->count - 1) / (uint64_t)limit->count);
    }
    if (d->retry > limit->drain + RLP_CLOCK_SKEW) {
        used = limit->capacity;
        d->retry = bucket_span(cost, limit);
        kept = false;
    }
    if (op->kind == RLP_TAKE && !kept) {
        bucket_write(bucket, used, op->now);
        d->changed = true;
    }
    return used;
}

static void bucket_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                        rlp_decision_t *d)
{
    bucket_t *bucket = state;

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW };
    if (!bucket_sound(bucket)) {
        *bucket = (bucket_t){ 0 };
        d->damaged = true;
    }
    uint64_t used = bucket_used(bucket, op->now, limit);

    if (op->kind == RLP_SETTLE) {
        bucket_settle(bucket, d, limit, op);
        used = bucket_used(bucket, op->now, limit);
    } else if (op->units < 0 || op->units > limit->burst) {
        d->verdict = RLP_NEVER;
    } else if (op->units > 0) {
        const uint64_t cost = bucket_credit(op->units, limit);

        if (used > limit->capacity - cost) {
            used = bucket_deny(bucket, d, limit, op);
        } else if (op->kind == RLP_TAKE) {
            used += cost;
            bucket_write(bucket, used, op->now);
            d->changed = true;
        }
    }
    bucket_report(d, used, op->now, limit);
}

const rlp_algorithm_t rlp_token_bucket = {
    .name = "token-bucket",
    .state_size = sizeof(bucket_t),
    .takes = RLP_TAKES_BURST | RLP_TAKES_INITIAL,
    .credit = true,
    .step = bucket_step,
};
