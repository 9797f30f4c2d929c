/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Sliding window from two counts: what was charged in the window before counts with the share of it
 * that the last PERIOD still covers, in whole units rounded down. An estimate: it takes the charges
 * of the window before as spread evenly over it. Windows are aligned to `start` (the epoch by
 * default).
 *
 * A request that may wait has its turn in this window or in the next one. Once one has its turn in
 * the next window, no other is served before: what it was promised rests on this window's count.
 */

#include "rlp_algorithm.h"

__extension__ typedef unsigned __int128 wide_t;

typedef struct {
    int64_t number; /* of the window, from start */
    rlp_units_t previous;
    rlp_units_t current;
    rlp_units_t reserved; /* for turns in the next window */
    rlp_units_t burst;    /* of the limit that wrote it; 0: a new key */
} sliding_t;

_Static_assert(sizeof(sliding_t) <= RLP_STATE_MAX, "two counts fit into a slot of one cache line");

/* No window begins outside what a clock can say. */
#define SLIDING_TIME_MAX (INT64_C(1) << 61)

static int64_t sliding_number(rlp_time_t at, const rlp_limit_t *limit)
{
    const rlp_time_t since = at - limit->start;

    return since >= 0 ? since / limit->period : -((-since - 1) / limit->period) - 1;
}

static rlp_time_t sliding_begin(int64_t number, const rlp_limit_t *limit)
{
    return limit->start + number * limit->period;
}

static bool sliding_within(rlp_units_t units, rlp_units_t burst)
{
    return units >= 0 && units <= burst;
}

static bool sliding_sound(const sliding_t *s, const rlp_limit_t *limit)
{
    const int64_t bound = SLIDING_TIME_MAX / limit->period;

    if (s->burst == 0) {
        return (s->number | s->previous | s->current | s->reserved) == 0;
    }
    return s->burst > 0 && s->burst <= RLP_UNITS_MAX && sliding_within(s->previous, s->burst) &&
           sliding_within(s->current, s->burst) && sliding_within(s->reserved, s->burst) &&
           s->number >= -bound && s->number <= bound;
}

static rlp_units_t sliding_clamp(rlp_units_t units, const rlp_limit_t *limit)
{
    return units < limit->burst ? units : limit->burst;
}

/* The state as it is to be judged now. True if a clock that stepped back had left it ahead: then
   all that it knows of counts as charged in the window of now, so that nothing is refilled. */
static bool sliding_move(sliding_t *s, rlp_time_t now, const rlp_limit_t *limit)
{
    const int64_t number = sliding_number(now, limit);
    const bool ahead = s->burst > 0 && sliding_begin(s->number, limit) - now > RLP_CLOCK_SKEW;

    if (ahead) {
        s->current = sliding_clamp(s->previous, limit) + sliding_clamp(s->current, limit) +
                     sliding_clamp(s->reserved, limit);
        s->previous = 0;
        s->reserved = 0;
        s->number = number;
    } else if (s->burst == 0 || number - s->number > 2) {
        *s = (sliding_t){ .number = number };
    }
    for (; s->number < number; s->number++) {
        s->previous = s->current;
        s->current = s->reserved;
        s->reserved = 0;
    }
    return ahead;
}

/* A plan with a smaller count is empty, not in debt. */
static void sliding_cut(sliding_t *s, const rlp_limit_t *limit)
{
    s->previous = sliding_clamp(s->previous, limit);
    s->current = sliding_clamp(s->current, limit);
    s->reserved = sliding_clamp(s->reserved, limit);
    s->burst = limit->burst;
}

/* What counts at an instant of the state's window. */
static rlp_units_t sliding_estimate(const sliding_t *s, rlp_time_t at, const rlp_limit_t *limit)
{
    const rlp_time_t covered = sliding_begin(s->number + 1, limit) - at;
    const wide_t share = (wide_t)(uint64_t)s->previous * (uint64_t)covered;

    return (rlp_units_t)(share / ((wide_t)(uint64_t)limit->period * RLP_UNIT)) * RLP_UNIT +
           s->current;
}

/* How far into a window its previous count still counts for more than `room`: from then on it does
   not; the period if it does to the end. */
static rlp_time_t sliding_elapsed(rlp_units_t previous, rlp_units_t room, const rlp_limit_t *limit)
{
    if (room < 0) {
        return limit->period;
    }
    if (previous == 0) {
        return 0;
    }
    const uint64_t units = (uint64_t)(room / RLP_UNIT + 1) * RLP_UNIT;

    /* the share is below `units` while less than this of the window before is covered */
    const wide_t covered = ((wide_t)units * (uint64_t)limit->period - 1) / (uint64_t)previous;

    return covered < (uint64_t)limit->period ? limit->period - (rlp_time_t)covered : 0;
}

/* The first instant from `at` on, of the state's window, at which the units fit if nobody else
   asks. */
static rlp_time_t sliding_turn(const sliding_t *s, rlp_units_t units, rlp_time_t at,
                               const rlp_limit_t *limit)
{
    const rlp_units_t counts[] = { s->previous, s->current, s->reserved, 0, 0 };
    int i = s->reserved > 0;
    rlp_time_t elapsed;

    /* ends where nothing counts any more: units are at most the burst */
    while ((elapsed = sliding_elapsed(counts[i], limit->burst - counts[i + 1] - units, limit)) ==
           limit->period) {
        i++;
    }
    const rlp_time_t turn = sliding_begin(s->number + i, limit) + elapsed;

    return turn > at ? turn : at;
}

/* Until nothing counts any more. */
static rlp_time_t sliding_reset(const sliding_t *s, rlp_time_t now, const rlp_limit_t *limit)
{
    const int windows = s->reserved > 0 ? 3 : s->current > 0 ? 2 : s->previous > 0 ? 1 : 0;

    return windows > 0 ? sliding_begin(s->number + windows, limit) - now : 0;
}

static void sliding_report(rlp_decision_t *d, const sliding_t *s, const rlp_op_t *op, rlp_time_t at,
                           const rlp_limit_t *limit)
{
    const rlp_units_t used = sliding_estimate(s, at, limit);

    if (s->reserved == 0 && used < limit->burst) {
        d->remaining = (limit->burst - used) / RLP_UNIT;
    }
    d->next = d->remaining > 0 ? 0 : sliding_turn(s, RLP_UNIT, at, limit) - op->now;
    d->reset = sliding_reset(s, op->now, limit);
    d->loss = rlp_loss((uint64_t)(used + s->reserved), (uint64_t)limit->burst);
    d->expires = op->now + d->reset;
}

/* Gives back what was charged whenever: what counts longest goes first, and promises to those who
   wait go last. */
static bool sliding_give(sliding_t *s, rlp_units_t units)
{
    rlp_units_t *const counts[] = { &s->current, &s->previous, &s->reserved };
    const rlp_units_t all = s->current + s->previous + s->reserved;

    for (int i = 0; i < 3; i++) {
        const rlp_units_t back = *counts[i] < units ? *counts[i] : units;

        *counts[i] -= back;
        units -= back;
    }
    return all > 0;
}

/* Corrects the count of the window in which it was charged, as long as it counts; what is charged
   later than that counts now. */
static bool sliding_settle(sliding_t *s, const rlp_limit_t *limit, const rlp_op_t *op)
{
    rlp_units_t *const counts[] = { &s->previous, &s->current, &s->reserved };
    const int64_t window = sliding_number(op->charged_at, limit) - s->number + 1;
    const bool counts_still = window >= 0 && window <= 2;
    rlp_units_t *count = counts[counts_still ? window : 1];

    if (op->units < 0 && op->charged_at >= RLP_TIME_EVER) {
        return sliding_give(s, -op->units);
    }
    if (op->units < 0 && (!counts_still || *count == 0)) {
        return false;
    }
    const rlp_units_t units = *count + op->units;

    *count = units > 0 ? sliding_clamp(units, limit) : 0;
    return true;
}

/* Gives the request its turn, or refuses it; false if refused. */
static bool sliding_take(sliding_t *s, rlp_decision_t *d, const rlp_op_t *op, rlp_time_t at,
                         const rlp_limit_t *limit)
{
    const rlp_time_t turn = sliding_turn(s, op->units, at, limit);
    const int64_t ahead = sliding_number(turn, limit) - s->number;

    if (turn > at && (turn - op->now > op->max_wait || ahead > 1)) {
        /* it may wait for a turn of the next window, not for a later one */
        const rlp_time_t reservable = sliding_begin(s->number + ahead - 1, limit);
        const rlp_time_t patient = turn - op->max_wait;

        d->verdict = RLP_DENY;
        d->retry = (patient > reservable ? patient : reservable) - op->now;
        return false;
    }
    if (turn > at) {
        d->verdict = RLP_WAIT;
        d->wait = turn - op->now;
    } else {
        d->late = rlp_late(turn, op->now);
    }
    if (op->kind == RLP_TAKE) {
        *(ahead > 0 ? &s->reserved : &s->current) += op->units;
    }
    return true;
}

/* What was cut off counts under the larger plan. */
static void sliding_restore(sliding_t *s, const sliding_t *all, const rlp_limit_t *limit)
{
    s->previous += all->previous - sliding_clamp(all->previous, limit);
    s->current += all->current - sliding_clamp(all->current, limit);
    s->reserved += all->reserved - sliding_clamp(all->reserved, limit);
    s->burst = all->burst;
}

static void sliding_ask(sliding_t *kept, const rlp_limit_t *limit, const rlp_op_t *op,
                        rlp_decision_t *d)
{
    sliding_t s = *kept;
    const bool healed = sliding_move(&s, op->now, limit);
    const sliding_t all = s;
    sliding_cut(&s, limit);
    const rlp_time_t begin = sliding_begin(s.number, limit);
    const rlp_time_t at = op->now > begin ? op->now : begin;

    if (op->kind == RLP_SETTLE) {
        d->changed = sliding_settle(&s, limit, op);
    } else if (op->units < 0 || op->units > limit->burst) {
        d->verdict = RLP_NEVER;
    } else if (op->units > 0) {
        const bool taken = sliding_take(&s, d, op, at, limit);

        d->changed = op->kind == RLP_TAKE && (taken || healed);
    }
    if (d->changed) {
        *kept = s;
        if (!healed && all.burst > limit->burst) {
            sliding_restore(kept, &all, limit);
        }
    }
    sliding_report(d, &s, op, at, limit);
}

/* What a larger plan has used stays so: who asks under both would have it back. */
static void sliding_settle_larger(sliding_t *kept, const rlp_limit_t *limit, const rlp_op_t *op,
                                  rlp_decision_t *d)
{
    rlp_limit_t larger = *limit;
    rlp_op_t look = *op;
    rlp_decision_t settled = *d;

    larger.burst = kept->burst;
    look.kind = RLP_PEEK;
    look.units = 0;
    sliding_ask(kept, &larger, op, &settled);
    sliding_ask(kept, limit, &look, d);
    d->changed = settled.changed;
}

static void sliding_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                         rlp_decision_t *d)
{
    sliding_t *kept = state;

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW };
    if (!sliding_sound(kept, limit)) {
        *kept = (sliding_t){ 0 };
        d->damaged = true;
    }
    if (op->kind == RLP_SETTLE && kept->burst > limit->burst) {
        sliding_settle_larger(kept, limit, op, d);
    } else {
        sliding_ask(kept, limit, op, d);
    }
}

const rlp_algorithm_t rlp_sliding_window = {
    .name = "sliding-window",
    .state_size = sizeof(sliding_t),
    .takes = RLP_TAKES_START,
    .windowed = true,
    .step = sliding_step,
};
