/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The states of sliding window and sliding log: which cannot have been written, and how large that
 * of a log is.
 */

#include "sliding_walk.h"

#include <apr_pools.h>
#include <apr_strings.h>

#include <string.h>

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
    { "a window beyond all clocks", &walk_kinds[0], 0, INT64_MAX },
    { "more than the burst before", &walk_kinds[0], 1, 10001 },
    { "more than the burst now", &walk_kinds[0], 2, 10001 },
    { "less than nothing reserved", &walk_kinds[0], 3, UINT64_MAX },
    { "no burst", &walk_kinds[0], 4, 0 },
    { "a burst below 0", &walk_kinds[0], 4, UINT64_MAX },
    { "a head beyond the ring", &walk_kinds[1], 0, UINT64_C(10) << 32 | 10 },
    { "more entries than the ring has", &walk_kinds[1], 0, UINT64_C(11) << 32 },
    { "no entries, but units", &walk_kinds[1], 0, 0 },
    { "no capacity", &walk_kinds[1], 1, UINT64_C(10000) << 32 },
    { "a capacity beyond all", &walk_kinds[1], 1, UINT64_C(10000) << 32 | 8193 },
    { "more in use than any ring holds", &walk_kinds[1], 1, UINT64_C(8192001) << 32 | 10 },
    { "another newest entry", &walk_kinds[1], 2, UNSOUND_NOW - 1 },
    { "a newest entry beyond all turns", &walk_kinds[1], 2, UNSOUND_NOW + (INT64_C(1) << 40) },
    { "written before all time", &walk_kinds[1], 3, UINT64_MAX },
    { "written after all time", &walk_kinds[1], 3, INT64_MAX },
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
    walk_t *walk = walk_of(&walk_kinds[1]);

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
    walk_t *walk = walk_of(&walk_kinds[1]);
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

/* --- two limits of one log */

#define SHARED_COUNT 12 /* at most */
#define SHARED_WORDS (4 + SHARED_COUNT)

#define SHARED_REQUESTS 60

typedef struct {
    uint64_t random;
    rlp_time_t now;
    const rlp_limit_t *limits[2];
    uint64_t state[SHARED_WORDS];
    struct {
        int asked; /* limits[asked] */
        bool counts;
        rlp_time_t at;
    } charges[SHARED_REQUESTS];
} shared_t;

/* A step as a store lets it take: of a larger limit's state there is what this one has room for. */
static rlp_decision_t shared_do(shared_t *shared, int asked, const rlp_op_t *op)
{
    const rlp_limit_t *limit = shared->limits[asked];
    uint64_t copy[SHARED_WORDS] = { 0 };
    rlp_decision_t d;

    memcpy(copy, shared->state, limit->state_size);
    limit->algorithm->step(copy, limit, op, &d);
    if (d.changed) {
        memcpy(shared->state, copy, sizeof(copy));
    }
    return d;
}

static void shared_begin(shared_t *shared)
{
    *shared = (shared_t){ .random = shared->random, .now = INT64_C(1700000000) * RLP_SECOND };
    for (int i = 0; i < 2; i++) {
        const int count = (int)unit_below(&shared->random, SHARED_COUNT) + 1;

        shared->limits[i] =
            &unit_plan(apr_psprintf(unit_pool(), "rate=%d/s algorithm=sliding-log", count))
                 ->limits[0];
    }
}

/* One of the latest charges is given back. */
static void shared_back(shared_t *shared, int i)
{
    if (i < 0 || !shared->charges[i].counts || unit_below(&shared->random, 2)) {
        return;
    }
    const rlp_op_t back = { .kind = RLP_SETTLE,
                            .units = -RLP_UNIT,
                            .now = shared->now,
                            .charged_at = shared->charges[i].at };

    (void)shared_do(shared, shared->charges[i].asked, &back);
    shared->charges[i].counts = false;
}

/* How many charges of one limit are not yet a period old. */
static int shared_sum(const shared_t *shared, int asked)
{
    int sum = 0;

    for (int i = 0; i < SHARED_REQUESTS; i++) {
        sum += shared->charges[i].asked == asked && shared->charges[i].counts &&
               shared->now - shared->charges[i].at < RLP_SECOND;
    }
    return sum;
}

/* Of what passes with the other limit, and is not given back, there is never more than the one
   alone lets pass. */
static void shared_walk(shared_t *shared)
{
    for (int i = 0; i < SHARED_REQUESTS; i++) {
        const int asked = (int)unit_below(&shared->random, 2);

        if (unit_below(&shared->random, 2)) { /* else at the same instant */
            shared->now += (rlp_time_t)unit_below(&shared->random, RLP_SECOND / 20);
        }
        shared_back(shared, i - 1 - (int)unit_below(&shared->random, 4));
        const rlp_op_t op = { .kind = RLP_TAKE, .units = RLP_UNIT, .now = shared->now };

        if (shared_do(shared, asked, &op).verdict == RLP_ALLOW) {
            shared->charges[i].asked = asked;
            shared->charges[i].counts = true;
            shared->charges[i].at = shared->now;
            assert_in_range(shared_sum(shared, asked), 1, shared->limits[asked]->count);
        }
    }
}

/* What is given back, in whatever order and however often, is there again: no more is missing than
   what was charged and not given back. */
static void given_back_walk(shared_t *shared)
{
    for (int i = 0; i < SHARED_REQUESTS; i++) {
        shared->now += (rlp_time_t)unit_below(&shared->random, RLP_SECOND / 20);
        shared_back(shared, i - 1 - (int)unit_below(&shared->random, 4));
        const rlp_op_t op = { .kind = RLP_TAKE, .units = RLP_UNIT, .now = shared->now };
        const rlp_decision_t d = shared_do(shared, 0, &op);

        shared->charges[i].counts = d.verdict == RLP_ALLOW;
        shared->charges[i].at = shared->now;
        assert_int_equal(d.remaining, shared->limits[0]->count - shared_sum(shared, 0));
    }
}

typedef struct {
    const char *id;
    void (*walk)(shared_t *shared);
} shared_walk_t;

static const shared_walk_t shared_walks[] = {
    { "P-07: two limits of a log, not more", shared_walk },
    { "a log has again what was given back", given_back_walk },
};

static void test_shared(void **state)
{
    const shared_walk_t *row = unit_row(state);
    shared_t shared = { .random = unit_seed() };

    for (int i = 0; i < STEPS / 100; i++) {
        shared_begin(&shared);
        row->walk(&shared);
    }
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(unsound); i++) {
        unit_add_case("T-27", unsound[i].what, test_unsound, &unsound[i]);
    }
    unit_add("P-07: the largest log carried to a larger plan", test_carry_largest, NULL);
    unit_add("V-13: what the grammar says", test_size, NULL);
    for (size_t i = 0; i < UNIT_N(shared_walks); i++) {
        unit_add(shared_walks[i].id, test_shared, &shared_walks[i]);
    }
    unit_add("S-09: the largest log", test_largest, NULL);
    return unit_run();
}
