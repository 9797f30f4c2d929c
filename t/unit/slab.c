/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The slab: sizes, eviction, holds, junk, death at every instruction, damage, another size. Its
 * source is part of this program, since some of this is about what lies in the memory.
 */

#include "unit.h"

#include "store/slab.c"        /* NOLINT(bugprone-suspicious-include) */
#include "store/slab_layout.c" /* NOLINT(bugprone-suspicious-include) */

#include <apr_strings.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define MB ((size_t)1024 * 1024)
#define NOW (INT64_C(1700000000) * RLP_SECOND)
#define JUNK 1000000
#define LARGEST 65640 /* bytes of a state */

static const unsigned char test_key[32] = "0123456789abcdefghijklmnopqrstu";

/* Shared with children, between two pages that nobody may touch. */
static slab_t slab_new(size_t size)
{
    unsigned char *room = mmap(NULL, size + 2 * (size_t)SLAB_PAGE, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    slab_t slab;

    assert_true(room != MAP_FAILED);
    assert_int_equal(mprotect(room, SLAB_PAGE, PROT_NONE), 0);
    assert_int_equal(mprotect(room + SLAB_PAGE + size, SLAB_PAGE, PROT_NONE), 0);
    slab_format(room + SLAB_PAGE, size, test_key);
    assert_null(slab_attach(&slab, room + SLAB_PAGE, size));
    return slab;
}

static void slab_free(const slab_t *slab)
{
    munmap(slab->base - SLAB_PAGE, slab->size + 2 * (size_t)SLAB_PAGE);
}

/* --- one key at a time */

typedef struct {
    uint64_t fingerprint;
    uint64_t signature;
    uint32_t size;
    rlp_time_t expires;
    uint32_t loss;
    bool lasting;
} cell_t;

/* What the update finds, and what it puts there; nothing with keep false. */
typedef struct {
    unsigned char found;
    unsigned char put;
    bool whole; /* all bytes are alike */
    bool keep;
    const cell_t *cell;
} visit_t;

static void visit_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    visit_t *visit = baton;
    const unsigned char *state = entries[0]->state;

    (void)n;
    (void)now;
    visit->found = state[0];
    visit->whole = true;
    for (uint32_t i = 0; i < entries[0]->key.size; i++) {
        visit->whole &= state[i] == state[0];
    }
    if (visit->keep) {
        memset(entries[0]->state, visit->put, entries[0]->key.size);
        entries[0]->dirty = true;
        entries[0]->expires = visit->cell->expires;
        entries[0]->loss = visit->cell->loss;
        entries[0]->lasting = visit->cell->lasting;
    }
}

static int visit(slab_t *slab, visit_t *visit, const cell_t *cell, rlp_time_t now)
{
    uint64_t state[LARGEST / 8];
    rlp_entry_t entry = { .key = { .fingerprint = cell->fingerprint,
                                   .signature = cell->signature,
                                   .size = cell->size },
                          .state = state };
    rlp_entry_t *entries[] = { &entry };

    visit->cell = cell;
    return slab_update(slab, entries, 1, now, visit_update, visit);
}

static void put(slab_t *slab, const cell_t *cell, unsigned char value, rlp_time_t now)
{
    visit_t v = { .put = value, .keep = true };

    assert_int_equal(visit(slab, &v, cell, now), 0);
}

static unsigned char get(slab_t *slab, const cell_t *cell, rlp_time_t now)
{
    visit_t v = { .keep = false };

    assert_int_equal(visit(slab, &v, cell, now), 0);
    assert_true(v.whole);
    return v.found;
}

/* Where the state of a key lies, which has one. */
static slot_t *slot_of(const slab_t *slab, const cell_t *cell)
{
    const rlp_key_t key = { .fingerprint = cell->fingerprint,
                            .signature = cell->signature,
                            .size = cell->size };
    place_t place = { .slot = NULL };

    assert_true(slab_place(slab, &key, &place));
    slot_t *slot = slab_find(&place, &key);

    assert_non_null(slot);
    return slot;
}

/* --- sizes */

static void test_geometry(void **state)
{
    (void)state;
    for (size_t size = slab_size_min(); size < 600 * MB; size += SLAB_PAGE + size / 64) {
        slab_t slab;

        size -= size % SLAB_PAGE;
        slab_geometry(&slab, NULL, size);
        size_t end = SLAB_HEAD + slab.shards * sizeof(shard_t);

        assert_true(slab.shards <= SLAB_SHARDS_MAX && (slab.shards & (slab.shards - 1)) == 0);
        for (int i = 0; i < SLAB_CLASSES; i++) {
            const uint32_t ways = slab.classes[i].ways;

            assert_int_equal(slab.classes[i].offset, end);
            assert_int_equal(end % SLAB_LINE, 0);
            assert_true(slab.classes[i].sets > 0);
            assert_true(ways > 0 && ways <= SLAB_WAYS && (ways & (ways - 1)) == 0);
            end += (size_t)slab.classes[i].sets * slab.shards * ways * slab_classes[i].size;
        }
        assert_true(end <= size);
        assert_true(size - end <= SLAB_WAYS * sizeof(slot_t) * slab.shards + SLAB_PAGE);
        assert_int_equal(slab.classes[0].ways, SLAB_WAYS);
        assert_true(slab.classes[1].offset - slab.classes[0].offset >= size / 64 * 46);
    }
}

static void test_sizes(void **state)
{
    static const uint32_t sizes[] = {
        1,    8,    40,   41,    200,   232,   233,   1000,  1001,
        4000, 4072, 4073, 16360, 16361, 20000, 65536, 65600, LARGEST
    };
    slab_t slab = slab_new(MB);
    visit_t v = { .keep = true };
    cell_t cell = { .fingerprint = 77, .expires = NOW + RLP_SECOND, .loss = 1 };

    (void)state;
    assert_int_equal(slab_fit_max(), LARGEST);
    for (size_t i = 0; i < UNIT_N(sizes); i++) {
        cell.size = sizes[i];
        cell.signature = i;
        put(&slab, &cell, (unsigned char)(i + 1), NOW);
        assert_int_equal(get(&slab, &cell, NOW), i + 1);
        assert_int_equal(get(&slab, &cell, NOW + RLP_SECOND + 1024), 0); /* expired */
    }
    for (size_t i = UNIT_N(sizes); i > 0; i--) { /* the last one of each class is still there */
        const bool last =
            i == UNIT_N(sizes) || slab_class_of(sizes[i - 1]) != slab_class_of(sizes[i]);

        cell.size = sizes[i - 1];
        cell.signature = i - 1;
        assert_true(!last || get(&slab, &cell, NOW) == i);
    }
    cell.size = LARGEST + 1;
    assert_int_equal(visit(&slab, &v, &cell, NOW), EINVAL);
    slab_free(&slab);
}

/* Many keys in every class: what is found is what was put, or nothing. */
static void test_crowded(void **state)
{
    static const uint32_t sizes[] = { 24, 200, 1000, 4000, 16000, 65600 };
    slab_t slab = slab_new(2 * MB);
    uint64_t random = unit_seed();
    size_t found[UNIT_N(sizes)] = { 0 };

    (void)state;
    for (int i = 0; i < 20000; i++) {
        const uint64_t k = unit_below(&random, 2000);
        const cell_t cell = { .fingerprint = k * UINT64_C(0x9e3779b97f4a7c15) + 1,
                              .size = sizes[k % UNIT_N(sizes)],
                              .expires = NOW + (rlp_time_t)(k / 2) * RLP_SECOND,
                              .loss = (uint16_t)(k + 1) };
        const rlp_time_t now = NOW + (rlp_time_t)(i % 1000) * RLP_SECOND / 10;
        const unsigned char value = get(&slab, &cell, now);

        assert_true(value == 0 || value == (unsigned char)(k % 255 + 1));
        found[k % UNIT_N(sizes)] += value != 0;
        put(&slab, &cell, (unsigned char)(k % 255 + 1), now);
    }
    for (size_t i = 0; i < UNIT_N(sizes); i++) {
        assert_true(found[i] > 0);
    }
    assert_true(found[0] > 2000);
    slab_free(&slab);
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
        assert_int_equal(get(&slab, &cell, NOW), 1);
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

/* --- eviction: eight keys of one set, and a ninth */

typedef struct {
    rlp_time_t put; /* seconds after NOW */
    rlp_time_t expires;
    uint64_t loss;
} resident_t;

#define LASTING (UINT64_C(1) << 32)

#define FOREVER (RLP_TIME_NEVER / RLP_SECOND)

typedef struct {
    const char *name;
    resident_t residents[SLAB_WAYS];
    int victim;
} eviction_t;

/* The ninth comes after 50 seconds. */
static const eviction_t evictions[] = {
    { "what has expired goes first",
      { { 0, 100, 9 },
        { 0, 100, 9 },
        { 0, 49, 60000 },
        { 0, 100, 9 },
        { 0, 100, 9 },
        { 0, 100, 9 },
        { 0, 100, 9 },
        { 0, 100, 1 } },
      2 },
    { "then the smallest loss",
      { { 0, 100, 700 },
        { 0, 100, 600 },
        { 0, 100, 500 },
        { 0, 100, 400 },
        { 0, 100, 300 },
        { 0, 100, 310 },
        { 0, 100, 400 },
        { 0, 100, 500 } },
      4 },
    { "a full client stays, however short its life",
      { { 0, 86400, 66 },
        { 0, 60, 65535 },
        { 0, 86400, 70 },
        { 0, 86400, 70 },
        { 0, 86400, 70 },
        { 0, 86400, 70 },
        { 0, 86400, 70 },
        { 0, 86400, 70 } },
      0 },
    { "the loss shrinks with the life that is left",
      { { 40, 100, 600 },
        { 40, 100, 600 },
        { 40, 100, 600 },
        { 40, 100, 600 },
        { 40, 100, 600 },
        { 0, 100, 900 },
        { 40, 100, 600 },
        { 40, 100, 600 } },
      5 },
    { "what never expires is judged by its loss",
      { { 0, FOREVER, 500 },
        { 0, FOREVER, 500 },
        { 0, FOREVER, 500 },
        { 0, FOREVER, 500 },
        { 0, FOREVER, 500 },
        { 0, FOREVER, 500 },
        { 0, FOREVER, 100 },
        { 0, 100, 800 } },
      6 },
    { "a loss that lasts does not shrink",
      { { 0, 51, LASTING | 600 },
        { 0, 51, LASTING | 600 },
        { 0, 51, LASTING | 600 },
        { 0, 100, 1100 },
        { 0, 51, LASTING | 600 },
        { 0, 51, LASTING | 600 },
        { 0, 51, LASTING | 600 },
        { 0, 51, LASTING | 600 } },
      3 },
    { "and is the smaller one where it is",
      { { 0, 100, 1200 },
        { 0, 100, 1200 },
        { 0, 100, 1200 },
        { 0, 100, 1200 },
        { 0, 1000, LASTING | 500 },
        { 0, 100, 1200 },
        { 0, 100, 1200 },
        { 0, 100, 1200 } },
      4 },
    { "losses beyond 16 bits are told from each other",
      { { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 3900000000 } },
      7 },
    { "no loss is as good as none",
      { { 0, FOREVER, 500 },
        { 0, FOREVER, 0 },
        { 0, 51, 1 },
        { 0, 51, 1 },
        { 0, 51, 1 },
        { 0, 51, 1 },
        { 0, 51, 1 },
        { 0, 51, 1 } },
      1 },
};

/* Keys of one set whose search begins at the same way. */
static cell_t neighbour(uint64_t i)
{
    return (cell_t){ .fingerprint = (i + 1) << 48 | 4711, .size = 24 };
}

static rlp_time_t after(rlp_time_t seconds)
{
    return seconds == FOREVER ? RLP_TIME_NEVER : NOW + seconds * RLP_SECOND;
}

static void test_eviction(void **state)
{
    const eviction_t *row = unit_row(state);
    slab_t slab = slab_new(MB);
    cell_t ninth = neighbour(SLAB_WAYS);

    for (rlp_time_t at = 0; at <= 50; at++) {
        for (uint64_t i = 0; i < SLAB_WAYS; i++) {
            const resident_t *r = &row->residents[i];
            cell_t cell = neighbour(i);

            cell.expires = after(r->expires);
            cell.loss = (uint32_t)r->loss;
            cell.lasting = (r->loss & LASTING) != 0;
            if (r->put == at) {
                put(&slab, &cell, (unsigned char)(i + 1), after(at));
            }
        }
    }
    ninth.expires = after(1000);
    put(&slab, &ninth, 99, after(50));
    assert_int_equal(get(&slab, &ninth, after(50)), 99);
    for (uint64_t i = 0; i < SLAB_WAYS; i++) {
        const cell_t cell = neighbour(i);

        assert_int_equal(get(&slab, &cell, after(50)), (int)i == row->victim ? 0 : (int)i + 1);
    }
    slab_free(&slab);
}

/* A newcomer that is refused writes nothing and throws nobody out. */
static void test_refused_newcomer(void **state)
{
    slab_t slab = slab_new(MB);
    unsigned char *before = malloc(MB);
    const size_t from = slab.classes[0].offset;

    (void)state;
    for (uint64_t i = 0; i < SLAB_WAYS; i++) {
        cell_t cell = neighbour(i);

        cell.expires = after(9);
        cell.loss = 1;
        put(&slab, &cell, 1, NOW);
    }
    memcpy(before, slab.base, MB);
    for (uint64_t i = 0; i < 1000; i++) {
        const cell_t cell = neighbour(SLAB_WAYS + i);

        assert_int_equal(get(&slab, &cell, NOW), 0);
    }
    assert_memory_equal(before + from, slab.base + from, MB - from);
    free(before);
    slab_free(&slab);
}

/* Puts one value everywhere; then a tracing parent gets its turn. */
typedef struct {
    int value;
    bool stops;
} fill_t;

static void put_all(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    const fill_t *fill = baton;

    (void)now;
    for (int i = 0; i < n; i++) {
        memset(entries[i]->state, fill->value, entries[i]->key.size);
        entries[i]->dirty = true;
        entries[i]->expires = RLP_TIME_NEVER;
        entries[i]->loss = 1000;
    }
    if (fill->stops) {
        (void)raise(SIGSTOP);
    }
}

/* Puts the value to the neighbours from first on, all in one update. */
static void put_neighbours(slab_t *slab, uint64_t first, int n, int value)
{
    uint64_t states[SLAB_WAYS + 1][RLP_STATE_MAX / 8];
    rlp_entry_t entries[SLAB_WAYS + 1];
    rlp_entry_t *pointers[SLAB_WAYS + 1];
    fill_t fill = { .value = value };

    for (int i = 0; i < n; i++) {
        const cell_t cell = neighbour((first + (uint64_t)i) % (SLAB_WAYS + 1));

        entries[i] = (rlp_entry_t){ .key = { .fingerprint = cell.fingerprint, .size = cell.size },
                                    .state = states[i] };
        pointers[i] = &entries[i];
    }
    assert_int_equal(slab_update(slab, pointers, n, NOW, put_all, &fill), 0);
}

/* How many of the nine have that value. */
static int count_neighbours(slab_t *slab, int value)
{
    int n = 0;

    for (uint64_t i = 0; i <= SLAB_WAYS; i++) {
        const cell_t cell = neighbour(i);

        n += get(slab, &cell, NOW) == value;
    }
    return n;
}

/* Keys of one update never push each other out, and what has no room is left out. */
static void test_own_set(void **state)
{
    slab_t slab = slab_new(MB);
    cell_t poor = neighbour(0);

    (void)state;
    put_neighbours(&slab, 0, SLAB_WAYS + 1, 7);
    assert_int_equal(count_neighbours(&slab, 7), SLAB_WAYS);
    poor.expires = NOW + RLP_SECOND;
    poor.loss = 1;
    put(&slab, &poor, 8, NOW);
    put_neighbours(&slab, SLAB_WAYS, 2, 9); /* the ninth, then the poor one, which has its slot */
    assert_int_equal(count_neighbours(&slab, 9), 2);
    slab_free(&slab);
}

/* --- what processes hold */

static rlp_store_t *store_on(const slab_t *slab)
{
    const rlp_segment_t segment = { .fd = -1, .memory = slab->base, .size = slab->size };
    rlp_store_t *store;

    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    return store;
}

/* Puts a hold into all words of a state but the last, and another into that. What else is said of
   the state would let it go. */
typedef struct {
    rlp_hold_t first;
    rlp_hold_t last;
    bool stops;
} hold_t;

static void hold_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    const hold_t *hold = baton;
    rlp_hold_t *words = entries[0]->state;
    const size_t last = entries[0]->key.size / sizeof(rlp_hold_t) - 1;

    (void)n;
    for (size_t i = 0; i <= last; i++) {
        words[i] = i < last ? hold->first : hold->last;
    }
    entries[0]->dirty = true;
    entries[0]->held = true;
    entries[0]->expires = now;
    entries[0]->loss = 0;
    if (hold->stops) {
        (void)raise(SIGSTOP);
    }
}

static void hold_find(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    const rlp_hold_t *words = entries[0]->state;
    hold_t *hold = baton;

    (void)n;
    (void)now;
    hold->first = words[0];
    hold->last = words[entries[0]->key.size / sizeof(rlp_hold_t) - 1];
}

static void hold_visit(slab_t *slab, const cell_t *cell, rlp_update_fn *fn, hold_t *hold)
{
    uint64_t state[LARGEST / 8];
    rlp_entry_t entry = { .key = { .fingerprint = cell->fingerprint,
                                   .signature = cell->signature,
                                   .size = cell->size },
                          .state = state };
    rlp_entry_t *pointer = &entry;

    assert_int_equal(slab_update(slab, &pointer, 1, NOW, fn, hold), 0);
}

static void hold_put(slab_t *slab, const cell_t *cell, rlp_hold_t first, rlp_hold_t last)
{
    hold_t hold = { .first = first, .last = last };

    hold_visit(slab, cell, hold_update, &hold);
}

static rlp_hold_t hold_get(slab_t *slab, const cell_t *cell)
{
    hold_t hold;

    hold_visit(slab, cell, hold_find, &hold);
    return hold.first;
}

static void put_junk(slab_t *slab, uint32_t size, int n, uint64_t *random)
{
    for (int i = 0; i < n; i++) {
        const cell_t cell = { .fingerprint = unit_random(random) | 1,
                              .size = size,
                              .expires = RLP_TIME_NEVER,
                              .loss = RLP_LOSS_FULL };

        put(slab, &cell, 1, NOW);
    }
}

/* Held by one process or two: in its place until the last of them is gone. */
static void test_held_junk(void **state)
{
    static const uint32_t sizes[] = { 40, 232, 4072 };
    uint64_t random = unit_seed();

    (void)state;
    for (size_t i = 0; i < UNIT_N(sizes); i++) {
        slab_t slab = slab_new(MB);
        rlp_store_t *store = store_on(&slab);
        const rlp_hold_t one = rlp_owner_open(store, 1001);
        const rlp_hold_t two = rlp_owner_open(store, 1002);
        const cell_t cell = { .fingerprint = 11, .size = sizes[i] };

        assert_true(one != 0 && two != 0 && one != two);
        hold_put(&slab, &cell, one | 1, two | 1);
        put_junk(&slab, cell.size, 50000, &random);
        assert_int_equal(hold_get(&slab, &cell), one | 1);
        rlp_owner_close(store, 1001);
        put_junk(&slab, cell.size, 50000, &random);
        assert_int_equal(hold_get(&slab, &cell), one | 1);
        rlp_owner_close(store, 1002);
        put_junk(&slab, cell.size, 100000, &random);
        assert_int_equal(hold_get(&slab, &cell), 0);
        slab_free(&slab);
    }
}

static void hold_neighbours(slab_t *slab, rlp_hold_t owner)
{
    for (uint64_t i = 0; i < SLAB_WAYS; i++) {
        const cell_t cell = neighbour(i);

        hold_put(slab, &cell, owner | (i + 1), owner);
    }
}

/* A set that is held whole has no room, which is no error; and what has void holds goes before
   anything that counts, also when the number of the dead lives again. */
static void test_held_full(void **state)
{
    slab_t slab = slab_new(MB);
    rlp_store_t *store = store_on(&slab);
    const rlp_hold_t owner = rlp_owner_open(store, 1001);
    cell_t ninth = neighbour(SLAB_WAYS);
    const cell_t first = neighbour(0);

    (void)state;
    ninth.expires = RLP_TIME_NEVER;
    ninth.loss = RLP_LOSS_FULL;
    hold_neighbours(&slab, owner);
    put(&slab, &ninth, 99, NOW);
    assert_int_equal(get(&slab, &ninth, NOW), 0);
    for (uint64_t i = 0; i < SLAB_WAYS; i++) {
        const cell_t cell = neighbour(i);

        assert_int_equal(hold_get(&slab, &cell), owner | (i + 1));
    }
    put(&slab, &first, 1, NOW); /* gives its places back */
    rlp_owner_close(store, 1001);
    assert_int_equal(rlp_owner_open(store, 1002) >> 48, owner >> 48);
    put(&slab, &ninth, 99, NOW);
    assert_int_equal(get(&slab, &ninth, NOW), 99);
    ninth = neighbour(SLAB_WAYS + 1);
    ninth.expires = RLP_TIME_NEVER;
    ninth.loss = 1;
    put(&slab, &ninth, 98, NOW);
    assert_int_equal(get(&slab, &ninth, NOW), 98);
    slab_free(&slab);
}

/* After a full start nobody holds anything. */
static void test_held_void(void **state)
{
    slab_t slab = slab_new(MB);
    const cell_t cell = { .fingerprint = 11, .size = 232 };
    uint64_t random = unit_seed();

    (void)state;
    hold_put(&slab, &cell, rlp_owner_open(store_on(&slab), 1001) | 1, 0);
    slab_unlock_all(&slab);
    assert_int_equal(rlp_owner_open(store_on(&slab), 1001) & ((UINT64_C(1) << 48) - 1),
                     rlp_owner(0, 3)); /* another life of the number */
    put_junk(&slab, cell.size, 100000, &random);
    assert_int_equal(hold_get(&slab, &cell), 0);
    slab_free(&slab);
}

/* --- junk: a million identities never seen before */

typedef struct {
    const char *id;
    const char *words;
    rlp_time_t tick; /* between two requests, microseconds */
} flood_t;

static const flood_t floods[] = {
    { "I-20 frozen clock", "rate=10/min rate=1000/day", 0 },
    { "I-20 frozen clock", "rate=10/min algorithm=fixed-window", 0 },
    { "I-20 frozen clock", "rate=10/min", 0 },
    { "I-20 running clock", "rate=10/min rate=1000/day", 50 },
    { "I-20 running clock", "rate=10/min algorithm=fixed-window", 50 },
    { "I-20 running clock", "rate=10/min", 50 },
};

static rlp_answer_t flood_ask(rlp_store_t *store, const rlp_plan_t *plan, const char *name,
                              rlp_time_t now)
{
    const rlp_question_t question = { .now = now };
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_answer_t answer;

    for (int i = 0; i < plan->n; i++) {
        rlp_charge_init(&charges[i], name, strlen(name),
                        rlp_signature("flood", NULL, &plan->limits[i]), &plan->limits[i]);
    }
    assert_int_equal(rlp_check(store, charges, plan->n, &question, &answer), APR_SUCCESS);
    return answer;
}

/* "ip:" and 16 digits of a number. */
static const char *junk_name(uint64_t number, char name[20])
{
    memcpy(name, "ip:", 3);
    for (int i = 0; i < 16; i++, number >>= 4) {
        name[3 + i] = "0123456789abcdef"[number & 15];
    }
    name[19] = '\0';
    return name;
}

static void test_flood(void **state)
{
    const flood_t *row = unit_row(state);
    const rlp_plan_t *plan = unit_plan(row->words);
    slab_t slab = slab_new(16 * MB);
    const rlp_segment_t segment = { .fd = -1, .memory = slab.base, .size = slab.size };
    uint64_t random = unit_seed();
    rlp_store_t *shm;
    rlp_store_t *memory;
    char name[20];
    rlp_time_t now = NOW - NOW % (60 * RLP_SECOND);

    assert_int_equal(rlp_shm_create(&shm, &segment, unit_pool()), APR_SUCCESS);
    assert_int_equal(rlp_memory_create(&memory, unit_pool()), APR_SUCCESS);
    for (int i = 0; i < JUNK; i++, now += row->tick) {
        const rlp_answer_t junk = flood_ask(shm, plan, junk_name(unit_random(&random), name), now);

        assert_int_equal(junk.verdict, RLP_ALLOW);
        if (i % 1000 < 11) { /* the limited client, of whom the memory store forgets nothing */
            const rlp_answer_t known = flood_ask(shm, plan, "ip:192.0.2.1", now);
            const rlp_answer_t oracle = flood_ask(memory, plan, "ip:192.0.2.1", now);

            assert_int_equal(known.verdict, oracle.verdict);
            assert_int_equal(known.retry, oracle.retry);
        }
    }
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

    return slab_update(slab, pointers, 2, NOW, put_all, &fill);
}

static int pair_get(slab_t *slab, uint64_t fingerprint, uint64_t signature)
{
    const cell_t cell = { .fingerprint = fingerprint, .signature = signature, .size = 40 };

    return get(slab, &cell, NOW);
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

    assert_int_equal(slab_update(slab, &pointer, 1, NOW, put_all, &fill), 0);
}

static bool long_counts(slab_t *slab, const cell_t *cell, int before, int value)
{
    const int found = get(slab, cell, NOW);

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
    const int victim = get(slab, &rivals[before % 2], NOW);
    const int newcomer = get(slab, &rivals[value % 2], NOW);

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

static slab_t rehashed(const slab_t *from, size_t size)
{
    slab_t to = slab_new(size);

    slab_rehash(&to, from, NOW);
    return to;
}

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
        slab_t other = rehashed(&slab, i % 2 ? MB : 2 * MB);

        slab_free(&other);
    }
    slab_free(&slab);
}

/* --- another size */

#define KEYS 1000 /* too few for a full set */

/* A few of each class, the more the smaller; every third is never renewed. */
static cell_t numbered(uint64_t i)
{
    static const uint32_t few[] = { 65600, 16000, 4000, 4000, 4000, 4000, 1000, 1000, 1000, 1000 };
    const uint32_t many = i % 50 == 0 ? 200 : 40;
    uint64_t mixed = i;

    return (cell_t){ .fingerprint = unit_random(&mixed) | 1,
                     .signature = i,
                     .size = i < UNIT_N(few) ? few[i] : many,
                     .expires = i % 3 == 0 ? RLP_TIME_NEVER : NOW + 3600 * RLP_SECOND,
                     .loss = (uint16_t)(i + 1) };
}

static void test_rehash(void **state)
{
    slab_t slab = slab_new(2 * MB);
    const cell_t held = { .fingerprint = 6, .size = 232 };
    const cell_t old = { .fingerprint = 5, .size = 40, .expires = NOW - 1, .loss = 9 };

    (void)state;
    put(&slab, &old, 7, NOW - RLP_SECOND);
    hold_put(&slab, &held, rlp_owner_open(store_on(&slab), 1001) | 1, 0);
    for (uint64_t i = 0; i < KEYS; i++) {
        const cell_t cell = numbered(i);

        put(&slab, &cell, (unsigned char)(i % 255 + 1), NOW);
    }
    slab_t bigger = rehashed(&slab, 16 * MB);
    slab_t smaller = rehashed(&bigger, MB);

    for (uint64_t i = 0; i < KEYS; i++) {
        const cell_t cell = numbered(i);
        const int value = (int)(i % 255 + 1);

        assert_int_equal(get(&slab, &cell, NOW), value);
        assert_int_equal(get(&bigger, &cell, NOW), value);
        assert_int_equal(get(&smaller, &cell, NOW), value);
    }
    assert_int_equal(get(&bigger, &old, NOW - RLP_SECOND), 0);
    assert_int_equal(hold_get(&bigger, &held), 0);
    assert_int_equal(slab_last(&smaller), NOW);
    slab_free(&slab);
    slab_free(&bigger);
    slab_free(&smaller);
}

/* What does not fit is what matters least. */
static void test_rehash_full(void **state)
{
    enum { MANY = 60000, TOP = 1000 };
    slab_t slab = slab_new(16 * MB);

    (void)state;
    for (uint64_t i = 0; i < MANY; i++) {
        const cell_t cell = numbered(i);

        put(&slab, &cell, 1, NOW);
    }
    slab_t smaller = rehashed(&slab, MB);
    int kept = 0;

    for (uint64_t i = MANY - TOP; i < MANY; i++) {
        const cell_t cell = numbered(i);

        kept += get(&smaller, &cell, NOW);
    }
    assert_true(kept > TOP * 95 / 100);
    slab_free(&slab);
    slab_free(&smaller);
}

/* Live counters in a slab, one by one. */
static uint64_t count_live(slab_t *slab, uint64_t n)
{
    uint64_t live = 0;

    for (uint64_t i = 0; i < n; i++) {
        const cell_t cell = numbered(i);

        live += get(slab, &cell, NOW) != 0;
    }
    return live;
}

/* What is put is there, or was given up. What is over is neither. */
static void test_look(void **state)
{
    enum { MANY = 60000 };
    const cell_t over = { .fingerprint = 5, .size = 40, .expires = NOW - 1, .loss = 9 };
    slab_t slab = slab_new(MB);
    slab_t roomy = slab_new(16 * MB);

    (void)state;
    assert_int_equal(slab_look(&slab, NOW).used, 0);
    put(&roomy, &over, 7, NOW - RLP_SECOND);
    for (uint64_t i = 0; i < MANY; i++) {
        const cell_t cell = numbered(i);

        put(&slab, &cell, 1, NOW);
        put(&roomy, &cell, 1, NOW);
    }
    const slab_look_t full = slab_look(&slab, NOW);
    const slab_look_t look = slab_look(&roomy, NOW);
    const uint64_t live = count_live(&slab, MANY);

    assert_int_equal(full.evicted, MANY - live);
    assert_in_range(full.used, live * 95 / 100, live * 105 / 100);
    assert_true(full.used <= full.slots && full.slots > slab_room(MB, 40));
    assert_int_equal(look.evicted, MANY - count_live(&roomy, MANY));
    assert_in_range(look.used, MANY * 85 / 100, MANY * 115 / 100);
    slab_t moved = rehashed(&roomy, 32 * MB);

    assert_int_equal(slab_look(&moved, NOW).evicted, look.evicted);
    slab_free(&slab);
    slab_free(&roomy);
    slab_free(&moved);
}

static void test_attach(void **state)
{
    slab_t slab = slab_new(MB);
    slab_t other;

    (void)state;
    assert_non_null(slab_attach(&other, slab.base, MB - SLAB_PAGE));
    assert_non_null(slab_attach(&other, slab.base, 0));
    slab_header(&slab)->layout++;
    assert_string_equal(slab_attach(&other, slab.base, MB), "it was written by another version");
    slab_header(&slab)->layout--;
    slab_header(&slab)->size++;
    assert_string_equal(slab_attach(&other, slab.base, MB), "it is truncated or has grown");
    slab_header(&slab)->size--;
    assert_null(slab_attach(&other, slab.base, MB));
    assert_memory_equal(slab_key(&other), test_key, sizeof(test_key));
    slab_header(&slab)->magic[0]++;
    assert_string_equal(slab_attach(&other, slab.base, MB), "it is not a store of this module");
    slab_free(&slab);
}

int main(void)
{
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } singles[] = {
        { "every size has slots of each class, within it", test_geometry },
        { "states of 1 to 65640 bytes", test_sizes },
        { "many keys of every size", test_crowded },
        { "only the lines that differ are written", test_difference },
        { "what could not be undone is refused", test_too_much },
        { "held: 100000 newcomers, until the holders are gone", test_held_junk },
        { "held: a whole set", test_held_full },
        { "held: void after a full start", test_held_void },
        { "a refused newcomer costs nothing", test_refused_newcomer },
        { "nine keys of one set in one update", test_own_set },
        { "what a dead owner left is rolled back", test_roll_back },
        { "an undo area that holds anything", test_hostile_undo },
        { "a memory that holds anything", test_corruption },
        { "Q-08: a bigger and a smaller slab keep the counters", test_rehash },
        { "Q-08: what does not fit matters least", test_rehash_full },
        { "how full it is, and what was given up", test_look },
        { "what is no slab is not attached", test_attach },
    };

    for (size_t i = 0; i < UNIT_N(singles); i++) {
        unit_add(singles[i].name, singles[i].run, NULL);
    }
    for (size_t i = 0; i < UNIT_N(evictions); i++) {
        unit_add_case("eviction", evictions[i].name, test_eviction, &evictions[i]);
    }
    for (size_t i = 0; i < UNIT_N(deaths); i++) {
        unit_add_case("kill -9 at any instruction", deaths[i].name, test_death, &deaths[i]);
    }
    for (size_t i = 0; i < UNIT_N(floods); i++) {
        unit_add_case(floods[i].id, floods[i].words, test_flood, &floods[i]);
    }
    return unit_run();
}
