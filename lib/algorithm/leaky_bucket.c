/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Leaky bucket: units pass evenly spaced, one each period / COUNT; `burst` is the queue of those
 * who wait for their turn. What is in use, queue included, is kept as credit, as in the token
 * bucket: a request costs `period`, a microsecond drains `count`.
 */

#include "algorithm/reading.h"
#include "algorithm/second.h"

__extension__ typedef unsigned __int128 wide_t;

typedef struct {
    uint64_t used; /* credit */
    rlp_time_t at;
    uint64_t mark; /* of the limit it was written under; 0: never written */
    second_t second;
} queue_t;

_Static_assert(sizeof(queue_t) <= RLP_STATE_MAX, "a queue fits into a slot of one cache line");

#define QUEUE_TIME_MAX (INT64_C(1) << 62)

static wide_t queue_credit(rlp_units_t units, const rlp_limit_t *limit)
{
    return (wide_t)(uint64_t)units * (uint64_t)limit->price;
}

static wide_t queue_drained(rlp_time_t span, const rlp_limit_t *limit)
{
    return (wide_t)(uint64_t)span * (uint64_t)limit->count;
}

/* Microseconds, rounded up, in which so much drains. */
static rlp_time_t queue_span(wide_t credit, const rlp_limit_t *limit)
{
    return (rlp_time_t)((credit + (uint64_t)limit->count - 1) / (uint64_t)limit->count);
}

/* Credit of the unit that is passing and of a full queue behind it. */
static uint64_t queue_full(const rlp_limit_t *limit)
{
    return (uint64_t)limit->period + limit->capacity;
}

/* The same for one who would wait so long: what is further back is not for him. */
static wide_t queue_room(const rlp_limit_t *limit, rlp_time_t max_wait)
{
    const wide_t drained = queue_drained(max_wait, limit);

    return (uint64_t)limit->period + (drained < limit->capacity ? drained : limit->capacity);
}

static bool queue_sound(const queue_t *queue)
{
    if (!second_is_sound(&queue->second)) {
        return false;
    }
    if (queue->mark == 0) {
        return (queue->used | (uint64_t)queue->at | queue->second.mark) == 0;
    }
    return queue->at >= 0 && queue->at <= QUEUE_TIME_MAX && second_sound(queue->mark);
}

/* The state as this limit has it, which is the first from then on, and the one before the
   second. */
static void queue_turn(queue_t *queue, const rlp_limit_t *limit)
{
    const uint64_t mark = queue->mark;

    if (mark == 0 || mark == limit->mark) {
        return;
    }
    queue->used =
        second_turn(&queue->second, mark, queue->at, queue->used, queue_full(limit), limit);
    queue->mark = limit->mark;
}

/* A plan with a shorter queue has a full one, not more. */
static uint64_t queue_kept(const queue_t *queue, const rlp_limit_t *limit)
{
    const uint64_t full = queue_full(limit);

    return queue->used < full ? queue->used : full;
}

/* Credit in use at the instant now; before that of the state it may be more than full. */
static wide_t queue_used(const queue_t *queue, rlp_time_t now, const rlp_limit_t *limit)
{
    const uint64_t kept = queue_kept(queue, limit);

    if (!queue->mark) {
        return 0;
    }
    if (now < queue->at) {
        return kept + queue_drained(queue->at - now, limit);
    }
    const wide_t drained = queue_drained(now - queue->at, limit);

    return kept > drained ? kept - drained : 0;
}

/* A second limit is charged the units, too, for that turn, or is given them back. */
static void queue_write(queue_t *queue, wide_t used, rlp_time_t now, const rlp_limit_t *limit,
                        rlp_units_t units, rlp_time_t turn)
{
    if (queue->second.mark) {
        second_follow(&queue->second, queue->at, now);
        second_settle(&queue->second, now, turn, units, limit, (uint64_t)limit->period);
    }
    queue->used = (uint64_t)used;
    queue->at = now;
    queue->mark = limit->mark;
}

/* More than twice full is told as that. */
static void queue_report(rlp_decision_t *d, wide_t used, rlp_time_t now, const rlp_limit_t *limit)
{
    const uint64_t full = queue_full(limit);
    const wide_t told = used < 2 * (wide_t)full ? used : 2 * (wide_t)full;

    d->remaining = used == 0;
    d->reset = queue_span(told, limit);
    d->next = d->reset;
    d->loss = rlp_loss(used < full ? (uint64_t)used : full, full);
    d->expires = now + d->reset;
}

/* Corrects what was used at the later of now and the state's instant. */
static void queue_settle(queue_t *queue, rlp_decision_t *d, const rlp_limit_t *limit,
                         const rlp_op_t *op)
{
    const wide_t amount = queue_credit(op->units < 0 ? -op->units : op->units, limit);
    const rlp_time_t at = queue->at > op->now ? queue->at : op->now;
    const wide_t used = queue_used(queue, at, limit);
    const wide_t more = used + amount < queue_full(limit) ? used + amount : queue_full(limit);
    const wide_t less = used > amount ? used - amount : 0;

    if (queue->mark || op->units > 0) { /* or nothing was charged */
        queue_write(queue, op->units < 0 ? less : more, at, limit, op->units,
                    op->units < 0 ? op->charged_at : at);
        d->changed = true;
    }
}

/* Lets pass, puts into the queue or refuses what fits into an empty one; the credit in use from
   then on. More in use than the queue holds comes from a clock that stepped back: heal, or it would
   refuse until that future. */
static wide_t queue_ask(queue_t *queue, rlp_decision_t *d, const rlp_limit_t *limit,
                        const rlp_op_t *op)
{
    const wide_t cost = queue_credit(op->units, limit);
    const wide_t room = queue_room(limit, op->max_wait);
    const uint64_t one = (uint64_t)limit->period;
    wide_t used = queue_used(queue, op->now, limit);
    const bool healed = used > queue_full(limit) + queue_drained(RLP_CLOCK_SKEW, limit);

    if (healed) {
        used = queue_kept(queue, limit);
    }
    const bool passes = used + cost <= room;

    if (!passes) {
        d->verdict = RLP_DENY;
        d->retry = queue_span(used + cost - room, limit);
    } else if (used + cost > one) {
        d->verdict = RLP_WAIT;
        d->wait = queue_span(used + cost - one, limit);
    }
    if (op->kind == RLP_TAKE && (passes || healed)) {
        used += passes ? cost : 0;
        queue_write(queue, used, op->now, limit, passes ? op->units : 0, op->now + d->wait);
        d->changed = true;
    } else if (healed) {
        queue->at = op->now; /* as a look sees it */
    }
    return used;
}

static void queue_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op, rlp_decision_t *d)
{
    queue_t *kept = state;

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW };
    if (!queue_sound(kept)) {
        *kept = (queue_t){ 0 };
        d->damaged = true;
    }
    const rlp_op_t judged = reading_judged(op, kept->at);
    queue_t queue = *kept;
    queue_turn(&queue, limit);
    wide_t used = queue_used(&queue, judged.now, limit);

    if (op->kind == RLP_SETTLE) {
        queue_settle(&queue, d, limit, &judged);
        used = queue_used(&queue, judged.now, limit);
    } else if (op->units < 0 || queue_credit(op->units, limit) > queue_room(limit, op->max_wait)) {
        d->verdict = RLP_NEVER; /* not even into an empty queue */
    } else if (op->units > 0) {
        used = queue_ask(&queue, d, limit, &judged);
    }
    queue_report(d, used, judged.now, limit);
    second_report(&queue.second, judged.now, limit, (uint64_t)limit->period, d);
    reading_tell(d, op, &judged, queue.at);
    if (d->changed) {
        *kept = queue;
    }
}

const rlp_algorithm_t rlp_leaky_bucket = {
    .name = "leaky-bucket",
    .state_size = sizeof(queue_t),
    .takes = RLP_TAKES_BURST,
    .credit = true,
    .step = queue_step,
};
