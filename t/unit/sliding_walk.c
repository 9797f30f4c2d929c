/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "sliding_walk.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <string.h>

__extension__ typedef __int128 wide_t;

void walk_expect(const walk_t *walk, bool holds, const char *what)
{
    if (!holds) {
        fail_msg("%s: not so under \"%s\" at %" PRId64 " us, cost %" PRId64 "/1000, waits %" PRId64
                 " us (RLP_SEED=%" PRIu64 ")",
                 what, walk->words, walk->now, walk->units, walk->max_wait, unit_seed());
    }
}

/* --- the models */

static rlp_time_t world_newest(const world_t *world, rlp_time_t now)
{
    const rlp_time_t newest = world->n > 0 ? world->served[world->n - 1].at : now;

    return newest > now ? newest : now;
}

rlp_units_t world_sum(const world_t *world, rlp_time_t after, rlp_time_t to)
{
    rlp_units_t sum = 0;

    for (int i = world->n; i-- > 0 && world->served[i].at > after;) {
        sum += world->served[i].at <= to ? world->served[i].units : 0;
    }
    return sum;
}

rlp_time_t log_turn(const world_t *world, rlp_units_t units, rlp_time_t now)
{
    const rlp_limit_t *limit = world->limit;
    rlp_time_t turn = world_newest(world, now);
    rlp_units_t sum = world_sum(world, turn - limit->period, turn);

    for (int i = 0; i < world->n && sum + units > limit->burst; i++) {
        if (world->served[i].at > turn - limit->period) {
            turn = world->served[i].at + limit->period;
            sum = world_sum(world, turn - limit->period, turn);
        }
    }
    return turn;
}

static rlp_time_t log_reservable(const world_t *world, rlp_time_t turn)
{
    (void)world;
    (void)turn;
    return 0;
}

static rlp_time_t window_begin(const world_t *world, rlp_time_t at)
{
    return at / world->limit->period * world->limit->period;
}

/* The estimate at an instant, and whether the units fit. */
static bool window_fits(const world_t *world, rlp_units_t units, rlp_time_t at)
{
    const rlp_time_t period = world->limit->period;
    const rlp_time_t begin = window_begin(world, at);
    const wide_t previous = world_sum(world, begin - period - 1, begin - 1);
    const wide_t share = previous * (begin + period - at) / period / RLP_UNIT * RLP_UNIT;

    return share + world_sum(world, begin - 1, begin + period - 1) + units <= world->limit->burst;
}

static rlp_time_t window_turn(const world_t *world, rlp_units_t units, rlp_time_t now)
{
    const rlp_time_t period = world->limit->period;
    const rlp_time_t newest = window_begin(world, world_newest(world, now));
    rlp_time_t low = newest > now ? newest : now;

    if (window_fits(world, units, low)) {
        return low;
    }
    while (!window_fits(world, units, window_begin(world, low) + period - 1)) {
        low = window_begin(world, low) + period;
    }
    rlp_time_t high = window_begin(world, low) + period - 1;

    while (low < high) {
        const rlp_time_t middle = low + (high - low) / 2;

        if (window_fits(world, units, middle)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static rlp_time_t window_reservable(const world_t *world, rlp_time_t turn)
{
    return window_begin(world, turn) - world->limit->period;
}

const kind_t walk_kinds[KINDS] = {
    { "sliding-window", 12, 2, INT64_MAX, window_turn, window_reservable },
    { "sliding-log", 2, 1, DAY, log_turn, log_reservable },
};

/* --- random limits, costs and moments */

rlp_units_t random_units(walk_t *walk)
{
    const rlp_units_t burst = walk->limit->burst;

    switch (unit_below(&walk->random, 16)) {
    case 0:
        return 0;
    case 1:
        return burst;
    case 2:
        return burst + 1;
    case 3:
        return -(rlp_units_t)unit_below(&walk->random, 5000) - 1;
    case 4:
        return walk->strict ? (rlp_units_t)unit_below(&walk->random, 1000) : 2 * RLP_UNIT;
    case 5:
    case 6:
        return RLP_UNIT + (rlp_units_t)unit_below(&walk->random, (uint64_t)burst);
    default:
        return walk->strict && unit_below(&walk->random, 2) ? RLP_UNIT / 2 : RLP_UNIT;
    }
}

rlp_time_t random_gap(walk_t *walk)
{
    const uint64_t period = (uint64_t)walk->limit->period;

    switch (unit_below(&walk->random, 16)) {
    case 0:
        return 1;
    case 1:
        return (rlp_time_t)unit_below(&walk->random, 2 * period);
    case 2:
    case 3:
        return walk->last.retry;
    case 4:
        return walk->last.retry > 0 ? walk->last.retry - 1 : 0;
    case 5:
        return walk->last.expires > walk->now ? walk->last.expires - walk->now : 0;
    case 6:
    case 7:
    case 8:
        return (rlp_time_t)unit_below(&walk->random, 2 * period / (uint64_t)walk->limit->count + 2);
    default:
        return 0;
    }
}

const rlp_limit_t *random_limit(walk_t *walk, int64_t count, int64_t period)
{
    walk->words = apr_psprintf(unit_pool(), "rate=%" PRId64 "/%" PRId64 "ms algorithm=%s", count,
                               period, walk->kind->name);
    return &unit_plan(walk->words)->limits[0];
}

void walk_begin(walk_t *walk)
{
    const int64_t period = unit_size(&walk->random, unit_below(&walk->random, 2) ? 5 : 11);

    walk->limit = random_limit(walk, unit_size(&walk->random, walk->kind->digits), period);
    walk->world.limit = walk->limit;
    walk->world.n = 0;
    walk->waits = unit_below(&walk->random, 2);
    walk->max_wait = 0;
    walk->strict = walk->kind->turn == log_turn &&
                   (unit_below(&walk->random, 4) == 0 || walk->limit->period >> 39 > 0);
    walk->last = (rlp_decision_t){ .expires = 0 };
    walk->now = INT64_C(1700000000) * RLP_SECOND + (rlp_time_t)unit_below(&walk->random, 1000000);
    memset(walk->state, 0, walk->limit->state_size);
}

walk_t *walk_of(const kind_t *kind)
{
    walk_t *walk = apr_pcalloc(unit_pool(), sizeof(*walk));

    walk->kind = kind;
    walk->random = unit_seed();
    return walk;
}

/* --- steps */

rlp_op_t walk_op(const walk_t *walk, rlp_op_kind_t kind, rlp_units_t units, rlp_time_t now)
{
    return (rlp_op_t){ .kind = kind, .units = units, .now = now, .max_wait = walk->max_wait };
}

rlp_decision_t walk_do(walk_t *walk, const rlp_op_t *op)
{
    rlp_decision_t decision;

    walk->limit->algorithm->step(walk->state, walk->limit, op, &decision);
    return decision;
}

rlp_decision_t walk_try(const walk_t *walk, const rlp_op_t *op)
{
    static uint64_t copy[STATE_WORDS];
    rlp_decision_t decision;

    memcpy(copy, walk->state, walk->limit->state_size);
    walk->limit->algorithm->step(copy, walk->limit, op, &decision);
    return decision;
}

rlp_decision_t walk_peek(const walk_t *walk, rlp_units_t units, rlp_time_t now)
{
    const rlp_op_t op = walk_op(walk, RLP_PEEK, units, now);

    return walk_try(walk, &op);
}
