/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What holds for every algorithm, under a million random steps each: design.md §4, "Rules that hold
 * for all of them". A model in exact arithmetic, written without a look at the steps, says what
 * must come out.
 */

#include "unit.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STEPS unit_steps()
#define STEPS_PER_LIMIT 500
#define WAIT_MAX (INT64_C(10) * 366 * 86400 * RLP_SECOND)

__extension__ typedef __int128 wide_t;

/* What a model knows of one key. */
typedef struct {
    const rlp_limit_t *limit;
    bool seen;
    rlp_time_t at; /* of the level, of the latest refill, or the number of the last window in use */
    wide_t level;  /* in use or reserved: thousandths times period (buckets) or thousandths */
} world_t;

/* Brings the world to the instant now. */
typedef void turn_t(world_t *world, rlp_time_t now);

typedef struct {
    const char *words; /* behind the rate */
    turn_t *turn;
    wide_t scale; /* of the level; 0: the period */
    bool has_burst;
    bool has_initial;
} kind_t;

/* Reich's formula: the largest excess of any span that ends now. */
static void turn_bucket(world_t *world, rlp_time_t now)
{
    const wide_t drained = (wide_t)(now - world->at) * world->limit->count * RLP_UNIT;

    world->level = world->level > drained ? world->level - drained : 0;
    world->at = now;
}

static void turn_window(world_t *world, rlp_time_t now)
{
    const rlp_time_t number = now / world->limit->period;

    if (number > world->at) {
        *world = (world_t){ .limit = world->limit, .seen = true, .at = number };
    }
}

/* One refill after the other; a bucket full for a whole period begins with the next request. */
static void turn_steps(world_t *world, rlp_time_t now)
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

static const kind_t kinds[] = {
    { "", turn_bucket, 0, true, true },
    { " algorithm=stepped-bucket", turn_steps, 1, true, true },
    { " algorithm=fixed-window", turn_window, 1, false, false },
    { " algorithm=leaky-bucket", turn_bucket, 0, true, false },
    { NULL, turn_quota, 1, false, true },
};

#define WAITING 4 /* of them let requests wait */

static const kind_t *const leaky = &kinds[3];

/* One key under test. */
typedef struct {
    const kind_t *kind;
    const char *words;
    const rlp_limit_t *limit;
    world_t world;  /* as kept */
    world_t judged; /* as of now */
    uint64_t state[RLP_STATE_MAX / 8];
    uint64_t random;
    rlp_time_t now;
    rlp_units_t units;
    rlp_time_t longest; /* of the waits under this limit */
    rlp_time_t max_wait;
    rlp_time_t turn; /* of the latest request */
    rlp_decision_t last;
} walk_t;

static rlp_decision_t step_of(const rlp_limit_t *limit, void *state, const rlp_op_t *op)
{
    rlp_decision_t decision;

    limit->algorithm->step(state, limit, op, &decision);
    return decision;
}

static void expect(const walk_t *walk, bool holds, const char *what)
{
    if (!holds) {
        fail_msg("%s: not so under \"%s\" at %" PRId64 " us, cost %" PRId64 "/1000, delay %" PRId64
                 " us (RLP_SEED=%" PRIu64 ")",
                 what, walk->words, walk->now, walk->units, walk->max_wait, unit_seed());
    }
}

/* --- random limits, costs and moments */

/* 1 to 10^digits, each length as likely. */
static int64_t random_size(uint64_t *random, unsigned digits)
{
    uint64_t bound = 10;

    for (uint64_t n = unit_below(random, digits); n > 0; n--) {
        bound *= 10;
    }
    return (int64_t)unit_below(random, bound) + 1;
}

/* A rate of that period in milliseconds, without its options. */
static const char *random_rate(uint64_t *random, const kind_t *kind, int64_t period)
{
    const int64_t count = random_size(random, unit_below(random, 2) ? 2 : 14);

    return kind->words == NULL ? apr_psprintf(unit_pool(), "quota=%" PRId64, count)
                               : apr_psprintf(unit_pool(), "rate=%" PRId64 "/%" PRId64 "ms%s",
                                              count, period, kind->words);
}

/* " NAME=UNITS", from 1 thousandth to some units. */
static const char *random_option(uint64_t *random, const char *name, unsigned digits)
{
    const rlp_units_t units = random_size(random, digits);

    return apr_psprintf(unit_pool(), " %s=%" PRId64 ".%03d", name, units / RLP_UNIT,
                        (int)(units % RLP_UNIT));
}

static const char *random_words(uint64_t *random, const kind_t *kind)
{
    const int64_t period = random_size(random, unit_below(random, 2) ? 5 : 11);
    const char *burst = kind->has_burst && unit_below(random, 2)
                            ? random_option(random, "burst", unit_below(random, 2) ? 5 : 16)
                            : "";
    const char *initial = kind->has_initial && unit_below(random, 8) == 0
                              ? random_option(random, "initial", *burst ? 4 : 3)
                              : "";

    return apr_pstrcat(unit_pool(), random_rate(random, kind, period), burst, initial, NULL);
}

static rlp_units_t random_units(walk_t *walk)
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

static rlp_time_t random_gap(walk_t *walk)
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

static rlp_time_t random_wait(walk_t *walk)
{
    switch (unit_below(&walk->random, 4)) {
    case 0:
        return 0;
    case 1:
        return (rlp_time_t)unit_below(&walk->random, (uint64_t)walk->longest + 1);
    default:
        return walk->longest;
    }
}

/* A walk under a new limit. */
static void walk_begin(walk_t *walk)
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

static walk_t walk_of(const kind_t *kind)
{
    return (walk_t){ .kind = kind, .random = unit_seed(), .now = INT64_C(1700000000) * RLP_SECOND };
}

/* --- steps on a copy of the state, so that they leave no trace */

static rlp_decision_t walk_try(const walk_t *walk, rlp_op_kind_t kind, rlp_units_t units,
                               rlp_time_t now)
{
    const rlp_op_t op = { .kind = kind,
                          .units = units,
                          .now = now,
                          .max_wait = walk->max_wait,
                          .charged_at = walk->turn };
    uint64_t copy[RLP_STATE_MAX / 8];

    memcpy(copy, walk->state, sizeof(copy));
    return step_of(walk->limit, copy, &op);
}

static rlp_decision_t walk_fresh(const walk_t *walk, rlp_units_t units, rlp_time_t now)
{
    const rlp_op_t op = {
        .kind = RLP_PEEK, .units = units, .now = now, .max_wait = walk->max_wait
    };
    uint64_t none[RLP_STATE_MAX / 8] = { 0 };

    return step_of(walk->limit, none, &op);
}

static bool same_answer(const rlp_decision_t *a, const rlp_decision_t *b)
{
    return a->verdict == b->verdict && a->wait == b->wait && a->retry == b->retry &&
           a->next == b->next && a->reset == b->reset && a->remaining == b->remaining;
}

static bool walk_is_new(const walk_t *walk)
{
    return (walk->state[0] | walk->state[1] | walk->state[2] | walk->state[3]) == 0;
}

/* What may be used at once. */
static rlp_units_t walk_capacity(const walk_t *walk)
{
    return walk->kind == leaky ? RLP_UNIT : walk->limit->burst;
}

static bool walk_refused(const walk_t *walk, rlp_time_t after)
{
    return walk_try(walk, RLP_PEEK, walk->units, walk->now + after).verdict > RLP_WAIT;
}

/* From empty to full, in whole steps where an algorithm has them. */
static rlp_time_t walk_drain(const walk_t *walk)
{
    const rlp_limit_t *limit = walk->limit;
    const int64_t step = limit->count * RLP_UNIT;

    if (walk->kind == leaky) {
        return limit->drain + limit->period / limit->count + 1;
    }
    return walk->kind->turn == turn_steps ? (limit->burst + step - 1) / step * limit->period
                                          : limit->drain;
}

/* For how long a key may be locked out at most: what others have reserved comes on top, to the end
   of its last window or step. */
static rlp_time_t walk_lockout(const walk_t *walk, rlp_time_t reserved)
{
    return walk_drain(walk) + RLP_CLOCK_SKEW + (reserved > 0 ? reserved + walk->limit->period : 0);
}

/* --- the rules */

/* What is not there cannot be given back; what is charged late counts as if it came now. */
static void rule_unseen(const walk_t *walk)
{
    walk_t unseen = *walk;
    walk_t taken = *walk;

    memset(unseen.state, 0, sizeof(unseen.state));
    memset(taken.state, 0, sizeof(taken.state));
    expect(walk, !walk_try(&unseen, RLP_SETTLE, -RLP_UNIT, walk->now).changed,
           "a refund to a key that is gone changes nothing");
    const rlp_decision_t take = walk_try(&taken, RLP_TAKE, RLP_UNIT, walk->now);
    const rlp_decision_t late = walk_try(&unseen, RLP_SETTLE, RLP_UNIT, walk->now);

    expect(walk, take.verdict != RLP_ALLOW || (late.changed && late.remaining == take.remaining),
           "a late charge to a key that is gone counts");
}

static void rule_refusal(const walk_t *walk, const rlp_decision_t *d)
{
    const rlp_time_t retry = d->retry;
    const rlp_time_t seconds = rlp_seconds(retry) * RLP_SECOND;

    expect(walk, retry > 0, "a refusal has to be waited for");
    expect(walk, !walk_refused(walk, retry), "passes exactly at retry");
    expect(walk, walk_refused(walk, retry - 1), "is refused a microsecond before");
    expect(walk, !walk_refused(walk, seconds), "H-18: passes after Retry-After");
    expect(walk, seconds == RLP_SECOND || walk_refused(walk, seconds - RLP_SECOND),
           "H-18: is refused a second before");
}

static void rule_times(const walk_t *walk, const rlp_decision_t *d)
{
    expect(walk, (d->next == 0) == (d->remaining > 0), "next is 0 while a unit is left");
    if (walk_is_new(walk)) {
        return; /* what starts with less than it holds earns from its first request on */
    }
    if (d->next > 0 && d->next != RLP_TIME_NEVER) {
        expect(walk, walk_try(walk, RLP_PEEK, 0, walk->now + d->next).remaining > 0,
               "a unit is there at next");
        expect(walk, walk_try(walk, RLP_PEEK, 0, walk->now + d->next - 1).remaining == 0,
               "and not before");
    }
    if (d->reset != RLP_TIME_NEVER) {
        expect(walk,
               walk_try(walk, RLP_PEEK, 0, walk->now + d->reset).remaining ==
                   walk_capacity(walk) / RLP_UNIT,
               "full at reset");
    }
    if (d->changed && d->expires != RLP_TIME_NEVER) {
        const rlp_decision_t kept = walk_try(walk, RLP_PEEK, RLP_UNIT, d->expires);
        const rlp_decision_t fresh = walk_fresh(walk, RLP_UNIT, d->expires);

        expect(walk, same_answer(&kept, &fresh), "an expired state is as good as none");
    }
}

/* After a refund the same request meets the same answer; but in windows what a reservation had
   skipped stays skipped. */
static void rule_given_back(const walk_t *walk, const rlp_decision_t *before)
{
    walk_t back = *walk;
    const rlp_op_t op = {
        .kind = RLP_SETTLE, .units = -walk->units, .now = walk->now, .charged_at = walk->turn
    };

    step_of(walk->limit, back.state, &op);
    const rlp_decision_t behind = walk_try(walk, RLP_PEEK, walk->units, walk->now);
    const rlp_decision_t instead = walk_try(&back, RLP_PEEK, walk->units, walk->now);

    if (walk->limit->algorithm->windowed && before->wait > 0) {
        expect(walk, instead.verdict <= behind.verdict,
               "B-28: a turn given back is the next one's");
    } else {
        expect(walk, instead.verdict == before->verdict && instead.wait == before->wait,
               "B-28: the next one waits as if the one that went away had never come");
    }
}

static void rule_refund(const walk_t *walk, const rlp_decision_t *before)
{
    const rlp_decision_t back = walk_try(walk, RLP_SETTLE, -walk->units, walk->now);
    const rlp_decision_t more = walk_try(walk, RLP_SETTLE, -RLP_UNITS_MAX, walk->now);
    const rlp_decision_t less = walk_try(walk, RLP_SETTLE, RLP_UNITS_MAX, walk->now);

    expect(walk,
           back.remaining == before->remaining ||
               (walk->limit->algorithm->windowed && before->wait > 0 && back.remaining == 0),
           "a refund gives back what was taken");
    expect(walk, more.remaining == walk_capacity(walk) / RLP_UNIT, "and never more than full");
    expect(walk, less.remaining == 0, "a late charge never leaves less than nothing");
    expect(walk, less.reset >= walk_try(walk, RLP_PEEK, 0, walk->now).reset,
           "nor does it give a turn back");
    expect(walk, less.reset == RLP_TIME_NEVER || less.reset <= walk_lockout(walk, walk->longest),
           "nor lock out for longer than all requests together could");
    rule_given_back(walk, before);
    rule_unseen(walk);
}

static void rule_charge(const walk_t *walk, const rlp_decision_t *before, const rlp_decision_t *d)
{
    if (d->verdict == RLP_WAIT) {
        expect(walk, d->remaining == 0, "where one waits nothing is left for others");
    } else if (walk->units % RLP_UNIT == 0) {
        expect(walk, before->remaining - d->remaining == walk->units / RLP_UNIT,
               "H-02: remaining falls by exactly the cost");
    }
    if (walk->units > 0) {
        expect(walk, d->changed && d->loss > 0, "a charge is kept and has a loss");
        rule_refund(walk, before);
    }
}

static wide_t walk_scale(const walk_t *walk)
{
    return walk->kind->scale ? walk->kind->scale : walk->limit->period;
}

/* Would it be its turn then? That of the leaky bucket comes with its last unit. */
static bool world_fits(const walk_t *walk, rlp_time_t then)
{
    world_t world = walk->judged;

    if (walk->kind == leaky) {
        world.level -= (wide_t)(then - walk->now) * walk->limit->count * RLP_UNIT;
    } else {
        walk->kind->turn(&world, then);
    }
    if (walk->kind->turn == turn_window && world.at > then / walk->limit->period) {
        return false;
    }
    return world.level + walk->units * walk_scale(walk) <= walk_capacity(walk) * walk_scale(walk);
}

/* The leaky bucket's queue is bounded, and one who does not wait that long has a shorter one. */
static bool world_queues(const walk_t *walk, wide_t level)
{
    const rlp_limit_t *limit = walk->limit;
    const wide_t queue = (wide_t)limit->burst * limit->period;
    const wide_t waited = (wide_t)walk->max_wait * limit->count * RLP_UNIT;
    const wide_t behind = level + ((wide_t)walk->units - RLP_UNIT) * limit->period;

    return walk->kind != leaky || (behind <= queue && behind <= waited);
}

static rlp_verdict_t world_verdict(const walk_t *walk)
{
    if (walk->units < 0 || !world_queues(walk, 0) ||
        (walk->kind != leaky && walk->units > walk->limit->burst)) {
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

/* What the model says: the verdict, and walk->judged. What a store would not keep changes no world:
   all but charges, and the first refusal, which starts the clock of a key. */
static rlp_verdict_t world_take(walk_t *walk, rlp_time_t wait)
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
        expect(walk, wait > 0 && wait <= walk->max_wait, "nobody waits longer than he would");
        expect(walk, world_fits(walk, walk->now + wait), "after the wait it is its turn");
        expect(walk, !world_fits(walk, walk->now + wait - 1), "and not before");
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

static int64_t world_remaining(const walk_t *walk)
{
    const wide_t rest = walk_capacity(walk) * walk_scale(walk) - walk->judged.level;
    const bool ahead =
        walk->kind->turn == turn_window && walk->judged.at > walk->now / walk->limit->period;

    return rest < 0 || ahead ? 0 : (int64_t)(rest / (RLP_UNIT * walk_scale(walk)));
}

static void walk_step(walk_t *walk)
{
    const bool was_new =
        walk->state[0] == 0 && walk->state[1] == 0 && walk->state[2] == 0 && walk->state[3] == 0;
    uint64_t before[RLP_STATE_MAX / 8];

    walk->now += random_gap(walk);
    walk->units = random_units(walk);
    walk->max_wait = random_wait(walk);
    memcpy(before, walk->state, sizeof(before));
    const rlp_op_t op = {
        .kind = RLP_TAKE, .units = walk->units, .now = walk->now, .max_wait = walk->max_wait
    };
    rlp_op_t look = op;

    look.kind = RLP_PEEK;
    const rlp_decision_t peek = step_of(walk->limit, walk->state, &look);

    expect(walk, !peek.changed && memcmp(before, walk->state, sizeof(before)) == 0,
           "a peek writes nothing");
    const rlp_verdict_t verdict = world_take(walk, peek.wait);
    const rlp_decision_t d = step_of(walk->limit, walk->state, &op);

    walk->turn = walk->now + d.wait;
    expect(walk, d.verdict == verdict, "the verdict is that of the model");
    expect(walk, peek.verdict == verdict && peek.retry == d.retry && peek.wait == d.wait,
           "a peek foretells it");
    expect(walk, (d.wait > 0) == (verdict == RLP_WAIT), "a wait is said to those who wait");
    expect(walk, d.remaining == world_remaining(walk) && d.remaining >= 0,
           "remaining is that of the model");
    expect(walk, !d.damaged, "the state is sound");
    if (verdict <= RLP_WAIT) {
        rule_charge(walk, &peek, &d);
    } else {
        expect(walk, was_new || memcmp(before, walk->state, sizeof(before)) == 0,
               "T-15: a refusal changes nothing");
    }
    if (verdict == RLP_DENY) {
        rule_refusal(walk, &d);
    }
    rule_times(walk, &d);
    walk->last = d;
}

static void test_walk(void **state)
{
    walk_t walk = walk_of(unit_row(state));

    for (int i = 0; i < STEPS; i++) {
        if (i % STEPS_PER_LIMIT == 0) {
            walk_begin(&walk);
        }
        walk_step(&walk);
    }
}

/* --- clocks that differ and clocks that step back */

/* Takes units until refused, or some of them, at walk->now; some of them wait. */
static void walk_use(walk_t *walk)
{
    const rlp_op_t op = { .kind = RLP_TAKE,
                          .units = walk->limit->burst / (int64_t)(1 + unit_below(&walk->random, 3)),
                          .now = walk->now,
                          .max_wait = walk->longest };

    for (uint64_t n = unit_below(&walk->random, 4); n > 0; n--) {
        walk->last = step_of(walk->limit, walk->state, &op);
    }
}

static void test_step_back(void **state)
{
    walk_t walk = walk_of(unit_row(state));

    for (int i = 0; i < STEPS / 40; i++) {
        walk_begin(&walk);
        walk_use(&walk);
        const rlp_decision_t there = walk_try(&walk, RLP_PEEK, RLP_UNIT, walk.now);

        walk.now -= random_size(&walk.random, 15);
        walk.units = (rlp_units_t)unit_below(&walk.random, (uint64_t)walk.limit->burst) + 1;
        walk.max_wait = random_wait(&walk);
        const rlp_op_t op = {
            .kind = RLP_TAKE, .units = walk.units, .now = walk.now, .max_wait = walk.max_wait
        };
        const rlp_decision_t d = step_of(walk.limit, walk.state, &op);

        expect(&walk, d.remaining <= there.remaining, "a clock that steps back refills nothing");
        if (d.verdict == RLP_DENY) {
            expect(&walk, d.retry <= walk_lockout(&walk, walk.longest),
                   "and locks out for one drain, what is reserved and the skew at most");
            rule_refusal(&walk, &d);
        }
        expect(&walk, d.wait <= walk_lockout(&walk, walk.longest), "nor does it make wait longer");
    }
}

/* Into the n moments that are in order. */
static void insert(rlp_time_t moments[], int n, rlp_time_t moment)
{
    for (; n > 0 && moments[n - 1] > moment; n--) {
        moments[n] = moments[n - 1];
    }
    moments[n] = moment;
}

/* Requests that meet under the lock in another order than they read the clock: those admitted keep
   the promise by their own readings. */
static void test_skew(void **state)
{
    enum { N = 64 };
    walk_t walk = walk_of(&kinds[0]);
    rlp_time_t admitted[N];

    (void)state;
    for (int i = 0; i < STEPS / N / 8; i++) {
        int n = 0;

        do {
            walk_begin(&walk);
        } while (walk.limit->initial < walk.limit->burst); /* its first moment is another story */
        walk.units = RLP_UNIT;
        for (int k = 0; k < N; k++) {
            walk.now += random_gap(&walk) % (2 * RLP_SECOND);
            const rlp_time_t late = (rlp_time_t)unit_below(&walk.random, RLP_CLOCK_SKEW);
            const rlp_op_t op = { .kind = RLP_TAKE, .units = RLP_UNIT, .now = walk.now - late };

            walk.last = step_of(walk.limit, walk.state, &op);
            if (walk.last.verdict == RLP_ALLOW) {
                insert(admitted, n++, op.now);
            }
        }
        for (int k = 0; k < n; k++) {
            walk.now = admitted[k];
            expect(&walk, world_take(&walk, 0) == RLP_ALLOW, "readings out of order gain nothing");
        }
    }
}

/* --- turns */

/* The most that may have its turn from one instant to another, both included, in thousandths times
   period; a wait is rounded up to a microsecond. Of the leaky bucket's first only the last unit
   counts. */
static wide_t promise(const walk_t *walk, rlp_time_t from, rlp_time_t to)
{
    const rlp_limit_t *limit = walk->limit;
    const wide_t count = (wide_t)limit->count * RLP_UNIT;

    if (walk->kind->turn == turn_window) {
        return (to / limit->period - from / limit->period + 1) * count * limit->period;
    }
    if (walk->kind->turn == turn_steps) {
        return (limit->burst + ((to - from) / limit->period + 1) * count) * limit->period;
    }
    return (wide_t)walk_capacity(walk) * limit->period + (to - from + 1) * count;
}

/* The turns come in the order of the requests, and no span of time has more than is promised. */
static void rule_promise(const walk_t *walk, const rlp_time_t turns[], const rlp_units_t units[],
                         int n)
{
    for (int i = 0; i < n; i++) {
        wide_t sum = walk->kind == leaky ? RLP_UNIT - units[i] : 0;

        expect(walk, i == 0 || turns[i - 1] <= turns[i], "nobody overtakes");
        for (int k = i; k < n; k++) {
            sum += units[k];
            expect(walk, sum * walk->limit->period <= promise(walk, turns[i], turns[k]),
                   "no span of turns has more than is promised");
        }
    }
}

static void test_turns(void **state)
{
    enum { N = 64 };
    walk_t walk = walk_of(unit_row(state));
    rlp_time_t turns[N];
    rlp_units_t units[N];

    for (int i = 0; i < STEPS / N / 8; i++) {
        int n = 0;

        do {
            walk_begin(&walk);
        } while (walk.longest == 0);
        for (int k = 0; k < N; k++) {
            const int64_t most = walk.limit->burst / RLP_UNIT;

            walk.now += unit_below(&walk.random, 4) ? 0 : random_gap(&walk);
            walk.units =
                (1 + (most > 1 ? (int64_t)unit_below(&walk.random, (uint64_t)most) : 0)) * RLP_UNIT;
            walk.max_wait = walk.longest;
            const rlp_op_t op = {
                .kind = RLP_TAKE, .units = walk.units, .now = walk.now, .max_wait = walk.max_wait
            };

            walk.last = step_of(walk.limit, walk.state, &op);
            if (walk.last.verdict <= RLP_WAIT) {
                units[n] = walk.units;
                turns[n++] = walk.now + walk.last.wait;
            }
        }
        rule_promise(&walk, turns, units, n);
    }
}

static const struct given_back {
    const char *words;
    int asked; /* at once */
    int gone;  /* of them, the last ones */
    rlp_time_t wait;
} given_back[] = {
    { "rate=1/s burst=5 algorithm=stepped-bucket", 10, 5, RLP_SECOND },
    { "rate=1/s burst=5 algorithm=stepped-bucket", 10, 2, 4 * RLP_SECOND },
    { "rate=1/s burst=5", 10, 5, RLP_SECOND },
    { "rate=1/s algorithm=fixed-window", 6, 5, RLP_SECOND },
    { "rate=1/s burst=9 algorithm=leaky-bucket", 10, 5, 5 * RLP_SECOND },
};

static void test_given_back(void **state)
{
    const struct given_back *row = unit_row(state);
    const rlp_limit_t *limit = &unit_plan(row->words)->limits[0];
    uint64_t key[RLP_STATE_MAX / 8] = { 0 };
    rlp_op_t op = { .units = RLP_UNIT, .now = RLP_SECOND, .max_wait = 60 * RLP_SECOND };
    rlp_time_t turns[16];

    for (int i = 0; i < row->asked; i++) {
        turns[i] = op.now + step_of(limit, key, &op).wait;
    }
    op.now += RLP_SECOND / 4; /* they hang up before any turn has come */
    for (int i = row->asked - row->gone; i < row->asked; i++) {
        const rlp_op_t back = {
            .kind = RLP_SETTLE, .units = -RLP_UNIT, .now = op.now, .charged_at = turns[i]
        };

        assert_true(step_of(limit, key, &back).changed);
    }
    const rlp_decision_t d = step_of(limit, key, &op);

    assert_int_equal(d.verdict, RLP_WAIT);
    assert_int_equal(d.wait, row->wait - RLP_SECOND / 4);
}

/* --- one state under two plans */

/* A second plan with the period of the first, or NULL; some with the same burst too. */
static const rlp_limit_t *random_other(walk_t *walk)
{
    const rlp_limit_t *limit = walk->limit;
    const char *words = random_rate(&walk->random, walk->kind, limit->period / 1000);
    const rlp_plan_t *other;

    if (walk->kind->has_burst && unit_below(&walk->random, 4) == 0) {
        words = apr_psprintf(unit_pool(), "%s burst=%" PRId64 ".%03d", words,
                             limit->burst / RLP_UNIT, (int)(limit->burst % RLP_UNIT));
    }
    if (unit_parse(&other, words, NULL) != NULL ||
        other->limits[0].burst / RLP_UNIT / 100000 > other->limits[0].count) {
        return NULL;
    }
    walk->words = words;
    return &other->limits[0];
}

/* Takes all whole units, and as many again for those who wait. What was taken. */
static rlp_units_t walk_fill(walk_t *walk)
{
    const rlp_op_t op = { .kind = RLP_TAKE,
                          .units = walk->limit->initial / RLP_UNIT * RLP_UNIT,
                          .now = walk->now,
                          .max_wait = walk->longest };
    rlp_units_t taken = 0;

    for (int i = 0; i < 2; i++) {
        taken += step_of(walk->limit, walk->state, &op).verdict <= RLP_WAIT ? op.units : 0;
    }
    return taken;
}

/* What a state with so much in use holds under the walk's limit, whose burst may be the same as
   that of the one before: no turn is further away than WAIT_MAX. */
static rlp_units_t walk_carried(const walk_t *walk, rlp_units_t used, rlp_units_t burst)
{
    const rlp_limit_t *limit = walk->limit;
    const rlp_units_t most = limit->burst + (walk->kind == leaky ? RLP_UNIT : 0);
    const wide_t reserved = used > most ? (wide_t)(used - most) * limit->period : 0;

    if (limit->burst != burst) {
        return used < most ? used : most;
    }
    return reserved > (wide_t)WAIT_MAX * limit->count * RLP_UNIT ? -1 : used;
}

/* What is used and reserved is gone at reset, and not before. */
static void rule_reset(const walk_t *walk, rlp_units_t used)
{
    const rlp_limit_t *limit = walk->limit;
    const rlp_time_t reset = walk_try(walk, RLP_PEEK, 0, walk->now).reset;
    world_t world = { .limit = limit, .at = walk->now, .level = used * walk_scale(walk) };

    if (used == 0 || reset == RLP_TIME_NEVER) {
        return;
    }
    if (walk->kind->turn == turn_window) {
        world.at = walk->now / limit->period + (used - 1) / limit->burst;
    }
    walk->kind->turn(&world, walk->now + reset - 1);
    expect(walk, world.level > 0, "P-07: what was used is in use until reset");
    walk->kind->turn(&world, walk->now + reset);
    expect(walk, world.level == 0, "and no longer");
}

/* What was used stays used, in units; what was reserved stays so where the burst is the same. */
static void test_carry(void **state)
{
    walk_t walk = walk_of(unit_row(state));

    for (int i = 0; i < STEPS / 40; i++) {
        walk_begin(&walk);
        const rlp_units_t burst = walk.limit->burst;
        const rlp_limit_t *other = walk.limit->initial < burst ? NULL : random_other(&walk);

        if (other == NULL) {
            continue;
        }
        const rlp_units_t taken = walk_fill(&walk);

        walk.limit = other;
        walk.units = RLP_UNIT;
        const rlp_units_t used = walk_carried(&walk, taken, burst);

        if (used < 0) {
            continue; /* cut off somewhere */
        }
        const rlp_decision_t d = walk_try(&walk, RLP_TAKE, walk.units, walk.now);
        const int64_t rest = (walk_capacity(&walk) - used) / RLP_UNIT;

        expect(&walk, d.remaining == (rest > 0 ? rest - 1 : 0),
               "P-07: what was used stays used, in units");
        rule_reset(&walk, used);
        if (d.verdict == RLP_DENY) {
            rule_refusal(&walk, &d);
        }
    }
}

/* --- a state that holds anything */

/* The last word of a state that was written under this limit. */
static uint64_t walk_mark(const walk_t *walk)
{
    const rlp_op_t op = { .kind = RLP_TAKE, .units = 1, .now = walk->now };
    uint64_t written[RLP_STATE_MAX / 8] = { 0 };

    step_of(walk->limit, written, &op);
    return written[walk->limit->algorithm->state_size / 8 - 1];
}

static void test_damage(void **state)
{
    walk_t walk = walk_of(unit_row(state));
    uint64_t mark = 0;

    for (int i = 0; i < STEPS; i++) {
        if (i % STEPS_PER_LIMIT == 0) {
            walk_begin(&walk);
            mark = walk_mark(&walk);
        }
        for (size_t k = 0; k < UNIT_N(walk.state); k++) {
            walk.state[k] = unit_random(&walk.random) >> unit_below(&walk.random, 64);
        }
        /* most of them as if they had been written, half of them under this limit */
        const uint64_t marks[] = { 0, unit_random(&walk.random), mark, mark };
        const uint64_t last = marks[unit_below(&walk.random, 4)];

        walk.state[walk.limit->algorithm->state_size / 8 - 1] = last;
        walk.now = (rlp_time_t)(unit_random(&walk.random) >> (12 + unit_below(&walk.random, 40)));
        walk.units = random_units(&walk);
        walk.max_wait = random_wait(&walk);
        const rlp_op_t op = { .kind = (rlp_op_kind_t)unit_below(&walk.random, 3),
                              .units = walk.units,
                              .now = walk.now,
                              .max_wait = walk.max_wait,
                              .charged_at = walk.now / 2 };
        const rlp_decision_t d = step_of(walk.limit, walk.state, &op);

        expect(&walk, d.remaining >= 0 && d.remaining <= walk_capacity(&walk) / RLP_UNIT,
               "T-27: whatever the state, what remains is a number");
        expect(&walk, d.wait >= 0 && d.wait <= walk.max_wait, "T-27: and so is the wait");
        expect(&walk,
               d.verdict != RLP_DENY || d.retry <= walk_lockout(&walk, last == mark ? WAIT_MAX : 0),
               "T-27: and nobody is locked out");
    }
}

int main(void)
{
    static const struct {
        const char *id;
        CMUnitTestFunction run;
        size_t kinds;
    } rules[] = {
        { "H-18 T-15 H-02: a million random steps", test_walk, 5 },
        { "a clock that steps back", test_step_back, WAITING },
        { "turns in order, and not too many", test_turns, WAITING },
        { "P-07: carried to another plan", test_carry, 5 },
        { "T-27: any bytes for a state", test_damage, 5 },
    };

    for (size_t i = 0; i < UNIT_N(rules); i++) {
        for (size_t k = 0; k < rules[i].kinds; k++) {
            const char *words = kinds[k].words != NULL ? kinds[k].words : " quota";

            unit_add_case(rules[i].id, *words ? words + 1 : "token-bucket", rules[i].run,
                          &kinds[k]);
        }
    }
    for (size_t i = 0; i < UNIT_N(given_back); i++) {
        unit_add_case("B-28: some who wait go away", given_back[i].words, test_given_back,
                      &given_back[i]);
    }
    unit_add("readings out of order", test_skew, NULL);
    return unit_run();
}
