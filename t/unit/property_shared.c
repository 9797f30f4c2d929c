/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * One key under two limits that are asked in any order: none of them lets pass more than it would
 * alone, nor less than if all that passes had been charged to both; nor more than that, where what
 * passes costs more in the end.
 */

#include "property_walk.h"

#include <apr_strings.h>

#include <string.h>

#define REQUESTS 40 /* of one key */
#define IN_FLIGHT 4 /* requests that may be given back */
#define SECOND 3    /* the word of a state that has the mark of its second limit */
#define AT_ONCE 2   /* for a scale: none of this kind waits */
#define ROUNDING 64 /* microseconds: one for each charge to the limit that is not asked */

typedef uint64_t shared_state_t[RLP_STATE_MAX / 8];

typedef struct {
    walk_t walk; /* limit: that of the latest request; state: of the key that they share */
    const rlp_limit_t *limits[2];
    shared_state_t own[2]; /* of keys of their own */
    int asked;             /* limits[asked] */
    rlp_op_t op;           /* of the latest request */
} shared_t;

/* What may yet be given back. */
typedef struct {
    rlp_op_t op;
    rlp_time_t turn;
    int asked;
} charged_t;

/* Steps keep their phase, which is that of the first request unless it is given. */
static const kind_t shared_kinds[] = {
    { "", NULL, 0, true, false },
    { " algorithm=stepped-bucket start=1970-01-01T00:00:01Z", NULL, 1, true, false },
    { " algorithm=leaky-bucket", NULL, 0, true, false },
    { " algorithm=fixed-window", NULL, 1, false, false },
    { " algorithm=sliding-window", NULL, 2, false,
      false }, /* estimates of turns ahead: none waits */
    { NULL, NULL, 1, false, false },
};

/* Two limits of one period that are small, so that requests meet both. */
static void shared_begin(shared_t *shared)
{
    walk_t *walk = &shared->walk;
    const int64_t period = unit_size(&walk->random, 5);

    for (int i = 0; i < 2; i++) {
        const rlp_plan_t *plan;

        do {
            const int count = (int)unit_below(&walk->random, 30) + 1;

            walk->words = walk->kind->words == NULL
                              ? apr_psprintf(unit_pool(), "quota=%d", count)
                              : apr_psprintf(unit_pool(), "rate=%d/%dms%s", count, (int)period,
                                             walk->kind->words);
            if (walk->kind->has_burst && unit_below(&walk->random, 3)) {
                walk->words = apr_psprintf(unit_pool(), "%s burst=%d.%03d", walk->words,
                                           (int)unit_below(&walk->random, 40) + 1,
                                           (int)unit_below(&walk->random, 2) * 77);
            }
        } while (unit_parse(&plan, walk->words, NULL) != NULL);
        shared->limits[i] = &plan->limits[0];
    }
    memset(walk->state, 0, sizeof(walk->state));
    memset(shared->own, 0, sizeof(shared->own));
    walk->now = INT64_C(1700000000) * RLP_SECOND;
}

/* The next request: for units, under one of them. */
static void shared_next(shared_t *shared, rlp_time_t longest)
{
    walk_t *walk = &shared->walk;
    const rlp_limit_t *limit;

    shared->asked = (int)unit_below(&walk->random, 2);
    limit = shared->limits[shared->asked];
    walk->limit = limit;
    walk->now +=
        (rlp_time_t)unit_below(&walk->random,
                               (uint64_t)limit->drain / (1 + unit_below(&walk->random, 20)) + 2);
    walk->units = unit_below(&walk->random, 3)
                      ? RLP_UNIT
                      : (rlp_units_t)unit_below(&walk->random, (uint64_t)limit->burst) + 1;
    shared->op =
        (rlp_op_t){ .kind = RLP_TAKE,
                    .units = walk->units,
                    .now = walk->now,
                    .max_wait = (rlp_time_t)unit_below(&walk->random, (uint64_t)longest + 1) };
}

/* What was charged is given back to both keys, as of an instant. */
static void shared_back(shared_t *shared, const rlp_op_t *op, int asked, rlp_time_t turn)
{
    const rlp_op_t back = {
        .kind = RLP_SETTLE, .units = -op->units, .now = shared->walk.now, .charged_at = turn
    };

    walk_step_of(shared->limits[asked], shared->walk.state, &back);
    walk_step_of(shared->limits[asked], shared->own[asked], &back);
}

/* Each limit alone admits what it admits with the other: it is never freed by that. */
static void test_shared_more(void **state)
{
    shared_t shared = { .walk = walk_of(unit_row(state)) };
    walk_t *walk = &shared.walk;

    for (int i = 0; i < STEPS / REQUESTS / 4; i++) {
        charged_t charged[IN_FLIGHT] = { 0 };
        /* what a bucket has refilled by the time it is given back was for others, too; and who
           gives up a turn leaves those behind him where they are */
        const bool many = !walk->kind->has_burst && unit_below(&walk->random, 2);
        const bool waits = !many && walk->kind->scale != AT_ONCE;

        shared_begin(&shared);
        for (int k = 0; k < REQUESTS; k++) {
            shared_next(&shared, waits ? shared.limits[0]->period : 0);
            charged_t *one = &charged[many ? unit_below(&walk->random, IN_FLIGHT) : 0];

            if (one->op.units > 0 && unit_below(&walk->random, 2) == 0 && one->turn <= walk->now) {
                shared_back(&shared, &one->op, one->asked, one->turn);
                one->op.units = 0;
            }
            const rlp_decision_t d = walk_step_of(walk->limit, walk->state, &shared.op);

            if (d.verdict > RLP_WAIT) {
                continue;
            }
            const rlp_decision_t own =
                walk_step_of(walk->limit, shared.own[shared.asked], &shared.op);

            walk_expect(walk, own.verdict <= RLP_WAIT,
                        "P-07: what two limits count together passes under the one alone");
            walk_expect(walk, own.wait <= d.wait, "P-07: and no later");
            *one = (charged_t){ shared.op, walk->now + d.wait, shared.asked };
        }
    }
}

/* A limit that is charged all that passes is not refused more: that is all that they share. */
static void test_shared_less(void **state)
{
    shared_t shared = { .walk = walk_of(unit_row(state)) };
    walk_t *walk = &shared.walk;

    for (int i = 0; i < STEPS / REQUESTS / 4; i++) {
        shared_begin(&shared);
        for (int k = 0; k < 2; k++) { /* both are known from the beginning */
            const rlp_op_t one = { .kind = RLP_TAKE, .units = 1, .now = walk->now };
            const rlp_op_t two = { .kind = RLP_TAKE, .units = 2, .now = walk->now };

            walk_step_of(shared.limits[k], walk->state, &one);
            walk_step_of(shared.limits[k], shared.own[k], &two);
        }
        for (int k = 0; k < REQUESTS; k++) {
            shared_next(&shared, 0);
            shared.op.now = walk->now += ROUNDING; /* and peek.now is not before the state */
            const int other = !shared.asked;
            rlp_op_t peek = shared.op;

            peek.kind = RLP_PEEK;
            peek.now -= ROUNDING;
            const bool fits =
                walk_step_of(walk->limit, shared.own[shared.asked], &peek).verdict == RLP_ALLOW;
            const rlp_decision_t d = walk_step_of(walk->limit, walk->state, &shared.op);

            if (walk->kind->has_burst && walk->state[SECOND] == 0) {
                break; /* steps that were all back: one of them is new again */
            }
            walk_expect(walk, !fits || d.verdict == RLP_ALLOW,
                        "P-07: what fits both limits that are charged all passes");
            if (d.verdict == RLP_ALLOW) {
                const rlp_op_t charge = { .kind = RLP_SETTLE,
                                          .units = walk->units,
                                          .now = walk->now };

                walk_step_of(walk->limit, shared.own[shared.asked], &charge);
                walk_step_of(shared.limits[other], shared.own[other], &charge);
            }
        }
    }
}

/* All that passes is charged to both keys of their own. */
static void shared_own(shared_t *shared, const rlp_op_t *charge)
{
    for (int k = 0; k < 2; k++) {
        walk_step_of(shared->limits[k], shared->own[k], charge);
    }
}

/* And so is what is settled under one of them. */
static void shared_settle(shared_t *shared, int asked, rlp_units_t units)
{
    const rlp_time_t now = shared->walk.now;
    const rlp_op_t charge = { .kind = RLP_SETTLE, .units = units, .now = now, .charged_at = now };

    walk_step_of(shared->limits[asked], shared->walk.state, &charge);
    shared_own(shared, &charge);
}

/* Each limit is charged all that passes under both, and what it costs more in the end: nothing of
   that is lost because it was settled under the other one. */
static void test_shared_late(void **state)
{
    shared_t shared = { .walk = walk_of(unit_row(state)) };
    walk_t *walk = &shared.walk;

    for (int i = 0; i < STEPS / REQUESTS / 4; i++) {
        shared_begin(&shared);
        for (int k = 0; k < REQUESTS; k++) {
            shared_next(&shared, 0);
            for (int both = 0; both < 2; both++) { /* both are known in each window */
                shared_settle(&shared, both, 1);
            }
            const int asked = shared.asked;
            const rlp_units_t most = shared.limits[unit_below(&walk->random, 2)]->burst;
            rlp_op_t later = shared.op;

            later.kind = RLP_PEEK;
            later.now += ROUNDING;
            const bool fits =
                walk_step_of(walk->limit, shared.own[asked], &later).verdict == RLP_ALLOW;
            const rlp_decision_t d = walk_step_of(walk->limit, walk->state, &shared.op);

            walk_expect(walk, d.verdict != RLP_ALLOW || fits,
                        "P-07: what passes fits the limit that is charged all, late costs, too");
            if (d.verdict == RLP_ALLOW) {
                rlp_op_t charge = shared.op;

                charge.kind = RLP_SETTLE;
                charge.charged_at = walk->now;
                shared_own(&shared, &charge);
            }
            if (unit_below(&walk->random, 3) == 0) {
                shared_settle(&shared, asked,
                              (rlp_units_t)unit_below(&walk->random, (uint64_t)most) + 1);
            }
        }
    }
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(shared_kinds); i++) {
        const kind_t *kind = &shared_kinds[i];
        const char *words = kind->words == NULL ? " quota" : kind->words;
        const char *what = *words ? words + 1 : "token-bucket";

        unit_add_case("P-07: two limits together, not more", what, test_shared_more, kind);
        unit_add_case("P-07: two limits together, not less", what, test_shared_less, kind);
        unit_add_case("P-07: two limits together, late costs", what, test_shared_late, kind);
    }
    return unit_run();
}
