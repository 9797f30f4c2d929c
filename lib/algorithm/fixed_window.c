/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Fixed window: at most COUNT in each window of one period, aligned to `start` (the epoch by
 * default); hence up to twice COUNT in an instant at the edge of two windows. A request that
 * carries an older clock reading than the state is counted in the state's newer window: a clock
 * that steps back opens no window again.
 */

#include "rlp_algorithm.h"

typedef struct {
    int64_t number; /* of the window, from start */
    rlp_units_t used;
    uint64_t seen; /* 1 once written */
} window_t;

_Static_assert(sizeof(window_t) <= RLP_STATE_MAX, "a window fits into a slot of one cache line");

static int64_t window_number(rlp_time_t at, const rlp_limit_t *limit)
{
    const rlp_time_t since = at - limit->start;

    return since >= 0 ? since / limit->period : -((-since - 1) / limit->period) - 1;
}

static rlp_time_t window_begin(int64_t number, const rlp_limit_t *limit)
{
    return limit->start + number * limit->period;
}

/* No window begins outside what a clock can say. */
static bool window_sound(const window_t *window, const rlp_limit_t *limit)
{
    const int64_t bound = (INT64_C(1) << 61) / limit->period;

    if (window->seen != 1) {
        return (window->seen | (uint64_t)window->used | (uint64_t)window->number) == 0;
    }
    return window->used >= 0 && window->number >= -bound && window->number <= bound;
}

/* The state as it is to be judged now: of the current window, or of a newer one. True if a clock
   that stepped back had left it further ahead than one window. */
static bool window_turn(window_t *window, rlp_time_t now, const rlp_limit_t *limit)
{
    const int64_t number = window_number(now, limit);
    bool healed = false;

    if (!window->seen || window->number < number) {
        *window = (window_t){ .number = number, .seen = 1 };
    } else if (window_begin(window->number, limit) - now > limit->period + RLP_CLOCK_SKEW) {
        window->number = number;
        healed = true;
    }
    if (window->used > limit->burst) {
        window->used = limit->burst; /* a plan with a smaller count is empty, not in debt */
    }
    return healed;
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

static void window_report(rlp_decision_t *d, const window_t *window, rlp_time_t now,
                          const rlp_limit_t *limit)
{
    const rlp_time_t end = window_begin(window->number, limit) + limit->period;

    d->remaining = (limit->burst - window->used) / RLP_UNIT;
    d->reset = end - now;
    d->next = d->remaining > 0 ? 0 : d->reset;
    d->loss = rlp_loss((uint64_t)window->used, (uint64_t)limit->burst);
    d->expires = end;
}

static bool window_settle(window_t *window, const rlp_limit_t *limit, const rlp_op_t *op)
{
    if (window->number != window_number(op->charged_at, limit) || !window->used) {
        return false;
    }
    window->used += op->units;
    if (window->used < 0) {
        window->used = 0;
    } else if (window->used > limit->burst) {
        window->used = limit->burst;
    }
    return true;
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
    bool healed = window_turn(&window, op->now, limit);

    if (op->kind == RLP_SETTLE) {
        d->changed = window_settle(&window, limit, op);
    } else if (op->units < 0 || op->units > limit->burst) {
        d->verdict = RLP_NEVER;
    } else if (op->units > limit->burst - window.used) {
        healed |= window_heal(&window, op->now, limit);
        d->verdict = RLP_DENY;
        d->retry = window_begin(window.number, limit) + limit->period - op->now;
        d->changed = healed && op->kind == RLP_TAKE;
    } else if (op->kind == RLP_TAKE && op->units > 0) {
        window.used += op->units;
        d->changed = true;
    }
    if (d->changed) {
        *kept = window;
    }
    window_report(d, &window, op->now, limit);
}

const rlp_algorithm_t rlp_fixed_window = {
    .name = "fixed-window",
    .state_size = sizeof(window_t),
    .takes = RLP_TAKES_START,
    .windowed = true,
    .step = window_step,
};
