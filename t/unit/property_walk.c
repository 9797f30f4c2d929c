/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "property_walk.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <string.h>

/* Reich's formula: the largest excess of any span that ends now. */
static void turn_bucket(world_t *world, rlp_time_t now)
{
    const wide_t drained = (wide_t)(now - world->at) * world->limit->count * RLP_UNIT;

    world->level = world->level > drained ? world->level - drained : 0;
    world->at = now;
}

void turn_window(world_t *world, rlp_time_t now)
{
    const rlp_time_t number = now / world->limit->period;

    if (number > world->at) {
        *world = (world_t){ .limit = world->limit, .seen = true, .at = number };
    }
}

/* One refill after the other; a bucket full for a whole period begins with the next request. */
void turn_steps(world_t *world, rlp_time_t now)
{
    const rlp_limit_t *limit = world->limit;

    while (world->level > 0 && world->at + limit->period <= now) {
        world->level -= (wide_t)limit->count * RLP_UNIT;
        world->at += limit->period;
    }
    if (world->level > 0) {
        return;
    }
    world->level = 0;
    if (limit->initial == limit->burst && world->at + limit->period <= now) {
        world->at = now;
    }
    world->at += (now - world->at) / limit->period * limit->period;
}

static void turn_quota(world_t *world, rlp_time_t now)
{
    (void)world;
    (void)now;
}

const kind_t walk_kinds[KINDS] = {
    { "", turn_bucket, 0, true, true },
    { " algorithm=stepped-bucket", turn_steps, 1, true, true },
    { " algorithm=fixed-window", turn_window, 1, false, false },
    { " algorithm=leaky-bucket", turn_bucket, 0, true, false },
    { NULL, turn_quota, 1, false, true },
};

const kind_t *const walk_leaky = &walk_kinds[3];

rlp_decision_t walk_step_of(const rlp_limit_t *limit, void *state, const rlp_op_t *op)
{
    rlp_decision_t decision;

    limit->algorithm->step(state, limit, op, &decision);
    return decision;
}

void walk_expect(const walk_t *walk, bool holds, const char *what)
{
    if (!holds) {
        fail_msg("%s: not so under \"%s\" at %" PRId64 " us, cost %" PRId64 "/1000, delay %" PRId64
                 " us (RLP_SEED=%" PRIu64 ")",
                 what, walk->words, walk->now, walk->units, walk->max_wait, unit_seed());
    }
}

/* --- random limits, costs and moments */

const char *random_rate(uint64_t *random, const kind_t *kind, int64_t period)
{
    const int64_t count = unit_size(random, unit_below(random, 2) ? 2 : 14);

    return kind->words == NULL ? apr_psprintf(unit_pool(), "quota=%" PRId64, count)
                               : apr_psprintf(unit_pool(), "rate=%" PRId64 "/%" PRId64 "ms%s",
                                              count, period, kind->words);
}

/* " NAME=UNITS", from 1 thousandth to some units. */
static const char *random_option(uint64_t *random, const char *name, unsigned digits)
{
    const rlp_units_t units = unit_size(random, digits);

    return apr_psprintf(unit_pool(), " %s=%" PRId64 ".%03d", name, units / RLP_UNIT,
                        (int)(units % RLP_UNIT));
}

static const char *random_words(uint64_t *random, const kind_t *kind)
{
    const int64_t period = unit_size(random, unit_below(random, 2) ? 5 : 11);
    const char *burst = kind->has_burst && unit_below(random, 2)
                            ? random_option(random, "burst", unit_below(random, 2) ? 5 : 16)
                            : "";
    const char *initial = kind->has_initial && unit_below(random, 8) == 0
                              ? random_option(random, "initial", *burst ? 4 : 3)
                              : "";

    return apr_pstrcat(unit_pool(), random_rate(random, kind, period), burst, initial, NULL);
}

rlp_units_t random_units(walk_t *walk)
{
    const rlp_units_t burst = walk->limit->burst;

    switch (unit_below(&walk->random, 16)) {
    case 0:
        return 0;
    case 6:
        return burst + RLP_UNIT;
    case 1:
        return burst;
    case 2:
        return burst + 1;
    case 3:
        return -(rlp_units_t)unit_below(&walk->random, 5000) - 1;
    case 4:
    case 5:
        return (rlp_units_t)unit_below(&walk->random, (uint64_t)burst + 1);
    default:
        return RLP_UNIT;
    }
}

rlp_time_t random_gap(walk_t *walk)
{
    const rlp_limit_t *limit = walk->limit;
    const uint64_t drain = (uint64_t)(limit->drain + 1);

    switch (unit_below(&walk->random, 13)) {
    case 0:
        return 1;
    case 1:
        return (rlp_time_t)unit_below(&walk->random, 2 * drain);
    case 2:
    case 3:
        return walk->last.retry;
    case 4:
        return walk->last.retry > 0 ? walk->last.retry - 1 : 0;
    case 5:
        return walk->last.expires == RLP_TIME_NEVER || walk->last.expires < walk->now
                   ? 0
                   : walk->last.expires - walk->now;
    case 6:
    case 7:
        return (rlp_time_t)unit_below(&walk->random, (uint64_t)(limit->period / limit->count) + 2);
    case 8:
        return walk->last.wait;
    default:
        return 0;
    }
}

/* No wait, or one up to some drains; what an algorithm cannot count needs no wait here. */
static rlp_time_t random_longest(walk_t *walk)
{
    const rlp_limit_t *limit = walk->limit;
    const rlp_time_t drains = (rlp_time_t)(1 + unit_below(&walk->random, 4)) * limit->drain;
    const bool counted = !limit->algorithm->credit || limit->capacity >> 59 == 0;

    if (limit->period == 0 || !counted || unit_below(&walk->random, 2)) {
        return 0;
    }
    return drains < WAIT_MAX ? drains : WAIT_MAX;
}

void walk_begin(walk_t *walk)
{
    const rlp_plan_t *plan;

    do {
        walk->words = random_words(&walk->random, walk->kind);
    } while (unit_parse(&plan, walk->words, NULL) != NULL || /* such as 100 years of drain */
             plan->limits[0].burst / RLP_UNIT / plan->limits[0].count > 100000);
    walk->limit = &plan->limits[0];
    walk->world = (world_t){ .limit = walk->limit };
    walk->last = (rlp_decision_t){ .expires = RLP_TIME_NEVER };
    walk->now = INT64_C(1700000000) * RLP_SECOND;
    walk->longest = random_longest(walk);
    walk->max_wait = walk->turn = 0;
    memset(walk->state, 0, sizeof(walk->state));
}

walk_t walk_of(const kind_t *kind)
{
    return (walk_t){ .kind = kind, .random = unit_seed(), .now = INT64_C(1700000000) * RLP_SECOND };
}

/* --- steps on a copy of the state, so that they leave no trace */

rlp_decision_t walk_try(const walk_t *walk, rlp_op_kind_t kind, rlp_units_t units, rlp_time_t now)
{
    const rlp_op_t op = { .kind = kind,
                          .units = units,
                          .now = now,
                          .max_wait = walk->max_wait,
                          .charged_at = walk->turn };
    uint64_t copy[RLP_STATE_MAX / 8];

    memcpy(copy, walk->state, sizeof(copy));
    return walk_step_of(walk->limit, copy, &op);
}

rlp_units_t walk_capacity(const walk_t *walk)
{
    return walk->kind == walk_leaky ? RLP_UNIT : walk->limit->burst;
}

/* From empty to full, in whole steps where an algorithm has them. */
static rlp_time_t walk_drain(const walk_t *walk)
{
    const rlp_limit_t *limit = walk->limit;
    const int64_t step = limit->count * RLP_UNIT;

    if (walk->kind == walk_leaky) {
        return limit->drain + limit->period / limit->count + 1;
    }
    return walk->kind->turn == turn_steps ? (limit->burst + step - 1) / step * limit->period
                                          : limit->drain;
}

rlp_time_t walk_lockout(const walk_t *walk, rlp_time_t reserved)
{
    return walk_drain(walk) + RLP_CLOCK_SKEW + (reserved > 0 ? reserved + walk->limit->period : 0);
}

/* --- the model */

wide_t walk_scale(const walk_t *walk)
{
    return walk->kind->scale ? walk->kind->scale : walk->limit->period;
}

/* Would it be its turn then? That of the leaky bucket comes with its last unit. */
static bool world_fits(const walk_t *walk, rlp_time_t then)
{
    world_t world = walk->judged;

    if (walk->kind == walk_leaky) {
        world.level -= (wide_t)(then - walk->now) * walk->limit->count * RLP_UNIT;
    } else {
        walk->kind->turn(&world, then);
    }
    if (walk->kind->turn == turn_window && world.at > then / walk->limit->period) {
        return false;
    }
    return world.level + walk->units * walk_scale(walk) <= walk_capacity(walk) * walk_scale(walk);
}

/* The leaky bucket's queue is bounded, and one who does not wait that long has a shorter
   one. */
static bool world_queues(const walk_t *walk, wide_t level)
{
    const rlp_limit_t *limit = walk->limit;
    const wide_t queue = (wide_t)limit->burst * limit->period;
    const wide_t waited = (wide_t)walk->max_wait * limit->count * RLP_UNIT;
    const wide_t behind = level + ((wide_t)walk->units - RLP_UNIT) * limit->period;

    return walk->kind != walk_leaky || (behind <= queue && behind <= waited);
}

static rlp_verdict_t world_verdict(const walk_t *walk)
{
    if (walk->units < 0 || !world_queues(walk, 0) ||
        (walk->kind != walk_leaky && walk->units > walk->limit->burst)) {
        return RLP_NEVER;
    }
    if (walk->units == 0 || world_fits(walk, walk->now)) {
        return RLP_ALLOW;
    }
    if (walk->kind->turn == turn_quota) {
        return RLP_NEVER;
    }
    return world_fits(walk, walk->now + walk->max_wait) && world_queues(walk, walk->judged.level)
               ? RLP_WAIT
               : RLP_DENY;
}

rlp_verdict_t world_take(walk_t *walk, rlp_time_t wait)
{
    const rlp_limit_t *limit = walk->limit;
    const bool first = !walk->world.seen;
    world_t *world = &walk->judged;

    *world = walk->world;
    if (first) {
        *world = (world_t){ .limit = limit,
                            .seen = true,
                            .at = walk->kind->turn == turn_window ? 0 : walk->now,
                            .level = (limit->burst - limit->initial) * walk_scale(walk) };
    }
    walk->kind->turn(world, walk->now);
    const rlp_verdict_t verdict = world_verdict(walk);

    if (verdict == RLP_WAIT) {
        walk_expect(walk, wait > 0 && wait <= walk->max_wait, "nobody waits longer than he would");
        walk_expect(walk, world_fits(walk, walk->now + wait), "after the wait it is its turn");
        walk_expect(walk, !world_fits(walk, walk->now + wait - 1), "and not before");
    }
    if (verdict <= RLP_WAIT) {
        if (walk->kind->turn == turn_window) {
            turn_window(world, walk->now + wait);
        }
        world->level += walk->units * walk_scale(walk);
    }
    if ((verdict <= RLP_WAIT && walk->units > 0) || (verdict == RLP_DENY && first)) {
        walk->world = *world;
    }
    return verdict;
}

int64_t world_remaining(const walk_t *walk)
{
    const wide_t rest = walk_capacity(walk) * walk_scale(walk) - walk->judged.level;
    const bool ahead =
        walk->kind->turn == turn_window && walk->judged.at > walk->now / walk->limit->period;

    return rest < 0 || ahead ? 0 : (int64_t)(rest / (RLP_UNIT * walk_scale(walk)));
}

static bool walk_refused(const walk_t *walk, rlp_time_t after)
{
    return walk_try(walk, RLP_PEEK, walk->units, walk->now + after).verdict > RLP_WAIT;
}

void rule_refusal(const walk_t *walk, const rlp_decision_t *d)
{
    const rlp_time_t retry = d->retry;
    const rlp_time_t seconds = rlp_seconds(retry) * RLP_SECOND;

    walk_expect(walk, retry > 0, "a refusal has to be waited for");
    walk_expect(walk, !walk_refused(walk, retry), "passes exactly at retry");
    walk_expect(walk, walk_refused(walk, retry - 1), "is refused a microsecond before");
    walk_expect(walk, !walk_refused(walk, seconds), "H-18: passes after Retry-After");
    walk_expect(walk, seconds == RLP_SECOND || walk_refused(walk, seconds - RLP_SECOND),
                "H-18: is refused a second before");
}

void walk_add(const char *id, CMUnitTestFunction run, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *words = walk_kinds[i].words != NULL ? walk_kinds[i].words : " quota";

        unit_add_case(id, *words ? words + 1 : "token-bucket", run, &walk_kinds[i]);
    }
}
