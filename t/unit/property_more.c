/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What holds for every algorithm beyond one request (property.c): when clocks differ, of the turns
 * of those who wait, under a second plan, whatever the state holds.
 */

#include "property_walk.h"

#include "algorithm/second.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <string.h>

/* --- clocks that differ and clocks that step back */

/* Takes units until refused, or some of them, at walk->now; some of them wait. */
static void walk_use(walk_t *walk)
{
    const rlp_op_t op = { .kind = RLP_TAKE,
                          .units = walk->limit->burst / (int64_t)(1 + unit_below(&walk->random, 3)),
                          .now = walk->now,
                          .max_wait = walk->longest };

    for (uint64_t n = unit_below(&walk->random, 4); n > 0; n--) {
        walk->last = walk_step_of(walk->limit, walk->state, &op);
    }
}

/* When the state expires, all fits that fits into a new one. */
static void rule_forgotten(const walk_t *walk, const rlp_decision_t *d)
{
    walk_t unseen = *walk;

    if (!d->changed || d->expires == RLP_TIME_NEVER) {
        return;
    }
    memset(unseen.state, 0, sizeof(unseen.state));
    walk_expect(walk,
                walk_try(walk, RLP_PEEK, walk->limit->burst, d->expires).verdict ==
                    walk_try(&unseen, RLP_PEEK, walk->limit->burst, d->expires).verdict,
                "a state that has expired is as good as none");
}

static void test_step_back(void **state)
{
    walk_t walk = walk_of(unit_row(state));

    for (int i = 0; i < STEPS / 40; i++) {
        walk_begin(&walk);
        walk_use(&walk);
        const rlp_decision_t there = walk_try(&walk, RLP_PEEK, RLP_UNIT, walk.now);

        walk.now -= unit_size(&walk.random, 15);
        walk.units = (rlp_units_t)unit_below(&walk.random, (uint64_t)walk.limit->burst) + 1;
        walk.max_wait = unit_wait(&walk.random, walk.longest);
        const rlp_op_t op = {
            .kind = RLP_TAKE, .units = walk.units, .now = walk.now, .max_wait = walk.max_wait
        };
        const rlp_decision_t d = walk_step_of(walk.limit, walk.state, &op);

        walk_expect(&walk, d.remaining <= there.remaining,
                    "a clock that steps back refills nothing");
        if (d.verdict == RLP_DENY) {
            walk_expect(&walk, d.retry <= walk_lockout(&walk, walk.longest),
                        "and locks out for one drain, what is reserved and the skew at most");
            rule_refusal(&walk, &d);
        }
        walk_expect(&walk, d.wait <= walk_lockout(&walk, walk.longest),
                    "nor does it make wait longer");
        rule_forgotten(&walk, &d);
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
   the promise by when they were judged, which is not before their own readings, nor after the
   latest of all so far. */
static void test_skew(void **state)
{
    enum { N = 64 };
    walk_t walk = walk_of(&walk_kinds[0]);
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

            walk.last = walk_step_of(walk.limit, walk.state, &op);
            walk_expect(&walk, walk.last.late <= late, "nobody is judged in the future");
            if (walk.last.verdict == RLP_ALLOW) {
                insert(admitted, n++, op.now + walk.last.late);
            }
        }
        for (int k = 0; k < n; k++) {
            walk.now = admitted[k];
            walk_expect(&walk, world_take(&walk, 0) == RLP_ALLOW,
                        "readings out of order gain nothing");
        }
    }
}

/* Who asks a full bucket for all that it has, in parts and at once, has it, whichever of them is
   judged first. */
static void test_at_once(void **state)
{
    walk_t walk = walk_of(unit_row(state));

    for (int i = 0; i < STEPS / 40; i++) {
        do {
            walk_begin(&walk);
        } while (walk.limit->initial < walk.limit->burst);
        const rlp_units_t each = (walk.limit->burst + 9) / 10;
        rlp_units_t had = 0;

        for (; had + each <= walk.limit->burst; had += each) {
            const rlp_op_t op = { .kind = RLP_TAKE,
                                  .units = each,
                                  .now = walk.now - (rlp_time_t)unit_below(&walk.random, 50) };

            walk.last = walk_step_of(walk.limit, walk.state, &op);
            walk_expect(&walk, walk.last.verdict == RLP_ALLOW, "T-24: a burst at once passes");
        }
    }
}

/* --- turns */

/* The most that may have its turn from one instant to another, both included, in thousandths times
   period; a wait is rounded up to a microsecond. Of the leaky bucket's first only the last
   unit counts. */
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
        wide_t sum = walk->kind == walk_leaky ? RLP_UNIT - units[i] : 0;

        walk_expect(walk, i == 0 || turns[i - 1] <= turns[i], "nobody overtakes");
        for (int k = i; k < n; k++) {
            sum += units[k];
            walk_expect(walk, sum * walk->limit->period <= promise(walk, turns[i], turns[k]),
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

            walk.last = walk_step_of(walk.limit, walk.state, &op);
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
        turns[i] = op.now + walk_step_of(limit, key, &op).wait;
    }
    op.now += RLP_SECOND / 4; /* they hang up before any turn has come */
    for (int i = row->asked - row->gone; i < row->asked; i++) {
        const rlp_op_t back = {
            .kind = RLP_SETTLE, .units = -RLP_UNIT, .now = op.now, .charged_at = turns[i]
        };

        assert_true(walk_step_of(limit, key, &back).changed);
    }
    const rlp_decision_t d = walk_step_of(limit, key, &op);

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
        taken += walk_step_of(walk->limit, walk->state, &op).verdict <= RLP_WAIT ? op.units : 0;
    }
    return taken;
}

/* What a state with so much in use holds under the walk's limit, whose burst may be the same as
   that of the one before: no turn is further away than WAIT_MAX. */
static rlp_units_t walk_carried(const walk_t *walk, rlp_units_t used, rlp_units_t burst)
{
    const rlp_limit_t *limit = walk->limit;
    const rlp_units_t most = limit->burst + (walk->kind == walk_leaky ? RLP_UNIT : 0);
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
    walk_expect(walk, world.level > 0, "P-07: what was used is in use until reset");
    walk->kind->turn(&world, walk->now + reset);
    walk_expect(walk, world.level == 0, "and no longer");
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

        walk_expect(&walk, d.remaining == (rest > 0 ? rest - 1 : 0),
                    "P-07: what was used stays used, in units");
        rule_reset(&walk, used);
        if (d.verdict == RLP_DENY) {
            rule_refusal(&walk, &d);
        }
    }
}

/* --- a state that holds anything */

#define MARK 2   /* the word of a state that says under which limit it was written, */
#define SECOND 3 /* and that of another limit, where there may be one */

/* The mark of the limit. */
static uint64_t walk_mark(const walk_t *walk)
{
    const rlp_op_t op = { .kind = RLP_TAKE, .units = 1, .now = walk->now };
    uint64_t written[RLP_STATE_MAX / 8] = { 0 };

    walk_step_of(walk->limit, written, &op);
    return written[MARK];
}

/* Some bytes, most of them as if they had been written, half of them under this limit. True if what
   is reserved may be meant for it. */
static bool walk_damage(walk_t *walk, uint64_t mark)
{
    const uint64_t marks[] = { 0, unit_random(&walk->random), mark, mark };
    uint64_t *state = walk->state;

    for (size_t k = 0; k < UNIT_N(walk->state); k++) {
        state[k] = unit_random(&walk->random) >> unit_below(&walk->random, 64);
    }
    state[MARK] = marks[unit_below(&walk->random, 4)];
    const bool own = state[MARK] == mark;

    switch (unit_below(&walk->random, 3)) {
    case 0:
        state[SECOND] = state[SECOND + 1] = 0;
        break;
    case 1: /* a token bucket says in its mark that there is a second */
        state[SECOND] = unit_below(&walk->random, 2) ? mark : mark + (UINT64_C(1) << 38);
        state[MARK] |= unit_below(&walk->random, 2) ? SECOND_SPARE : 0;
    }
    return own || state[SECOND] == mark;
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
        const bool reserved = walk_damage(&walk, mark);

        walk.now = (rlp_time_t)(unit_random(&walk.random) >> (12 + unit_below(&walk.random, 40)));
        walk.units = random_units(&walk);
        walk.max_wait = unit_wait(&walk.random, walk.longest);
        const rlp_op_t op = { .kind = (rlp_op_kind_t)unit_below(&walk.random, 3),
                              .units = walk.units,
                              .now = walk.now,
                              .max_wait = walk.max_wait,
                              .charged_at = walk.now / 2 };
        const rlp_decision_t d = walk_step_of(walk.limit, walk.state, &op);

        walk_expect(&walk, d.remaining >= 0 && d.remaining <= walk_capacity(&walk) / RLP_UNIT,
                    "T-27: whatever the state, what remains is a number");
        walk_expect(&walk, d.wait >= 0 && d.wait <= walk.max_wait, "T-27: and so is the wait");
        walk_expect(&walk,
                    d.verdict != RLP_DENY ||
                        d.retry <= walk_lockout(&walk, reserved ? WAIT_MAX : 0),
                    "T-27: and nobody is locked out");
    }
}

int main(void)
{
    walk_add("a clock that steps back", test_step_back, WAITING);
    walk_add("T-24: a burst at once", test_at_once, BURSTS);
    walk_add("turns in order, and not too many", test_turns, WAITING);
    walk_add("P-07: carried to another plan", test_carry, KINDS);
    walk_add("T-27: any bytes for a state", test_damage, KINDS);
    for (size_t i = 0; i < UNIT_N(given_back); i++) {
        unit_add_case("B-28: some who wait go away", given_back[i].words, test_given_back,
                      &given_back[i]);
    }
    unit_add("readings out of order", test_skew, NULL);
    return unit_run();
}
