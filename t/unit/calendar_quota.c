/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Quotas of calendars against a model that knows nothing but the edges.
 */

#include "calendar_zones.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_PER_LIMIT 1000

/* One key under test, and what a model knows of it. */
typedef struct {
    const rlp_limit_t *limit;
    const char *words;
    int period; /* index; -1: never charged */
    rlp_units_t used;
    uint64_t state[RLP_STATE_MAX / 8];
    uint64_t random;
    rlp_time_t now;  /* of the store */
    rlp_time_t wall; /* runs beside it, but for its steps */
    rlp_units_t units;
    rlp_decision_t last;
} walk_t;

static void expect(const walk_t *walk, bool holds, const char *what)
{
    if (!holds) {
        fail_msg("%s: not so under \"%s\" at %" PRId64 " us, cost %" PRId64
                 "/1000 (RLP_SEED=%" PRIu64 ")",
                 what, walk->words, walk->wall, walk->units, unit_seed());
    }
}

static rlp_decision_t walk_ask(const walk_t *walk, void *state, rlp_op_kind_t kind,
                               rlp_time_t later)
{
    const rlp_op_t op = {
        .kind = kind, .units = walk->units, .now = walk->now + later, .wall = walk->wall + later
    };
    rlp_decision_t d;

    walk->limit->algorithm->step(state, walk->limit, &op, &d);
    return d;
}

static rlp_decision_t walk_peek(const walk_t *walk, rlp_time_t later)
{
    uint64_t copy[RLP_STATE_MAX / 8];

    memcpy(copy, walk->state, sizeof(copy));
    return walk_ask(walk, copy, RLP_PEEK, later);
}

/* The period that counts, by the rules: the one of the wall clock; a later one that has begun, give
   or take the skew; used units stay when the clock has stepped back further. */
static int model_turn(walk_t *walk, rlp_units_t *used)
{
    const rlp_time_t *edges = walk->limit->calendar->edges;
    const int period = period_of(walk->limit->calendar, walk->wall);

    *used = walk->period < period ? 0 : walk->used;
    *used = *used < walk->limit->burst ? *used : walk->limit->burst;
    return walk->period > period && edges[walk->period] <= walk->wall + RLP_CLOCK_SKEW
               ? walk->period
               : period;
}

static void rule_refusal(const walk_t *walk, const rlp_decision_t *d, int period)
{
    const rlp_time_t end = walk->limit->calendar->edges[period + 1];

    expect(walk, d->retry == end - walk->wall && d->reset == d->retry,
           "retry and reset are the end of the period");
    expect(walk, walk_peek(walk, d->retry).verdict == RLP_ALLOW, "passes exactly at retry");
    expect(walk, walk_peek(walk, d->retry - 1).verdict == RLP_DENY,
           "is refused a microsecond before");
}

static void rule_expired(const walk_t *walk, const rlp_decision_t *d)
{
    uint64_t none[RLP_STATE_MAX / 8] = { 0 };
    const rlp_decision_t kept = walk_peek(walk, d->expires - walk->now);
    const rlp_decision_t fresh = walk_ask(walk, none, RLP_PEEK, d->expires - walk->now);

    expect(walk,
           kept.verdict == fresh.verdict && kept.remaining == fresh.remaining &&
               kept.reset == fresh.reset && kept.next == fresh.next,
           "an expired state is as good as none");
}

static void walk_take(walk_t *walk)
{
    const rlp_limit_t *limit = walk->limit;
    const rlp_decision_t peek = walk_peek(walk, 0);
    rlp_units_t used;
    const int period = model_turn(walk, &used);
    const bool behind = walk->period > period;
    uint64_t before[RLP_STATE_MAX / 8];

    memcpy(before, walk->state, sizeof(before));
    const rlp_decision_t d = walk_ask(walk, walk->state, RLP_TAKE, 0);
    const rlp_verdict_t verdict = walk->units < 0 || walk->units > limit->burst ? RLP_NEVER
                                  : walk->units > limit->burst - used           ? RLP_DENY
                                                                                : RLP_ALLOW;
    const rlp_units_t charged = verdict == RLP_ALLOW ? walk->units : 0;

    expect(walk, d.verdict == verdict, "the verdict is that of the model");
    expect(walk, peek.verdict == verdict && peek.retry == d.retry && !peek.changed,
           "a peek foretells it and writes nothing");
    expect(walk, used + charged <= limit->burst, "never more than COUNT in a period");
    expect(walk, d.remaining == (limit->burst - used - charged) / RLP_UNIT,
           "remaining is that of the model");
    expect(walk, d.wait == 0 && !d.damaged, "nothing waits, nothing is damaged");
    expect(walk, d.next == (d.remaining > 0 ? 0 : d.reset), "the next unit comes at the end");
    expect(walk, d.expires == walk->now + d.reset + 86400 * RLP_SECOND,
           "it is kept a day beyond its end");
    expect(walk, d.changed == (charged > 0 || (verdict == RLP_DENY && behind)),
           "a charge is kept, and what heals");
    expect(walk, d.changed || memcmp(before, walk->state, sizeof(before)) == 0,
           "T-15: nothing else changes anything");
    if (d.changed) {
        walk->period = period;
        walk->used = used + charged;
        rule_expired(walk, &d);
    }
    if (verdict == RLP_DENY) {
        rule_refusal(walk, &d, period);
    }
    walk->last = d;
}

/* A charge of some time ago is corrected: given back only where its period is the one that
   counts. */
static void walk_settle(walk_t *walk)
{
    const rlp_time_t ago =
        unit_below(&walk->random, 2)
            ? 0
            : (rlp_time_t)unit_below(&walk->random, (uint64_t)walk->limit->period);
    const rlp_op_t op = { .kind = RLP_SETTLE,
                          .units = unit_below(&walk->random, 2) ? walk->units : -walk->units,
                          .now = walk->now,
                          .wall = walk->wall,
                          .charged_at = walk->now - ago };
    rlp_units_t used;
    const int period = model_turn(walk, &used);
    const bool counts = op.units > 0 || (walk->period >= 0 &&
                                         walk->wall - ago >= walk->limit->calendar->edges[period]);
    rlp_decision_t d;

    walk->limit->algorithm->step(walk->state, walk->limit, &op, &d);
    used += counts ? op.units : 0;
    used = used < 0 ? 0 : used > walk->limit->burst ? walk->limit->burst : used;
    expect(walk, d.changed == counts, "only a charge of this period is given back");
    expect(walk, d.remaining == (walk->limit->burst - used) / RLP_UNIT,
           "between empty and full, by the model");
    if (counts) {
        walk->period = period;
        walk->used = used;
    }
}

static rlp_units_t random_units(walk_t *walk)
{
    const rlp_units_t burst = walk->limit->burst;

    switch (unit_below(&walk->random, 12)) {
    case 0:
        return 0;
    case 1:
        return burst + 1;
    case 2:
        return -1;
    case 3:
        return burst;
    case 4:
        return (rlp_units_t)unit_below(&walk->random, (uint64_t)burst + 1);
    default:
        return RLP_UNIT;
    }
}

/* Time goes by, on both clocks; seldom the wall clock steps. */
static void walk_clock(walk_t *walk)
{
    const uint64_t period = (uint64_t)walk->limit->period;
    rlp_time_t gap = 0;

    switch (unit_below(&walk->random, 8)) {
    case 0:
        gap = (rlp_time_t)unit_below(&walk->random, period / 4);
        break;
    case 1:
        gap = walk->last.retry;
        break;
    case 2:
        gap = walk->last.retry > 0 ? walk->last.retry - 1 : 1;
        break;
    default:
        break;
    }
    walk->now += gap;
    walk->wall += gap;
    switch (unit_below(&walk->random, 64)) {
    case 0:
        walk->wall -= (rlp_time_t)unit_below(&walk->random, period * 2);
        break;
    case 1:
        walk->wall += (rlp_time_t)unit_below(&walk->random, period * 2);
        break;
    case 2:
    case 3:
    case 4:
    case 5: /* readings of two requests that meet */
        walk->wall -= (rlp_time_t)unit_below(&walk->random, 2 * RLP_CLOCK_SKEW);
        break;
    default:
        break;
    }
}

static void walk_begin(walk_t *walk, const char *zone)
{
    static const char *const counts[] = { "1", "2", "3", "10", "1000", "999999999999999" };
    const char *count = counts[unit_below(&walk->random, UNIT_N(counts))];
    const char *unit = calendar_units[unit_below(&walk->random, UNIT_N(calendar_units))];

    walk->words = apr_pstrcat(unit_pool(), count, "/", unit, "@", zone, NULL);
    walk->limit = limit_of(count, unit, zone);
    walk->period = -1;
    walk->used = 0;
    walk->last = (rlp_decision_t){ .retry = 0 };
    walk->now = NOW;
    /* from 1990 on, so that no walk leaves the table */
    walk->wall =
        (631152000 + (rlp_time_t)unit_below(&walk->random, UINT64_C(20) * 365 * (uint64_t)DAY)) *
        RLP_SECOND;
    memset(walk->state, 0, sizeof(walk->state));
}

static bool walk_in_table(const walk_t *walk)
{
    const rlp_calendar_t *calendar = walk->limit->calendar;

    return walk->wall > calendar->edges[4] && walk->wall < calendar->edges[calendar->n - 5];
}

static void test_walk(void **state)
{
    const char *zone = unit_row(state);
    walk_t walk = { .random = unit_seed() };

    if (!zones_there()) {
        return;
    }
    for (int i = 0; i < STEPS / 2; i++) {
        if (i % STEPS_PER_LIMIT == 0 || !walk_in_table(&walk)) {
            walk_begin(&walk, zone);
        }
        walk_clock(&walk);
        walk.units = random_units(&walk);
        if (unit_below(&walk.random, 16) == 0) {
            walk_settle(&walk);
        } else {
            walk_take(&walk);
        }
    }
}

/* What was used stays used under another count. */
static void test_carry(void **state)
{
    walk_t walk = { .random = unit_seed(), .words = "3/day, 10/day and 1/day" };

    (void)state;
    walk_begin(&walk, "UTC");
    walk.limit = limit_of("3", "day", "UTC");
    walk.units = 3 * RLP_UNIT;
    assert_int_equal(walk_ask(&walk, walk.state, RLP_TAKE, 0).verdict, RLP_ALLOW);
    walk.units = RLP_UNIT;
    assert_int_equal(walk_ask(&walk, walk.state, RLP_TAKE, 0).verdict, RLP_DENY);
    walk.limit = limit_of("10", "day", "UTC");
    assert_int_equal(walk_ask(&walk, walk.state, RLP_TAKE, 0).remaining, 6);
    walk.limit = limit_of("1", "day", "UTC");
    const rlp_decision_t d = walk_ask(&walk, walk.state, RLP_TAKE, 0);

    assert_int_equal(d.verdict, RLP_DENY);
    assert_int_equal(d.remaining, 0);
    rule_refusal(&walk, &d, period_of(walk.limit->calendar, walk.wall));
    walk.limit = limit_of("10", "day", "UTC");
    assert_int_equal(walk_ask(&walk, walk.state, RLP_TAKE, 0).remaining, 5);
}

/* A clock outside the table, such as one that has not been set yet, meets periods of the usual
   length. */
static void test_beyond(void **state)
{
    static const char *const words[] = { "quota=1/month" };
    const rlp_plan_source_t source = {
        .name = "narrow", .words = words, .n = 1, .wall = NOW, .since = NOW
    };
    const rlp_time_t walls[] = { -5 * RLP_SECOND, 0, 1, 86400 * RLP_SECOND, 10 * NOW };
    apr_pool_t *pool;
    rlp_plan_t *plan;

    (void)state;
    apr_pool_create(&pool, unit_pool());
    assert_null(rlp_plan_parse(&plan, &source, pool));
    for (size_t i = 0; i < UNIT_N(walls); i++) {
        walk_t walk = { .limit = &plan->limits[0], .words = words[0], .units = RLP_UNIT };

        walk.wall = walls[i];
        walk.now = NOW;
        assert_int_equal(walk_ask(&walk, walk.state, RLP_TAKE, 0).verdict, RLP_ALLOW);
        const rlp_decision_t d = walk_ask(&walk, walk.state, RLP_TAKE, 0);

        assert_int_equal(d.verdict, RLP_DENY);
        assert_in_range(d.retry, 1, walk.limit->period);
        assert_int_equal(walk_peek(&walk, d.retry).verdict, RLP_ALLOW);
        assert_int_equal(walk_peek(&walk, d.retry - 1).verdict, RLP_DENY);
        walk.wall = NOW; /* it is set */
        assert_int_equal(walk_ask(&walk, walk.state, RLP_TAKE, 0).verdict,
                         walls[i] < NOW ? RLP_ALLOW : RLP_DENY);
        assert_in_range(walk_ask(&walk, walk.state, RLP_TAKE, 0).retry, 1, 31 * DAY * RLP_SECOND);
    }
}

static void test_damage(void **state)
{
    walk_t walk = { .random = unit_seed() };

    (void)state;
    for (int i = 0; i < STEPS / 4; i++) {
        if (i % STEPS_PER_LIMIT == 0) {
            walk_begin(&walk, "UTC");
        }
        for (size_t k = 0; k < UNIT_N(walk.state); k++) {
            walk.state[k] = unit_random(&walk.random) >> unit_below(&walk.random, 64);
        }
        if (unit_below(&walk.random, 8)) { /* most as if they had been written */
            walk.state[2] = walk.state[1] + unit_below(&walk.random, 1000);
        }
        walk.units = random_units(&walk);
        const rlp_op_t op = { .kind = (rlp_op_kind_t)unit_below(&walk.random, 4),
                              .units = walk.units,
                              .now = walk.now,
                              .wall = walk.wall,
                              .charged_at = walk.now / 2 };
        rlp_decision_t d;

        walk.limit->algorithm->step(walk.state, walk.limit, &op, &d);
        expect(&walk, d.remaining >= 0 && d.remaining <= walk.limit->burst / RLP_UNIT,
               "T-27: what remains is a number");
        expect(&walk,
               d.verdict != RLP_DENY ||
                   d.retry <= walk.limit->period + DAY * RLP_SECOND + RLP_CLOCK_SKEW,
               "T-27: and nobody is locked out");
    }
}

int main(void)
{
    static const char *const walked[] = { "UTC", "Europe/Berlin", "Pacific/Apia" };

    unsetenv("TZ");
    unsetenv("TZDIR");
    for (size_t i = 0; i < UNIT_N(walked); i++) {
        unit_add_case("H-18 T-15 H-02 Q-07",
                      apr_pstrcat(unit_pool(), "random steps in ", walked[i], NULL), test_walk,
                      walked[i]);
    }
    unit_add("P-07: carried to another plan", test_carry, NULL);
    unit_add("a clock outside the table", test_beyond, NULL);
    unit_add("T-27: any bytes for a state", test_damage, NULL);
    return unit_run();
}
