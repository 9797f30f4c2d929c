/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The file of a shared-memory store: what outlives a restart, and a change of its size.
 */

#include "segment_file.h"

#include "store/slab.h"

#include <string.h>
#include <unistd.h>

typedef struct {
    const char *name;
    rlp_clock_t clock;
    rlp_time_t later; /* asked so long after the start */
    rlp_verdict_t verdict;
} restart_t;

static const restart_t restarts[] = {
    { "same boot, at once", { UPTIME, WALL, "one" }, 0, RLP_DENY },
    { "same boot, 6 s later", { UPTIME + 6 * RLP_SECOND, WALL, "one" }, 0, RLP_ALLOW },
    { "same boot, wall clock set forward",
      { UPTIME, WALL + 3600 * RLP_SECOND, "one" },
      5 * RLP_SECOND,
      RLP_DENY },
    { "same boot, wall clock set back",
      { UPTIME + 6 * RLP_SECOND, WALL - 3600 * RLP_SECOND, "one" },
      0,
      RLP_ALLOW },
    { "other boot, 5 s later", { 1, WALL + 5 * RLP_SECOND, "two" }, 0, RLP_DENY },
    { "other boot, 6 s later", { 1, WALL + 6 * RLP_SECOND, "two" }, 0, RLP_ALLOW },
    { "other boot, wall clock set back", { 1, WALL - RLP_SECOND, "two" }, 0, RLP_DENY },
    { "other boot, wall clock set back, 6 s",
      { 1, WALL - 3600 * RLP_SECOND, "two" },
      6 * RLP_SECOND,
      RLP_ALLOW },
    { "boot unknown, 5 s later",
      { UPTIME + 6 * RLP_SECOND, WALL + 5 * RLP_SECOND, "" },
      0,
      RLP_DENY },
    { "boot unknown, 6 s later", { 1, WALL + 6 * RLP_SECOND, "" }, 0, RLP_ALLOW },
};

static void test_restart(void **state)
{
    const restart_t *row = unit_row(state);
    const char *path = segment_path();

    segment_make_spent(path);
    rlp_segment_t segment = segment_open_well(path, MB, &row->clock);
    const rlp_time_t now = row->clock.monotonic + row->later;

    assert_int_equal(segment_spend(&segment, 1, now).verdict, row->verdict);
    assert_int_equal(big_find(&segment, &big_log_key, now), row->verdict == RLP_DENY);
    assert_true(big_find(&segment, &big_quota_key, now));
    rlp_segment_close(&segment);
    segment_forget(path);
}

/* A time base that nothing could have written: time begins anew, nobody is locked out. */
static void test_wild_time(void **state)
{
    static const rlp_time_t wild[] = { INT64_MIN, INT64_MIN / 2, INT64_MAX / 2, INT64_MAX };

    (void)state;
    for (size_t i = 0; i < UNIT_N(wild); i++) {
        const char *path = segment_path();
        slab_t slab;

        segment_make_spent(path);
        rlp_segment_t segment = segment_open_well(path, MB, &segment_first_boot);

        assert_null(slab_attach(&slab, segment.memory, segment.size));
        slab_base(&slab)->offset = wild[i];
        rlp_segment_close(&segment);
        segment = segment_open_well(path, MB, &segment_first_boot);
        const rlp_decision_t d = segment_spend(&segment, 1, UPTIME);

        assert_true(d.verdict == RLP_ALLOW || d.retry <= 61 * RLP_SECOND);
        rlp_segment_close(&segment);
        segment_forget(path);
    }
}

/* A fresh store's windows are aligned to the wall clock. */
static void test_epoch(void **state)
{
    const char *path = segment_path();
    rlp_segment_t segment = segment_open_well(path, MB, &segment_first_boot);
    rlp_store_t *store;

    (void)state;
    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    assert_int_equal(rlp_store_time(store, UPTIME + 5), WALL + 5);
    rlp_segment_close(&segment);
    segment_forget(path);
}

static void digest(const rlp_segment_t *segment, const char *secret, char text[33])
{
    rlp_store_t *store;

    assert_int_equal(rlp_shm_create(&store, segment, unit_pool()), APR_SUCCESS);
    rlp_store_digest(store, secret, strlen(secret), text);
    assert_int_equal(strlen(text), 32);
    assert_int_equal(strspn(text, "0123456789abcdef"), 32);
}

/* Counters and digests move over into a file of another size. */
static void test_size(void **state)
{
    static const size_t sizes[] = { 3, 1, 16, 2, 1 };
    static const char kept[] = "kept beside the counters";
    const char *path = segment_path();
    char before[33];
    char after[33];

    (void)state;
    segment_make_spent(path);
    rlp_segment_t segment = segment_open_well(path, MB, &segment_first_boot);

    digest(&segment, "secret", before);
    char *annex = rlp_segment_annex(&segment);

    assert_true(annex[0] == 0 && memcmp(annex, annex + 1, RLP_ANNEX_SIZE - 1) == 0);
    memcpy(annex + RLP_ANNEX_SIZE - sizeof(kept), kept, sizeof(kept));
    rlp_segment_close(&segment);
    for (size_t i = 0; i < UNIT_N(sizes); i++) {
        segment = segment_open_well(path, sizes[i] * MB, &segment_first_boot);
        annex = rlp_segment_annex(&segment);
        assert_string_equal(annex + RLP_ANNEX_SIZE - sizeof(kept), kept);
        assert_int_equal(segment_spend(&segment, 1, UPTIME + 5 * RLP_SECOND).verdict, RLP_DENY);
        assert_true(big_find(&segment, &big_log_key, UPTIME + 5 * RLP_SECOND));
        assert_true(big_find(&segment, &big_quota_key, UPTIME + 5 * RLP_SECOND));
        digest(&segment, "secret", after);
        assert_string_equal(after, before);
        rlp_segment_close(&segment);
    }
    segment_forget(path);
}

/* What a server that has ended held is void for the next: there as it was, but anybody's place. */
static void test_held(void **state)
{
    const char *path = segment_path();
    rlp_segment_t segment = segment_open_well(path, MB, &segment_first_boot);
    rlp_store_t *store;

    (void)state;
    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    const rlp_hold_t before = rlp_owner_open(store, getpid());

    big_visit(&segment, &big_quota_key, (big_t){ .life = 1, .held = true }, UPTIME);
    assert_true(big_find(&segment, &big_quota_key, UPTIME + 10)); /* held: it does not expire */
    assert_true(rlp_hold_lives(store->owners, before));
    rlp_segment_close(&segment);
    segment = segment_open_well(path, MB, &segment_first_boot);
    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    assert_false(rlp_hold_lives(store->owners, before));
    assert_true(big_find(&segment, &big_quota_key, UPTIME + 10));
    const rlp_hold_t after = rlp_owner_open(store, getpid());

    assert_int_equal(after >> 48, before >> 48); /* the number lives again, its holds do not */
    assert_false(rlp_hold_lives(store->owners, before));
    assert_true(rlp_hold_lives(store->owners, after));
    rlp_segment_close(&segment);
    segment = segment_open_well(path, 2 * MB, &segment_first_boot);
    assert_false(
        big_find(&segment, &big_quota_key, UPTIME + 10)); /* another size leaves it behind */
    rlp_segment_close(&segment);
    segment_forget(path);
}

static void test_digest(void **state)
{
    const char *path = segment_path();
    const char *other = segment_path();
    rlp_segment_t segment = segment_open_well(path, MB, &segment_first_boot);
    rlp_segment_t second = segment_open_well(other, MB, &segment_first_boot);
    char one[33];
    char two[33];

    (void)state;
    digest(&segment, "secret", one);
    digest(&segment, "secret", two);
    assert_string_equal(one, two);
    digest(&segment, "secreT", two);
    assert_string_not_equal(one, two);
    digest(&second, "secret", two); /* keyed: another file, another digest */
    assert_string_not_equal(one, two);
    assert_memory_not_equal(one, one + 16, 16);
    rlp_segment_close(&segment);
    rlp_segment_close(&second);
    segment_forget(path);
    segment_forget(other);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(restarts); i++) {
        unit_add_case("Q-08", restarts[i].name, test_restart, &restarts[i]);
    }
    unit_add("Q-08: a damaged time base", test_wild_time, NULL);
    unit_add("F-01: windows are aligned to the wall clock", test_epoch, NULL);
    unit_add("Q-08: another size keeps the counters", test_size, NULL);
    unit_add("what a server held is void for the next", test_held, NULL);
    unit_add("digests are stable and keyed", test_digest, NULL);
    return unit_run();
}
