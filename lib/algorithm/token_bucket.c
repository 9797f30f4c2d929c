/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Token bucket: at most burst + rate * span in any span of time.
 *
 * Kept is the used credit and the instant at which it was used; credit comes in units in which
 * nothing rounds: a request costs `period`, a microsecond earns `count`. The unit depends on the
 * period alone, so what is used stays used when another plan has another count or burst. This is
 * the same line as GCRA's theoretical arrival time (ITU-T I.371), read at another place. A request
 * that waits for its turn has used its credit before it is earned: what is used above the capacity
 * is reserved, and who comes later queues behind it.
 */

#include "algorithm/reading.h"
#include "algorithm/second.h"

__extension__ typedef unsigned __int128 wide_t;

typedef struct {
    uint64_t used; /* credit */
    rlp_time_t at;
    uint64_t mark; /* of the limit it was written under; 0 tells a new key from a full bucket */
    second_t second;
} bucket_t;

/* In the mark of a bucket with a second limit, so that one look tells that it has none. */
#define BUCKET_BOTH SECOND_SPARE

_Static_assert(sizeof(bucket_t) <= RLP_STATE_MAX, "a bucket fits into a slot of one cache line");

#define BUCKET_TIME_MAX (INT64_C(1) << 62)
#define BUCKET_WAIT_MAX (INT64_C(10) * 366 * 86400 * RLP_SECOND) /* no delay is longer */

static uint64_t bucket_credit(rlp_units_t units, const rlp_limit_t *limit)
{
    return (uint64_t)units * (uint64_t)limit->price;
}

/* Microseconds, rounded up, in which the limit earns the credit. */
static rlp_time_t bucket_span(uint64_t credit, const rlp_limit_t *limit)
{
    return (rlp_time_t)(credit / (uint64_t)limit->count + (credit % (uint64_t)limit->count != 0));
}

static rlp_time_t bucket_span_wide(wide_t credit, const rlp_limit_t *limit)
{
    return (rlp_time_t)((credit + (uint64_t)limit->count - 1) / (uint64_t)limit->count);
}

static bool bucket_sound(const bucket_t *bucket)
{
    const bool both = (bucket->mark & BUCKET_BOTH) != 0;

    if (!second_is_sound(&bucket->second) || both != (bucket->second.mark != 0)) {
        return false;
    }
    if (bucket->mark == 0) {
        return (bucket->used | (uint64_t)bucket->at) == 0;
    }
    return bucket->at >= 0 && bucket->at <= BUCKET_TIME_MAX &&
           second_sound(bucket->mark & ~BUCKET_BOTH);
}

/* Credit that may be in use by those who would wait so long; what cannot be counted is refused. */
static uint64_t bucket_room(const rlp_limit_t *limit, rlp_time_t wait)
{
    const rlp_time_t most = wait < BUCKET_WAIT_MAX ? wait : BUCKET_WAIT_MAX;
    const wide_t room = limit->capacity + (wide_t)(uint64_t)most * (uint64_t)limit->count;

    return room < INT64_MAX ? (uint64_t)room : INT64_MAX;
}

/* What is reserved stays so. */
static uint64_t bucket_kept(const bucket_t *bucket, const rlp_limit_t *limit)
{
    const uint64_t most = bucket_room(limit, BUCKET_WAIT_MAX);

    return bucket->used < most ? bucket->used : most;
}

/* The state as this limit has it, which is the first from then on, and the one before the second.
   To a new one it is carried: but a limit with another burst is empty at most, not in debt; what
   does not fit it is cut off before anything is earned. */
static void bucket_turn(bucket_t *bucket, const rlp_limit_t *limit)
{
    const uint64_t mark = bucket->mark;

    if (mark == 0 || mark == limit->mark) {
        return;
    }
    const bool other_burst = second_burst(mark) != second_burst(limit->mark);

    bucket->used = second_turn(&bucket->second, mark, bucket->at, bucket->used,
                               other_burst ? limit->capacity : UINT64_MAX, limit);
    bucket->mark = limit->mark;
}

/* Credit in use at any instant; before that of the state it may be more than was ever kept. */
static wide_t bucket_used_exactly(const bucket_t *bucket, rlp_time_t now, const rlp_limit_t *limit)
{
    if (bucket->mark == 0) {
        return limit->capacity - bucket_credit(limit->initial, limit);
    }
    const uint64_t kept = bucket_kept(bucket, limit);
    const rlp_time_t apart = now < bucket->at ? bucket->at - now : now - bucket->at;
    const wide_t credit = (wide_t)(uint64_t)apart * (uint64_t)limit->count;

    if (now < bucket->at) {
        return kept + credit;
    }
    return kept > credit ? kept - credit : 0;
}

/* The same where it is seldom asked; more than a drain above what is kept is a drain above it. */
__attribute__((noinline)) static uint64_t bucket_used_seldom(const bucket_t *bucket, rlp_time_t now,
                                                             const rlp_limit_t *limit)
{
    const wide_t used = bucket_used_exactly(bucket, now, limit);
    const uint64_t most = bucket_kept(bucket, limit) + limit->capacity;

    return used < most ? (uint64_t)used : most;
}

/* Credit in use at the instant now. */
__attribute__((always_inline)) static inline uint64_t
bucket_used(const bucket_t *bucket, rlp_time_t now, const rlp_limit_t *limit)
{
    const rlp_time_t elapsed = now - bucket->at;

    if (!bucket->mark || elapsed < 0 || bucket->used > limit->capacity) {
        return bucket_used_seldom(bucket, now, limit);
    }
    if (elapsed >= limit->drain) {
        return 0;
    }
    const uint64_t earned = (uint64_t)elapsed * (uint64_t)limit->count;

    return bucket->used > earned ? bucket->used - earned : 0;
}

static void bucket_write(bucket_t *bucket, uint64_t used, rlp_time_t now, const rlp_limit_t *limit)
{
    bucket->used = used;
    bucket->at = now;
    bucket->mark = limit->mark;
}

/* The same where there may be a second limit, which is charged the units, too, for that turn, or is
   given them back. */
static void bucket_write_both(bucket_t *bucket, uint64_t used, rlp_time_t now,
                              const rlp_limit_t *limit, rlp_units_t units, rlp_time_t turn)
{
    if (bucket->second.mark) {
        second_follow(&bucket->second, bucket->at, now);
        second_settle(&bucket->second, now, turn, units, limit, 0);
    }
    bucket_write(bucket, used, now, limit);
}

/* What there is to tell of a bucket with so much in use, and so much left. */
__attribute__((always_inline)) static inline void bucket_report(rlp_decision_t *d, uint64_t used,
                                                                uint64_t left, rlp_time_t now,
                                                                const rlp_limit_t *limit)
{
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
   capacity or reserved. */
__attribute__((noinline)) static void bucket_settle(bucket_t *bucket, rlp_decision_t *d,
                                                    const rlp_limit_t *limit, const rlp_op_t *op)
{
    const rlp_units_t units = op->units < 0 ? -op->units : op->units;
    const wide_t amount = (wide_t)(uint64_t)units * (uint64_t)limit->price;
    const rlp_time_t at = bucket->at > op->now ? bucket->at : op->now;
    uint64_t used = bucket_used(bucket, at, limit);

    if (!bucket->mark && op->units < 0) {
        return; /* nothing was charged */
    }
    if (op->units < 0) {
        used = used > amount ? used - (uint64_t)amount : 0;
    } else if (used < limit->capacity) {
        used = used + amount < limit->capacity ? used + (uint64_t)amount : limit->capacity;
    }
    bucket_write_both(bucket, used, at, limit, op->units, op->units < 0 ? op->charged_at : at);
    d->changed = true;
}

/* Reserves a turn, or refuses; the credit in use from then on. The first request of a key that
   starts with too little starts its clock. A wait longer than a drain and what is reserved comes
   from a clock that stepped back: heal, or it would refuse until that future. */
__attribute__((noinline)) static uint64_t bucket_queue(bucket_t *bucket, rlp_decision_t *d,
                                                       const rlp_limit_t *limit, const rlp_op_t *op)
{
    const uint64_t cost = bucket_credit(op->units, limit);
    const uint64_t room = bucket_room(limit, op->max_wait);
    const uint64_t kept = bucket_kept(bucket, limit);
    const uint64_t full = kept > limit->capacity ? kept : limit->capacity;
    const wide_t drained =
        (wide_t)(uint64_t)(limit->drain + RLP_CLOCK_SKEW) * (uint64_t)limit->count;
    wide_t used = bucket_used_exactly(bucket, op->now, limit);
    const bool healed = used + cost > drained + full;

    if (healed) {
        used = full;
    }
    rlp_units_t charged = 0;

    d->changed = op->kind == RLP_TAKE && (healed || !bucket->mark);
    if (used + cost > room) {
        d->verdict = RLP_DENY;
        d->retry = bucket_span_wide(used + cost - room, limit);
    } else {
        d->verdict = RLP_WAIT;
        d->wait = bucket_span_wide(used + cost - limit->capacity, limit);
        d->changed = op->kind == RLP_TAKE;
        used += d->changed ? cost : 0;
        charged = op->units;
    }
    if (d->changed) {
        bucket_write_both(bucket, (uint64_t)used, op->now, limit, charged, op->now + d->wait);
    } else if (healed) {
        bucket->at = op->now; /* as a look sees it */
    }
    return used < full + limit->capacity ? (uint64_t)used : full + limit->capacity;
}

/* What is asked of a bucket that is this limit's. */
static void bucket_ask(bucket_t *bucket, const rlp_limit_t *limit, const rlp_op_t *op,
                       rlp_decision_t *d)
{
    uint64_t used = bucket_used(bucket, op->now, limit);

    if (op->kind == RLP_SETTLE) {
        bucket_settle(bucket, d, limit, op);
        used = bucket_used(bucket, op->now, limit);
    } else if (op->units < 0 || op->units > limit->burst) {
        d->verdict = RLP_NEVER;
    } else if (op->units > 0) {
        const uint64_t cost = bucket_credit(op->units, limit);

        if (used > limit->capacity - cost) {
            used = bucket_queue(bucket, d, limit, op);
        } else if (op->kind == RLP_TAKE) {
            used += cost;
            bucket_write_both(bucket, used, op->now, limit, op->units, op->now);
            d->changed = true;
        }
    }
    bucket_report(d, used, used < limit->capacity ? limit->capacity - used : 0, op->now, limit);
}

/* The turns that have been reserved at the instant now outlive what is told of them: that is less
   where a clock has stepped back. */
static rlp_time_t bucket_expires(const bucket_t *bucket, rlp_time_t told, rlp_time_t now,
                                 const rlp_limit_t *limit)
{
    const rlp_time_t earned = now + bucket_span(bucket->used, limit);

    return bucket->at == now && earned > told ? earned : told;
}

/* All that is asked but what most requests ask. */
__attribute__((noinline)) static void bucket_step_seldom(bucket_t *bucket, const rlp_limit_t *limit,
                                                         const rlp_op_t *op, rlp_decision_t *d)
{
    if (!bucket_sound(bucket)) {
        *bucket = (bucket_t){ 0 };
        d->damaged = true;
    }
    const rlp_op_t judged = reading_judged(op, bucket->at);
    bucket_t turned = *bucket;

    turned.mark &= ~BUCKET_BOTH;
    bucket_turn(&turned, limit);
    bucket_ask(&turned, limit, &judged, d);
    second_report(&turned.second, judged.now, limit, 0, d);
    reading_tell(d, op, &judged, turned.at);
    if (d->changed) {
        d->expires = bucket_expires(&turned, d->expires, judged.now, limit);
        *bucket = turned;
        bucket->mark |= turned.second.mark ? BUCKET_BOTH : 0;
    }
}

/* Nothing was ever used of it, nor is wanting at first: as one that was full long ago. */
static bool bucket_new_and_full(const bucket_t *bucket, const rlp_limit_t *limit)
{
    return (bucket->used | (uint64_t)bucket->at | bucket->mark | bucket->second.mark |
            (uint64_t)bucket->second.full) == 0 &&
           limit->initial == limit->burst;
}

/* A known or new bucket that has the units: all in registers. */
static void bucket_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                        rlp_decision_t *d)
{
    bucket_t *bucket = state;

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW };
    if (op->kind != RLP_TAKE || op->units <= 0 || op->units > limit->burst ||
        (bucket->mark != limit->mark && !bucket_new_and_full(bucket, limit)) ||
        bucket->used > limit->capacity || (uint64_t)bucket->at > (uint64_t)op->now) {
        bucket_step_seldom(bucket, limit, op, d);
        return;
    }
    const rlp_time_t elapsed = op->now - bucket->at;
    const uint64_t cost = bucket_credit(op->units, limit);
    uint64_t used = 0;

    if (elapsed < limit->drain) {
        const uint64_t earned = (uint64_t)elapsed * (uint64_t)limit->count;

        used = bucket->used > earned ? bucket->used - earned : 0;
    }
    const uint64_t left = limit->capacity - used;

    if (cost > left) {
        bucket_step_seldom(bucket, limit, op, d);
        return;
    }
    bucket_write(bucket, used + cost, op->now, limit);
    d->changed = true;
    bucket_report(d, used + cost, left - cost, op->now, limit);
}

const rlp_algorithm_t rlp_token_bucket = {
    .name = "token-bucket",
    .state_size = sizeof(bucket_t),
    .takes = RLP_TAKES_BURST | RLP_TAKES_INITIAL,
    .credit = true,
    .step = bucket_step,
};
