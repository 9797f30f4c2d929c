/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The slab: where states of every size lie, how full it is, and what moves into one of another
 * size. One of its sources is part of this program, since some of this is about what lies in the
 * memory. Who has to go is in slab_evict.c, who dies in slab_death.c.
 */

#include "slab_cells.h"

#include "store/slab_layout.c" /* NOLINT(bugprone-suspicious-include) */

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

/* What docs/operations.md says of large slots: one set of them in each shard. */
static void test_few(void **state)
{
    static const uint32_t ways[] = { 8, 2, 1 };

    (void)state;
    for (size_t size = MB; size <= 256 * MB; size *= 2) {
        slab_t slab;

        slab_geometry(&slab, NULL, size);
        assert_true(slab.classes[SLAB_CLASSES - 4].sets > 1);
        for (size_t i = 0; i < UNIT_N(ways); i++) {
            assert_int_equal(slab.classes[SLAB_CLASSES - 3 + i].sets, 1);
            assert_int_equal(slab.classes[SLAB_CLASSES - 3 + i].ways, ways[i]);
        }
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
        cell_put(&slab, &cell, (unsigned char)(i + 1), NOW);
        assert_int_equal(cell_get(&slab, &cell, NOW), i + 1);
        assert_int_equal(cell_get(&slab, &cell, NOW + RLP_SECOND + 1024), 0); /* expired */
    }
    for (size_t i = UNIT_N(sizes); i > 0; i--) { /* the last one of each class is still there */
        const bool last =
            i == UNIT_N(sizes) || slab_class_of(sizes[i - 1]) != slab_class_of(sizes[i]);

        cell.size = sizes[i - 1];
        cell.signature = i - 1;
        assert_true(!last || cell_get(&slab, &cell, NOW) == i);
    }
    cell.size = LARGEST + 1;
    assert_int_equal(cell_visit(&slab, &v, &cell, NOW), EINVAL);
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
        const unsigned char value = cell_get(&slab, &cell, now);

        assert_true(value == 0 || value == (unsigned char)(k % 255 + 1));
        found[k % UNIT_N(sizes)] += value != 0;
        cell_put(&slab, &cell, (unsigned char)(k % 255 + 1), now);
    }
    for (size_t i = 0; i < UNIT_N(sizes); i++) {
        assert_true(found[i] > 0);
    }
    assert_true(found[0] > 2000);
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
    cell_put(&slab, &old, 7, NOW - RLP_SECOND);
    hold_put(&slab, &held, rlp_owner_open(slab_store(&slab), 1001) | 1, 0);
    for (uint64_t i = 0; i < KEYS; i++) {
        const cell_t cell = numbered(i);

        cell_put(&slab, &cell, (unsigned char)(i % 255 + 1), NOW);
    }
    slab_t bigger = slab_rehashed(&slab, 16 * MB);
    slab_t smaller = slab_rehashed(&bigger, MB);

    for (uint64_t i = 0; i < KEYS; i++) {
        const cell_t cell = numbered(i);
        const int value = (int)(i % 255 + 1);

        assert_int_equal(cell_get(&slab, &cell, NOW), value);
        assert_int_equal(cell_get(&bigger, &cell, NOW), value);
        assert_int_equal(cell_get(&smaller, &cell, NOW), value);
    }
    assert_int_equal(cell_get(&bigger, &old, NOW - RLP_SECOND), 0);
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

        cell_put(&slab, &cell, 1, NOW);
    }
    slab_t smaller = slab_rehashed(&slab, MB);
    int kept = 0;

    for (uint64_t i = MANY - TOP; i < MANY; i++) {
        const cell_t cell = numbered(i);

        kept += cell_get(&smaller, &cell, NOW);
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

        live += cell_get(slab, &cell, NOW) != 0;
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
    cell_put(&roomy, &over, 7, NOW - RLP_SECOND);
    for (uint64_t i = 0; i < MANY; i++) {
        const cell_t cell = numbered(i);

        cell_put(&slab, &cell, 1, NOW);
        cell_put(&roomy, &cell, 1, NOW);
    }
    const slab_look_t full = slab_look(&slab, NOW);
    const slab_look_t look = slab_look(&roomy, NOW);
    const uint64_t live = count_live(&slab, MANY);

    assert_int_equal(full.evicted, MANY - live);
    assert_in_range(full.used, live * 95 / 100, live * 105 / 100);
    assert_true(full.used <= full.slots && full.slots > slab_room(MB, 40));
    assert_int_equal(look.evicted, MANY - count_live(&roomy, MANY));
    assert_in_range(look.used, MANY * 85 / 100, MANY * 115 / 100);
    slab_t moved = slab_rehashed(&roomy, 32 * MB);

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
    assert_memory_equal(slab_key(&other), slab_test_key, sizeof(slab_test_key));
    slab_header(&slab)->magic[0]++;
    assert_string_equal(slab_attach(&other, slab.base, MB), "it is not a store of this module");
    slab_free(&slab);
}

int main(void)
{
    static const unit_single_t singles[] = {
        { "every size has slots of each class, within it", test_geometry },
        { "large slots: one set in each shard", test_few },
        { "states of 1 to 65640 bytes", test_sizes },
        { "many keys of every size", test_crowded },
        { "Q-08: a bigger and a smaller slab keep the counters", test_rehash },
        { "Q-08: what does not fit matters least", test_rehash_full },
        { "how full it is, and what was given up", test_look },
        { "what is no slab is not attached", test_attach },
    };

    unit_add_singles(singles, UNIT_N(singles));
    return unit_run();
}
