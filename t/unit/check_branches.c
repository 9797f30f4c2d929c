/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What check.c asks where a limit takes over when a quota is used up (then=): whom, in which order,
 * and which of two branches counts.
 */

#include "check_asked.h"

#include <apr_errno.h>

#include <string.h>

/* Two groups and one that is in neither: quota and units first, or units instead. */
static void ask_branches(ask_t *ask)
{
    static const struct {
        rlp_branch_t branch;
        int group;
        const rlp_algorithm_t *algorithm;
    } rows[CHARGES] = { { RLP_FIRST, 1, &told_quota },    { RLP_FIRST, 1, &told_units },
                        { RLP_INSTEAD, 1, &told_units },  { RLP_FIRST, 63, &told_quota },
                        { RLP_INSTEAD, 63, &told_quota }, { RLP_ALWAYS, 0, &told_quota } };

    ask_begin(ask, CHARGES);
    for (int i = 0; i < CHARGES; i++) {
        ask->charges[i].branch = rows[i].branch;
        ask->charges[i].group = rows[i].group;
        ask->limits[i].algorithm = rows[i].algorithm;
        ask->charges[i].spared = true; /* left over */
        ask->charges[i].entry.dirty = true;
    }
}

static void test_branches(void **state)
{
    static const struct {
        const char *what;
        int verdicts[CHARGES];
        const char *calls;
        const char *spared;
        const char *kept;
    } rows[] = {
        { "quotas have the units", { 0 }, "p0 p3 t0 t1 t3 t5 ", "xx-x-x", "1 1 0 1 0 1 " },
        { "the first is used up", { RLP_DENY }, "p0 p3 t2 t3 t5 ", "--xx-x", "0 0 1 1 0 1 " },
        { "the second is used up for ever",
          { 0, 0, 0, RLP_NEVER },
          "p0 p3 t0 t1 t4 t5 ",
          "xx--xx",
          "1 1 0 0 1 1 " },
        { "both are", { RLP_NEVER, 0, 0, RLP_DENY }, "p0 p3 t2 t4 t5 ", "--x-xx", "0 0 1 0 1 1 " },
        { "units that are used up refuse",
          { 0, RLP_DENY },
          "p0 p3 t0 t1 p0 p3 p5 ",
          "xx-x-x",
          "0 0 0 0 0 0 " },
        { "a turn of a quota is no lack of units",
          { RLP_WAIT },
          "p0 p3 t0 t1 t3 t5 ",
          "xx-x-x",
          "1 1 0 1 0 1 " },
        { "what takes over may refuse, too",
          { RLP_DENY, 0, RLP_DENY },
          "p0 p3 t2 p3 p5 ",
          "--xx-x",
          "0 0 0 0 0 0 " },
    };
    ask_t ask;

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        ask_branches(&ask);
        for (int k = 0; k < CHARGES; k++) {
            told.answer[k].verdict = (rlp_verdict_t)rows[i].verdicts[k];
        }
        ask_put(&ask, rlp_check, rows[i].calls);
        assert_string_equal(ask_spared(&ask), rows[i].spared);
        assert_string_equal(ask_kept(&ask), rows[i].kept);
        assert_int_equal(ask.noting.n, CHARGES);
        for (int k = 0; k < CHARGES; k++) {
            assert_false(ask.charges[k].spared && ask.charges[k].entry.dirty);
        }
    }
}

/* What is not asked stays as it is: the first one, and whatever lies behind the last. */
static void test_branches_ends(void **state)
{
    ask_t ask;

    (void)state;
    ask_begin(&ask, 4);
    ask.charges[0].branch = RLP_INSTEAD;
    ask.charges[0].entry.dirty = true;
    ask.charges[1].branch = RLP_FIRST;
    ask.charges[3].branch = RLP_FIRST;
    ask.limits[3].algorithm = &told_quota;
    ask.n = 3;
    ask_put(&ask, rlp_check, "t1 t2 ");
    assert_true(ask.charges[0].spared);
    assert_false(ask.charges[0].entry.dirty);
    assert_string_equal(ask_kept(&ask), "0 1 1 ");
    ask.charges[0].branch = RLP_FIRST;
    ask.charges[3].branch = RLP_INSTEAD;
    told.n = 0;
    ask_put(&ask, rlp_check, "t0 t1 t2 ");
    assert_false(ask.charges[3].spared);
}

/* Of the built-in ones only quotas can be used up. */
static void test_quotas(void **state)
{
    (void)state;
    assert_true(unit_plan("quota=2")->limits[0].algorithm->quota);
    for (int i = 0; rlp_algorithms[i] != NULL; i++) {
        assert_false(rlp_algorithms[i]->quota);
    }
    assert_false(unit_plan("concurrent=2")->limits[0].algorithm->quota);
}

/* A large state of the branch that does not count is not charged at the end. */
static void test_branches_large(void **state)
{
    ask_t ask;

    (void)state;
    ask_branches(&ask);
    ask_large(&ask, 1, SMALL + 8);
    ask_large(&ask, 2, SMALL + 8);
    ask_put(&ask, rlp_check, "p0 p3 t0 p1 t3 t5 t1 ");
    assert_string_equal(ask_kept(&ask), "1 1 0 1 0 1 ");
}

/* One limit in both branches is one counter, listed once: same identity and signature. */
static void test_shared(void **state)
{
    static const struct {
        const char *identity;
        uint64_t signature;
        rlp_branch_t branch;
        int counters;
    } rows[] = {
        { "b", 1, RLP_INSTEAD, 2 }, { "b", 1, RLP_FIRST, 3 },   { "b", 2, RLP_INSTEAD, 3 },
        { "a", 1, RLP_INSTEAD, 3 }, { "c", 1, RLP_INSTEAD, 3 }, { "bb", 1, RLP_INSTEAD, 3 },
        { "", 1, RLP_INSTEAD, 3 },  { "b", 1, RLP_ALWAYS, 3 },
    };
    ask_t ask;

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        ask_begin(&ask, 3);
        for (int k = 0; k < 2; k++) {
            rlp_charge_init(&ask.charges[k], "b", 1, (uint64_t)k, &ask.limits[k]);
            ask.charges[k].branch = RLP_FIRST;
        }
        ask.limits[0].algorithm = &told_quota;
        told.answer[0].verdict = RLP_DENY;
        rlp_charge_init(&ask.charges[2], rows[i].identity, strlen(rows[i].identity),
                        rows[i].signature, &ask.limits[2]);
        ask.charges[2].branch = rows[i].branch;
        assert_int_equal(rlp_check(&ask.noting.store, ask.charges, 3, &ask.question, &ask.answer),
                         APR_SUCCESS);
        assert_int_equal(ask.noting.n, rows[i].counters);
        assert_ptr_equal(ask.charges[2].counter, &ask.charges[rows[i].counters == 2 ? 1 : 2].entry);
    }
}

/* The counter that both branches share may be the first one. */
static void test_shared_first(void **state)
{
    ask_t ask;

    (void)state;
    ask_begin(&ask, 2);
    ask.limits[0].algorithm = &told_quota;
    ask.charges[0].branch = RLP_FIRST;
    ask.charges[1].branch = RLP_INSTEAD;
    ask.charges[1].entry.key.signature = 0;
    told.answer[0].verdict = RLP_DENY;
    ask_put(&ask, rlp_check, "p0 t1 ");
    assert_int_equal(ask.noting.n, 1);
    assert_ptr_equal(ask.charges[1].counter, &ask.charges[0].entry);
    assert_string_equal(ask_kept(&ask), "1 0 ");
}

int main(void)
{
    unit_add("then=: which branch counts", test_branches, NULL);
    unit_add("then=: quotas", test_quotas, NULL);
    unit_add("then=: the first and the last", test_branches_ends, NULL);
    unit_add("then=: large states", test_branches_large, NULL);
    unit_add("then=: a counter of both branches", test_shared, NULL);
    unit_add("then=: a counter of both branches, the first", test_shared_first, NULL);
    return unit_run();
}
