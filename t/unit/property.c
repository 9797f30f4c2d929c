/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What holds for every algorithm, under a million random steps each: design.md §4, "Rules that hold
 * for all of them". What holds beyond one request is in property_more.c.
 */

#include "property_walk.h"

#include <string.h>

/* --- what steps on a copy of the state say */

static rlp_decision_t walk_fresh(const walk_t *walk, rlp_units_t units, rlp_time_t now)
{
    const rlp_op_t op = {
        .kind = RLP_PEEK, .units = units, .now = now, .max_wait = walk->max_wait
    };
    uint64_t none[RLP_STATE_MAX / 8] = { 0 };

    return walk_step_of(walk->limit, none, &op);
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

/* --- the rules */

/* What is not there cannot be given back; what is charged late counts as if it came now. */
static void rule_unseen(const walk_t *walk)
{
    walk_t unseen = *walk;
    walk_t taken = *walk;

    memset(unseen.state, 0, sizeof(unseen.state));
    memset(taken.state, 0, sizeof(taken.state));
    walk_expect(walk, !walk_try(&unseen, RLP_SETTLE, -RLP_UNIT, walk->now).changed,
                "a refund to a key that is gone changes nothing");
    const rlp_decision_t take = walk_try(&taken, RLP_TAKE, RLP_UNIT, walk->now);
    const rlp_decision_t late = walk_try(&unseen, RLP_SETTLE, RLP_UNIT, walk->now);

    walk_expect(walk,
                take.verdict != RLP_ALLOW || (late.changed && late.remaining == take.remaining),
                "a late charge to a key that is gone counts");
}

static void rule_times(const walk_t *walk, const rlp_decision_t *d)
{
    walk_expect(walk, (d->next == 0) == (d->remaining > 0), "next is 0 while a unit is left");
    if (walk_is_new(walk)) {
        return; /* what starts with less than it holds earns from its first request on */
    }
    if (d->next > 0 && d->next != RLP_TIME_NEVER) {
        walk_expect(walk, walk_try(walk, RLP_PEEK, 0, walk->now + d->next).remaining > 0,
                    "a unit is there at next");
        walk_expect(walk, walk_try(walk, RLP_PEEK, 0, walk->now + d->next - 1).remaining == 0,
                    "and not before");
    }
    if (d->reset != RLP_TIME_NEVER) {
        walk_expect(walk,
                    walk_try(walk, RLP_PEEK, 0, walk->now + d->reset).remaining ==
                        walk_capacity(walk) / RLP_UNIT,
                    "full at reset");
    }
    if (d->changed && d->expires != RLP_TIME_NEVER) {
        const rlp_decision_t kept = walk_try(walk, RLP_PEEK, RLP_UNIT, d->expires);
        const rlp_decision_t fresh = walk_fresh(walk, RLP_UNIT, d->expires);

        walk_expect(walk, same_answer(&kept, &fresh), "an expired state is as good as none");
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

    walk_step_of(walk->limit, back.state, &op);
    const rlp_decision_t behind = walk_try(walk, RLP_PEEK, walk->units, walk->now);
    const rlp_decision_t instead = walk_try(&back, RLP_PEEK, walk->units, walk->now);

    if (walk->limit->algorithm->windowed && before->wait > 0) {
        walk_expect(walk, instead.verdict <= behind.verdict,
                    "B-28: a turn given back is the next one's");
    } else {
        walk_expect(walk, instead.verdict == before->verdict && instead.wait == before->wait,
                    "B-28: the next one waits as if the one that went away had never come");
    }
}

static void rule_refund(const walk_t *walk, const rlp_decision_t *before)
{
    const rlp_decision_t back = walk_try(walk, RLP_SETTLE, -walk->units, walk->now);
    const rlp_decision_t more = walk_try(walk, RLP_SETTLE, -RLP_UNITS_MAX, walk->now);
    const rlp_decision_t less = walk_try(walk, RLP_SETTLE, RLP_UNITS_MAX, walk->now);

    walk_expect(walk,
                back.remaining == before->remaining ||
                    (walk->limit->algorithm->windowed && before->wait > 0 && back.remaining == 0),
                "a refund gives back what was taken");
    walk_expect(walk, more.remaining == walk_capacity(walk) / RLP_UNIT, "and never more than full");
    walk_expect(walk, less.remaining == 0, "a late charge never leaves less than nothing");
    walk_expect(walk, less.reset >= walk_try(walk, RLP_PEEK, 0, walk->now).reset,
                "nor does it give a turn back");
    walk_expect(walk,
                less.reset == RLP_TIME_NEVER || less.reset <= walk_lockout(walk, walk->longest),
                "nor lock out for longer than all requests together could");
    rule_given_back(walk, before);
    rule_unseen(walk);
}

static void rule_charge(const walk_t *walk, const rlp_decision_t *before, const rlp_decision_t *d)
{
    if (d->verdict == RLP_WAIT) {
        walk_expect(walk, d->remaining == 0, "where one waits nothing is left for others");
    } else if (walk->units % RLP_UNIT == 0) {
        walk_expect(walk, before->remaining - d->remaining == walk->units / RLP_UNIT,
                    "H-02: remaining falls by exactly the cost");
    }
    if (walk->units > 0) {
        walk_expect(walk, d->changed && d->loss > 0, "a charge is kept and has a loss");
        rule_refund(walk, before);
    }
}

static void walk_step(walk_t *walk)
{
    const bool was_new =
        walk->state[0] == 0 && walk->state[1] == 0 && walk->state[2] == 0 && walk->state[3] == 0;
    uint64_t before[RLP_STATE_MAX / 8];

    walk->now += random_gap(walk);
    walk->units = random_units(walk);
    walk->max_wait = unit_wait(&walk->random, walk->longest);
    memcpy(before, walk->state, sizeof(before));
    const rlp_op_t op = {
        .kind = RLP_TAKE, .units = walk->units, .now = walk->now, .max_wait = walk->max_wait
    };
    rlp_op_t look = op;

    look.kind = RLP_PEEK;
    const rlp_decision_t peek = walk_step_of(walk->limit, walk->state, &look);

    walk_expect(walk, !peek.changed && memcmp(before, walk->state, sizeof(before)) == 0,
                "a peek writes nothing");
    const rlp_verdict_t verdict = world_take(walk, peek.wait);
    const rlp_decision_t d = walk_step_of(walk->limit, walk->state, &op);

    walk->turn = walk->now + d.wait;
    walk_expect(walk, d.verdict == verdict, "the verdict is that of the model");
    walk_expect(walk, peek.verdict == verdict && peek.retry == d.retry && peek.wait == d.wait,
                "a peek foretells it");
    walk_expect(walk, (d.wait > 0) == (verdict == RLP_WAIT), "a wait is said to those who wait");
    walk_expect(walk, d.remaining == world_remaining(walk) && d.remaining >= 0,
                "remaining is that of the model");
    walk_expect(walk, !d.damaged, "the state is sound");
    if (verdict <= RLP_WAIT) {
        rule_charge(walk, &peek, &d);
    } else {
        walk_expect(walk, was_new || memcmp(before, walk->state, sizeof(before)) == 0,
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

int main(void)
{
    walk_add("H-18 T-15 H-02: a million random steps", test_walk, KINDS);
    return unit_run();
}
