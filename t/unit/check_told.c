/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What check.c asks of algorithms and stores, and what it makes of their answers: with an algorithm
 * that answers what it is told, over a store that notes what it is given.
 */

#include "unit.h"

#include "check.h"

#include <apr_errno.h>

#include <string.h>

#define NOW (INT64_C(1700000000) * RLP_SECOND)
#define LATER (INT64_C(77) * RLP_SECOND) /* what the store's time line is ahead */
#define CHARGES 6
#define SMALL (UINT32_C(8) * RLP_OWNERS_USUAL) /* the largest state that is kept aside */

/* One call of a step. */
typedef struct {
    int who;
    rlp_op_t op;
    uint64_t found; /* the first word of the state */
} call_t;

/* What the steps answer, by the limit's ordinal. A step that changes a state raises its first
   word. */
static struct {
    rlp_decision_t answer[CHARGES];
    call_t calls[64];
    int n;
} told;

static void told_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op, rlp_decision_t *d)
{
    uint64_t *word = state;

    assert_in_range(told.n, 0, UNIT_N(told.calls) - 1);
    told.calls[told.n++] = (call_t){ .who = (int)limit->ordinal, .op = *op, .found = *word };
    *d = told.answer[limit->ordinal];
    d->changed = op->kind != RLP_PEEK && d->verdict <= RLP_WAIT;
    *word += d->changed;
}

static const rlp_algorithm_t units = { .name = "units", .state_size = 8, .step = told_step };
static const rlp_algorithm_t quota = {
    .name = "quota", .state_size = 8, .quota = true, .step = told_step
};
static const rlp_algorithm_t places = {
    .name = "places", .state_size = 8, .holds = true, .step = told_step
};

static const rlp_algorithm_t lasting = {
    .name = "lasting", .state_size = 8, .lasting = true, .step = told_step
};

/* A store of one state for each signature, and what it was asked. */
typedef struct {
    rlp_store_t store;
    apr_status_t rv;
    uint64_t states[CHARGES][128];
    int n;
    rlp_op_kind_t kind;
} noting_t;

static apr_status_t noting_update(rlp_store_t *store, rlp_entry_t *entries[], int n, rlp_time_t now,
                                  rlp_update_fn *fn, void *baton)
{
    noting_t *noting = (noting_t *)store;

    noting->n = n;
    if (noting->rv != APR_SUCCESS) {
        return noting->rv;
    }
    for (int i = 0; i < n; i++) {
        memcpy(entries[i]->state, noting->states[entries[i]->key.signature], entries[i]->key.size);
    }
    fn(entries, n, now + LATER, baton);
    for (int i = 0; i < n; i++) {
        if (entries[i]->dirty) {
            memcpy(noting->states[entries[i]->key.signature], entries[i]->state,
                   entries[i]->key.size);
        }
    }
    return APR_SUCCESS;
}

static rlp_time_t noting_time(const rlp_store_t *store, rlp_time_t now)
{
    (void)store;
    return now + LATER;
}

static uint64_t noting_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    (void)store;
    return (uint64_t)identity[0] << 8 | len;
}

static apr_status_t noting_decide(rlp_store_t *store, rlp_charge_t *charges, int n,
                                  const rlp_question_t *question, rlp_op_kind_t kind,
                                  rlp_answer_t *answer)
{
    noting_t *noting = (noting_t *)store;

    (void)charges;
    (void)question;
    (void)answer;
    noting->n = n;
    noting->kind = kind;
    return noting->rv;
}

static const rlp_store_type_t near_type = {
    .name = "near", .update = noting_update, .time = noting_time, .fingerprint = noting_fingerprint
};
static const rlp_store_type_t far_type = { .name = "far",
                                           .time = noting_time,
                                           .decide = noting_decide };

static rlp_owners_t owners;

/* A question in the making: so many charges, each of its own state and limit. */
typedef struct {
    noting_t noting;
    rlp_limit_t limits[CHARGES];
    rlp_charge_t charges[CHARGES];
    uint64_t room[CHARGES][128];
    rlp_question_t question;
    rlp_answer_t answer;
    int n;
} ask_t;

static void ask_begin(ask_t *ask, int n)
{
    memset(&told, 0, sizeof(told));
    memset(ask, 0, sizeof(*ask));
    ask->noting.store = (rlp_store_t){ .type = &near_type, .owners = &owners };
    ask->question = (rlp_question_t){ .now = NOW, .wall = 5, .owner = 6, .charged_at = NOW - 9 };
    ask->n = n;
    for (int i = 0; i < n; i++) {
        ask->limits[i] = (rlp_limit_t){
            .algorithm = &units, .count = 1, .ordinal = (unsigned)i, .state_size = 8
        };
        rlp_charge_init(&ask->charges[i], "u", 1, (uint64_t)i, &ask->limits[i]);
        ask->charges[i].cost = 100 + i;
        ask->charges[i].max_wait = INT64_C(10) * i;
        ask->charges[i].entry.state = ask->room[i];
        told.answer[i].remaining = 10;
    }
    /* left over from another question */
    ask->answer = (rlp_answer_t){ .unasked = true, .told = true, .refuses = true, .retry = 5 };
}

/* What was asked of whom: "t0 p1 t0", t for TAKE, p PEEK, s SETTLE, r RELEASE. */
static const char *asked(void)
{
    static char text[UNIT_N(told.calls) * 3 + 1];
    char *end = text;

    for (int i = 0; i < told.n; i++) {
        *end++ = "tpsr"[told.calls[i].op.kind];
        *end++ = (char)('0' + told.calls[i].who);
        *end++ = ' ';
    }
    *end = '\0';
    return text;
}

typedef apr_status_t how_t(rlp_store_t *store, rlp_charge_t charges[], int n,
                           const rlp_question_t *question, rlp_answer_t *answer);

static void put(ask_t *ask, how_t *how, const char *calls)
{
    assert_int_equal(how(&ask->noting.store, ask->charges, ask->n, &ask->question, &ask->answer),
                     APR_SUCCESS);
    assert_string_equal(asked(), calls);
}

/* Which states were changed, and how often: "1 0 1". */
static const char *kept(const ask_t *ask)
{
    static char text[2 * CHARGES + 1];
    char *end = text;

    for (int i = 0; i < ask->n; i++) {
        *end++ = (char)('0' + ask->noting.states[i][0]);
        *end++ = ' ';
    }
    *end = '\0';
    return text;
}

/* A state too large to be kept aside. */
static void make_large(ask_t *ask, int i, uint32_t size)
{
    ask->charges[i].entry.key.size = size;
    ask->limits[i].state_size = size;
}

static void test_question(void **state)
{
    ask_t ask;

    (void)state;
    for (int n = 1; n <= 3; n++) {
        ask_begin(&ask, n);
        put(&ask, rlp_check, n == 1 ? "t0 " : n == 2 ? "t0 t1 " : "t0 t1 t2 ");
        assert_string_equal(kept(&ask), n == 1 ? "1 " : n == 2 ? "1 1 " : "1 1 1 ");
        for (int i = 0; i < n; i++) {
            const rlp_op_t *op = &told.calls[i].op;

            assert_int_equal(op->units, 100 + i);
            assert_int_equal(op->max_wait, 10 * i);
            assert_int_equal(op->now, NOW + LATER);
            assert_int_equal(op->wall, 5);
            assert_int_equal(op->owner, 6);
            assert_ptr_equal(op->owners, &owners);
        }
        assert_false(ask.answer.unasked || ask.answer.told || ask.answer.refuses);
        assert_false(ask.answer.damaged);
        assert_int_equal(ask.answer.retry, 0);
        assert_int_equal(ask.answer.verdict, RLP_ALLOW);
        assert_int_equal(ask.answer.tightest, 0);
        ask_begin(&ask, n);
        put(&ask, rlp_peek, n == 1 ? "p0 " : n == 2 ? "p0 p1 " : "p0 p1 p2 ");
        assert_string_equal(kept(&ask), n == 1 ? "0 " : n == 2 ? "0 0 " : "0 0 0 ");
    }
}

/* What the store is told of a state, alone and among others. The loss is in requests of its cost,
   each RLP_LOSS_REQUEST, and odd so as not to vanish. */
static void test_entry(void **state)
{
    static const struct {
        const rlp_algorithm_t *algorithm;
        rlp_units_t burst;
        rlp_units_t cost;
        uint32_t share;
        uint32_t loss;
        bool held;
    } rows[] = { { &units, 8000, 1000, 0, 0, false },
                 { &units, 8000, 1000, 1, 1, false },
                 { &units, 8000, 1000, RLP_LOSS_FULL / 2, 1025, false },
                 { &units, 8000, 1000, RLP_LOSS_FULL, 2049, false },
                 { &units, 8000, 999, RLP_LOSS_FULL, 2049, false },
                 { &units, 8000, 1001, RLP_LOSS_FULL, 1793, false },
                 { &units, 8000, 2000, RLP_LOSS_FULL, 1025, false },
                 { &units, 8000, 8000, RLP_LOSS_FULL, 257, false },
                 { &units, 900, 1, RLP_LOSS_FULL, 257, false },
                 { &units, 8000, 8001, RLP_LOSS_FULL, 257, false },
                 { &units, 8000, 9000000, RLP_LOSS_FULL / 2, 129, false },
                 { &units, 8000, -2000, RLP_LOSS_FULL, 1025, false },
                 { &units, INT64_C(16777214000), 1000, RLP_LOSS_FULL, 4294967039, false },
                 { &units, INT64_C(16777216000), 1000, RLP_LOSS_FULL, UINT32_MAX, false },
                 { &units, INT64_C(4294967299000), 1000, 16777215, UINT32_MAX, false },
                 { &units, INT64_C(4294967299000), 1000, 2, 513, false },
                 { &places, 8000, 1000, 0, 0, false },
                 { &places, 8000, 1000, 1, 1, true },
                 { &places, 8000, 1000, RLP_LOSS_FULL, 2049, true } };
    ask_t ask;

    (void)state;
    for (size_t i = 0; i < 2 * UNIT_N(rows); i++) {
        const size_t row = i / 2;
        const rlp_entry_t *entry = &ask.charges[0].entry;

        ask_begin(&ask, 1 + (int)(i % 2));
        ask.limits[0].algorithm = rows[row].algorithm;
        ask.limits[0].burst = rows[row].burst;
        ask.charges[0].cost = rows[row].cost;
        told.answer[0] = (rlp_decision_t){ .loss = rows[row].share, .expires = 33, .reach = 8 };
        ask.charges[0].entry.held = !rows[row].held;
        ask.charges[0].entry.lasting = true;
        put(&ask, rlp_check, i % 2 == 0 ? "t0 " : "t0 t1 ");
        assert_int_equal(entry->held, rows[row].held);
        assert_int_equal(entry->loss, rows[row].loss);
        assert_int_equal(entry->expires, 33);
        assert_int_equal(entry->reach, 8);
        assert_true(entry->dirty);
        assert_false(entry->lasting);
        told.n = 0;
        put(&ask, rlp_peek, i % 2 == 0 ? "p0 " : "p0 p1 ");
        assert_int_equal(entry->loss, 0); /* nothing is kept */
        assert_false(entry->dirty);
    }
    ask_begin(&ask, 1);
    ask.limits[0].algorithm = &lasting;
    put(&ask, rlp_check, "t0 ");
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
        put(&ask, rlp_check, calls[refusing]);
        assert_string_equal(kept(&ask), "0 0 0 ");
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
    put(&ask, rlp_check, "t0 p1 p2 t2 p3 ");
    assert_string_equal(kept(&ask), "0 0 0 0 ");
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
    put(&ask, rlp_check, "t0 t1 t2 ");
    assert_string_equal(kept(&ask), "1 1 1 ");
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
    make_large(&ask, 1, SMALL + 8);
    put(&ask, rlp_check, "t0 p1 t2 t1 ");
    assert_string_equal(kept(&ask), "1 1 1 ");

    ask_begin(&ask, 3);
    make_large(&ask, 0, SMALL + 8);
    make_large(&ask, 2, SMALL + 8); /* the last need not be kept aside */
    put(&ask, rlp_check, "p0 t1 t2 t0 ");
    assert_string_equal(kept(&ask), "1 1 1 ");

    ask_begin(&ask, 3);
    make_large(&ask, 0, SMALL); /* not large */
    make_large(&ask, 1, SMALL + 8);
    told.answer[2].verdict = RLP_DENY;
    told.answer[2].retry = 1;
    memset(ask.noting.states[0], 0x5a, SMALL);
    ask.noting.states[0][0] = 0;
    put(&ask, rlp_check, "t0 p1 t2 p0 ");
    assert_string_equal(kept(&ask), "0 0 0 ");
    assert_int_equal(ask.room[0][0], 0);
    assert_int_equal(ask.room[0][SMALL / 8 - 1], UINT64_C(0x5a5a5a5a5a5a5a5a));

    ask_begin(&ask, 3);
    make_large(&ask, 1, SMALL + 8);
    told.answer[1].verdict = RLP_DENY;
    put(&ask, rlp_check, "t0 p1 p0 p1 t1 p2 ");
    assert_string_equal(kept(&ask), "0 0 0 ");

    ask_begin(&ask, 2);
    make_large(&ask, 0, SMALL + 8);
    make_large(&ask, 1, SMALL + 8);
    put(&ask, rlp_check, "p0 t1 t0 ");
    assert_string_equal(kept(&ask), "1 1 ");
}

/* What is put back is the whole of each state, and of its own. */
static void test_put_back(void **state)
{
    ask_t ask;

    (void)state;
    for (uint32_t size = 8; size <= SMALL + 8; size += SMALL - 8) {
        ask_begin(&ask, 4);
        for (int i = 0; i < 3; i++) {
            make_large(&ask, i, size);
            memset(&ask.noting.states[i][1], 0x11 * (i + 1), size - 8);
        }
        make_large(&ask, 2, SMALL + 8);
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
    put(&ask, rlp_check, "t0 ");
    assert_true(ask.answer.damaged);
    told.n = 0;
    put(&ask, rlp_settle, "s0 ");
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
                make_large(&ask, damaged, SMALL + 8); /* looked at, and again at the end */
            }
            assert_int_equal(rlp_check(&ask.noting.store, ask.charges, 3, &ask.question,
                                       &ask.answer),
                             APR_SUCCESS);
            assert_true(ask.answer.damaged);
        }
    }
}

/* --- branches */

/* Two groups and one that is in neither: quota and units first, or units instead. */
static void ask_branches(ask_t *ask)
{
    static const struct {
        rlp_branch_t branch;
        int group;
        const rlp_algorithm_t *algorithm;
    } rows[CHARGES] = { { RLP_FIRST, 1, &quota },    { RLP_FIRST, 1, &units },
                        { RLP_INSTEAD, 1, &units },  { RLP_FIRST, 63, &quota },
                        { RLP_INSTEAD, 63, &quota }, { RLP_ALWAYS, 0, &quota } };

    ask_begin(ask, CHARGES);
    for (int i = 0; i < CHARGES; i++) {
        ask->charges[i].branch = rows[i].branch;
        ask->charges[i].group = rows[i].group;
        ask->limits[i].algorithm = rows[i].algorithm;
        ask->charges[i].spared = true; /* left over */
        ask->charges[i].entry.dirty = true;
    }
}

static const char *spared(const ask_t *ask)
{
    static char text[CHARGES + 1];

    memset(text, 0, sizeof(text));
    for (int i = 0; i < ask->n; i++) {
        text[i] = ask->charges[i].spared ? '-' : 'x';
    }
    return text;
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
        put(&ask, rlp_check, rows[i].calls);
        assert_string_equal(spared(&ask), rows[i].spared);
        assert_string_equal(kept(&ask), rows[i].kept);
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
    ask.limits[3].algorithm = &quota;
    ask.n = 3;
    put(&ask, rlp_check, "t1 t2 ");
    assert_true(ask.charges[0].spared);
    assert_false(ask.charges[0].entry.dirty);
    assert_string_equal(kept(&ask), "0 1 1 ");
    ask.charges[0].branch = RLP_FIRST;
    ask.charges[3].branch = RLP_INSTEAD;
    told.n = 0;
    put(&ask, rlp_check, "t0 t1 t2 ");
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
    make_large(&ask, 1, SMALL + 8);
    make_large(&ask, 2, SMALL + 8);
    put(&ask, rlp_check, "p0 p3 t0 p1 t3 t5 t1 ");
    assert_string_equal(kept(&ask), "1 1 0 1 0 1 ");
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
        ask.limits[0].algorithm = &quota;
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
    ask.limits[0].algorithm = &quota;
    ask.charges[0].branch = RLP_FIRST;
    ask.charges[1].branch = RLP_INSTEAD;
    ask.charges[1].entry.key.signature = 0;
    told.answer[0].verdict = RLP_DENY;
    put(&ask, rlp_check, "p0 t1 ");
    assert_int_equal(ask.noting.n, 1);
    assert_ptr_equal(ask.charges[1].counter, &ask.charges[0].entry);
    assert_string_equal(kept(&ask), "1 0 ");
}

/* --- corrections */

static void test_settle(void **state)
{
    ask_t ask;

    (void)state;
    ask_begin(&ask, 3);
    ask.limits[1].algorithm = &places;
    ask.charges[0].waited = 4;
    for (int i = 0; i < 3; i++) {
        ask.charges[i].entry.dirty = true; /* left over */
    }
    put(&ask, rlp_settle, "s0 s2 ");
    assert_string_equal(kept(&ask), "1 0 1 ");
    assert_string_equal(spared(&ask), "x-x");
    assert_false(ask.charges[1].entry.dirty);
    assert_int_equal(told.calls[0].op.charged_at, NOW - 9 + 4);
    assert_int_equal(told.calls[1].op.charged_at, NOW - 9);
    assert_int_equal(told.calls[0].op.now, NOW + LATER);
    assert_int_equal(told.calls[1].op.units, 102);

    ask_begin(&ask, 3);
    ask.limits[1].algorithm = &places;
    put(&ask, rlp_release, "r1 ");
    assert_string_equal(kept(&ask), "0 1 0 ");
    assert_int_equal(ask.answer.tightest, 1);

    ask_begin(&ask, 1);
    ask.charges[0].entry.dirty = true;
    put(&ask, rlp_release, ""); /* nothing to give back */
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
            ask.noting.store.type = &far_type;
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
    noting_t far = { .store = { .type = &far_type } };

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
    far.store.type = &near_type; /* one that does not is not asked either */
    far.n = 0;
    assert_int_equal(rlp_check(&far.store, charges, 0, &question, &answer), APR_EINVAL);
    assert_int_equal(rlp_check(&far.store, charges, RLP_ENTRIES_MAX + 1, &question, &answer),
                     APR_EINVAL);
    assert_int_equal(far.n, 0);
}

static void test_store(void **state)
{
    noting_t noting = { .store = { .type = &near_type } };

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
    const rlp_limit_t limit = { .algorithm = &units };
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
    const rlp_limit_t limit = { .algorithm = &units };
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
    unit_add("then=: which branch counts", test_branches, NULL);
    unit_add("then=: quotas", test_quotas, NULL);
    unit_add("H-11: what is put back", test_put_back, NULL);
    unit_add("then=: the first and the last", test_branches_ends, NULL);
    unit_add("then=: large states", test_branches_large, NULL);
    unit_add("then=: a counter of both branches", test_shared, NULL);
    unit_add("then=: a counter of both branches, the first", test_shared_first, NULL);
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
