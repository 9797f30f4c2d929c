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

#define STEPS 1000000
#define STEPS_PER_LIMIT 500

__extension__ typedef __int128 wide_t;

/* What a model knows of one key. */
typedef struct {
    const rlp_limit_t *limit;
    bool seen;
    rlp_time_t at; /* of the level, of the latest refill, or the window's number */
    wide_t level;  /* in use: thousandths times period (token bucket) or thousandths */
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

    world->level = number == world->at ? world->level : 0;
    world->at = number;
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
    { NULL, turn_quota, 1, false, true },
};

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
        fail_msg("%s: not so under \"%s\" at %" PRId64 " us, cost %" PRId64
                 "/1000 (RLP_SEED=%" PRIu64 ")",
                 what, walk->words, walk->now, walk->units, unit_seed());
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

    switch (unit_below(&walk->random, 12)) {
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
    default:
        return 0;
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
    const rlp_op_t op = { .kind = kind, .units = units, .now = now, .charged_at = walk->now };
    uint64_t copy[RLP_STATE_MAX / 8];

    memcpy(copy, walk->state, sizeof(copy));
    return step_of(walk->limit, copy, &op);
}

static rlp_decision_t walk_fresh(const walk_t *walk, rlp_units_t units, rlp_time_t now)
{
    const rlp_op_t op = { .kind = RLP_PEEK, .units = units, .now = now };
    uint64_t none[RLP_STATE_MAX / 8] = { 0 };

    return step_of(walk->limit, none, &op);
}

static bool same_answer(const rlp_decision_t *a, const rlp_decision_t *b)
{
    return a->verdict == b->verdict && a->retry == b->retry && a->next == b->next &&
           a->reset == b->reset && a->remaining == b->remaining;
}

static bool walk_is_new(const walk_t *walk)
{
    return (walk->state[0] | walk->state[1] | walk->state[2] | walk->state[3]) == 0;
}

/* --- the rules */

static void rule_refusal(const walk_t *walk, const rlp_decision_t *d)
{
    const rlp_time_t retry = d->retry;
    const rlp_time_t seconds = rlp_seconds(retry) * RLP_SECOND;

    expect(walk, retry > 0, "a refusal has to be waited for");
    expect(walk, walk_try(walk, RLP_PEEK, walk->units, walk->now + retry).verdict == RLP_ALLOW,
           "passes exactly at retry");
    expect(walk, walk_try(walk, RLP_PEEK, walk->units, walk->now + retry - 1).verdict == RLP_DENY,
           "is refused a microsecond before");
    expect(walk, walk_try(walk, RLP_PEEK, walk->units, walk->now + seconds).verdict == RLP_ALLOW,
           "H-18: passes after Retry-After");
    expect(walk,
           seconds == RLP_SECOND ||
               walk_try(walk, RLP_PEEK, walk->units, walk->now + seconds - RLP_SECOND).verdict ==
                   RLP_DENY,
           "H-18: is refused a second before");
}

static void rule_times(const walk_t *walk, const rlp_decision_t *d)
{
    const rlp_limit_t *limit = walk->limit;

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
                   limit->burst / RLP_UNIT,
               "full at reset");
    }
    if (d->changed && d->expires != RLP_TIME_NEVER) {
        const rlp_decision_t kept = walk_try(walk, RLP_PEEK, RLP_UNIT, d->expires);
        const rlp_decision_t fresh = walk_fresh(walk, RLP_UNIT, d->expires);

        expect(walk, same_answer(&kept, &fresh), "an expired state is as good as none");
    }
}

static void rule_refund(const walk_t *walk, const rlp_decision_t *before)
{
    const rlp_limit_t *limit = walk->limit;
    const rlp_decision_t back = walk_try(walk, RLP_SETTLE, -walk->units, walk->now);
    const rlp_decision_t more = walk_try(walk, RLP_SETTLE, -RLP_UNITS_MAX, walk->now);
    const rlp_decision_t less = walk_try(walk, RLP_SETTLE, RLP_UNITS_MAX, walk->now);

    expect(walk, back.remaining == before->remaining, "a refund gives back what was taken");
    expect(walk, more.remaining == limit->burst / RLP_UNIT, "and never more than full");
    expect(walk, less.remaining == 0, "a late charge never leaves less than nothing");
}

static void rule_charge(const walk_t *walk, const rlp_decision_t *before, const rlp_decision_t *d)
{
    if (walk->units % RLP_UNIT == 0) {
        expect(walk, before->remaining - d->remaining == walk->units / RLP_UNIT,
               "H-02: remaining falls by exactly the cost");
    }
    if (walk->units > 0) {
        expect(walk, d->changed && d->loss > 0, "a charge is kept and has a loss");
        rule_refund(walk, before);
    }
}

static rlp_verdict_t world_verdict(const walk_t *walk, const world_t *world, wide_t scale)
{
    const rlp_limit_t *limit = walk->limit;

    if (walk->units < 0 || walk->units > limit->burst) {
        return RLP_NEVER;
    }
    if (world->level + walk->units * scale > limit->burst * scale && walk->units > 0) {
        return walk->kind->turn == turn_quota ? RLP_NEVER : RLP_DENY;
    }
    return RLP_ALLOW;
}

/* What the model says: the verdict, and walk->judged. What a store would not keep changes no world:
   all but charges, and the first refusal, which starts the clock of a key. */
static rlp_verdict_t world_take(walk_t *walk)
{
    const rlp_limit_t *limit = walk->limit;
    const wide_t scale = walk->kind->scale ? walk->kind->scale : limit->period;
    const bool first = !walk->world.seen;
    world_t *world = &walk->judged;

    *world = walk->world;
    if (first) {
        *world = (world_t){ .limit = limit,
                            .seen = true,
                            .at = walk->kind->turn == turn_window ? 0 : walk->now,
                            .level = (limit->burst - limit->initial) * scale };
    }
    walk->kind->turn(world, walk->now);
    const rlp_verdict_t verdict = world_verdict(walk, world, scale);

    if (verdict == RLP_ALLOW) {
        world->level += walk->units * scale;
    }
    if ((verdict == RLP_ALLOW && walk->units > 0) || (verdict == RLP_DENY && first)) {
        walk->world = *world;
    }
    return verdict;
}

static int64_t world_remaining(const walk_t *walk)
{
    const wide_t scale = walk->kind->scale ? walk->kind->scale : walk->limit->period;

    return (int64_t)((walk->limit->burst * scale - walk->judged.level) / (RLP_UNIT * scale));
}

static void walk_step(walk_t *walk)
{
    const bool was_new =
        walk->state[0] == 0 && walk->state[1] == 0 && walk->state[2] == 0 && walk->state[3] == 0;
    uint64_t before[RLP_STATE_MAX / 8];

    walk->now += random_gap(walk);
    walk->units = random_units(walk);
    memcpy(before, walk->state, sizeof(before));
    const rlp_op_t op = { .kind = RLP_TAKE, .units = walk->units, .now = walk->now };
    const rlp_op_t look = { .kind = RLP_PEEK, .units = walk->units, .now = walk->now };
    const rlp_decision_t peek = step_of(walk->limit, walk->state, &look);

    expect(walk, !peek.changed && memcmp(before, walk->state, sizeof(before)) == 0,
           "a peek writes nothing");
    const rlp_verdict_t verdict = world_take(walk);
    const rlp_decision_t d = step_of(walk->limit, walk->state, &op);

    expect(walk, d.verdict == verdict, "the verdict is that of the model");
    expect(walk, peek.verdict == verdict && peek.retry == d.retry, "a peek foretells it");
    expect(walk, d.remaining == world_remaining(walk) && d.remaining >= 0,
           "remaining is that of the model");
    expect(walk, !d.damaged, "the state is sound");
    if (verdict == RLP_ALLOW) {
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

/* Takes units until refused, or some of them, at walk->now. */
static void walk_use(walk_t *walk)
{
    const rlp_op_t op = { .kind = RLP_TAKE,
                          .units = walk->limit->burst / (int64_t)(1 + unit_below(&walk->random, 3)),
                          .now = walk->now };

    for (uint64_t n = unit_below(&walk->random, 4); n > 0; n--) {
        walk->last = step_of(walk->limit, walk->state, &op);
    }
}

/* From empty to full, in whole steps where an algorithm has them. */
static rlp_time_t walk_drain(const walk_t *walk)
{
    const rlp_limit_t *limit = walk->limit;
    const int64_t step = limit->count * RLP_UNIT;

    return walk->kind->turn == turn_steps ? (limit->burst + step - 1) / step * limit->period
                                          : limit->drain;
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
        const rlp_op_t op = { .kind = RLP_TAKE, .units = walk.units, .now = walk.now };
        const rlp_decision_t d = step_of(walk.limit, walk.state, &op);

        expect(&walk, d.remaining <= there.remaining, "a clock that steps back refills nothing");
        if (d.verdict == RLP_DENY) {
            expect(&walk, d.retry <= walk_drain(&walk) + RLP_CLOCK_SKEW,
                   "and locks out for one drain and the skew at most");
            rule_refusal(&walk, &d);
        }
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
            expect(&walk, world_take(&walk) == RLP_ALLOW, "readings out of order gain nothing");
        }
    }
}

/* --- one state under two plans */

static void test_carry(void **state)
{
    walk_t walk = walk_of(unit_row(state));

    for (int i = 0; i < STEPS / 40; i++) {
        walk_begin(&walk);
        const char *words = random_rate(&walk.random, walk.kind, walk.limit->period / 1000);
        const rlp_units_t used = walk.limit->initial / RLP_UNIT * RLP_UNIT;
        const rlp_op_t op = { .kind = RLP_TAKE, .units = used, .now = walk.now };
        const rlp_plan_t *other;

        if (walk.limit->initial < walk.limit->burst || unit_parse(&other, words, NULL) != NULL) {
            continue;
        }
        step_of(walk.limit, walk.state, &op);
        walk.limit = &other->limits[0];
        walk.words = words;
        walk.units = RLP_UNIT;
        const rlp_decision_t d = walk_try(&walk, RLP_TAKE, walk.units, walk.now);
        const int64_t rest = (walk.limit->burst - used) / RLP_UNIT;

        expect(&walk, d.remaining == (rest > 0 ? rest - 1 : 0),
               "P-07: what was used stays used, in units");
        if (d.verdict == RLP_DENY) {
            rule_refusal(&walk, &d);
        }
    }
}

/* --- a state that holds anything */

static void test_damage(void **state)
{
    walk_t walk = walk_of(unit_row(state));
    rlp_decision_t d;

    for (int i = 0; i < STEPS; i++) {
        if (i % STEPS_PER_LIMIT == 0) {
            walk_begin(&walk);
        }
        for (size_t k = 0; k < UNIT_N(walk.state); k++) {
            walk.state[k] = unit_random(&walk.random) >> unit_below(&walk.random, 64);
        }
        /* most of them as if they had been written */
        walk.state[walk.limit->algorithm->state_size / 8 - 1] = unit_below(&walk.random, 8) > 0;
        walk.now = (rlp_time_t)(unit_random(&walk.random) >> (12 + unit_below(&walk.random, 40)));
        walk.units = random_units(&walk);
        const rlp_op_t op = { .kind = (rlp_op_kind_t)unit_below(&walk.random, 3),
                              .units = walk.units,
                              .now = walk.now,
                              .charged_at = walk.now / 2 };

        d = step_of(walk.limit, walk.state, &op);
        expect(&walk, d.remaining >= 0 && d.remaining <= walk.limit->burst / RLP_UNIT,
               "T-27: whatever the state, what remains is a number");
        expect(&walk, d.verdict != RLP_DENY || d.retry <= walk_drain(&walk) + RLP_CLOCK_SKEW,
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
        { "H-18 T-15 H-02: a million random steps", test_walk, 4 },
        { "a clock that steps back", test_step_back, 3 },
        { "P-07: carried to another plan", test_carry, 4 },
        { "T-27: any bytes for a state", test_damage, 4 },
    };

    for (size_t i = 0; i < UNIT_N(rules); i++) {
        for (size_t k = 0; k < rules[i].kinds; k++) {
            const char *words = kinds[k].words != NULL ? kinds[k].words : " quota";

            unit_add_case(rules[i].id, *words ? words + 1 : "token-bucket", rules[i].run,
                          &kinds[k]);
        }
    }
    unit_add("readings out of order", test_skew, NULL);
    return unit_run();
}
