/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Several stores as one: who is asked and in which order, what comes back. Who may fail is in
 * joint_failure.c.
 */

#include "joint_parts.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- order */

typedef struct {
    const char *name;
    int refusing; /* the part; -1: none */
    const char *asked;
    int spared; /* bits: the parts that are not asked */
} order_t;

static const order_t orders[] = {
    { "nobody refuses", -1, "acBD", 0 },
    { "the first refuses", 0, "a", 1 << 1 | 1 << 2 | 1 << 3 },
    { "the second near one refuses", 2, "aca", 1 << 1 | 1 << 3 },
    { "the first far one refuses", 1, "acBac", 1 << 3 },
    { "the last refuses", 3, "acBDacB", 0 },
};

/* Charges in no order of the stores, one of them spent. */
static void test_order(void **state)
{
    static const int mixed[PARTS] = { 3, 0, 2, 1 };
    const order_t *row = unit_row(state);
    rlp_charge_t charges[PARTS];

    joint_fresh();
    if (row->refusing >= 0) {
        part_spend(row->refusing, SPENT);
    }
    for (int i = 0; i < PARTS; i++) {
        joint_charge(&charges[i], mixed[i], mixed[i] == row->refusing ? SPENT : FREE);
    }
    const rlp_answer_t answer = joint_take(charges, PARTS);

    assert_string_equal(joint_asked, row->asked);
    assert_int_equal(answer.verdict, row->refusing < 0 ? RLP_ALLOW : RLP_DENY);
    assert_int_equal(answer.retry, row->refusing < 0 ? 0 : 3600 * RLP_SECOND);
    assert_false(answer.unasked);
    for (int i = 0; i < PARTS; i++) {
        const int part = mixed[i];
        const bool refuses = part == row->refusing;

        assert_int_equal(charges[i].spared, row->spared >> part & 1);
        assert_int_equal(part_left(part, refuses ? SPENT : FREE), refuses             ? 0
                                                                  : row->refusing < 0 ? 4
                                                                                      : 5);
        if (!charges[i].spared) {
            assert_int_equal(charges[i].decision.verdict, refuses ? RLP_DENY : RLP_ALLOW);
            assert_int_equal(charges[i].decision.remaining,
                             part_left(part, refuses ? SPENT : FREE));
        }
        if (refuses) {
            assert_int_equal(answer.tightest, i);
        }
    }
}

/* One part alone is asked alone, whichever it is. */
static void test_alone(void **state)
{
    (void)state;
    joint_fresh();
    for (int i = 0; i < PARTS; i++) {
        const char letter[] = { joint_parts[i].letter, joint_parts[i].letter, '\0' };
        rlp_charge_t charges[2];

        joint_asked[0] = '\0';
        for (int k = 0; k < 2; k++) {
            joint_charge(&charges[0], i, "rate=9/hour");
            joint_charge(&charges[1], i, SPENT);
            assert_int_equal(joint_take(charges, 2).verdict, k == 0 ? RLP_ALLOW : RLP_DENY);
        }
        assert_string_equal(joint_asked, letter);
        assert_int_equal(part_left(i, "rate=9/hour"), 8);
    }
}

/* As many charges as there may be, each of an identity of its own. */
static void test_many(void **state)
{
    static char names[RLP_ENTRIES_MAX][16];
    static rlp_charge_t charges[RLP_ENTRIES_MAX];

    (void)state;
    joint_fresh();
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < RLP_ENTRIES_MAX; i++) {
            joint_charge(&charges[i], i % PARTS, "rate=2/hour");
            apr_snprintf(names[i], sizeof(names[i]), "user:%d", i);
            charges[i].entry.key.identity = names[i];
            charges[i].entry.key.identity_len = strlen(names[i]);
        }
        assert_int_equal(joint_take(charges, RLP_ENTRIES_MAX).verdict,
                         k < 2 ? RLP_ALLOW : RLP_DENY);
        for (int i = 0; i < RLP_ENTRIES_MAX; i++) {
            assert_true(charges[i].spared == (k == 2 && i % PARTS != 0));
            assert_true(charges[i].spared || charges[i].decision.remaining == (k == 0 ? 1 : 0));
        }
    }
}

/* --- what comes back */

static const char *const returned[] = {
    "rate=5/hour",
    "rate=5/hour algorithm=stepped-bucket",
    "rate=5/hour algorithm=leaky-bucket",
    "rate=5/hour algorithm=fixed-window",
    "rate=5/hour algorithm=sliding-window",
    "rate=5/hour algorithm=sliding-log",
    "quota=5/day",
    "quota=5",
    "concurrent=5",
};

/* The last one refuses: each algorithm of those before has its unit again. */
static void test_returned(void **state)
{
    const char *words = unit_row(state);

    for (int part = 0; part < PARTS - 1; part++) {
        rlp_charge_t charges[2];

        joint_fresh();
        part_spend(3, SPENT);
        const int64_t before = part_left(part, words);

        for (int k = 0; k < 3; k++) {
            joint_charge(&charges[0], part, words);
            joint_charge(&charges[1], 3, SPENT);
            assert_int_equal(joint_take(charges, 2).verdict, RLP_DENY);
            assert_int_equal(charges[0].decision.remaining, before);
            assert_int_equal(part_left(part, words), before);
            assert_int_equal(charges[0].cost, RLP_UNIT);
        }
    }
}

/* A charge of several units comes back as a whole, and one that was free as nothing. */
static void test_costs(void **state)
{
    static const struct {
        rlp_units_t cost;
        const char *asked;
    } rows[] = { { 0, "aD" }, { 1, "aDa" }, { RLP_UNIT / 2, "aDa" }, { 5 * RLP_UNIT, "aDa" } };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        rlp_charge_t charges[2];

        joint_fresh();
        part_spend(3, SPENT);
        joint_charge(&charges[0], 0, FREE);
        charges[0].cost = rows[i].cost;
        joint_charge(&charges[1], 3, SPENT);
        assert_int_equal(joint_take(charges, 2).verdict, RLP_DENY);
        assert_string_equal(joint_asked, rows[i].asked);
        assert_int_equal(part_left(0, FREE), 5);
        charges[0].cost = 5 * RLP_UNIT;
        assert_int_equal(joint_take(charges, 1).verdict, RLP_ALLOW);
    }
}

/* A turn that was given is free again; the answer of both is the longer wait. */
static void test_turns(void **state)
{
    static const char words[] = "rate=1/s burst=5 algorithm=leaky-bucket";
    rlp_charge_t charges[2];

    (void)state;
    joint_fresh();
    part_spend(0, words);
    part_spend(3, SPENT);
    for (int k = 0; k < 3; k++) {
        joint_charge(&charges[0], 0, words);
        charges[0].max_wait = 60 * RLP_SECOND;
        joint_charge(&charges[1], 3, k < 2 ? SPENT : FREE);
        const rlp_answer_t answer = joint_take(charges, 2);

        assert_int_equal(answer.verdict, k < 2 ? RLP_DENY : RLP_WAIT);
        assert_int_equal(answer.wait, k < 2 ? 0 : RLP_SECOND);
    }
    assert_int_equal(charges[0].decision.wait, RLP_SECOND);
    joint_charge(&charges[0], 0, words);
    charges[0].max_wait = 60 * RLP_SECOND;
    joint_charge(&charges[1], 3, words);
    assert_int_equal(joint_take(charges, 2).wait, 2 * RLP_SECOND);
}

/* Of two branches, only the one that counted comes back. */
static void test_branches(void **state)
{
    (void)state;
    joint_fresh();
    part_spend(3, SPENT);
    for (int k = 0; k < 4; k++) {
        rlp_charge_t charges[3];

        joint_charge(&charges[0], 1, "quota=2/year");
        charges[0].branch = RLP_FIRST;
        joint_charge(&charges[1], 1, FREE);
        charges[1].branch = RLP_INSTEAD;
        joint_charge(&charges[2], k % 2 ? 3 : 0, k % 2 ? SPENT : "rate=9/hour");
        assert_int_equal(joint_take(charges, 3).verdict, k % 2 ? RLP_DENY : RLP_ALLOW);
        assert_int_equal(charges[0].spared, k == 3);
        assert_int_equal(charges[1].spared, k < 3);
    }
    assert_int_equal(part_left(1, "quota=2/year"), 0);
    assert_int_equal(part_left(1, FREE), 5);
}

/* --- places */

/* One place of each store, whose owner this process is by another number in each. */
static void test_places(void **state)
{
    rlp_charge_t charges[PARTS];
    rlp_answer_t answer;

    (void)state;
    joint_fresh();
    for (int i = 0; i < PARTS; i++) {
        joint_charge(&charges[i], i, "concurrent=2");
    }
    assert_int_equal(joint_take(charges, PARTS).verdict, RLP_ALLOW);
    assert_int_equal(joint_take(charges, PARTS).verdict, RLP_ALLOW);
    assert_int_equal(joint_take(charges, PARTS).verdict, RLP_DENY);
    assert_int_equal(joint_take(&charges[1], 1).verdict, RLP_DENY);
    rlp_owner_close(&joint_parts[1].head, getpid()); /* gone there, and there only */
    for (int i = 0; i < PARTS; i++) {
        assert_int_equal(part_left(i, "concurrent=2"), i == 1 ? 2 : 0);
    }
    rlp_joint_owner(joint, 1, rlp_owner_open(&joint_parts[1].head, getpid()));
    assert_int_equal(joint_take(&charges[1], 1).verdict, RLP_ALLOW);
    for (int i = 0; i < PARTS; i++) {
        joint_charge(&charges[i], i, "concurrent=2");
    }
    assert_int_equal(rlp_release(joint, charges, PARTS, &joint_question, &answer), APR_SUCCESS);
    for (int i = 0; i < PARTS; i++) {
        assert_int_equal(part_left(i, "concurrent=2"), i == 1 ? 2 : 1);
    }
}

/* Places and units of one store come back together, one question for each kind. */
static void test_both_kinds(void **state)
{
    rlp_charge_t charges[3];

    (void)state;
    joint_fresh();
    part_spend(3, SPENT);
    joint_charge(&charges[0], 2, "concurrent=2");
    joint_charge(&charges[1], 2, FREE);
    joint_charge(&charges[2], 3, SPENT);
    assert_int_equal(joint_take(charges, 3).verdict, RLP_DENY);
    assert_string_equal(joint_asked, "cDcc");
    assert_int_equal(part_left(2, "concurrent=2"), 2);
    assert_int_equal(part_left(2, FREE), 5);
}

/* --- parts asked in the order given, whoever chooses */

static void choose_backwards(int part[], const rlp_charge_t charges[], int n)
{
    for (int i = 0; i < n; i++) {
        part[i] = PARTS - 1 - charges[i].terms->store;
    }
}

typedef struct {
    const char *name;
    int gone; /* the part that does not answer; -1: none */
    const char *asked;
} chosen_t;

static const chosen_t chosen[] = {
    { "none fails", -1, "aBcD" },
    { "the first fails", 0, "a" },
    { "the third fails", 2, "aBcaB" },
    { "the last fails", 3, "aBcDaBc" },
};

/* One that cannot be asked is the failure of all, though it is open. */
static void test_chosen(void **state)
{
    const chosen_t *row = unit_row(state);
    rlp_store_t *stores[PARTS];
    rlp_charge_t charges[PARTS];
    rlp_answer_t answer;

    joint_fresh();
    for (int i = 0; i < PARTS; i++) {
        stores[i] = &joint_parts[i].head;
        joint_parts[i].fails_from = i == row->gone;
        joint_charge(&charges[i], i, FREE);
    }
    joint = joint_create(stores, PARTS, choose_backwards, unit_pool());
    assert_int_equal(rlp_check(joint, charges, PARTS, &joint_question, &answer),
                     row->gone < 0 ? APR_SUCCESS : FAILURE(row->gone));
    assert_string_equal(joint_asked, row->asked);
    assert_false(answer.refuses);
    for (int i = 0; i < PARTS; i++) {
        assert_int_equal(part_left(i, FREE), row->gone < 0 ? 4 : 5);
    }
}

/* --- segments as parts */

#define WALL (NOW + 500 * RLP_SECOND) /* its time line begins here */

static rlp_segment_t segment_make(char path[64])
{
    const rlp_clock_t clock = { .monotonic = NOW, .wall = WALL, .boot_id = "one" };
    const char *message;
    rlp_segment_t segment;

    apr_cpystrn(path, "/tmp/rlp-joint.XXXXXX", 64);
    const int fd = mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(rlp_segment_open(&segment, path, RLP_SEGMENT_MIN, &clock, &message,
                                      unit_pool()),
                     APR_SUCCESS);
    return segment;
}

/* A fingerprint of the first is none of the second, and time is each one's own. */
static void test_segments(void **state)
{
    static const char words[] = "rate=5/hour algorithm=fixed-window";
    rlp_segment_t segments[2];
    rlp_store_t *stores[2];
    char paths[2][64];
    rlp_charge_t charges[2];
    rlp_answer_t answer;

    (void)state;
    for (int i = 0; i < 2; i++) {
        segments[i] = segment_make(paths[i]);
        assert_int_equal(rlp_shm_create(&stores[i], &segments[i], unit_pool()), APR_SUCCESS);
        joint_charge(&charges[i], i, words);
    }
    rlp_store_t *both = rlp_joint_create(stores, 2, NULL, unit_pool());
    const uint64_t fingerprint = rlp_store_fingerprint(both, "user:1", 6);

    assert_int_equal(fingerprint, rlp_store_fingerprint(stores[0], "user:1", 6));
    assert_int_not_equal(fingerprint, rlp_store_fingerprint(stores[1], "user:1", 6));
    for (int k = 0; k < 4; k++) { /* both, then the second alone */
        charges[0].entry.key.fingerprint = charges[1].entry.key.fingerprint = fingerprint;
        assert_int_equal(rlp_check(both, &charges[k / 2], 2 - k / 2, &joint_question, &answer),
                         APR_SUCCESS);
    }
    for (int i = 0; i < 2; i++) {
        charges[i].cost = -RLP_UNIT;
    }
    assert_int_equal(rlp_settle(both, charges, 2, &joint_question, &answer), APR_SUCCESS);
    for (int i = 0; i < 2; i++) {
        joint_charge(&charges[i], i, words);
        assert_int_equal(rlp_peek(stores[i], &charges[i], 1, &joint_question, &answer),
                         APR_SUCCESS);
        assert_int_equal(charges[i].decision.remaining, i == 0 ? 4 : 2);
        rlp_segment_close(&segments[i]);
        assert_int_equal(unlink(paths[i]), 0);
    }
}

/* --- the head */

static void test_digest(void **state)
{
    static const unsigned char own[RLP_STORE_SECRET] = "fifteen letters";
    rlp_store_t *stores[PARTS];
    char digests[3][33];

    (void)state;
    joint_fresh();
    for (int i = 0; i < PARTS; i++) {
        stores[i] = &joint_parts[i].head;
    }
    rlp_store_digest(rlp_joint_create(stores, PARTS, NULL, unit_pool()), "key", 3, digests[0]);
    rlp_store_digest(stores[0], "key", 3, digests[1]);
    rlp_store_digest(rlp_joint_create(stores, PARTS, own, unit_pool()), "key", 3, digests[2]);
    assert_string_equal(digests[0], digests[1]);
    assert_string_not_equal(digests[0], digests[2]);
    assert_int_equal(rlp_store_time(joint, NOW), NOW);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(orders); i++) {
        unit_add_case("order", orders[i].name, test_order, &orders[i]);
    }
    unit_add("one part alone", test_alone, NULL);
    unit_add("as many charges as there may be", test_many, NULL);
    for (size_t i = 0; i < UNIT_N(returned); i++) {
        unit_add_case("comes back", returned[i], test_returned, returned[i]);
    }
    unit_add("costs come back as they were", test_costs, NULL);
    unit_add("turns come back", test_turns, NULL);
    unit_add("the branch that counted comes back", test_branches, NULL);
    unit_add("places of each store", test_places, NULL);
    unit_add("places and units together", test_both_kinds, NULL);
    for (size_t i = 0; i < UNIT_N(chosen); i++) {
        unit_add_case("chosen", chosen[i].name, test_chosen, &chosen[i]);
    }
    unit_add("segments as parts", test_segments, NULL);
    unit_add("the head", test_digest, NULL);
    return unit_run();
}
