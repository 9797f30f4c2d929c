/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The slab: what a process leaves that dies at any instruction, and what is undone of it; then a
 * memory that holds anything. Its source is part of this program, since some of this is about what
 * lies in the memory.
 */

#include "slab_cells.h"

#include "store/slab.c" /* NOLINT(bugprone-suspicious-include) */

#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where the state of a key lies, which has one. */
static slot_t *slot_of(const slab_t *slab, const cell_t *cell)
{
    const rlp_key_t key = { .fingerprint = cell->fingerprint,
                            .signature = cell->signature,
                            .size = cell->size };
    place_t place = { .slot = NULL };

    assert_true(slab_place(slab, &key, &place));
    slot_t *slot = slab_find(slab, &place, &key);

    assert_non_null(slot);
    return slot;
}

/* --- states of many lines: what is written is what differs */

#define SENTINEL UINT64_C(0x5e5e5e5e5e5e5e5e)

/* Changes one byte, or all of them. */
typedef struct {
    size_t at;
    bool all;
} change_t;

static void change_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    const change_t *change = baton;

    for (int i = 0; i < n; i++) {
        unsigned char *state = entries[i]->state;

        for (size_t k = 0; k < entries[i]->key.size; k++) {
            state[k] ^= change->all || k == change->at;
        }
        entries[i]->dirty = true;
        entries[i]->expires = now + RLP_SECOND;
        entries[i]->loss = 1;
    }
}

/* Changes the states of the first n of two keys of that size. */
static int change(slab_t *slab, uint32_t size, int n, change_t what, rlp_time_t now)
{
    static uint64_t states[2][LARGEST / 8];
    rlp_entry_t entries[] = {
        { .key = { .fingerprint = 11, .signature = 1, .size = size }, .state = states[0] },
        { .key = { .fingerprint = 11, .signature = 2, .size = size }, .state = states[1] },
    };
    rlp_entry_t *pointers[] = { &entries[0], &entries[1] };

    return slab_update(slab, pointers, n, now, change_update, &what);
}

static void test_difference(void **state)
{
    static const size_t at[] = { 0, 39, 40, 103, 104, 30000, 65599 };
    slab_t slab = slab_new(MB);
    shard_t *shard = slab_shard(&slab, 0);
    const cell_t cell = { .fingerprint = 11, .signature = 1, .size = 65600 };

    (void)state;
    assert_int_equal(change(&slab, 65600, 1, (change_t){ .all = true }, NOW), 0);
    const unsigned char *slot = (unsigned char *)slot_of(&slab, &cell);

    for (size_t i = 0; i < UNIT_N(at); i++) {
        const size_t line = (SLAB_SLOT_HEAD + at[i]) / SLAB_LINE;
        const size_t saved = line > 0 ? 2 : 1; /* the line, and the first one */

        for (size_t k = 0; k < 3; k++) {
            shard->undo[k].offset = SENTINEL;
        }
        assert_int_equal(change(&slab, 65600, 1, (change_t){ .at = at[i] }, NOW), 0);
        assert_int_equal(slot[SLAB_SLOT_HEAD + at[i]], 0);
        assert_ptr_equal(slab.base + shard->undo[0].offset, slot + line * SLAB_LINE);
        assert_ptr_equal(slab.base + shard->undo[saved - 1].offset, slot);
        assert_int_equal(shard->undo[saved].offset, SENTINEL);
        assert_int_equal(change(&slab, 65600, 1, (change_t){ .at = at[i] }, NOW), 0);
        assert_int_equal(cell_get(&slab, &cell, NOW), 1);
    }
    slab_free(&slab);
}

/* An update that could not be undone is refused and leaves everything as it was; what is new or
   expired is no change. */
static void test_too_much(void **state)
{
    slab_t slab = slab_new(4 * MB);
    const size_t from = slab.classes[0].offset;
    unsigned char *before = malloc(slab.size);
    const change_t all = { .all = true };

    (void)state;
    assert_int_equal(change(&slab, 16360, 2, all, NOW), 0);
    assert_int_equal(change(&slab, 65600, 1, all, NOW), 0);
    memcpy(before, slab.base, slab.size);
    assert_int_equal(change(&slab, 65600, 1, all, NOW + 1), EINVAL);
    assert_int_equal(change(&slab, 16360, 2, all, NOW + 1), EINVAL);
    assert_memory_equal(before + from, slab.base + from, slab.size - from);
    assert_int_equal(slab_last(&slab), NOW);
    assert_int_equal(change(&slab, 16360, 1, all, NOW + 1), 0); /* 256 lines are undone */
    assert_memory_not_equal(before + from, slab.base + from, slab.size - from);
    assert_int_equal(change(&slab, 65600, 1, all, NOW + 2 * RLP_SECOND), 0);
    assert_int_equal(change(&slab, 16360, 2, all, NOW + 3 * RLP_SECOND), 0);
    free(before);
    slab_free(&slab);
}

/* --- death of a process */

/* Two keys; with one fingerprint they are of one shard, and both count or neither. */
static int pair_put(slab_t *slab, uint64_t other, fill_t fill)
{
    uint64_t states[2][RLP_STATE_MAX / 8] = { { 0 } };
    rlp_entry_t entries[] = {
        { .key = { .fingerprint = 11, .signature = 1, .size = 40 }, .state = states[0] },
        { .key = { .fingerprint = other, .signature = 2, .size = 40 }, .state = states[1] },
    };
    rlp_entry_t *pointers[] = { &entries[0], &entries[1] };

    return slab_update(slab, pointers, 2, NOW, fill_update, &fill);
}

static int pair_get(slab_t *slab, uint64_t fingerprint, uint64_t signature)
{
    const cell_t cell = { .fingerprint = fingerprint, .signature = signature, .size = 40 };

    return cell_get(slab, &cell, NOW);
}

/* An update that may be cut off. act: puts a value. look: true if it counts, false if what it
   should replace does, or nothing; fails if it is anything else. */
typedef struct {
    const char *name;
    bool late; /* cut off after the step alone, which is long before */
    int deaths;
    void (*act)(slab_t *slab, fill_t fill);
    bool (*look)(slab_t *slab, int before, int value);
} death_t;

static void pair_act(slab_t *slab, fill_t fill)
{
    assert_int_equal(pair_put(slab, 11, fill), 0);
}

static bool pair_look(slab_t *slab, int before, int value)
{
    const int first = pair_get(slab, 11, 1);

    assert_true(first == before || first == value);
    assert_int_equal(pair_get(slab, 11, 2), first);
    return first == value;
}

#define FAR (11 + (UINT64_C(1) << 32)) /* a fingerprint of another shard */

static void far_act(slab_t *slab, fill_t fill)
{
    assert_int_equal(pair_put(slab, FAR, fill), 0);
}

static bool far_look(slab_t *slab, int before, int value)
{
    const int first = pair_get(slab, 11, 1);
    const int second = pair_get(slab, FAR, 2);

    assert_true(first == before || first == value);
    assert_true(second == before || second == value);
    return first == value;
}

static void long_put(slab_t *slab, const cell_t *cell, fill_t fill)
{
    static uint64_t state[LARGEST / 8];
    rlp_entry_t entry = { .key = { .fingerprint = cell->fingerprint,
                                   .signature = cell->signature,
                                   .size = cell->size },
                          .state = state };
    rlp_entry_t *pointer = &entry;

    assert_int_equal(slab_update(slab, &pointer, 1, NOW, fill_update, &fill), 0);
}

static bool long_counts(slab_t *slab, const cell_t *cell, int before, int value)
{
    const int found = cell_get(slab, cell, NOW);

    assert_true(found == before || found == value);
    return found == value;
}

static const cell_t lines_cell = { .fingerprint = 11, .size = 1000 };

static void lines_act(slab_t *slab, fill_t fill)
{
    long_put(slab, &lines_cell, fill);
}

static bool lines_look(slab_t *slab, int before, int value)
{
    return long_counts(slab, &lines_cell, before, value);
}

static const cell_t long_cell = { .fingerprint = 11, .size = 4072 };

static void long_act(slab_t *slab, fill_t fill)
{
    long_put(slab, &long_cell, fill);
}

static bool long_look(slab_t *slab, int before, int value)
{
    return long_counts(slab, &long_cell, before, value);
}

/* Two keys by turns, which have one slot between them. */
static const cell_t rivals[] = { { .fingerprint = 11, .size = 16361 },
                                 { .fingerprint = 12, .size = 16361 } };

static void rival_act(slab_t *slab, fill_t fill)
{
    long_put(slab, &rivals[fill.value % 2], fill);
}

static bool rival_look(slab_t *slab, int before, int value)
{
    const int victim = cell_get(slab, &rivals[before % 2], NOW);
    const int newcomer = cell_get(slab, &rivals[value % 2], NOW);

    assert_true(victim == before || victim == 0);
    assert_true(newcomer == value || newcomer == 0);
    assert_true(victim == 0 || newcomer == 0);
    return newcomer == value;
}

static const cell_t held_cell = { .fingerprint = 11, .size = 232 };

static void held_act(slab_t *slab, fill_t fill)
{
    const rlp_hold_t word = rlp_owner(0, 1) | (rlp_hold_t)fill.value;
    hold_t hold = { .first = word, .last = word, .stops = fill.stops };

    slab_owners(slab)->owner[0] = 1;
    hold_visit(slab, &held_cell, hold_update, &hold);
}

static bool held_look(slab_t *slab, int before, int value)
{
    hold_t found;

    hold_visit(slab, &held_cell, hold_find, &found);
    assert_int_equal(found.first, found.last);
    assert_int_equal(found.first >> 24, rlp_owner(0, 1) >> 24);
    assert_true((found.first & RLP_HOLD_MAX) == (uint64_t)before ||
                (found.first & RLP_HOLD_MAX) == (uint64_t)value);
    assert_true(slab_held(slab, slot_of(slab, &held_cell), 256));
    return (found.first & RLP_HOLD_MAX) == (uint64_t)value;
}

static const death_t deaths[] = {
    { "one shard", false, 60, pair_act, pair_look },
    { "two shards", false, 60, far_act, far_look },
    { "a state of 1 kB", true, 20, lines_act, lines_look },
    { "a state of 4 kB", true, 6, long_act, long_look },
    { "a newcomer of 16 kB and its victim", true, 2, rival_act, rival_look },
    { "held", true, 40, held_act, held_look },
};

/* Runs an update in a child, which dies after so many instructions (-1: never). How many it ran, or
   -1 if this system does not let a process be traced. */
static long die_after(slab_t *slab, const death_t *death, int value, long instructions)
{
    const pid_t child = fork();
    long ran = 0;
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
            _exit(1);
        }
        if (!death->late) {
            raise(SIGSTOP);
        }
        death->act(slab, (fill_t){ .value = value, .stops = death->late });
        _exit(0);
    }
    waitpid(child, &status, 0);
    if (!WIFSTOPPED(status)) {
        return -1;
    }
    while (ran != instructions && WIFSTOPPED(status)) {
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0) {
            break;
        }
        waitpid(child, &status, 0);
        ran++;
    }
    if (WIFSTOPPED(status)) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
    }
    return ran;
}

/* kill -9 at every instruction (or some of them, evenly spread) leaves each counter as
   before or as after; of a victim nothing may be left. */
static void test_death(void **state)
{
    const death_t *death = unit_row(state);
    slab_t slab = slab_new(death->act == far_act ? 4 * MB : MB);
    int before = 2;
    int changes = 0;

    death->act(&slab, (fill_t){ .value = 1 });
    const long all = die_after(&slab, death, before, -1);

    if (all < 0) {
        slab_free(&slab);
        unit_skip("processes may not be traced here");
        return;
    }
    for (int i = 0; i <= death->deaths; i++) {
        const int value = before % 200 + 1;

        (void)die_after(&slab, death, value, all * i / death->deaths);
        changes += death->look(&slab, before, value);
        death->act(&slab, (fill_t){ .value = value });
        before = value;
    }
    assert_in_range(changes, 1, death->deaths);
    slab_free(&slab);
}

static void die_inside(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    (void)entries;
    (void)n;
    (void)now;
    (void)baton;
    kill(getpid(), SIGKILL);
}

/* A child that dies with the lock of fingerprint 11 in its hand. */
static void leave_locked(slab_t *slab)
{
    const pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        uint64_t states[RLP_STATE_MAX / 8];
        rlp_entry_t entry = { .key = { .fingerprint = 11, .signature = 1, .size = 40 },
                              .state = states };
        rlp_entry_t *pointer = &entry;

        (void)slab_update(slab, &pointer, 1, NOW, die_inside, NULL);
        _exit(1);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* What the dead owner had remembered comes back; a half-written line counts as little as the
   update. */
static void test_roll_back(void **state)
{
    slab_t slab = slab_new(MB);
    shard_t *shard = slab_shard(&slab, slab_shard_of(&slab, 11));
    const cell_t cell = { .fingerprint = 11, .signature = 1, .size = 40 };

    (void)state;
    assert_int_equal(pair_put(&slab, 11, (fill_t){ .value = 5 }), 0);
    slot_t *slot = slot_of(&slab, &cell);

    leave_locked(&slab);
    slab_remember(&slab, shard, slot, 0);
    memset(slot, 0xaa, sizeof(*slot));
    assert_int_equal(pair_get(&slab, 11, 1), 5);
    assert_int_equal(pair_get(&slab, 11, 2), 5);
    assert_int_equal(shard->n, 0);
    slab_remember(&slab, shard, slot, 0);
    memset(slot, 0xbb, sizeof(*slot));
    slab_unlock_all(&slab); /* as a full start does */
    assert_int_equal(pair_get(&slab, 11, 1), 5);
    leave_locked(&slab);
    slab_remember(&slab, shard, slot, 0);
    memset(slot, 0xcc, sizeof(*slot));
    slab_unlock_dead(&slab); /* as one beside a tool does */
    assert_true(shard->latch == 0);
    assert_int_equal(pair_get(&slab, 11, 1), 5);
    slab_free(&slab);
}

static void fill_random(void *memory, size_t size, uint64_t *random)
{
    uint64_t *words = memory;

    for (size_t i = 0; i < size / sizeof(*words); i++) {
        words[i] = unit_random(random) >> unit_below(random, 64);
    }
}

/* An undo area that holds anything: nothing outside the slots is written, and the store answers. */
static void test_hostile_undo(void **state)
{
    slab_t slab = slab_new(MB);
    shard_t *shard = slab_shard(&slab, 0);
    uint64_t random = unit_seed();
    unsigned char *header = malloc(SLAB_PAGE);

    (void)state;
    assert_int_equal(slab.shards, 1);
    memcpy(header, slab.base, SLAB_PAGE);
    for (int i = 0; i < 100; i++) {
        leave_locked(&slab);
        fill_random(shard->undo, sizeof(shard->undo), &random);
        for (size_t k = 0; k < SLAB_UNDO_LINES; k += 2) { /* some lines of the memory, or near it */
            shard->undo[k].offset = unit_below(&random, MB / 32) * SLAB_LINE;
        }
        shard->undo[0].offset = MB - SLAB_LINE;
        shard->undo[1].offset = MB;
        shard->undo[3].offset = UINT64_MAX - SLAB_LINE + 1;
        shard->undo[5].offset = 0;
        shard->n = (uint32_t)unit_random(&random) >> unit_below(&random, 32);
        assert_int_equal(pair_put(&slab, 11, (fill_t){ .value = 3 }), 0);
        assert_int_equal(pair_get(&slab, 11, 1), 3);
        assert_int_equal(shard->n, 0);
        assert_memory_equal(header, slab.base, SLAB_PAGE);
    }
    free(header);
    slab_free(&slab);
}

/* --- damage */

/* Changes some words of a state of any size, which may be held by anybody. */
static void wild_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    uint64_t *random = baton;
    uint64_t *words = entries[0]->state;

    (void)n;
    for (uint32_t i = 0; i < entries[0]->key.size / sizeof(*words); i++) {
        words[i] = unit_below(random, 100) == 0 ? unit_random(random) : words[i];
    }
    entries[0]->dirty = unit_below(random, 4) > 0;
    entries[0]->held = unit_below(random, 4) == 0;
    entries[0]->expires = now + (rlp_time_t)unit_below(random, 100 * RLP_SECOND);
    entries[0]->loss = (uint16_t)unit_random(random);
}

static void wild_visit(slab_t *slab, rlp_time_t now, uint64_t *random)
{
    uint64_t state[LARGEST / 8];
    rlp_entry_t entry = { .key = { .fingerprint = unit_below(random, 50) + 1,
                                   .size = (uint32_t)(LARGEST >> unit_below(random, 16)) },
                          .state = state };
    rlp_entry_t *pointer = &entry;
    const int rv = slab_update(slab, &pointer, 1, now, wild_update, random);

    assert_true(rv == 0 || rv == EINVAL);
}

/* A slot that is marked as held but of nobody is one never used: look-ups end there, so that a
   newcomer who went past it would begin anew with each request. */
static void test_held_by_none(void **state)
{
    slab_t slab = slab_new(MB);
    const cell_t cell = { .fingerprint = 11, .size = 40, .expires = RLP_TIME_NEVER, .loss = 1 };
    const rlp_hold_t owner = rlp_owner_open(slab_store(&slab), 1001);

    (void)state;
    hold_put(&slab, &cell, owner | 1, owner | 1);
    slot_of(&slab, &cell)->fingerprint = 0;
    cell_put(&slab, &cell, 9, NOW);
    assert_int_equal(cell_get(&slab, &cell, NOW), 9);
    slab_free(&slab);
}

/* Anything in the memory, but for the locks: the store answers, in time and within its memory. */
static void test_corruption(void **state)
{
    const rlp_plan_t *plan = unit_plan("rate=10/min rate=5/s algorithm=fixed-window "
                                       "rate=2/s algorithm=stepped-bucket quota=9");
    slab_t slab = slab_new(MB);
    const rlp_segment_t segment = { .fd = -1, .memory = slab.base, .size = slab.size };
    const size_t slots = slab.classes[0].offset;
    uint64_t random = unit_seed();
    rlp_store_t *store;

    (void)state;
    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    for (int i = 0; i < 100; i++) {
        fill_random(slab.base + slots, MB - slots, &random);
        fill_random(slab_owners(&slab), sizeof(rlp_owners_t), &random);
        (void)rlp_owner_open(store, 1001);
        (void)rlp_owner_sweep(store);
        for (int k = 0; k < 100; k++) {
            char name[20];
            const uint64_t who = unit_below(&random, 50);
            const size_t at = unit_below(&random, MB - slots);

            /* some slots are those of real keys, with wild contents behind them */
            (void)flood_ask(store, plan, junk_name(who, name), NOW + k * RLP_SECOND);
            slab.base[slots + at] = (unsigned char)unit_random(&random);
            slab_shard(&slab, 0)->n = (uint32_t)unit_random(&random);
            slab_shard(&slab, 0)->last = (rlp_time_t)unit_random(&random);
            (void)flood_ask(store, plan, junk_name(who, name), NOW + k * RLP_SECOND);
            wild_visit(&slab, NOW + k * RLP_SECOND, &random);
        }
        slab_t other = slab_rehashed(&slab, i % 2 ? MB : 2 * MB);

        slab_free(&other);
    }
    slab_free(&slab);
}

int main(void)
{
    static const unit_single_t singles[] = {
        { "only the lines that differ are written", test_difference },
        { "what could not be undone is refused", test_too_much },
        { "what a dead owner left is rolled back", test_roll_back },
        { "an undo area that holds anything", test_hostile_undo },
        { "a slot that nobody has, but marked as held", test_held_by_none },
        { "a memory that holds anything", test_corruption },
    };

    unit_add_singles(singles, UNIT_N(singles));
    for (size_t i = 0; i < UNIT_N(deaths); i++) {
        unit_add_case("kill -9 at any instruction", deaths[i].name, test_death, &deaths[i]);
    }
    return unit_run();
}
