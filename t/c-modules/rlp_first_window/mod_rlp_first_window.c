/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * An algorithm: rate=COUNT/PERIOD algorithm=first-window. The window of each client begins with its
 * first request, not at a full minute or hour as with fixed-window.
 */

#include "mod_ratelimit_plans.h"

#include <ap_provider.h>

typedef struct {
    rlp_time_t begin;
    rlp_units_t used; /* 0: there is no window */
} window_t;

/* Charges, or refuses until the end of the window. */
static void window_take(window_t *window, const rlp_limit_t *limit, const rlp_op_t *op,
                        rlp_decision_t *d)
{
    if (op->units < 0 || op->units > limit->burst) {
        d->verdict = RLP_NEVER;
    } else if (op->units > limit->burst - window->used) {
        d->verdict = RLP_DENY;
        d->retry = window->begin + limit->period - op->now;
    } else if (op->kind == RLP_TAKE && op->units > 0) {
        window->used += op->units;
        d->changed = true;
    }
}

/* Gives back what was charged in this window, or charges more. */
static void window_settle(window_t *window, const rlp_limit_t *limit, const rlp_op_t *op,
                          rlp_decision_t *d)
{
    if (op->units < 0 && op->charged_at < window->begin) {
        return;
    }
    window->used += op->units;
    window->used = window->used < 0 ? 0 : window->used;
    window->used = window->used > limit->burst ? limit->burst : window->used;
    d->changed = true;
}

static void window_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                        rlp_decision_t *d)
{
    window_t *kept = state;
    window_t window = *kept;

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW };
    d->damaged = window.used < 0;
    /* no window, one that is over, or one that a clock has left in the future */
    if (window.used <= 0 || op->now - window.begin >= limit->period ||
        window.begin - op->now > RLP_CLOCK_SKEW) {
        window = (window_t){ .begin = op->now };
    }
    if (window.used > limit->burst) { /* written under a plan that allowed more */
        window.used = limit->burst;
    }
    if (op->kind == RLP_SETTLE) {
        window_settle(&window, limit, op, d);
    } else if (op->kind != RLP_RELEASE) {
        window_take(&window, limit, op, d);
    }
    if (d->changed) {
        *kept = window;
    }
    d->remaining = (limit->burst - window.used) / RLP_UNIT;
    d->expires = window.begin + limit->period;
    d->reset = window.used > 0 ? d->expires - op->now : 0;
    d->next = d->remaining > 0 ? 0 : d->reset;
    d->loss = rlp_loss((uint64_t)window.used, (uint64_t)limit->burst);
}

static const rlp_algorithm_t first_window = {
    .name = "first-window", .state_size = sizeof(window_t), .windowed = true, .step = window_step
};

static void first_window_hooks(apr_pool_t *pool)
{
    ap_register_provider(pool, RLP_ALGORITHM_GROUP, "first-window", RLP_ALGORITHM_VERSION,
                         &first_window);
}

module AP_MODULE_DECLARE_DATA rlp_first_window_module = {
    STANDARD20_MODULE_STUFF,
    .register_hooks = first_window_hooks,
};
