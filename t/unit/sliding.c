/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Sliding window and sliding log, a million random steps each against models that keep every
 * request there was and search where the steps calculate.
 */

#include "sliding_walk.h"

#include <stdlib.h>
#include <string.h>

#define TICK_MAX 1024 /* of the log, for ten years */

/* --- the rules */

static rlp_decision_t walk_fresh(const walk_t *walk, rlp_units_t units, rlp_time_t now)
{
    const rlp_op_t op = walk_op(walk, RLP_PEEK, units, now);
    static uint64_t none[STATE_WORDS];
    rlp_decision_t decision;

    walk->limit->algorithm->step(none, walk->limit, &op, &decision);
    return decision;
}

static void rule_refusal(const walk_t *walk, const rlp_decision_t *d)
{
    walk_expect(walk, d->retry > 0, "a refusal has to be waited for");
    walk_expect(walk, walk_peek(walk, walk->units, walk->now + d->retry).verdict <= RLP_WAIT,
                "passes exactly at retry");
    walk_expect(walk, walk_peek(walk, walk->units, walk->now + d->retry - 1).verdict == RLP_DENY,
                "is refused a microsecond before");
}

static void rule_times(const walk_t *walk, const rlp_decision_t *d)
{
    const int64_t count = walk->limit->count;

    walk_expect(walk, (d->next == 0) == (d->remaining > 0), "next is 0 while a unit is left");
    if (d->next > 0) {
        walk_expect(walk, walk_peek(walk, 0, walk->now + d->next).remaining > 0,
                    "a unit is there at next");
        walk_expect(walk, walk_peek(walk, 0, walk->now + d->next - 1).remaining == 0,
                    "and not before");
    }
    walk_expect(walk, walk_peek(walk, 0, walk->now + d->reset).remaining == count, "full at reset");
    if (d->changed) {
        const rlp_decision_t kept = walk_peek(walk, walk->limit->burst, d->expires);
        const rlp_decision_t fresh = walk_fresh(walk, walk->limit->burst, d->expires);

        walk_expect(walk,
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

    walk_expect(walk, d->verdict == RLP_WAIT || back.remaining == before->remaining,
                "a refund gives back what was taken");
    op.units = -RLP_UNITS_MAX;
    const int64_t most = walk_try(walk, &op).remaining;

    walk_expect(walk, most >= d->remaining && most <= walk->limit->count, "never more than full");
    op.units = RLP_UNITS_MAX;
    walk_expect(walk, walk_try(walk, &op).remaining == 0, "nor less than nothing");
    op.charged_at = walk->now - 3 * walk->limit->period;
    op.units = -RLP_UNIT;
    walk_expect(walk, !walk_try(walk, &op).changed, "nothing is given back of what is over");
    op.charged_at = RLP_TIME_EVER;
    op.units = -RLP_UNITS_MAX;
    walk_expect(walk, walk_try(walk, &op).remaining == walk->limit->count,
                "all is given back that was charged whenever");
}

static void rule_charge(const walk_t *walk, const rlp_decision_t *before, const rlp_decision_t *d)
{
    if (d->verdict == RLP_ALLOW && walk->units % RLP_UNIT == 0) {
        walk_expect(walk, before->remaining - d->remaining == walk->units / RLP_UNIT,
                    "H-02: remaining falls by exactly the cost");
    }
    if (walk->units > 0) {
        walk_expect(walk, d->changed && d->loss > 0, "a charge is kept and has a loss");
        rule_settle(walk, before, d);
    }
}

/* As much is left as the model has room for. */
static void rule_remaining(const walk_t *walk, int64_t remaining)
{
    const world_t *world = &walk->world;
    const rlp_units_t more = (remaining + 1) * RLP_UNIT;

    walk_expect(walk, remaining >= 0 && remaining <= walk->limit->count, "remaining is a number");
    if (remaining > 0) {
        walk_expect(walk, walk->kind->turn(world, remaining * RLP_UNIT, walk->now) == walk->now,
                    "what remains is usable");
    }
    if (!walk->strict && more <= walk->limit->burst) {
        walk_expect(walk, walk->kind->turn(world, more, walk->now) > walk->now,
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
        walk_expect(walk, world_sum(world, at - walk->limit->period, at) <= walk->limit->burst,
                    "S-09: at most COUNT in any PERIOD");
    }
}

static void rule_model(walk_t *walk, const rlp_decision_t *d)
{
    const rlp_decision_t answer = world_answer(walk);

    if (walk->strict) {
        walk_expect(walk, d->verdict >= answer.verdict, "no verdict is looser than the model's");
        walk_expect(walk, d->verdict != answer.verdict || d->wait >= answer.wait,
                    "no wait is shorter");
    } else {
        walk_expect(walk,
                    d->verdict == answer.verdict && d->wait == answer.wait &&
                        d->retry == answer.retry,
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

    walk_expect(walk, !peek.changed && memcmp(before, walk->state, size) == 0,
                "a peek writes nothing");
    rule_remaining(walk, peek.remaining);
    const rlp_decision_t d = walk_do(walk, &take);

    walk_expect(walk, peek.verdict == d.verdict && peek.retry == d.retry && peek.wait == d.wait,
                "a peek foretells it");
    walk_expect(walk, !d.damaged, "the state is sound");
    rule_model(walk, &d);
    rule_remaining(walk, d.remaining);
    if (d.verdict > RLP_WAIT || walk->units == 0) {
        walk_expect(walk, !d.changed && memcmp(before, walk->state, size) == 0,
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
    walk_expect(walk, world->served[newest].at == at, "turns are in order");
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

        walk->now -= unit_size(&walk->random, 15);
        walk->units = (rlp_units_t)unit_below(&walk->random, (uint64_t)walk->limit->burst) + 1;
        walk->max_wait = 0;
        const rlp_op_t op = walk_op(walk, RLP_TAKE, walk->units, walk->now);
        const rlp_decision_t d = walk_do(walk, &op);

        walk_expect(walk, d.remaining <= there, "S-15: a clock that steps back refills nothing");
        if (d.verdict == RLP_DENY) {
            walk_expect(walk, d.retry <= walk->kind->periods * walk->limit->period + RLP_CLOCK_SKEW,
                        "and locks out no longer than any charge does");
            rule_refusal(walk, &d);
        }
    }
}

/* What waits stays as far ahead as it was. */
static void test_step_back_waiting(void **state)
{
    walk_t *walk = walk_of(&walk_kinds[1]);

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
        const int64_t count = unit_size(&walk->random, walk->kind->digits);
        const rlp_op_t op = walk_op(walk, RLP_TAKE, used * RLP_UNIT, walk->now);

        walk_do(walk, &op);
        walk->written = walk->limit->state_size;
        walk_carry(walk, count, walk->limit->period / 1000);
        const rlp_decision_t d = walk_peek(walk, walk->limit->burst, walk->now);

        walk_expect(walk, d.remaining == (used < count ? count - used : 0),
                    "P-07: what was used stays used, in units");
        walk_expect(walk, d.verdict == RLP_DENY && !d.damaged, "and is no damage");
        walk->units = walk->limit->burst;
        rule_refusal(walk, &d);
        walk_expect(walk, d.retry <= walk->kind->periods * walk->limit->period + TICK_MAX,
                    "no debt");
    }
}

/* The log through plans of any size: with rising counts it is exact, else it loses nothing. */
static void test_carry_log(void **state)
{
    walk_t *walk = walk_of(&walk_kinds[1]);

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
        walk_expect(walk, !d.damaged, "a state of another plan is sound");
        rule_model(walk, &d);
        if (d.verdict == RLP_DENY) {
            walk_expect(walk, d.retry <= walk->limit->period + TICK_MAX,
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
        walk_expect(walk, d.remaining >= 0 && d.remaining <= walk->limit->count,
                    "T-27: whatever the state, what remains is a number");
        walk_expect(walk, d.verdict != RLP_DENY || (d.retry > 0 && d.retry <= longest),
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
        for (size_t k = 0; k < UNIT_N(walk_kinds); k++) {
            unit_add_case(rules[i].name, walk_kinds[k].name, rules[i].run, &walk_kinds[k]);
        }
    }
    unit_add("S-15: a clock that steps back under those who wait", test_step_back_waiting, NULL);
    unit_add("P-07: a log carried through many plans", test_carry_log, NULL);
    return unit_run();
}
