/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Sliding window and sliding log, a million random steps each against models that keep every
 * request there was and search where the steps calculate.
 */

#include "unit.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define STEPS unit_steps()
#define STEPS_PER_LIMIT 250
#define STATE_WORDS (4 + 8192)
#define DAY (86400 * RLP_SECOND)
#define TICK_MAX 1024 /* of the log, for ten years */

__extension__ typedef __int128 wide_t;

/* Every request that was served, by the instant of its service. */
typedef struct {
    const rlp_limit_t *limit;
    int n;
    struct served {
        rlp_time_t at;
        rlp_units_t units;
    } served[STEPS_PER_LIMIT];
} world_t;

typedef struct {
    const char *name;
    unsigned digits; /* of the largest counts */
    int periods;     /* within which all is forgotten */
    rlp_time_t ahead_max;
    /* the first instant from now on at which the units fit */
    rlp_time_t (*turn)(const world_t *world, rlp_units_t units, rlp_time_t now);
    /* from when on a request may wait for that turn */
    rlp_time_t (*reservable)(const world_t *world, rlp_time_t turn);
} kind_t;

/* One key under test. */
typedef struct {
    const kind_t *kind;
    const char *words;
    const rlp_limit_t *limit;
    world_t world;
    uint64_t state[STATE_WORDS];
    uint32_t written; /* bytes of the state, by the limit that changed it last */
    uint64_t random;
    rlp_time_t now;
    rlp_units_t units;
    rlp_time_t max_wait;
    bool waits;
    bool strict; /* the model is a bound: the log may be stricter (rounding, merged entries) */
    rlp_decision_t last;
} walk_t;

static void expect(const walk_t *walk, bool holds, const char *what)
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

/* Units served after one instant and up to another. */
static rlp_units_t world_sum(const world_t *world, rlp_time_t after, rlp_time_t to)
{
    rlp_units_t sum = 0;

    for (int i = world->n; i-- > 0 && world->served[i].at > after;) {
        sum += world->served[i].at <= to ? world->served[i].units : 0;
    }
    return sum;
}

static rlp_time_t log_turn(const world_t *world, rlp_units_t units, rlp_time_t now)
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

static const kind_t kinds[] = {
    { "sliding-window", 12, 2, INT64_MAX, window_turn, window_reservable },
    { "sliding-log", 2, 1, DAY, log_turn, log_reservable },
};

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
        return walk->strict ? (rlp_units_t)unit_below(&walk->random, 1000) : 2 * RLP_UNIT;
    case 5:
    case 6:
        return RLP_UNIT + (rlp_units_t)unit_below(&walk->random, (uint64_t)burst);
    default:
        return walk->strict && unit_below(&walk->random, 2) ? RLP_UNIT / 2 : RLP_UNIT;
    }
}

static rlp_time_t random_gap(walk_t *walk)
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

static const rlp_limit_t *random_limit(walk_t *walk, int64_t count, int64_t period)
{
    walk->words = apr_psprintf(unit_pool(), "rate=%" PRId64 "/%" PRId64 "ms algorithm=%s", count,
                               period, walk->kind->name);
    return &unit_plan(walk->words)->limits[0];
}

/* A walk under a new limit. */
static void walk_begin(walk_t *walk)
{
    const int64_t period = random_size(&walk->random, unit_below(&walk->random, 2) ? 5 : 11);

    walk->limit = random_limit(walk, random_size(&walk->random, walk->kind->digits), period);
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

static walk_t *walk_of(const kind_t *kind)
{
    walk_t *walk = apr_pcalloc(unit_pool(), sizeof(*walk));

    walk->kind = kind;
    walk->random = unit_seed();
    return walk;
}

/* --- steps */

static rlp_op_t walk_op(const walk_t *walk, rlp_op_kind_t kind, rlp_units_t units, rlp_time_t now)
{
    return (rlp_op_t){ .kind = kind, .units = units, .now = now, .max_wait = walk->max_wait };
}

static rlp_decision_t walk_do(walk_t *walk, const rlp_op_t *op)
{
    rlp_decision_t decision;

    walk->limit->algorithm->step(walk->state, walk->limit, op, &decision);
    return decision;
}

/* On a copy, so that it leaves no trace. */
static rlp_decision_t walk_try(const walk_t *walk, const rlp_op_t *op)
{
    static uint64_t copy[STATE_WORDS];
    rlp_decision_t decision;

    memcpy(copy, walk->state, walk->limit->state_size);
    walk->limit->algorithm->step(copy, walk->limit, op, &decision);
    return decision;
}

static rlp_decision_t walk_peek(const walk_t *walk, rlp_units_t units, rlp_time_t now)
{
    const rlp_op_t op = walk_op(walk, RLP_PEEK, units, now);

    return walk_try(walk, &op);
}

static rlp_decision_t walk_fresh(const walk_t *walk, rlp_units_t units, rlp_time_t now)
{
    const rlp_op_t op = walk_op(walk, RLP_PEEK, units, now);
    static uint64_t none[STATE_WORDS];
    rlp_decision_t decision;

    walk->limit->algorithm->step(none, walk->limit, &op, &decision);
    return decision;
}

/* --- the rules */

static void rule_refusal(const walk_t *walk, const rlp_decision_t *d)
{
    expect(walk, d->retry > 0, "a refusal has to be waited for");
    expect(walk, walk_peek(walk, walk->units, walk->now + d->retry).verdict <= RLP_WAIT,
           "passes exactly at retry");
    expect(walk, walk_peek(walk, walk->units, walk->now + d->retry - 1).verdict == RLP_DENY,
           "is refused a microsecond before");
}

static void rule_times(const walk_t *walk, const rlp_decision_t *d)
{
    const int64_t count = walk->limit->count;

    expect(walk, (d->next == 0) == (d->remaining > 0), "next is 0 while a unit is left");
    if (d->next > 0) {
        expect(walk, walk_peek(walk, 0, walk->now + d->next).remaining > 0,
               "a unit is there at next");
        expect(walk, walk_peek(walk, 0, walk->now + d->next - 1).remaining == 0, "and not before");
    }
    expect(walk, walk_peek(walk, 0, walk->now + d->reset).remaining == count, "full at reset");
    if (d->changed) {
        const rlp_decision_t kept = walk_peek(walk, walk->limit->burst, d->expires);
        const rlp_decision_t fresh = walk_fresh(walk, walk->limit->burst, d->expires);

        expect(walk,
               kept.verdict == RLP_ALLOW && kept.remaining == fresh.remaining &&
                   kept.reset == fresh.reset,
               "S-17: an expired state is as good as none");
    }
}

static void rule_settle(const walk_t *walk, const rlp_decision_t *before, const rlp_decision_t *d)
{
    rlp_op_t op = walk_op(walk, RLP_SETTLE, -walk->units, walk->now);

    op.charged_at = walk->now + d->wait;
    const rlp_decision_t back = walk_try(walk, &op);

    expect(walk, d->verdict == RLP_WAIT || back.remaining == before->remaining,
           "a refund gives back what was taken");
    op.units = -RLP_UNITS_MAX;
    const int64_t most = walk_try(walk, &op).remaining;

    expect(walk, most >= d->remaining && most <= walk->limit->count, "never more than full");
    op.units = RLP_UNITS_MAX;
    expect(walk, walk_try(walk, &op).remaining == 0, "nor less than nothing");
    op.charged_at = walk->now - 3 * walk->limit->period;
    op.units = -RLP_UNIT;
    expect(walk, !walk_try(walk, &op).changed, "nothing is given back of what is over");
}

static void rule_charge(const walk_t *walk, const rlp_decision_t *before, const rlp_decision_t *d)
{
    if (d->verdict == RLP_ALLOW && walk->units % RLP_UNIT == 0) {
        expect(walk, before->remaining - d->remaining == walk->units / RLP_UNIT,
               "H-02: remaining falls by exactly the cost");
    }
    if (walk->units > 0) {
        expect(walk, d->changed && d->loss > 0, "a charge is kept and has a loss");
        rule_settle(walk, before, d);
    }
}

/* As much is left as the model has room for. */
static void rule_remaining(const walk_t *walk, int64_t remaining)
{
    const world_t *world = &walk->world;
    const rlp_units_t more = (remaining + 1) * RLP_UNIT;

    expect(walk, remaining >= 0 && remaining <= walk->limit->count, "remaining is a number");
    if (remaining > 0) {
        expect(walk, walk->kind->turn(world, remaining * RLP_UNIT, walk->now) == walk->now,
               "what remains is usable");
    }
    if (!walk->strict && more <= walk->limit->burst) {
        expect(walk, walk->kind->turn(world, more, walk->now) > walk->now,
               "more than remains is not");
    }
}

/* What the model says: the answer to the request, but for what remains. */
static rlp_decision_t world_answer(const walk_t *walk)
{
    const kind_t *kind = walk->kind;
    const rlp_time_t now = walk->now;
    const rlp_time_t patience = walk->max_wait < kind->ahead_max ? walk->max_wait : kind->ahead_max;

    if (walk->units < 0 || walk->units > walk->limit->burst) {
        return (rlp_decision_t){ .verdict = RLP_NEVER };
    }
    const rlp_time_t turn = walk->units > 0 ? kind->turn(&walk->world, walk->units, now) : now;
    const rlp_time_t from = kind->reservable(&walk->world, turn);

    if (turn == now) {
        return (rlp_decision_t){ .verdict = RLP_ALLOW };
    }
    if (turn - now <= patience && from <= now) {
        return (rlp_decision_t){ .verdict = RLP_WAIT, .wait = turn - now };
    }
    return (rlp_decision_t){ .verdict = RLP_DENY,
                             .retry = (from > turn - patience ? from : turn - patience) - now };
}

static void world_serve(walk_t *walk, rlp_time_t at)
{
    world_t *world = &walk->world;
    world->served[world->n++] = (struct served){ .at = at, .units = walk->units };
    if (walk->kind->turn == log_turn) {
        expect(walk, world_sum(world, at - walk->limit->period, at) <= walk->limit->burst,
               "S-09: at most COUNT in any PERIOD");
    }
}

static void rule_model(walk_t *walk, const rlp_decision_t *d)
{
    const rlp_decision_t answer = world_answer(walk);

    if (walk->strict) {
        expect(walk, d->verdict >= answer.verdict, "no verdict is looser than the model's");
        expect(walk, d->verdict != answer.verdict || d->wait >= answer.wait, "no wait is shorter");
    } else {
        expect(walk,
               d->verdict == answer.verdict && d->wait == answer.wait && d->retry == answer.retry,
               "the answer is that of the model");
    }
    if (d->verdict <= RLP_WAIT && walk->units > 0) {
        world_serve(walk, walk->now + d->wait);
    }
}

static void walk_step(walk_t *walk)
{
    static uint64_t before[STATE_WORDS];
    const uint32_t size = walk->limit->state_size;

    walk->now += random_gap(walk);
    walk->units = random_units(walk);
    walk->max_wait = walk->waits && unit_below(&walk->random, 4)
                         ? (rlp_time_t)unit_below(&walk->random, 4 * (uint64_t)walk->limit->period)
                         : 0;
    memcpy(before, walk->state, size);
    const rlp_op_t look = walk_op(walk, RLP_PEEK, walk->units, walk->now);
    const rlp_op_t take = walk_op(walk, RLP_TAKE, walk->units, walk->now);
    const rlp_decision_t peek = walk_do(walk, &look);

    expect(walk, !peek.changed && memcmp(before, walk->state, size) == 0, "a peek writes nothing");
    rule_remaining(walk, peek.remaining);
    const rlp_decision_t d = walk_do(walk, &take);

    expect(walk, peek.verdict == d.verdict && peek.retry == d.retry && peek.wait == d.wait,
           "a peek foretells it");
    expect(walk, !d.damaged, "the state is sound");
    rule_model(walk, &d);
    rule_remaining(walk, d.remaining);
    if (d.verdict > RLP_WAIT || walk->units == 0) {
        expect(walk, !d.changed && memcmp(before, walk->state, size) == 0,
               "S-10: a refusal changes nothing");
    } else {
        rule_charge(walk, &peek, &d);
    }
    if (d.verdict == RLP_DENY) {
        rule_refusal(walk, &d);
    }
    rule_times(walk, &d);
    walk->last = d;
}

static void test_walk(void **state)
{
    walk_t *walk = walk_of(unit_row(state));

    for (int i = 0; i < STEPS; i++) {
        if (i % STEPS_PER_LIMIT == 0) {
            walk_begin(walk);
        }
        walk_step(walk);
    }
}

/* --- refunds in between */

/* Gives back what was just taken, or a part of it; the model as well. */
static void walk_refund(walk_t *walk)
{
    world_t *world = &walk->world;
    const rlp_time_t at = walk->now + walk->last.wait;
    const int newest = world->n - 1;

    if (walk->last.verdict > RLP_WAIT || walk->units <= 0) {
        return;
    }
    rlp_op_t op =
        walk_op(walk, RLP_SETTLE,
                -1 - (rlp_units_t)unit_below(&walk->random, (uint64_t)walk->units), walk->now);

    op.charged_at = at;
    expect(walk, world->served[newest].at == at, "turns are in order");
    world->served[newest].units += op.units;
    if (world->served[newest].units == 0 && !walk->strict) {
        world->n--; /* a count of nothing keeps nobody in order */
    }
    walk_do(walk, &op);
    rule_remaining(walk, walk_peek(walk, 0, walk->now).remaining);
}

static void test_refund(void **state)
{
    walk_t *walk = walk_of(unit_row(state));

    for (int i = 0; i < STEPS / 10; i++) {
        if (i % STEPS_PER_LIMIT == 0) {
            walk_begin(walk);
            walk->strict = walk->kind->turn == log_turn; /* emptied entries take room */
        }
        walk_step(walk);
        if (unit_below(&walk->random, 3) == 0) {
            walk_refund(walk);
        }
    }
}

/* --- clocks that step back */

static void test_step_back(void **state)
{
    walk_t *walk = walk_of(unit_row(state));

    for (int i = 0; i < STEPS / 500; i++) {
        walk_begin(walk);
        walk->waits = false;
        for (uint64_t n = unit_below(&walk->random, 2 * (uint64_t)walk->kind->digits); n > 0; n--) {
            walk_step(walk);
        }
        const int64_t there = walk_peek(walk, 0, walk->now).remaining;

        walk->now -= random_size(&walk->random, 15);
        walk->units = (rlp_units_t)unit_below(&walk->random, (uint64_t)walk->limit->burst) + 1;
        walk->max_wait = 0;
        const rlp_op_t op = walk_op(walk, RLP_TAKE, walk->units, walk->now);
        const rlp_decision_t d = walk_do(walk, &op);

        expect(walk, d.remaining <= there, "S-15: a clock that steps back refills nothing");
        if (d.verdict == RLP_DENY) {
            expect(walk, d.retry <= walk->kind->periods * walk->limit->period + RLP_CLOCK_SKEW,
                   "and locks out no longer than any charge does");
            rule_refusal(walk, &d);
        }
    }
}

/* What waits stays as far ahead as it was. */
static void test_step_back_waiting(void **state)
{
    walk_t *walk = walk_of(&kinds[1]);

    (void)state;
    walk->limit = random_limit(walk, 2, 1000);
    walk->max_wait = 10 * RLP_SECOND;
    walk->now = 1000 * RLP_SECOND;
    const rlp_op_t before = walk_op(walk, RLP_TAKE, RLP_UNIT, walk->now);
    const rlp_op_t after = walk_op(walk, RLP_TAKE, RLP_UNIT, RLP_SECOND);

    for (int i = 0; i < 6; i++) {
        assert_int_equal(walk_do(walk, &before).wait, i / 2 * RLP_SECOND);
    }
    assert_int_equal(walk_do(walk, &after).wait, 3 * RLP_SECOND);
}

/* Requests that meet under the lock in another order than they read the clock are not refused for
   it. */
static void test_skew(void **state)
{
    walk_t *walk = walk_of(unit_row(state));

    walk->limit = random_limit(walk, 3, 60000);
    for (int i = 0; i < 3; i++) {
        walk->now = 90 * RLP_SECOND - i;
        const rlp_op_t op = walk_op(walk, RLP_TAKE, RLP_UNIT, walk->now);

        assert_int_equal(walk_do(walk, &op).remaining, 2 - i);
    }
    walk->units = RLP_UNIT;
    const rlp_op_t op = walk_op(walk, RLP_TAKE, RLP_UNIT, walk->now);
    const rlp_decision_t d = walk_do(walk, &op);

    assert_int_equal(d.verdict, RLP_DENY);
    rule_refusal(walk, &d);
}

/* --- one state under several plans */

/* The state as a store hands it to a limit of another size: with anything behind what was kept. */
static void walk_carry(walk_t *walk, int64_t count, int64_t period)
{
    walk->limit = random_limit(walk, count, period);
    walk->world.limit = walk->limit;
    for (uint32_t i = walk->written / 8; i < walk->limit->state_size / 8; i++) {
        walk->state[i] = unit_random(&walk->random);
    }
}

static void test_carry(void **state)
{
    walk_t *walk = walk_of(unit_row(state));

    for (int i = 0; i < STEPS / 100; i++) {
        walk_begin(walk);
        const int64_t used = 1 + (int64_t)unit_below(&walk->random, (uint64_t)walk->limit->count);
        const int64_t count = random_size(&walk->random, walk->kind->digits);
        const rlp_op_t op = walk_op(walk, RLP_TAKE, used * RLP_UNIT, walk->now);

        walk_do(walk, &op);
        walk->written = walk->limit->state_size;
        walk_carry(walk, count, walk->limit->period / 1000);
        const rlp_decision_t d = walk_peek(walk, walk->limit->burst, walk->now);

        expect(walk, d.remaining == (used < count ? count - used : 0),
               "P-07: what was used stays used, in units");
        expect(walk, d.verdict == RLP_DENY && !d.damaged, "and is no damage");
        walk->units = walk->limit->burst;
        rule_refusal(walk, &d);
        expect(walk, d.retry <= walk->kind->periods * walk->limit->period + TICK_MAX, "no debt");
    }
}

/* The log through plans of any size: with rising counts it is exact, else it loses nothing. */
static void test_carry_log(void **state)
{
    walk_t *walk = walk_of(&kinds[1]);

    (void)state;
    for (int i = 0; i < STEPS / 10; i++) {
        if (i % STEPS_PER_LIMIT == 0) {
            walk_begin(walk);
            walk->written = walk->limit->state_size;
        }
        const rlp_units_t more = (rlp_units_t)unit_below(&walk->random, 8);
        const bool rises = i / STEPS_PER_LIMIT % 2 == 0;

        if (unit_below(&walk->random, 16) == 0) {
            walk_carry(walk, rises ? walk->limit->count + more : 1 + 2 * more,
                       walk->limit->period / 1000);
        }
        walk->now += random_gap(walk);
        walk->units = RLP_UNIT * (1 + (rlp_units_t)unit_below(&walk->random, 2));
        walk->strict = !rises || walk->limit->period >> 39 > 0;
        const rlp_op_t op = walk_op(walk, RLP_TAKE, walk->units, walk->now);
        const rlp_decision_t d = walk_do(walk, &op);

        walk->written = d.changed ? walk->limit->state_size : walk->written;
        expect(walk, !d.damaged, "a state of another plan is sound");
        rule_model(walk, &d);
        if (d.verdict == RLP_DENY) {
            expect(walk, d.retry <= walk->limit->period + TICK_MAX,
                   "locks out for a period at most");
            rule_refusal(walk, &d);
        }
        walk->last = d;
    }
}

/* --- a state that holds anything */

/* In memory of its very size, so that the sanitizers see what is beyond. */
static void damage_try(walk_t *walk, uint64_t *exact)
{
    const rlp_time_t longest =
        3 * walk->limit->period + RLP_CLOCK_SKEW + (walk->kind->turn == log_turn ? DAY : 0);

    memcpy(exact, walk->state, walk->limit->state_size);
    for (int k = 0; k < 4; k++) {
        rlp_op_t op = walk_op(walk, (rlp_op_kind_t)unit_below(&walk->random, 3), random_units(walk),
                              walk->now + k);
        rlp_decision_t d;

        op.charged_at = walk->now;
        walk->limit->algorithm->step(exact, walk->limit, &op, &d);
        expect(walk, d.remaining >= 0 && d.remaining <= walk->limit->count,
               "T-27: whatever the state, what remains is a number");
        expect(walk, d.verdict != RLP_DENY || (d.retry > 0 && d.retry <= longest),
               "T-27: and nobody is locked out");
    }
}

static void test_damage(void **state)
{
    walk_t *walk = walk_of(unit_row(state));

    for (int i = 0; i < STEPS / 250; i++) {
        walk_begin(walk);
        uint64_t *exact = malloc(walk->limit->state_size);

        assert_non_null(exact);
        for (int k = 0; k < 25; k++) {
            walk_step(walk);
        }
        for (int k = 0; k < 50; k++) {
            const uint64_t word = unit_below(&walk->random, walk->limit->state_size / 8);
            const uint64_t kept = walk->state[word];

            walk->state[word] = unit_below(&walk->random, 2)
                                    ? kept ^ UINT64_C(1) << unit_below(&walk->random, 64)
                                    : unit_random(&walk->random) >> unit_below(&walk->random, 64);
            damage_try(walk, exact);
            walk->state[word] = kept;
        }
        free(exact);
    }
}

/* What cannot have been written is judged as new: a word of a full state of ten, and what it is
   changed to. */
typedef struct {
    const char *what;
    const kind_t *kind;
    int word;
    uint64_t value;
} unsound_t;

#define UNSOUND_NOW (INT64_C(1000) * RLP_SECOND)

static const unsound_t unsound[] = {
    { "a window beyond all clocks", &kinds[0], 0, INT64_MAX },
    { "more than the burst before", &kinds[0], 1, 10001 },
    { "more than the burst now", &kinds[0], 2, 10001 },
    { "less than nothing reserved", &kinds[0], 3, UINT64_MAX },
    { "no burst", &kinds[0], 4, 0 },
    { "a burst below 0", &kinds[0], 4, UINT64_MAX },
    { "a head beyond the ring", &kinds[1], 0, UINT64_C(10) << 32 | 10 },
    { "more entries than the ring has", &kinds[1], 0, UINT64_C(11) << 32 },
    { "no entries, but units", &kinds[1], 0, 0 },
    { "no capacity", &kinds[1], 1, UINT64_C(10000) << 32 },
    { "a capacity beyond all", &kinds[1], 1, UINT64_C(10000) << 32 | 8193 },
    { "more in use than any ring holds", &kinds[1], 1, UINT64_C(8192001) << 32 | 10 },
    { "another newest entry", &kinds[1], 2, UNSOUND_NOW - 1 },
    { "a newest entry beyond all turns", &kinds[1], 2, UNSOUND_NOW + (INT64_C(1) << 40) },
    { "written before all time", &kinds[1], 3, UINT64_MAX },
    { "written after all time", &kinds[1], 3, INT64_MAX },
};

static void test_unsound(void **state)
{
    const unsound_t *row = unit_row(state);
    walk_t *walk = walk_of(row->kind);

    walk->limit = random_limit(walk, 10, 1000);
    walk->now = UNSOUND_NOW;
    const rlp_op_t op = walk_op(walk, RLP_TAKE, RLP_UNIT, walk->now);

    for (int i = 0; i < 10; i++) {
        walk_do(walk, &op);
    }
    assert_int_equal(walk_peek(walk, RLP_UNIT, walk->now).remaining, 0);
    assert_false(walk_peek(walk, RLP_UNIT, walk->now).damaged);
    walk->state[row->word] = row->value;
    assert_true(walk_peek(walk, RLP_UNIT, walk->now).damaged);
    const rlp_decision_t d = walk_do(walk, &op);

    assert_true(d.damaged);
    assert_int_equal(d.remaining, 9);
    assert_false(walk_do(walk, &op).damaged);
}

/* --- the size of a log */

static void test_size(void **state)
{
    const rlp_plan_t *plan;

    (void)state;
    assert_int_equal(unit_plan("rate=1/s algorithm=sliding-log")->limits[0].state_size, 40);
    assert_int_equal(unit_plan("rate=8192/s algorithm=sliding-log")->limits[0].state_size, 65568);
    assert_string_equal(unit_parse(&plan, "rate=8193/s algorithm=sliding-log", NULL),
                        "expected sliding-log with COUNT of at most 8192, got \"rate=8193/s\"");
    assert_string_equal(unit_parse(&plan, "rate=1/s algorithm=sliding-log burst=2", NULL),
                        "expected no burst= behind \"rate=1/s\": sliding-log has none");
    assert_string_equal(unit_parse(&plan, "rate=1/s algorithm=sliding-window initial=1", NULL),
                        "expected no initial= behind \"rate=1/s\": sliding-window has none");
    assert_string_equal(rlp_plan_describe(unit_plan("rate=5/min algorithm=sliding-log"),
                                          unit_pool()),
                        "at most 5 in any minute");
    assert_string_equal(rlp_plan_describe(unit_plan("rate=5/10s algorithm=sliding-window"),
                                          unit_pool()),
                        "about 5 in any 10 seconds");
}

/* A full log of the largest size, with the newest request waiting for the oldest to go. */
static void test_largest(void **state)
{
    walk_t *walk = walk_of(&kinds[1]);

    (void)state;
    walk->limit = random_limit(walk, 8192, 60000);
    for (int i = 0; i < 3 * 8192; i++) {
        const rlp_time_t now = i % 8192 + (rlp_time_t)(i / 8192) * 60 * RLP_SECOND;
        const rlp_op_t op = walk_op(walk, RLP_TAKE, RLP_UNIT, now);

        assert_int_equal(walk_do(walk, &op).verdict, RLP_ALLOW);
        assert_int_equal(walk_peek(walk, RLP_UNIT, now).verdict, i < 8191 ? RLP_ALLOW : RLP_DENY);
    }
}

/* How many lines of a slot, whose state begins 24 bytes behind the first line's beginning,
   differ. */
static int lines_changed(const uint64_t *one, const uint64_t *other, uint32_t size)
{
    int lines = 0;

    for (uint32_t from = 0, to = 5; from < size / 8; from = to, to += 8) {
        const uint32_t end = to < size / 8 ? to : size / 8;

        lines += memcmp(one + from, other + from, (end - from) * sizeof(*one)) != 0;
    }
    return lines;
}

/* A log of 8000 entries whose ring wraps in the middle goes on under a plan with 8192. A store
   keeps changes of 256 lines (rlp_shm_create()). */
static void test_carry_largest(void **state)
{
    static const int64_t gap = 10000; /* 6000 requests in each minute */
    walk_t *walk = walk_of(&kinds[1]);
    uint64_t *before = apr_palloc(unit_pool(), sizeof(walk->state));

    (void)state;
    walk->limit = random_limit(walk, 8000, 60000);
    for (int i = 0; i < 30000; i++) {
        if (i == 10000) {
            walk->limit = random_limit(walk, 8192, 60000);
        }
        memcpy(before, walk->state, walk->limit->state_size);
        const rlp_op_t op = walk_op(walk, RLP_TAKE, RLP_UNIT, i * gap);
        const rlp_decision_t d = walk_do(walk, &op);

        assert_int_equal(d.verdict, RLP_ALLOW);
        assert_int_equal(d.remaining, walk->limit->count - (i < 6000 ? i + 1 : 6000));
        assert_true(lines_changed(before, walk->state, walk->limit->state_size) <= 256);
    }
    for (int i = 0; i < 2192; i++) {
        const rlp_op_t op = walk_op(walk, RLP_TAKE, RLP_UNIT, 29999 * gap);

        assert_int_equal(walk_do(walk, &op).verdict, RLP_ALLOW);
    }
    assert_int_equal(walk_peek(walk, RLP_UNIT, 29999 * gap).verdict, RLP_DENY);
    assert_int_equal(walk_peek(walk, RLP_UNIT, 30000 * gap).verdict, RLP_ALLOW);
}

int main(void)
{
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } rules[] = {
        { "H-02 S-09 S-10 S-17: a million random steps", test_walk },
        { "refunds", test_refund },
        { "S-15: a clock that steps back", test_step_back },
        { "S-15: readings out of order", test_skew },
        { "P-07: carried to another plan", test_carry },
        { "T-27: damaged", test_damage },
    };

    for (size_t i = 0; i < UNIT_N(rules); i++) {
        for (size_t k = 0; k < UNIT_N(kinds); k++) {
            unit_add_case(rules[i].name, kinds[k].name, rules[i].run, &kinds[k]);
        }
    }
    for (size_t i = 0; i < UNIT_N(unsound); i++) {
        unit_add_case("T-27", unsound[i].what, test_unsound, &unsound[i]);
    }
    unit_add("S-15: a clock that steps back under those who wait", test_step_back_waiting, NULL);
    unit_add("P-07: a log carried through many plans", test_carry_log, NULL);
    unit_add("P-07: the largest log carried to a larger plan", test_carry_largest, NULL);
    unit_add("V-13: what the grammar says", test_size, NULL);
    unit_add("S-09: the largest log", test_largest, NULL);
    return unit_run();
}
