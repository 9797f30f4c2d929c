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

#define STEPS 1000000
#define STEPS_PER_LIMIT 250
#define STATE_WORDS (4 + 8192)
#define DAY (86400 * RLP_SECOND)

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
        return (rlp_time_t)unit_below(&walk->random,
                                      2 * period / (uint64_t)walk->limit->count + 2);
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
    const rlp_time_t patience =
        walk->max_wait < kind->ahead_max ? walk->max_wait : kind->ahead_max;

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
    rlp_op_t op = walk_op(walk, RLP_SETTLE,
                          -1 - (rlp_units_t)unit_below(&walk->random, (uint64_t)walk->units),
                          walk->now);

    op.charged_at = at;
    expect(walk, world->served[newest].at == at, "turns are in order");
    world->served[newest].units += op.units;
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

int main(void)
{
    for (size_t i = 0; i < UNIT_N(kinds); i++) {
        unit_add_case("H-02 S-09 S-10 S-17: a million random steps", kinds[i].name, test_walk,
                      &kinds[i]);
        unit_add_case("refunds", kinds[i].name, test_refund, &kinds[i]);
    }
    return unit_run();
}
