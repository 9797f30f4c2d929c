/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What check.c asks of algorithms and stores, and what it makes of their answers. Of then= that is
 * check_branches.c.
 */

#include "check_asked.h"

#include "limit.h"

#include <apr_errno.h>

#include <string.h>

static const rlp_algorithm_t lasting = {
    .name = "lasting", .state_size = 8, .lasting = true, .step = told_step
};

static void test_question(void **state)
{
    ask_t ask;

    (void)state;
    for (int n = 1; n <= 3; n++) {
        ask_begin(&ask, n);
        ask_put(&ask, rlp_check, n == 1 ? "t0 " : n == 2 ? "t0 t1 " : "t0 t1 t2 ");
        assert_string_equal(ask_kept(&ask), n == 1 ? "1 " : n == 2 ? "1 1 " : "1 1 1 ");
        for (int i = 0; i < n; i++) {
            const rlp_op_t *op = &told.calls[i].op;

            assert_int_equal(op->units, 100 + i);
            assert_int_equal(op->max_wait, 10 * i);
            assert_int_equal(op->now, NOW + LATER);
            assert_int_equal(op->wall, 5);
            assert_int_equal(op->owner, 6);
            assert_ptr_equal(op->owners, &noting_owners);
        }
        assert_false(ask.answer.unasked || ask.answer.told || ask.answer.refuses);
        assert_false(ask.answer.damaged);
        assert_int_equal(ask.answer.retry, 0);
        assert_int_equal(ask.answer.verdict, RLP_ALLOW);
        assert_int_equal(ask.answer.tightest, 0);
        ask_begin(&ask, n);
        ask_put(&ask, rlp_peek, n == 1 ? "p0 " : n == 2 ? "p0 p1 " : "p0 p1 p2 ");
        assert_string_equal(ask_kept(&ask), n == 1 ? "0 " : n == 2 ? "0 0 " : "0 0 0 ");
    }
}

/* What the store is told of a state, alone and among others. The loss is in requests of its cost,
   each RLP_LOSS_REQUEST. */
static void test_entry(void **state)
{
    static const struct {
        const rlp_algorithm_t *algorithm;
        rlp_units_t burst;
        rlp_units_t cost;
        uint32_t share;
        float loss;
        bool held;
        rlp_units_t lacks; /* of the burst at first */
    } rows[] = { { &told_units, 8000, 1000, 0, 0, false, 0 },
                 { &told_units, 8000, 1000, 1, 0x1p-21F, false, 0 },
                 { &told_units, 8000, 1000, RLP_LOSS_FULL / 2, 1024, false, 0 },
                 { &told_units, 8000, 1000, RLP_LOSS_FULL, 2048, false, 0 },
                 { &told_units, 8000, 999, RLP_LOSS_FULL, 2048, false, 0 },
                 { &told_units, 8000, 1001, RLP_LOSS_FULL, 1792, false, 0 },
                 { &told_units, 8000, 2000, RLP_LOSS_FULL, 1024, false, 0 },
                 { &told_units, 8000, 8000, RLP_LOSS_FULL, 256, false, 0 },
                 { &told_units, 900, 1, RLP_LOSS_FULL, 256, false, 0 },
                 { &told_units, 8000, 8001, RLP_LOSS_FULL, 256, false, 0 },
                 { &told_units, 8000, 9000000, RLP_LOSS_FULL / 2, 128, false, 0 },
                 { &told_units, 8000, -2000, RLP_LOSS_FULL, 1024, false, 0 },
                 { &told_units, INT64_C(16777214000), 1000, RLP_LOSS_FULL, 0xFFFFFEp8F, false, 0 },
                 { &told_units, INT64_C(16777216000), 1000, RLP_LOSS_FULL, 0x1p32F, false, 0 },
                 { &told_units, INT64_C(4294967299000), 1000, 16777215, 0xFFFFFFp8F, false, 0 },
                 { &told_units, INT64_C(4294967299000), 1000, 2, 512, false, 0 },
                 { &told_places, 8000, 1000, 0, 0, false, 0 },
                 { &told_places, 8000, 1000, 1, 0x1p-21F, true, 0 },
                 { &told_places, 8000, 1000, RLP_LOSS_FULL, 2048, true, 0 },
                 { &told_units, 8000, 1000, RLP_LOSS_FULL, 512, false, 6000 },
                 { &told_units, 8000, 1000, RLP_LOSS_FULL, 384, false, 6500 },
                 { &told_units, 8000, 1000, RLP_LOSS_FULL, 256, false, 7000 },
                 { &told_units, 8000, 1000, RLP_LOSS_FULL, 256, false, 8000 },
                 { &told_units, 8000, 1000, RLP_LOSS_FULL / 2, 256, false, 4000 },
                 { &told_units, 8000, 1000, RLP_LOSS_FULL / 2, 256, false, 8000 },
                 { &told_units, 8000, 1000, 1, 0x1p-21F, false, 8000 },
                 { &told_units, 8000, 2000, RLP_LOSS_FULL, 512, false, 4000 } };
    ask_t ask;

    (void)state;
    for (size_t i = 0; i < 2 * UNIT_N(rows); i++) {
        const size_t row = i / 2;
        const rlp_entry_t *entry = &ask.charges[0].entry;

        ask_begin(&ask, 1 + (int)(i % 2));
        ask.limits[0].algorithm = rows[row].algorithm;
        ask.limits[0].burst = rows[row].burst;
        ask.limits[0].initial = rows[row].burst - rows[row].lacks;
        limit_weigh(&ask.limits[0]);
        ask.charges[0].cost = rows[row].cost;
        told.answer[0] = (rlp_decision_t){ .loss = rows[row].share, .expires = 33, .reach = 8 };
        ask.charges[0].entry.held = !rows[row].held;
        ask.charges[0].entry.lasting = true;
        ask_put(&ask, rlp_check, i % 2 == 0 ? "t0 " : "t0 t1 ");
        assert_int_equal(entry->held, rows[row].held);
        assert_float_equal(entry->loss, rows[row].loss, 0);
        assert_int_equal(entry->expires, 33);
        assert_int_equal(entry->reach, 8);
        assert_true(entry->dirty);
        assert_false(entry->lasting);
        told.n = 0;
        ask_put(&ask, rlp_peek, i % 2 == 0 ? "p0 " : "p0 p1 ");
        assert_float_equal(entry->loss, 0, 0); /* nothing is kept */
        assert_false(entry->dirty);
    }
    ask_begin(&ask, 1);
    ask.limits[0].algorithm = &lasting;
    ask_put(&ask, rlp_check, "t0 ");
    assert_true(ask.charges[0].entry.lasting);
}

/* One of three refuses: those before it are put back, none is charged, each is asked what there is
   to tell. */
static void test_refused(void **state)
{
    static const char *const calls[] = { "t0 p1 p2 ", "t0 t1 p0 p2 ", "t0 t1 t2 p0 p1 " };
    ask_t ask;

    (void)state;
    for (int refusing = 0; refusing < 3; refusing++) {
        ask_begin(&ask, 3);
        told.answer[refusing].verdict = RLP_DENY;
        told.answer[refusing].retry = 4;
        ask_put(&ask, rlp_check, calls[refusing]);
        assert_string_equal(ask_kept(&ask), "0 0 0 ");
        for (int i = 0; i < told.n; i++) {
            assert_int_equal(told.calls[i].found, 0);
            assert_int_equal(told.calls[i].op.now, NOW + LATER);
        }
        assert_int_equal(ask.answer.verdict, RLP_DENY);
        assert_int_equal(ask.answer.retry, 4);
        assert_int_equal(ask.answer.tightest, refusing);
    }
}

/* Who is looked at only, and would refuse too, is asked for good, since that may heal a state; who
   would wait is not. */
static void test_refused_twice(void **state)
{
    ask_t ask;

    (void)state;
    ask_begin(&ask, 4);
    told.answer[0].verdict = RLP_DENY;
    told.answer[1].verdict = RLP_WAIT;
    told.answer[2].verdict = RLP_NEVER;
    told.answer[0].retry = 8;
    told.answer[1].wait = 3;
    ask_put(&ask, rlp_check, "t0 p1 p2 t2 p3 ");
    assert_string_equal(ask_kept(&ask), "0 0 0 0 ");
    assert_int_equal(ask.answer.verdict, RLP_NEVER);
    assert_int_equal(ask.answer.tightest, 2);
    assert_int_equal(ask.answer.retry, 0); /* never is not after 8 */
    assert_int_equal(ask.answer.wait, 0);
}

/* A turn of each; the answer is the latest. */
static void test_waits(void **state)
{
    ask_t ask;

    (void)state;
    ask_begin(&ask, 3);
    for (int i = 0; i < 3; i++) {
        told.answer[i].verdict = i == 2 ? RLP_ALLOW : RLP_WAIT;
        told.answer[i].wait = i == 2 ? 0 : 5 - i;
    }
    ask_put(&ask, rlp_check, "t0 t1 t2 ");
    assert_string_equal(ask_kept(&ask), "1 1 1 ");
    assert_int_equal(ask.answer.verdict, RLP_WAIT);
    assert_int_equal(ask.answer.wait, 5);
    assert_int_equal(ask.answer.tightest, 0);
}

/* A large state that is not the last is looked at first, and charged when all have admitted. */
static void test_large(void **state)
{
    ask_t ask;

    (void)state;
    ask_begin(&ask, 3);
    ask_large(&ask, 1, SMALL + 8);
    ask_put(&ask, rlp_check, "t0 p1 t2 t1 ");
    assert_string_equal(ask_kept(&ask), "1 1 1 ");

    ask_begin(&ask, 3);
    ask_large(&ask, 0, SMALL + 8);
    ask_large(&ask, 2, SMALL + 8); /* the last need not be kept aside */
    ask_put(&ask, rlp_check, "p0 t1 t2 t0 ");
    assert_string_equal(ask_kept(&ask), "1 1 1 ");

    ask_begin(&ask, 3);
    ask_large(&ask, 0, SMALL); /* not large */
    ask_large(&ask, 1, SMALL + 8);
    told.answer[2].verdict = RLP_DENY;
    told.answer[2].retry = 1;
    memset(ask.noting.states[0], 0x5a, SMALL);
    ask.noting.states[0][0] = 0;
    ask_put(&ask, rlp_check, "t0 p1 t2 p0 ");
    assert_string_equal(ask_kept(&ask), "0 0 0 ");
    assert_int_equal(ask.room[0][0], 0);
    assert_int_equal(ask.room[0][SMALL / 8 - 1], UINT64_C(0x5a5a5a5a5a5a5a5a));

    ask_begin(&ask, 3);
    ask_large(&ask, 1, SMALL + 8);
    told.answer[1].verdict = RLP_DENY;
    ask_put(&ask, rlp_check, "t0 p1 p0 p1 t1 p2 ");
    assert_string_equal(ask_kept(&ask), "0 0 0 ");

    ask_begin(&ask, 2);
    ask_large(&ask, 0, SMALL + 8);
    ask_large(&ask, 1, SMALL + 8);
    ask_put(&ask, rlp_check, "p0 t1 t0 ");
    assert_string_equal(ask_kept(&ask), "1 1 ");
}

/* What is put back is the whole of each state, and of its own. */
static void test_put_back(void **state)
{
    ask_t ask;

    (void)state;
    for (uint32_t size = 8; size <= SMALL + 8; size += SMALL - 8) {
        ask_begin(&ask, 4);
        for (int i = 0; i < 3; i++) {
            ask_large(&ask, i, size);
            memset(&ask.noting.states[i][1], 0x11 * (i + 1), size - 8);
        }
        ask_large(&ask, 2, SMALL + 8);
        memset(&ask.noting.states[2][1], 0x33, SMALL);
        told.answer[2].verdict = RLP_DENY;
        assert_int_equal(rlp_check(&ask.noting.store, ask.charges, 4, &ask.question, &ask.answer),
                         APR_SUCCESS);
        assert_int_equal(ask.answer.tightest, 2);
        for (int i = 0; i < 3; i++) {
            assert_memory_equal(ask.room[i], ask.noting.states[i], ask.limits[i].state_size);
        }
    }
}

/* T-27: one damaged state is said, whichever it is, and whatever becomes of the request. */
static void test_damaged(void **state)
{
    ask_t ask;

    (void)state;
    for (int damaged = 0; damaged < 3; damaged++) {
        for (int refusing = 0; refusing < 4; refusing++) {
            ask_begin(&ask, 3);
            told.answer[damaged].damaged = true;
            if (refusing < 3) {
                told.answer[refusing].verdict = RLP_DENY;
            }
            assert_int_equal(rlp_check(&ask.noting.store, ask.charges, 3, &ask.question,
                                       &ask.answer),
                             APR_SUCCESS);
            assert_true(ask.answer.damaged);
        }
    }
    ask_begin(&ask, 1);
    told.answer[0].damaged = true;
    ask_put(&ask, rlp_check, "t0 ");
    assert_true(ask.answer.damaged);
    told.n = 0;
    ask_put(&ask, rlp_settle, "s0 ");
    assert_true(ask.answer.damaged);
}

/* The first look at a state mends it, so a second one finds nothing. */
static void told_mending_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                              rlp_decision_t *d)
{
    uint64_t *word = state;

    told_step(state, limit, op, d);
    d->damaged = *word == 0xbad;
    *word = *word == 0xbad ? 0 : *word;
}

static const rlp_algorithm_t mending = { .name = "mending",
                                         .state_size = 8,
                                         .step = told_mending_step };
static const rlp_algorithm_t mending_quota = {
    .name = "mending-quota", .state_size = 8, .quota = true, .step = told_mending_step
};

static void test_mended(void **state)
{
    ask_t ask;

    (void)state;
    for (int damaged = 0; damaged < 2; damaged++) {
        for (int how = 0; how < 3; how++) {
            ask_begin(&ask, 3);
            ask.noting.states[damaged][0] = how == 0 ? 0xbac : 0xbad;
            told.answer[2].verdict = how == 2 ? RLP_ALLOW : RLP_DENY;
            for (int i = 0; i < 2; i++) {
                ask.limits[i].algorithm = how == 2 ? &mending_quota : &mending;
                ask.charges[i].branch = how == 2 ? RLP_FIRST : RLP_ALWAYS;
            }
            if (how == 1) {
                ask_large(&ask, damaged, SMALL + 8); /* looked at, and again at the end */
            }
            assert_int_equal(rlp_check(&ask.noting.store, ask.charges, 3, &ask.question,
                                       &ask.answer),
                             APR_SUCCESS);
            assert_true(ask.answer.damaged);
        }
    }
}

/* --- corrections */

static void test_settle(void **state)
{
    ask_t ask;

    (void)state;
    ask_begin(&ask, 3);
    ask.limits[1].algorithm = &told_places;
    ask.charges[0].waited = 4;
    for (int i = 0; i < 3; i++) {
        ask.charges[i].entry.dirty = true; /* left over */
    }
    ask_put(&ask, rlp_settle, "s0 s2 ");
    assert_string_equal(ask_kept(&ask), "1 0 1 ");
    assert_string_equal(ask_spared(&ask), "x-x");
    assert_false(ask.charges[1].entry.dirty);
    assert_int_equal(told.calls[0].op.charged_at, NOW - 9 + 4);
    assert_int_equal(told.calls[1].op.charged_at, NOW - 9);
    assert_int_equal(told.calls[0].op.now, NOW + LATER);
    assert_int_equal(told.calls[1].op.units, 102);

    ask_begin(&ask, 3);
    ask.limits[1].algorithm = &told_places;
    ask_put(&ask, rlp_release, "r1 ");
    assert_string_equal(ask_kept(&ask), "0 1 0 ");
    assert_int_equal(ask.answer.tightest, 1);

    ask_begin(&ask, 1);
    ask.charges[0].entry.dirty = true;
    ask_put(&ask, rlp_release, ""); /* nothing to give back */
    assert_false(ask.charges[0].entry.dirty);
    assert_int_equal(ask.answer.tightest, 0);
    assert_int_equal(ask.answer.verdict, RLP_ALLOW);
}

/* --- stores */

/* A store that cannot be asked: its status comes back, and nothing of another question stands. */
static void test_failure(void **state)
{
    how_t *const hows[] = { rlp_check, rlp_peek, rlp_settle, rlp_release };
    ask_t ask;

    (void)state;
    for (size_t i = 0; i < 4 * UNIT_N(hows); i++) {
        ask_begin(&ask, 1 + (int)(i / 4 % 2));
        ask.noting.rv = APR_EBUSY;
        if (i >= 2 * UNIT_N(hows)) {
            ask.noting.store.type = &noting_far;
        }
        assert_int_equal(hows[i % 4](&ask.noting.store, ask.charges, ask.n, &ask.question,
                                     &ask.answer),
                         APR_EBUSY);
        assert_int_equal(told.n, 0);
        assert_int_equal(ask.noting.n, ask.n);
        assert_false(ask.answer.unasked || ask.answer.told || ask.answer.refuses);
        assert_int_equal(ask.answer.retry, 0);
    }
}

/* A store that decides by itself is asked that, for 1 to RLP_ENTRIES_MAX charges. */
static void test_far(void **state)
{
    how_t *const hows[] = { rlp_check, rlp_peek, rlp_settle, rlp_release };
    static rlp_charge_t charges[RLP_ENTRIES_MAX + 1];
    const rlp_question_t question = { .now = NOW };
    rlp_answer_t answer;
    noting_t far = { .store = { .type = &noting_far } };

    (void)state;
    for (int i = 0; i < 4; i++) {
        static const int numbers[] = { -1, 0, 1, RLP_ENTRIES_MAX, RLP_ENTRIES_MAX + 1 };

        for (size_t k = 0; k < UNIT_N(numbers); k++) {
            const bool good = numbers[k] >= 1 && numbers[k] <= RLP_ENTRIES_MAX;

            far.n = 0;
            assert_int_equal(hows[i](&far.store, charges, numbers[k], &question, &answer),
                             good ? APR_SUCCESS : APR_EINVAL);
            assert_int_equal(far.n, good ? numbers[k] : 0);
            assert_true(!good || far.kind == (rlp_op_kind_t)i);
        }
    }
    far.store.type = &noting_near; /* one that does not is not asked either */
    far.n = 0;
    assert_int_equal(rlp_check(&far.store, charges, 0, &question, &answer), APR_EINVAL);
    assert_int_equal(rlp_check(&far.store, charges, RLP_ENTRIES_MAX + 1, &question, &answer),
                     APR_EINVAL);
    assert_int_equal(far.n, 0);
}

static void test_store(void **state)
{
    noting_t noting = { .store = { .type = &noting_near } };

    (void)state;
    assert_int_equal(rlp_store_time(&noting.store, 4), LATER + 4);
    assert_int_equal(rlp_store_fingerprint(&noting.store, "bob", 3), ('b' << 8) + 3);
}

/* --- which is told */

typedef struct {
    const char *name;
    struct {
        rlp_verdict_t verdict;
        int64_t remaining;
        rlp_time_t retry;
        rlp_time_t next;
    } two[2];
    int tightest;
} pair_t;

static const pair_t pairs[] = {
    { "the one that refuses", { { RLP_DENY, 5, 1, 0 }, { RLP_ALLOW, 0, 0, 9 } }, 0 },
    { "the one that refuses, behind", { { RLP_ALLOW, 0, 0, 9 }, { RLP_DENY, 5, 1, 0 } }, 1 },
    { "never before not now", { { RLP_DENY, 0, 9, 0 }, { RLP_NEVER, 5, 0, 0 } }, 1 },
    { "the one that waits", { { RLP_ALLOW, 0, 0, 9 }, { RLP_WAIT, 5, 0, 0 } }, 1 },
    { "of two refusals the longer", { { RLP_DENY, 0, 1, 9 }, { RLP_DENY, 5, 2, 0 } }, 1 },
    { "or the first of them", { { RLP_DENY, 5, 2, 0 }, { RLP_DENY, 0, 1, 9 } }, 0 },
    { "equally long, the smaller rest", { { RLP_DENY, 5, 2, 0 }, { RLP_DENY, 4, 2, 0 } }, 1 },
    { "what never comes has no retry", { { RLP_NEVER, 5, 9, 0 }, { RLP_NEVER, 4, 1, 0 } }, 1 },
    { "the smaller rest", { { RLP_ALLOW, 5, 0, 0 }, { RLP_ALLOW, 4, 0, 0 } }, 1 },
    { "the smaller rest, before", { { RLP_ALLOW, 4, 0, 0 }, { RLP_ALLOW, 5, 0, 0 } }, 0 },
    { "of equal rests the longer time",
      { { RLP_ALLOW, 0, 0, 2 * RLP_SECOND }, { RLP_ALLOW, 0, 0, 3 * RLP_SECOND } },
      1 },
    { "the longer time, before",
      { { RLP_ALLOW, 0, 0, 3 * RLP_SECOND }, { RLP_ALLOW, 0, 0, 2 * RLP_SECOND } },
      0 },
    { "never is the longest",
      { { RLP_ALLOW, 0, 0, 3 * RLP_SECOND }, { RLP_ALLOW, 0, 0, RLP_TIME_NEVER } },
      1 },
    { "else the first",
      { { RLP_ALLOW, 0, 0, 2 * RLP_SECOND }, { RLP_ALLOW, 0, 0, 2 * RLP_SECOND } },
      0 },
};

static void test_pair(void **state)
{
    const pair_t *pair = unit_row(state);
    const rlp_limit_t limit = { .algorithm = &told_units };
    rlp_charge_t charges[3] = { 0 };
    rlp_answer_t answer;

    for (int i = 0; i < 2; i++) {
        charges[i + 1].limit = &limit;
        charges[i + 1].decision = (rlp_decision_t){ .verdict = pair->two[i].verdict,
                                                    .remaining = pair->two[i].remaining,
                                                    .retry = pair->two[i].retry,
                                                    .next = pair->two[i].next };
    }
    charges[0].spared = true;
    charges[0].decision = (rlp_decision_t){ .verdict = RLP_NEVER, .damaged = true };
    check_answer(charges, 3, &answer);
    assert_int_equal(answer.tightest, pair->tightest + 1);
    assert_false(answer.damaged);
    check_answer(charges + 1, 2, &answer);
    assert_int_equal(answer.tightest, pair->tightest);
    check_answer(charges, 1, &answer);
    assert_int_equal(answer.tightest, 0);
    assert_int_equal(answer.verdict, RLP_ALLOW);
}

/* Each alone damaged is enough. */
static void test_answer_damaged(void **state)
{
    const rlp_limit_t limit = { .algorithm = &told_units };
    rlp_charge_t charges[2] = { { .limit = &limit }, { .limit = &limit } };
    rlp_answer_t answer;

    (void)state;
    for (int i = 0; i < 2; i++) {
        charges[i].decision.damaged = true;
        charges[1 - i].decision.damaged = false;
        check_answer(charges, 2, &answer);
        assert_true(answer.damaged);
    }
}

int main(void)
{
    unit_add("what steps are asked", test_question, NULL);
    unit_add("what the store is told", test_entry, NULL);
    unit_add("H-11: one refuses", test_refused, NULL);
    unit_add("H-11: more than one refuses", test_refused_twice, NULL);
    unit_add("P-06: each has its turn", test_waits, NULL);
    unit_add("H-11: large states", test_large, NULL);
    unit_add("T-27: a damaged state among others", test_damaged, NULL);
    unit_add("T-27: the first look mends", test_mended, NULL);
    unit_add("H-11: what is put back", test_put_back, NULL);
    unit_add("corrections and places", test_settle, NULL);
    unit_add("a store that fails", test_failure, NULL);
    unit_add("a store that decides by itself", test_far, NULL);
    unit_add("a store's own time and fingerprint", test_store, NULL);
    for (size_t i = 0; i < UNIT_N(pairs); i++) {
        unit_add_case("told is", pairs[i].name, test_pair, &pairs[i]);
    }
    unit_add("T-27: an answer says so", test_answer_damaged, NULL);
    return unit_run();
}
