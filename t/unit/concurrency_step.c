/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Places of concurrency limits. The step against a model that remembers each place by its holder:
 * never more than COUNT are held by the living, and none is given back twice. Then the same through
 * the stores.
 */

#include "unit.h"

#include "store/slab.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEPS unit_steps()
#define STEPS_PER_LIMIT 2000
#define NOW (INT64_C(1700000000) * RLP_SECOND)
#define NUMBERS 8

typedef struct {
    rlp_owners_t owners;
    uint32_t epoch[NUMBERS]; /* odd: lives */
    int64_t held[NUMBERS];   /* by the living */
    rlp_limit_t limit;
    uint64_t state[NUMBERS];
    size_t words; /* of the state, in use after the last step */
    uint64_t random;
} world_t;

static void expect(const world_t *world, bool holds, const char *what)
{
    if (!holds) {
        fail_msg("%s: not so with %" PRId64 " places in %u words (RLP_SEED=%" PRIu64 ")", what,
                 world->limit.count, world->limit.state_size / 8, unit_seed());
    }
}

static int64_t world_held(const world_t *world)
{
    int64_t held = 0;

    for (int i = 0; i < NUMBERS; i++) {
        held += world->held[i];
    }
    return held;
}

static int world_holders(const world_t *world)
{
    int holders = 0;

    for (int i = 0; i < NUMBERS; i++) {
        holders += world->held[i] > 0;
    }
    return holders;
}

/* The process of a number dies, or another is born under it. */
static void world_turn(world_t *world, uint32_t number)
{
    world->epoch[number]++;
    world->held[number] = 0;
    world->owners.owner[number] = (uint64_t)(100 + number) << 32 | world->epoch[number];
}

static void world_begin(world_t *world)
{
    const int64_t count =
        unit_below(&world->random, 4) ? 1 + (int64_t)unit_below(&world->random, 6) : 10000;
    rlp_plan_t plan = *unit_plan(apr_psprintf(unit_pool(), "concurrent=%" APR_INT64_T_FMT, count));

    rlp_plan_owners(&plan, (int)unit_below(&world->random, NUMBERS) + 1);
    world->limit = plan.limits[0];
    memset(world->state, 0, sizeof(world->state));
    memset(world->held, 0, sizeof(world->held));
    world->words = 0;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        world->epoch[i] =
            (uint32_t)unit_below(&world->random, 2) ? 0x00fffffe : 0; /* about to wrap */
        world_turn(world, i);
    }
}

/* Up to the last that is not 0. */
static size_t world_words(const uint64_t state[NUMBERS])
{
    size_t n = NUMBERS;

    while (n > 0 && state[n - 1] == 0) {
        n--;
    }
    return n;
}

static rlp_decision_t world_ask(world_t *world, rlp_op_kind_t kind, rlp_hold_t owner,
                                rlp_units_t units)
{
    const rlp_op_t op = { .kind = kind,
                          .units = units,
                          .now = NOW,
                          .max_wait = (rlp_time_t)unit_below(&world->random, 2) * RLP_SECOND,
                          .owner = owner,
                          .owners = &world->owners };
    uint64_t before[NUMBERS];
    rlp_decision_t d;

    memcpy(before, world->state, sizeof(before));
    world->limit.algorithm->step(world->state, &world->limit, &op, &d);
    expect(world, d.changed || memcmp(before, world->state, sizeof(before)) == 0,
           "C-11: what is not to be kept is not changed");
    expect(world, d.verdict <= RLP_WAIT || !d.changed, "C-11: who is refused holds nothing");
    return d;
}

static void rule_report(world_t *world, const rlp_decision_t *d)
{
    const size_t before = world->words;
    const int64_t held = world_held(world);

    expect(world, held <= world->limit.count, "never more than COUNT places are held");
    expect(world, d->remaining == world->limit.count - held, "remaining is what the model says");
    expect(world, d->next == (d->remaining ? 0 : RLP_SECOND), "next is 0 while a place is free");
    expect(world, d->reset == (held ? RLP_SECOND : 0), "reset is a second while places are held");
    expect(world, (d->loss > 0) == (held > 0), "loss says whether places are held");
    expect(world, d->expires == (held ? RLP_TIME_NEVER : NOW), "what is held never expires");
    expect(world, !d->damaged && d->wait == 0, "nothing waits, nothing is damaged");
    for (uint32_t i = 0; i < world->limit.state_size / 8; i++) {
        expect(world, world->state[i] == 0 || (world->state[i] & RLP_HOLD_MAX) > 0,
               "a word of no places is 0");
    }
    world->words = world_words(world->state);
    expect(world, d->reach == 8 * (before > world->words ? before : world->words),
           "reach is to the last word that was or is in use");
}

static void rule_dead(const world_t *world)
{
    for (uint32_t i = 0; i < world->limit.state_size / 8; i++) {
        expect(world, world->state[i] == 0 || rlp_hold_lives(&world->owners, world->state[i]),
               "a charge frees the words of the dead");
    }
}

static void step_take(world_t *world, uint32_t number)
{
    const rlp_hold_t owner = rlp_owner(number, world->epoch[number]);
    const rlp_units_t units = (rlp_units_t)unit_below(&world->random, 4) * 700;
    const rlp_decision_t peek = world_ask(world, RLP_PEEK, owner, units);
    const bool lives = world->epoch[number] & 1;
    const bool word =
        world->held[number] > 0 || world_holders(world) < (int)(world->limit.state_size / 8);
    const bool fits = units == 0 || (lives && word && world_held(world) < world->limit.count);

    rule_report(world, &peek);
    expect(world, !peek.changed, "a peek writes nothing");
    const rlp_decision_t d = world_ask(world, RLP_TAKE, owner, units);

    expect(world, d.verdict == (fits ? RLP_ALLOW : RLP_DENY), "the verdict is that of the model");
    expect(world, d.retry == (fits ? 0 : RLP_SECOND), "C-07: refused at once, for a second");
    expect(world, peek.verdict == d.verdict && peek.retry == d.retry, "a peek foretells it");
    world->held[number] += fits && units > 0;
    rule_report(world, &d);
    if (d.changed) {
        rule_dead(world);
    }
}

static void step_release(world_t *world, uint32_t number, uint32_t epoch)
{
    const bool own = world->held[number] > 0 && epoch == world->epoch[number];
    const rlp_decision_t d = world_ask(world, RLP_RELEASE, rlp_owner(number, epoch), RLP_UNIT);

    world->held[number] -= own;
    expect(world, d.changed == own, "only what is held is given back, and once");
    expect(world, d.verdict == RLP_ALLOW, "giving back is not refused");
    rule_report(world, &d);
}

static void world_step(world_t *world)
{
    const uint32_t number = (uint32_t)unit_below(&world->random, NUMBERS);
    rlp_decision_t d;

    switch (unit_below(&world->random, 16)) {
    case 0:
        world_turn(world, number);
        break;
    case 1: /* what a predecessor held */
        step_release(world, number, world->epoch[number] - 2);
        break;
    case 2:
        d = world_ask(world, RLP_SETTLE, rlp_owner(number, world->epoch[number]), -RLP_UNIT);
        expect(world, !d.changed, "a settlement changes nothing");
        break;
    case 3:
        d = world_ask(world, RLP_TAKE, rlp_owner(number, world->epoch[number]), -1);
        expect(world, d.verdict == RLP_NEVER, "B-21: a negative cost is refused");
        break;
    case 4:
        d = world_ask(world, RLP_TAKE, 0, RLP_UNIT);
        expect(world, d.verdict == RLP_DENY, "nobody holds nothing");
        break;
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
        step_release(world, number, world->epoch[number]);
        break;
    default:
        step_take(world, number);
    }
}

static void test_model(void **state)
{
    static world_t world;

    (void)state;
    world.random = unit_seed();
    for (int i = 0; i < STEPS; i++) {
        if (i % STEPS_PER_LIMIT == 0) {
            world_begin(&world);
        }
        world_step(&world);
    }
}

/* Whatever stands in a state, the answer is in range, and words of nobody are free. */
static void test_damage(void **state)
{
    static world_t world;

    (void)state;
    world.random = unit_seed();
    for (int i = 0; i < STEPS / 10; i++) {
        world_begin(&world);
        for (int k = 0; k < NUMBERS; k++) {
            world.state[k] = unit_random(&world.random) >> unit_below(&world.random, 64);
        }
        const rlp_op_kind_t kind = (rlp_op_kind_t)unit_below(&world.random, 4);
        const rlp_decision_t d = world_ask(&world, kind, rlp_owner(0, world.epoch[0]), RLP_UNIT);

        expect(&world, d.remaining >= 0 && d.remaining <= world.limit.count,
               "T-27: what remains is a number");
    }
    for (int k = 0; k < NUMBERS; k++) {
        world.state[k] = UINT64_MAX; /* number 65535 */
    }
    expect(&world, world_ask(&world, RLP_TAKE, rlp_owner(0, world.epoch[0] | 1), 1).remaining >= 0,
           "T-27: no index comes from a state");
}

/* A word holds no more than its places, however many the limit has. */
static void test_word_full(void **state)
{
    static world_t world;

    (void)state;
    world.random = unit_seed();
    world_begin(&world);
    world.limit.count = INT64_C(1) << 30;
    world.epoch[0] = 1;
    world.owners.owner[0] = 1;
    const rlp_hold_t owner = rlp_owner(0, 1);

    memset(world.state, 0, sizeof(world.state));
    world.state[0] = owner | (RLP_HOLD_MAX - 1);
    assert_int_equal(world_ask(&world, RLP_TAKE, owner, 1).verdict, RLP_ALLOW);
    assert_int_equal(world_ask(&world, RLP_TAKE, owner, 1).verdict, RLP_DENY);
    assert_int_equal(world.state[0], owner | RLP_HOLD_MAX);
}

/* A state of two words, and behind it what is no part of it. */
static void test_ends(void **state)
{
    static world_t world;
    rlp_hold_t owner[3];

    (void)state;
    world.limit = (rlp_limit_t){ .algorithm = unit_plan("concurrent=9")->limits[0].algorithm,
                                 .count = 9,
                                 .burst = 9 * RLP_UNIT,
                                 .state_size = 16 };
    for (uint32_t i = 0; i < 3; i++) {
        world.epoch[i] = 0;
        world_turn(&world, i);
        owner[i] = rlp_owner(i, 1);
    }
    const rlp_hold_t behind = world.state[2] = owner[2] + 1;

    /* empty, taken and given back */
    assert_int_equal(world_ask(&world, RLP_TAKE, owner[0], 1).remaining, 8);
    assert_int_equal(world.state[0], owner[0] + 1);
    assert_int_equal(world_ask(&world, RLP_RELEASE, owner[0], 1).remaining, 9);
    assert_int_equal(world.state[0], 0);
    /* full */
    world.state[0] = owner[0] + 1;
    world.state[1] = owner[1] + 1;
    assert_int_equal(world_ask(&world, RLP_PEEK, owner[0], 1).remaining, 7);
    assert_int_equal(world_ask(&world, RLP_TAKE, owner[2], 1).verdict, RLP_DENY);
    assert_false(world_ask(&world, RLP_RELEASE, owner[2], 1).changed);
    /* somebody is dead */
    world.state[0] = rlp_owner(5, 1) + 1;
    assert_int_equal(world_ask(&world, RLP_TAKE, owner[1], 1).remaining, 7);
    assert_int_equal(world.state[0], owner[1] + 2);
    assert_int_equal(world.state[1], 0);
    /* T-27: a word of no places is nobody's */
    world.state[0] = owner[1];
    world.state[1] = owner[0] + 1;
    assert_int_equal(world_ask(&world, RLP_TAKE, owner[0], 1).remaining, 7);
    assert_int_equal(world.state[0], owner[0] + 2);
    assert_int_equal(world.state[1], 0);
    assert_int_equal(world.state[2], behind);
}

/* --- through the stores */

static rlp_store_t *memory_store(void)
{
    rlp_store_t *store;

    assert_int_equal(rlp_memory_create(&store, unit_pool()), APR_SUCCESS);
    return store;
}

static rlp_store_t *shm_store(void)
{
    const unsigned char key[32] = "0123456789abcdefghijklmnopqrstu";
    const size_t size = (size_t)4 * RLP_SEGMENT_MIN;
    const uintptr_t room = (uintptr_t)apr_palloc(unit_pool(), size + 4096);
    const rlp_segment_t segment = { .fd = -1,
                                    .memory = (void *)((room + 4095) / 4096 * 4096),
                                    .size = size };
    rlp_store_t *store;

    slab_format(segment.memory, size, key);
    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    return store;
}

/* Somebody who takes and gives back places under a plan. */
typedef struct {
    rlp_store_t *store;
    const rlp_plan_t *plan;
    const char *name;
    rlp_hold_t owner;
    rlp_charge_t charge;
} asker_t;

static rlp_verdict_t ask(asker_t *a, bool take)
{
    const rlp_question_t question = { .now = NOW, .owner = a->owner };
    const rlp_limit_t *limit = &a->plan->limits[0];
    uint64_t room[RLP_OWNERS_MAX];
    rlp_answer_t answer;

    rlp_charge_init(&a->charge, a->name, strlen(a->name), rlp_signature("places", NULL, limit),
                    limit);
    a->charge.entry.state = room;
    assert_int_equal((take ? rlp_check : rlp_release)(a->store, &a->charge, 1, &question, &answer),
                     APR_SUCCESS);
    return answer.verdict;
}

static asker_t asker_of(rlp_store_t *store, const char *words)
{
    return (asker_t){ .store = store,
                      .plan = unit_plan(words),
                      .name = "user:1",
                      .owner = rlp_owner_open(store, getpid()) };
}

static void run_names(rlp_store_t *store)
{
    static const char *const names[] = { "user:100%",       "user:a%sb", "user:foo",
                                         "user:foo-exists", "user:foo-", "" };
    asker_t a = asker_of(store, "concurrent=2");

    for (size_t i = 0; i < UNIT_N(names); i++) {
        a.name = names[i];
        assert_int_equal(ask(&a, true), RLP_ALLOW);
        assert_int_equal(ask(&a, true), RLP_ALLOW);
        assert_int_equal(ask(&a, true), RLP_DENY);
    }
    for (size_t i = 0; i < UNIT_N(names); i++) {
        a.name = names[i];
        assert_int_equal(ask(&a, false), RLP_ALLOW);
        assert_int_equal(ask(&a, true), RLP_ALLOW);
        assert_int_equal(ask(&a, true), RLP_DENY);
    }
}

static void run_many(rlp_store_t *store)
{
    asker_t a = asker_of(store, "concurrent=10000");

    for (int i = 0; i < 10000; i++) {
        assert_int_equal(ask(&a, true), RLP_ALLOW);
        assert_int_equal(a.charge.decision.remaining, 9999 - i);
        assert_true(a.charge.entry.held);
    }
    assert_int_equal(ask(&a, true), RLP_DENY);
    for (int i = 0; i < 10000; i++) {
        (void)ask(&a, false);
        assert_int_equal(a.charge.decision.remaining, i + 1);
    }
    assert_false(a.charge.entry.held);
    (void)ask(&a, false);
    assert_int_equal(a.charge.decision.remaining, 10000);
}

/* A refused one has nothing to give back, and what a dead process held is free. */
static void run_refused(rlp_store_t *store)
{
    asker_t a = asker_of(store, "concurrent=1");
    asker_t b = a;

    b.owner = rlp_owner_open(store, getpid() + 1);
    assert_int_equal(ask(&a, true), RLP_ALLOW);
    assert_int_equal(ask(&b, true), RLP_DENY);
    (void)ask(&b, false);
    assert_int_equal(ask(&b, true), RLP_DENY);
    rlp_owner_close(store, getpid());
    assert_int_equal(ask(&b, true), RLP_ALLOW);
    (void)ask(&a, false); /* too late: it is not theirs any more */
    a.owner = rlp_owner_open(store, getpid());
    assert_int_equal(ask(&a, true), RLP_DENY);
}

/* C-15: a plan of more places takes effect at once, and one of fewer takes nothing away. */
static void run_carry(rlp_store_t *store)
{
    asker_t a = asker_of(store, "concurrent=1");

    assert_int_equal(ask(&a, true), RLP_ALLOW);
    assert_int_equal(ask(&a, true), RLP_DENY);
    a.plan = unit_plan("concurrent=5");
    assert_int_equal(ask(&a, true), RLP_ALLOW);
    assert_int_equal(a.charge.decision.remaining, 3);
    a.plan = unit_plan("concurrent=1");
    assert_int_equal(ask(&a, true), RLP_DENY);
    assert_int_equal(a.charge.decision.remaining, 0);
    (void)ask(&a, false);
    assert_int_equal(a.charge.decision.remaining, 0);
    (void)ask(&a, false);
    assert_int_equal(a.charge.decision.remaining, 1);
}

typedef struct {
    const char *name;
    void (*run)(rlp_store_t *store);
} through_t;

static const through_t throughs[] = {
    { "C-13: names with odd bytes", run_names },
    { "C-14: ten thousand places", run_many },
    { "C-11: who is refused holds nothing", run_refused },
    { "C-15: carried to another plan", run_carry },
};

static void test_through(void **state)
{
    const through_t *row = unit_row(state);

    row->run(memory_store());
    row->run(shm_store());
}

int main(void)
{
    unit_add("C-07 C-11: a million random steps", test_model, NULL);
    unit_add("T-27: any bytes for a state", test_damage, NULL);
    unit_add("the ends of a state", test_ends, NULL);
    unit_add("a word that is full", test_word_full, NULL);
    for (size_t i = 0; i < UNIT_N(throughs); i++) {
        unit_add(throughs[i].name, test_through, &throughs[i]);
    }
    return unit_run();
}
