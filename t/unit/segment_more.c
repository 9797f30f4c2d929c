/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The file of a shared-memory store in the hands of a tool: borrowed, looked at, and identities
 * forgotten.
 */

#include "unit.h"

#include "store/slab.h"

#include <apr_strings.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MB ((size_t)1024 * 1024)
#define UPTIME (1000 * RLP_SECOND)
#define WALL (INT64_C(1700000000) * RLP_SECOND)

static const rlp_clock_t boot = { .monotonic = UPTIME, .wall = WALL, .boot_id = "one" };
static const char *path; /* in a new directory */

static int path_make(void **state)
{
    char *made = apr_pstrdup(unit_pool(), "/tmp/rlp-unit.XXXXXX");

    (void)state;
    assert_non_null(mkdtemp(made));
    path = apr_pstrcat(unit_pool(), made, "/store", NULL);
    return 0;
}

static const char *path_beside(void)
{
    return apr_pstrcat(unit_pool(), path, ".other", NULL);
}

/* The directory has nothing else in it. */
static void path_forget(void)
{
    char *dir = apr_pstrdup(unit_pool(), path);

    (void)unlink(path);
    (void)unlink(path_beside());
    (void)rmdir(path);
    *strrchr(dir, '/') = '\0';
    assert_int_equal(rmdir(dir), 0);
}

static rlp_segment_t segment_open(size_t size)
{
    const char *message;
    rlp_segment_t segment;

    assert_int_equal(rlp_segment_open(&segment, path, size, &boot, &message, unit_pool()),
                     APR_SUCCESS);
    assert_null(message);
    return segment;
}

static rlp_store_t *segment_store(const rlp_segment_t *segment)
{
    rlp_store_t *store;

    assert_int_equal(rlp_shm_create(&store, segment, unit_pool()), APR_SUCCESS);
    return store;
}

/* The message, or NULL. */
static const char *borrow_at(rlp_segment_t *segment, const rlp_clock_t *clock)
{
    const char *message = NULL;
    const apr_status_t rv = rlp_segment_borrow(segment, path, clock, &message, unit_pool());

    assert_int_equal(rv == APR_SUCCESS, message == NULL);
    assert_int_equal(rv == APR_SUCCESS, segment->memory != NULL);
    assert_int_equal(rv == APR_SUCCESS, segment->fd >= 0);
    return message;
}

/* One unit of a limit of an identity under a rule; the rest. */
static int64_t spend(rlp_store_t *store, const char *identity, const char *rule, const char *words)
{
    const rlp_question_t question = { .now = UPTIME, .wall = WALL };
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];
    rlp_charge_t charge;
    rlp_answer_t answer;

    rlp_charge_init(&charge, identity, strlen(identity), rlp_signature(rule, NULL, limit), limit);
    if (limit->state_size > sizeof(charge.room)) {
        charge.entry.state = malloc(limit->state_size);
        assert_non_null(charge.entry.state);
    }
    assert_int_equal(rlp_check(store, &charge, 1, &question, &answer), APR_SUCCESS);
    if (charge.entry.state != charge.room) {
        free(charge.entry.state);
    }
    return charge.decision.remaining;
}

/* Gives back so many units, whenever they were charged; the rest. */
static int64_t give(rlp_store_t *store, const char *identity, const char *words, rlp_units_t units)
{
    const rlp_question_t question = { .now = UPTIME, .wall = WALL, .charged_at = RLP_TIME_EVER };
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];
    rlp_charge_t charge;
    rlp_answer_t answer;

    rlp_charge_init(&charge, identity, strlen(identity), rlp_signature("", NULL, limit), limit);
    charge.cost = -units;
    charge.entry.state = apr_palloc(unit_pool(), limit->state_size);
    assert_int_equal(rlp_settle(store, &charge, 1, &question, &answer), APR_SUCCESS);
    return charge.decision.remaining;
}

/* What a large log gets back at once are more entries than the store could change at once. */
static void test_give(void **state)
{
    static const char words[] = "rate=8192/hour algorithm=sliding-log";
    rlp_segment_t segment;

    path_make(state);
    segment = segment_open(MB);
    rlp_store_t *store = segment_store(&segment);

    for (int i = 0; i < 8000; i++) {
        assert_int_equal(spend(store, "user:1", "", words), 8191 - i);
    }
    assert_int_equal(give(store, "user:1", words, 7000 * RLP_UNIT + 1), 7192);
    assert_int_equal(spend(store, "user:1", "", words), 7191);
    assert_int_equal(give(store, "user:1", words, 999 * RLP_UNIT), 8190);
    assert_int_equal(give(store, "user:1", words, RLP_UNIT), 8191);
    assert_int_equal(give(store, "user:1", words, RLP_UNIT), 8192);
    rlp_segment_close(&segment);
    path_forget();
}

/* --- borrowed */

/* As it is, whatever its size, and its counters with it; again once it was given back. */
static void test_borrow(void **state)
{
    static const size_t sizes[] = { 1, 2, 5 };

    for (size_t i = 0; i < UNIT_N(sizes); i++) {
        path_make(state);
        rlp_segment_t segment = segment_open(sizes[i] * MB);

        assert_int_equal(spend(segment_store(&segment), "user:1", "api", "rate=10/hour"), 9);
        memcpy(rlp_segment_annex(&segment), "kept", 5);
        rlp_segment_close(&segment);
        for (int64_t left = 8; left > 5; left--) {
            assert_null(borrow_at(&segment, &boot));
            assert_int_equal(segment.size, sizes[i] * MB);
            assert_string_equal(rlp_segment_annex(&segment), "kept");
            assert_int_equal(spend(segment_store(&segment), "user:1", "api", "rate=10/hour"), left);
            rlp_segment_close(&segment);
        }
        segment = segment_open(sizes[i] * MB);
        assert_int_equal(spend(segment_store(&segment), "user:1", "api", "rate=10/hour"), 5);
        rlp_segment_close(&segment);
        path_forget();
    }
}

/* Who has it keeps everybody else out, be it a server or a tool. */
static void test_in_use(void **state)
{
    const char *expected;
    const char *message;
    rlp_segment_t other;

    path_make(state);
    expected = apr_psprintf(unit_pool(), "the store file %s is in use by another process", path);
    rlp_segment_t segment = segment_open(MB);

    assert_string_equal(borrow_at(&other, &boot), expected);
    assert_int_equal(spend(segment_store(&segment), "user:1", "api", "rate=10/hour"), 9);
    rlp_segment_close(&segment);
    assert_null(borrow_at(&segment, &boot));
    assert_string_equal(borrow_at(&other, &boot), expected);
    assert_int_not_equal(rlp_segment_open(&other, path, MB, &boot, &message, unit_pool()),
                         APR_SUCCESS);
    assert_non_null(strstr(message, "is in use by another server"));
    rlp_segment_close(&segment);
    path_forget();
}

static void *close_soon(void *segment)
{
    poll(NULL, 0, 100);
    rlp_segment_close(segment);
    return NULL;
}

/* A tool that looked into the file of a stopped server keeps it from starting no longer than it
   looks. */
static void test_tool_first(void **state)
{
    const char *message;
    rlp_segment_t tool;
    rlp_segment_t segment;
    pthread_t thread;

    path_make(state);
    segment = segment_open(MB);
    rlp_segment_close(&segment);
    assert_null(borrow_at(&tool, &boot));
    assert_int_equal(pthread_create(&thread, NULL, close_soon, &tool), 0);
    const apr_status_t rv = rlp_segment_open(&segment, path, MB, &boot, &message, unit_pool());

    pthread_join(thread, NULL);
    assert_int_equal(rv, APR_SUCCESS);
    assert_null(message);
    rlp_segment_close(&segment);
    path_forget();
}

static void spoil_missing(void)
{
    assert_int_equal(unlink(path), 0);
}

static void spoil_link(void)
{
    assert_int_equal(rename(path, path_beside()), 0);
    assert_int_equal(symlink(path_beside(), path), 0);
}

static void spoil_directory(void)
{
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void spoil_fifo(void)
{
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
}

static void spoil_empty(void)
{
    assert_int_equal(truncate(path, 0), 0);
}

static void spoil_short(void)
{
    assert_int_equal(truncate(path, (off_t)(RLP_ANNEX_SIZE + RLP_SEGMENT_MIN - 1)), 0);
}

static void spoil_long(void)
{
    assert_int_equal(truncate(path, (off_t)(RLP_ANNEX_SIZE + 2 * MB)), 0);
}

static void spoil_zero(void)
{
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(truncate(path, (off_t)(RLP_ANNEX_SIZE + MB)), 0);
}

typedef struct {
    const char *name;
    void (*spoil)(void);
    const char *message; /* how it begins, before the path */
    const char *reason;  /* what is in it; "": the system's */
} spoiled_t;

static const spoiled_t spoiled[] = {
    { "no such file", spoil_missing, "cannot open the store file", "No such file" },
    { "a link", spoil_link, "cannot open the store file", "" },
    { "a directory", spoil_directory, "cannot open the store file", "" },
    { "a pipe", spoil_fifo, "not a store of this module:", "" },
    { "an empty file", spoil_empty, "not a store of this module:", "" },
    { "too short a file", spoil_short, "not a store of this module:", "" },
    { "a file that has grown", spoil_long, "the store file",
      "is unusable: it is truncated or has grown" },
    { "zeros", spoil_zero, "the store file", "is unusable: it is not a store of this module" },
};

static bool path_lies(struct stat *info)
{
    memset(info, 0, sizeof(*info));
    return lstat(path, info) == 0;
}

/* What cannot be used is refused, and neither made nor replaced nor changed. */
static void test_spoiled(void **state)
{
    const spoiled_t *row = unit_row(state);
    rlp_segment_t segment;
    struct stat before;
    struct stat after;

    path_make(state);
    segment = segment_open(MB);
    rlp_segment_close(&segment);
    row->spoil();
    const bool lay = path_lies(&before);
    const char *message = borrow_at(&segment, &boot);
    const char *begins = apr_pstrcat(unit_pool(), row->message, " ", path, NULL);

    assert_non_null(message);
    assert_memory_equal(message, begins, strlen(begins));
    assert_non_null(strstr(message, row->reason));
    assert_int_equal(path_lies(&after), lay);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(after.st_size, before.st_size);
    path_forget();
}

/* --- its time */

typedef struct {
    const char *name;
    rlp_clock_t clock;
    rlp_time_t gone; /* since the store was made */
} resumed_t;

static const resumed_t resumed[] = {
    { "at once", { UPTIME, WALL, "one" }, 0 },
    { "the same boot", { UPTIME + 90 * RLP_SECOND, WALL, "one" }, 90 * RLP_SECOND },
    { "another boot", { 5, WALL + 90 * RLP_SECOND, "two" }, 90 * RLP_SECOND },
    { "no name of a boot", { 5, WALL + 90 * RLP_SECOND, "" }, 90 * RLP_SECOND },
};

/* A tool sees the counters on the time line that a server would. */
static void test_time(void **state)
{
    const resumed_t *row = unit_row(state);
    rlp_segment_t segment;

    path_make(state);
    segment = segment_open(MB);
    const rlp_time_t begun = rlp_store_time(segment_store(&segment), UPTIME);

    assert_int_equal(begun, WALL);
    rlp_segment_close(&segment);
    assert_null(borrow_at(&segment, &row->clock));
    assert_int_equal(rlp_store_time(segment_store(&segment), row->clock.monotonic),
                     begun + row->gone);
    rlp_segment_close(&segment);
    path_forget();
}

/* --- forgetting */

static const char *const rules[] = { "api", "login", "search" };
static const char *const plans[] = { "rate=10/hour", "rate=10/hour algorithm=fixed-window",
                                     "quota=10/year" };

/* Of an identity. Of all of them, no more large states than one set of slots has room for. */
#define COUNTERS (UNIT_N(rules) * UNIT_N(plans) + 1)

static void spend_all(rlp_store_t *store, const char *identity, int64_t left)
{
    for (size_t i = 0; i < UNIT_N(rules); i++) {
        for (size_t k = 0; k < UNIT_N(plans); k++) {
            assert_int_equal(spend(store, identity, rules[i], plans[k]), left);
        }
    }
    assert_int_equal(spend(store, identity, "large", "rate=10/hour algorithm=sliding-log"), left);
}

/* All counters of all rules of one identity, whatever their sizes; nobody else's. */
static void test_forget(void **state)
{
    static const char *const others[] = { "user:2", "user:11", "user:", "ip:192.0.2.1", "User:1" };
    rlp_segment_t segment;

    path_make(state);
    segment = segment_open(MB);
    rlp_store_t *store = segment_store(&segment);

    assert_int_equal(rlp_shm_forget(store, "user:1", 6), 0);
    spend_all(store, "user:1", 9);
    spend_all(store, "user:1", 8);
    for (size_t i = 0; i < UNIT_N(others); i++) {
        spend_all(store, others[i], 9);
    }
    assert_int_equal(rlp_shm_forget(store, "user:3", 6), 0);
    assert_int_equal(rlp_shm_forget(store, "user:1", 6), COUNTERS);
    assert_int_equal(rlp_shm_forget(store, "user:1", 6), 0);
    spend_all(store, "user:1", 9);
    for (size_t i = 0; i < UNIT_N(others); i++) {
        spend_all(store, others[i], 8);
    }
    assert_int_equal(rlp_shm_forget(store, "user:1x", 6), COUNTERS);
    rlp_segment_close(&segment);
    path_forget();
}

/* It stays forgotten in the file. */
static void test_forget_lasts(void **state)
{
    rlp_segment_t segment;

    path_make(state);
    segment = segment_open(MB);
    spend_all(segment_store(&segment), "user:1", 9);
    spend_all(segment_store(&segment), "user:2", 9);
    rlp_segment_close(&segment);
    assert_null(borrow_at(&segment, &boot));
    assert_int_equal(rlp_shm_forget(segment_store(&segment), "user:1", 6), COUNTERS);
    rlp_segment_close(&segment);
    segment = segment_open(2 * MB);
    spend_all(segment_store(&segment), "user:1", 9);
    spend_all(segment_store(&segment), "user:2", 8);
    rlp_segment_close(&segment);
    path_forget();
}

/* --- a look */

/* An empty one has slots for as many counters as it has room for, and more of other sizes. */
static void test_look_empty(void **state)
{
    static const size_t sizes[] = { 1, 2, 8 };
    uint64_t slots = 0;

    for (size_t i = 0; i < UNIT_N(sizes); i++) {
        path_make(state);
        rlp_segment_t segment = segment_open(sizes[i] * MB);
        const rlp_segment_look_t look = rlp_segment_look(&segment, UPTIME);

        assert_true(look.slots > slots);
        assert_true(look.slots > rlp_segment_room(sizes[i] * MB, RLP_STATE_MAX));
        assert_int_equal(look.used, 0);
        assert_int_equal(look.evicted, 0);
        slots = look.slots;
        rlp_segment_close(&segment);
        path_forget();
    }
}

/* Large states: classes with so few slots that the sample is all of them. */
static void look_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    (void)n;
    memset(entries[0]->state, 1, entries[0]->key.size);
    entries[0]->dirty = true;
    entries[0]->held = false;
    entries[0]->reach = 0;
    entries[0]->expires = now + *(const rlp_time_t *)baton;
    entries[0]->loss = (float)RLP_LOSS_FULL;
}

static void look_put(rlp_store_t *store, uint64_t signature, rlp_time_t life)
{
    static uint64_t room[2048];
    rlp_entry_t entry = { .key = { .identity = "user:1",
                                   .identity_len = 6,
                                   .signature = signature,
                                   .size = sizeof(room) - 64 },
                          .state = room };
    rlp_entry_t *pointer = &entry;

    assert_int_equal(store->type->update(store, &pointer, 1, UPTIME, look_update, &life),
                     APR_SUCCESS);
}

/* Those that are over are not in use; neither are those forgotten. */
static void test_look_used(void **state)
{
    rlp_segment_t segment;

    path_make(state);
    segment = segment_open(16 * MB);
    rlp_store_t *store = segment_store(&segment);

    look_put(store, 1, 60 * RLP_SECOND);
    look_put(store, 2, 120 * RLP_SECOND);
    look_put(store, 1, 60 * RLP_SECOND); /* the same one */
    assert_int_equal(rlp_segment_look(&segment, UPTIME).used, 2);
    assert_int_equal(rlp_segment_look(&segment, UPTIME + 59 * RLP_SECOND).used, 2);
    assert_int_equal(rlp_segment_look(&segment, UPTIME + 61 * RLP_SECOND).used, 1);
    assert_int_equal(rlp_segment_look(&segment, UPTIME + 121 * RLP_SECOND).used, 0);
    assert_int_equal(rlp_shm_forget(store, "user:1", 6), 2);
    assert_int_equal(rlp_segment_look(&segment, UPTIME).used, 0);
    assert_int_equal(rlp_segment_look(&segment, UPTIME).evicted, 0);
    rlp_segment_close(&segment);
    path_forget();
}

/* More large states than there is room for: some were forgotten, and none of the rest is lost from
   sight. A store of another size has the number still. */
static void test_look_evicted(void **state)
{
    rlp_segment_t segment;

    path_make(state);
    segment = segment_open(MB);
    const uint64_t room = rlp_segment_room(MB, 2048 * 8 - 64);

    for (uint64_t i = 1; i <= room + 5; i++) {
        look_put(segment_store(&segment), i, 3600 * RLP_SECOND);
    }
    const rlp_segment_look_t look = rlp_segment_look(&segment, UPTIME);

    assert_true(look.evicted >= 5);
    assert_int_equal(look.used + look.evicted, room + 5);
    rlp_segment_close(&segment);
    segment = segment_open(2 * MB);
    assert_int_equal(rlp_segment_look(&segment, UPTIME).evicted, look.evicted);
    rlp_segment_close(&segment);
    path_forget();
}

/* A damaged one has nothing to show. */
static void test_look_damaged(void **state)
{
    rlp_segment_t segment;

    path_make(state);
    segment = segment_open(MB);
    memset(segment.memory, 0xff, 64);
    const rlp_segment_look_t look = rlp_segment_look(&segment, UPTIME);

    assert_int_equal(look.slots, 0);
    assert_int_equal(look.used, 0);
    assert_int_equal(look.evicted, 0);
    rlp_segment_close(&segment);
    path_forget();
}

int main(void)
{
    unit_add("a large log gets back what it gave", test_give, NULL);
    unit_add("a tool borrows a store", test_borrow, NULL);
    unit_add("one at a time", test_in_use, NULL);
    unit_add("a server waits for a tool", test_tool_first, NULL);
    for (size_t i = 0; i < UNIT_N(spoiled); i++) {
        unit_add_case("is refused, and stays", spoiled[i].name, test_spoiled, &spoiled[i]);
    }
    for (size_t i = 0; i < UNIT_N(resumed); i++) {
        unit_add_case("time goes on", resumed[i].name, test_time, &resumed[i]);
    }
    unit_add("all of an identity is forgotten", test_forget, NULL);
    unit_add("it stays forgotten", test_forget_lasts, NULL);
    unit_add("a look at an empty store", test_look_empty, NULL);
    unit_add("counters in use", test_look_used, NULL);
    unit_add("counters that had to go", test_look_evicted, NULL);
    unit_add("a damaged store", test_look_damaged, NULL);
    return unit_run();
}
