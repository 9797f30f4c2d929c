/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Fixed window: at most COUNT in each window of one period, aligned to `start` (the epoch by
 * default); hence up to twice COUNT in an instant at the edge of two windows. A request that
 * carries an older clock reading than the state is counted in the state's newer window: a clock
 * that steps back opens no window again. A request that waits for its turn has it at the beginning
 * of one of the next windows; what such a request does not fit into is left unused, so that nobody
 * overtakes it.
 */

#include "algorithm/second.h"

/* One counter under two limits: as in second.h, but that the burst is the rate. */
typedef struct {
    int64_t number;     /* of the window, from start */
    rlp_units_t used;   /* from its beginning on: COUNT of it in each window that follows */
    rlp_units_t burst;  /* of the limit it was written under; 0: never written */
    rlp_units_t second; /* burst of another limit that it was written under before, or 0 */
    rlp_units_t second_used;
} window_t;

_Static_assert(sizeof(window_t) <= RLP_STATE_MAX, "a window fits into a slot of one cache line");

#define WINDOW_USED_MAX (INT64_MAX / 2) /* and a cost more can be counted */
#define WINDOW_WAIT_MAX (INT64_C(10) * 366 * 86400 * RLP_SECOND) /* no delay is longer */

static int64_t window_number(rlp_time_t at, const rlp_limit_t *limit)
{
    const rlp_time_t since = at - limit->start;

    return since >= 0 ? since / limit->period : -((-since - 1) / limit->period) - 1;
}

static rlp_time_t window_begin(int64_t number, const rlp_limit_t *limit)
{
    return limit->start + number * limit->period;
}

/* As SECOND_CUT, in the second limit's burst. */
#define WINDOW_CUT (INT64_C(1) << 62)

static rlp_units_t window_second_burst(const window_t *window)
{
    return window->second & ~WINDOW_CUT;
}

/* No window ends outside what a clock can say. */
static bool window_used_sound(rlp_units_t used, rlp_units_t burst, int64_t bound)
{
    return burst > 0 && used >= 0 && used <= WINDOW_USED_MAX && used / burst <= bound;
}

static bool window_sound(const window_t *window, const rlp_limit_t *limit)
{
    const int64_t bound = (INT64_C(1) << 61) / limit->period;

    if (window->second != 0
            ? !window_used_sound(window->second_used, window_second_burst(window), bound)
            : window->second_used != 0) {
        return false;
    }
    if (window->burst == 0) {
        return (window->used | window->number | window->second) == 0;
    }
    return window_used_sound(window->used, window->burst, bound) && window->number >= -bound &&
           window->number <= bound;
}

/* How many windows ahead a turn may be at most. */
static int64_t window_ahead(const rlp_limit_t *limit)
{
    const int64_t counted = WINDOW_USED_MAX / limit->burst - 1;
    const int64_t waited = WINDOW_WAIT_MAX / limit->period + 1;

    return counted < waited ? counted : waited;
}

/* The state as this limit has it, which is the first from then on, and the one before the second.
   What is reserved stays so; but when it is carried to a new limit, that is empty at most, not in
   debt. */
static void window_take_over(window_t *window, const rlp_limit_t *limit)
{
    const rlp_units_t used = window->used, burst = window->burst;
    const bool known = burst == limit->burst ||
                       (window->second != 0 && window_second_burst(window) == limit->burst);
    const int64_t windows = known ? window_ahead(limit) + 1 : 1;

    if (burst != limit->burst) {
        window->used = known ? window->second_used : used;
        window->burst = limit->burst;
        window->second = burst | (window->second & WINDOW_CUT) |
                         (window->used > windows * limit->burst ? WINDOW_CUT : 0);
        window->second_used = used;
    }
    if (window->used > windows * limit->burst) {
        window->used = windows * limit->burst;
    }
}

/* What is left of the used units so many windows later. */
static rlp_units_t window_left(rlp_units_t used, int64_t gone, rlp_units_t burst)
{
    return gone > used / burst ? 0 : used - gone * burst;
}

/* The state as it is to be judged now: of the current window, or of a newer one. True if a clock
   that stepped back had left it further ahead than one window. */
static bool window_turn(window_t *window, rlp_time_t now, const rlp_limit_t *limit)
{
    const int64_t number = window_number(now, limit);

    if (!window->burst) {
        *window = (window_t){ .number = number, .burst = limit->burst };
        return false;
    }
    if (window->used > limit->burst || window->burst != limit->burst) {
        window_take_over(window, limit);
    }
    if (window->number < number) {
        const int64_t gone = number - window->number;

        window->used = window_left(window->used, gone, limit->burst);
        if (window->second) {
            window->second_used =
                window_left(window->second_used, gone, window_second_burst(window));
        }
        if (window->second_used == 0) {
            window->second = 0; /* what will be charged by the time it asks is carried to it */
        }
        window->number = number;
    } else if (window_begin(window->number, limit) - now > limit->period + RLP_CLOCK_SKEW) {
        window->number = number;
        return true;
    }
    return false;
}

/* A full window that lasts longer than one period from now is left over from a clock that stepped
   back: it counts as the current one, or it would refuse until its own end. */
static bool window_heal(window_t *window, rlp_time_t now, const rlp_limit_t *limit)
{
    if (window_begin(window->number, limit) - now <= RLP_CLOCK_SKEW) {
        return false;
    }
    window->number = window_number(now, limit);
    return true;
}

/* Reserves a turn, or refuses. True if the state wants to be kept. */
static bool window_queue(window_t *window, rlp_decision_t *d, const rlp_limit_t *limit,
                         const rlp_op_t *op)
{
    const bool healed = window_heal(window, op->now, limit);
    const bool fits = op->units <= limit->burst - window->used % limit->burst;
    const int64_t ahead = window->used / limit->burst + !fits;
    const rlp_time_t wait = window_begin(window->number + ahead, limit) - op->now;
    const int64_t beyond = ahead - window_ahead(limit);
    const rlp_time_t counted = window_begin(window->number + beyond, limit) - op->now;
    const rlp_time_t accepted = wait - op->max_wait;
    const rlp_time_t retry = counted > accepted ? counted : accepted;

    if (retry > 0) {
        d->verdict = RLP_DENY;
        d->retry = retry;
        return healed;
    }
    d->verdict = RLP_WAIT;
    d->wait = wait;
    if (op->kind == RLP_TAKE) {
        window->used = (fits ? window->used : ahead * limit->burst) + op->units;
    }
    return true;
}

static void window_report(rlp_decision_t *d, const window_t *window, rlp_time_t now,
                          const rlp_limit_t *limit)
{
    const int64_t spent = window->used / limit->burst; /* whole windows */
    const rlp_units_t part = window->used % limit->burst;
    const int64_t windows = spent + (part > 0 || spent == 0);
    const rlp_time_t end = window_begin(window->number + windows, limit);

    d->remaining = spent == 0 ? (limit->burst - part) / RLP_UNIT : 0;
    d->reset = end - now;
    if (d->remaining == 0) {
        const int64_t ahead = spent + (limit->burst - part < RLP_UNIT);

        d->next = window_begin(window->number + ahead, limit) - now;
    }
    d->loss = rlp_loss((uint64_t)window->used, (uint64_t)limit->burst);
    d->expires = end;
    if (window->second_used > 0) {
        const int64_t last = (window->second_used - 1) / window_second_burst(window) + 1;
        const rlp_time_t second_end = window_begin(window->number + last, limit);
        const uint32_t second = rlp_loss((uint64_t)window->second_used, (uint64_t)limit->burst);

        d->expires = end > second_end ? end : second_end;
        d->loss = second > d->loss ? second : d->loss; /* eviction would forget both */
    }
}

/* Is there something that can be given back? A reservation is of a window still to come; whenever
   it was charged, it may have been under the second limit alone. */
static bool window_has(const window_t *window, const rlp_limit_t *limit, const rlp_op_t *op)
{
    return window->used > 0 ? window_number(op->charged_at, limit) >= window->number
                            : window->second_used > 0 && op->charged_at >= RLP_TIME_EVER;
}

static bool window_settle(window_t *window, const rlp_limit_t *limit, const rlp_op_t *op)
{
    const rlp_units_t most = window->used > limit->burst ? window->used : limit->burst;

    if (op->units < 0 && !window_has(window, limit, op)) {
        return false;
    }
    window->used += op->units;
    if (window->used < 0) {
        window->used = 0;
    } else if (window->used > most) {
        window->used = most;
    }
    return true;
}

/* What the second limit holds at an instant: that of a reading of the clock older than the state is
   in its window. */
static rlp_units_t window_second_most(const window_t *window, rlp_time_t at,
                                      const rlp_limit_t *limit)
{
    const int64_t ahead = window_number(at, limit) - window->number;
    const int64_t windows = ahead > 0 ? ahead + 1 : 1;
    const rlp_units_t burst = window_second_burst(window);

    return windows < WINDOW_USED_MAX / burst ? windows * burst : WINDOW_USED_MAX;
}

static void window_second(window_t *window, const rlp_decision_t *d, const rlp_limit_t *limit,
                          const rlp_op_t *op)
{
    const rlp_units_t most = window_second_most(window, second_instant(d, op), limit);
    const bool cut = (window->second & WINDOW_CUT) != 0;

    if (second_settle_units(&window->second_used, cut, op, most)) {
        window->second |= WINDOW_CUT;
    }
}

static void window_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                        rlp_decision_t *d)
{
    window_t *kept = state;

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW };
    if (!window_sound(kept, limit)) {
        *kept = (window_t){ 0 };
        d->damaged = true;
    }
    window_t window = *kept;
    const bool healed = window_turn(&window, op->now, limit);

    if (op->kind == RLP_SETTLE) {
        d->changed = window_settle(&window, limit, op);
    } else if (op->units < 0 || op->units > limit->burst) {
        d->verdict = RLP_NEVER;
    } else if (op->units > 0 && op->units > limit->burst - window.used) {
        const bool queued = window_queue(&window, d, limit, op);
        d->changed = (queued || healed) && op->kind == RLP_TAKE;
    } else if (op->kind == RLP_TAKE && op->units > 0) {
        d->late = rlp_late(window_begin(window.number, limit), op->now);
        window.used += op->units;
        d->changed = true;
    }
    if (d->changed && window.second && d->verdict <= RLP_WAIT) {
        window_second(&window, d, limit, op);
    }
    window_report(d, &window, op->now, limit);
    if (d->changed) {
        *kept = window;
    }
}

const rlp_algorithm_t rlp_fixed_window = {
    .name = "fixed-window",
    .state_size = sizeof(window_t),
    .takes = RLP_TAKES_START,
    .windowed = true,
    .lasting = true,
    .step = window_step,
};
