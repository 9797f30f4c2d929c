/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Stepped bucket: COUNT units come back at once every PERIOD, up to the burst, as a reservation
 * scheduler does it. The steps keep their phase: it is that of the first request of the key, or of
 * `start`. At most burst + COUNT * (whole periods + 1) in any span of time. A request that waits
 * for its turn has used units before they are back: what is used above the burst is reserved, and
 * who comes later queues behind it.
 */

#include "algorithm/second.h"

__extension__ typedef __int128 wide_t;

typedef struct {
    rlp_units_t used;
    rlp_time_t step;         /* the latest refill that is in `used` */
    uint64_t mark;           /* of the limit it was written under; 0: never written */
    uint64_t second;         /* mark of another limit that it was written under before, or 0 */
    rlp_units_t second_used; /* of that, with the same refills in it */
} steps_t;

_Static_assert(sizeof(steps_t) <= RLP_STATE_MAX, "fits into a slot of one cache line");

#define STEPS_TIME_MAX (INT64_C(1) << 61)
#define STEPS_USED_MAX (INT64_MAX / 2) /* and a burst more can be counted */
#define STEPS_WAIT_MAX (INT64_C(10) * 366 * 86400 * RLP_SECOND) /* no delay is longer */

/* Periods in which so many units come back, rounded up. */
static int64_t steps_periods_at(rlp_units_t units, int64_t count)
{
    return (units - 1) / (count * RLP_UNIT) + 1;
}

/* Nobody waits for longer, nor is more in use, nor fills a bucket later. */
static bool steps_used_sound(rlp_units_t used, uint64_t mark, const rlp_limit_t *limit)
{
    const rlp_units_t burst = second_burst(mark);
    const rlp_units_t most = used > burst ? used : burst;

    return second_sound(mark & ~SECOND_CUT) && used >= 0 && most <= STEPS_USED_MAX &&
           steps_periods_at(most, second_count(mark)) <= STEPS_TIME_MAX / 2 / limit->period;
}

static bool steps_sound(const steps_t *steps, const rlp_limit_t *limit)
{
    if (steps->second != 0 ? !steps_used_sound(steps->second_used, steps->second, limit)
                           : steps->second_used != 0) {
        return false;
    }
    if (steps->mark == 0) {
        return ((uint64_t)steps->used | (uint64_t)steps->step | steps->second) == 0;
    }
    return steps_used_sound(steps->used, steps->mark, limit) && (steps->mark & SECOND_CUT) == 0 &&
           steps->step >= -STEPS_TIME_MAX && steps->step <= STEPS_TIME_MAX;
}

static rlp_time_t steps_floor(rlp_time_t now, const rlp_limit_t *limit)
{
    const rlp_time_t past = (now - limit->start) % limit->period;

    return now - (past < 0 ? past + limit->period : past);
}

static int64_t steps_periods(rlp_units_t units, const rlp_limit_t *limit)
{
    return steps_periods_at(units, limit->count);
}

/* What is left of the used units after so many refills. */
static rlp_units_t steps_refilled(rlp_units_t used, int64_t refills, int64_t count)
{
    return used == 0 || refills >= steps_periods_at(used, count)
               ? 0
               : used - refills * count * RLP_UNIT;
}

/* How many periods ahead a turn may be at most. */
static int64_t steps_ahead(const rlp_limit_t *limit)
{
    const int64_t counted = (STEPS_USED_MAX - limit->burst) / (limit->count * RLP_UNIT);
    const int64_t waited = STEPS_WAIT_MAX / limit->period + 1;

    return counted < waited ? counted : waited;
}

/* The state as this limit has it, which is the first from then on, and the one before the second.
   What is reserved stays so; but when it is carried to a new limit with another burst, that is
   empty at most, not in debt. */
static void steps_take_over(steps_t *steps, const rlp_limit_t *limit)
{
    const uint64_t mark = steps->mark;
    const bool known = mark == limit->mark || (steps->second & ~SECOND_CUT) == limit->mark;
    const rlp_units_t most = known || second_burst(mark) == second_burst(limit->mark)
                                 ? limit->burst + steps_ahead(limit) * limit->count * RLP_UNIT
                                 : limit->burst;

    if (mark != 0 && mark != limit->mark) {
        const rlp_units_t used = steps->used;

        steps->used = known ? steps->second_used : used;
        steps->mark = limit->mark;
        steps->second = mark | (steps->second & SECOND_CUT) | (steps->used > most ? SECOND_CUT : 0);
        steps->second_used = used;
    }
    if (steps->used > most) {
        steps->used = most;
    }
}

/* The instant from which nothing is in use any more, under neither limit. */
static rlp_time_t steps_full(const steps_t *steps, const rlp_limit_t *limit)
{
    const int64_t own = steps->used ? steps_periods(steps->used, limit) : 0;
    const int64_t second =
        steps->second_used ? steps_periods_at(steps->second_used, second_count(steps->second)) : 0;

    return steps->step + (own > second ? own : second) * limit->period;
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
    if (!steps->mark) {
        *steps = (steps_t){ .used = limit->burst - limit->initial,
                            .step = steps_phase(now, limit),
                            .mark = limit->mark };
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
    steps->used = steps_refilled(steps->used, gone, limit->count);
    if (steps->second) {
        steps->second_used = steps_refilled(steps->second_used, gone, second_count(steps->second));
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

    d->remaining = steps->used < limit->burst ? (limit->burst - steps->used) / RLP_UNIT : 0;
    d->next = limit->burst < RLP_UNIT ? RLP_TIME_NEVER : steps_until(steps, missing, now, limit);
    d->reset = steps_until(steps, steps->used, now, limit);
    d->loss = rlp_loss((uint64_t)steps->used, (uint64_t)limit->burst);
    if (steps->second) { /* eviction would forget that of both which is more */
        const uint32_t second = rlp_loss((uint64_t)steps->second_used, (uint64_t)limit->burst);

        d->loss = second > d->loss ? second : d->loss;
    }
    d->expires =
        limit->initial == limit->burst ? steps_full(steps, limit) + limit->period : RLP_TIME_NEVER;
}

/* Charged or given back, between empty and full; what is reserved stays so. */
static rlp_units_t steps_settled(rlp_units_t used, rlp_units_t units, rlp_units_t burst)
{
    const rlp_units_t most = used > burst ? used : burst;
    const rlp_units_t sum = used + units;

    return sum < 0 ? 0 : sum < most ? sum : most;
}

/* A wait longer than all steps from what is reserved, or else from empty, to full comes from a
   clock that stepped back. */
static bool steps_heal(steps_t *steps, rlp_units_t missing, const rlp_limit_t *limit,
                       rlp_time_t now)
{
    const rlp_units_t most = steps->used > limit->burst ? steps->used : limit->burst;
    const rlp_time_t longest = steps_periods(most, limit) * limit->period;

    if (steps_until(steps, missing, now, limit) <= longest + RLP_CLOCK_SKEW) {
        return false;
    }
    steps->step = steps_phase(now, limit);
    return true;
}

/* Reserves a turn, or refuses. True if the state wants to be kept. */
static bool steps_queue(steps_t *steps, rlp_decision_t *d, const rlp_limit_t *limit,
                        const rlp_op_t *op)
{
    const rlp_units_t missing = steps->used + op->units - limit->burst;
    const bool healed = steps_heal(steps, missing, limit, op->now);
    const rlp_time_t wait = steps_until(steps, missing, op->now, limit);
    const int64_t beyond = steps_periods(missing, limit) - steps_ahead(limit);
    const rlp_time_t counted = steps->step + beyond * limit->period - op->now;
    const rlp_time_t accepted = wait - op->max_wait;
    const rlp_time_t retry = counted > accepted ? counted : accepted;

    if (retry > 0) {
        d->verdict = RLP_DENY;
        d->retry = retry;
        return healed;
    }
    d->verdict = RLP_WAIT;
    d->wait = wait;
    steps->used += op->kind == RLP_TAKE ? op->units : 0;
    return true;
}

/* What the second limit holds at an instant. What is charged by an older reading of the clock has
   its turn at the state's step; what is given back, where it was charged. */
static rlp_units_t steps_second_most(const steps_t *steps, rlp_time_t at, bool back,
                                     const rlp_limit_t *limit)
{
    const rlp_time_t ahead = at - steps->step;
    const int64_t gone = ahead < 0 ? -((-ahead - 1) / limit->period + 1) : ahead / limit->period;
    const int64_t refills = gone < 0 && !back ? 0 : gone;
    const wide_t most = (wide_t)second_burst(steps->second) +
                        (wide_t)refills * second_count(steps->second) * RLP_UNIT;

    return most < 0 ? 0 : most < INT64_MAX ? (rlp_units_t)most : INT64_MAX;
}

static void steps_second(steps_t *steps, const rlp_decision_t *d, const rlp_limit_t *limit,
                         const rlp_op_t *op)
{
    const rlp_time_t at = second_instant(d, op);
    const rlp_units_t most = steps_second_most(steps, at, op->units < 0, limit);
    const bool cut = (steps->second & SECOND_CUT) != 0;

    if (second_settle_units(&steps->second_used, cut, op, most)) {
        steps->second |= SECOND_CUT;
    }
}

/* What is asked of a bucket that is this limit's, as it is to be judged now. */
static void steps_ask(steps_t *steps, rlp_decision_t *d, const rlp_limit_t *limit,
                      const rlp_op_t *op)
{
    const bool fresh = !steps->mark;
    const bool healed = steps_turn(steps, op->now, limit);

    if (op->kind == RLP_SETTLE) {
        if (!fresh || op->units > 0) { /* or nothing was charged */
            steps->used = steps_settled(steps->used, op->units, limit->burst);
            d->changed = true;
        }
    } else if (op->units < 0 || op->units > limit->burst) {
        d->verdict = RLP_NEVER;
    } else if (op->units > 0 && op->units > limit->burst - steps->used) {
        /* the first request of a key that starts with too little starts its clock */
        const bool queued = steps_queue(steps, d, limit, op);
        d->changed = (queued || healed || fresh) && op->kind == RLP_TAKE;
    } else if (op->kind == RLP_TAKE && op->units > 0) {
        steps->used += op->units;
        d->changed = true;
    }
}

static void steps_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op, rlp_decision_t *d)
{
    steps_t *kept = state;

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW };
    if (!steps_sound(kept, limit)) {
        *kept = (steps_t){ 0 };
        d->damaged = true;
    }
    steps_t steps = *kept;
    steps_take_over(&steps, limit);
    if (steps_forgotten(&steps, op->now, limit)) {
        steps = (steps_t){ 0 };
    }
    steps_ask(&steps, d, limit, op);
    if (d->changed && steps.second && d->verdict <= RLP_WAIT) {
        steps_second(&steps, d, limit, op);
    }
    steps_report(d, &steps, op->now, limit);
    if (d->changed) {
        *kept = steps;
    }
}

const rlp_algorithm_t rlp_stepped_bucket = {
    .name = "stepped-bucket",
    .state_size = sizeof(steps_t),
    .takes = RLP_TAKES_BURST | RLP_TAKES_INITIAL | RLP_TAKES_START,
    .step = steps_step,
};
