/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Counters carried out of one segment and into another, and a segment that a tool shares with those
 * who have it.
 */

#include "store/slab_layout.h"
#include "unit.h"

#include <apr_strings.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MB ((size_t)1024 * 1024)
#define UPTIME (1000 * RLP_SECOND)
#define WALL (INT64_C(1700000000) * RLP_SECOND)
#define MANY 500

static const rlp_clock_t here = { .monotonic = UPTIME, .wall = WALL, .boot_id = "one" };
static const rlp_clock_t there = { .monotonic = 7 * RLP_SECOND,
                                   .wall = WALL + 60 * RLP_SECOND,
                                   .boot_id = "two" };

static char directory[32];

static const char *file_named(const char *name)
{
    return apr_pstrcat(unit_pool(), directory, "/", name, NULL);
}

static void directory_make(void)
{
    strcpy(directory, "/tmp/rlp-unit.XXXXXX");
    assert_non_null(mkdtemp(directory));
}

/* It has nothing else in it. */
static void directory_forget(void)
{
    (void)unlink(file_named("one"));
    (void)unlink(file_named("two"));
    assert_int_equal(rmdir(directory), 0);
}

/* One test, in a directory of its own. */
static void test_in_directory(void **state)
{
    void (*const *run)(void) = unit_row(state);

    directory_make();
    (*run)();
    directory_forget();
}

static rlp_segment_t segment_open(const char *name, size_t size, const rlp_clock_t *clock)
{
    const char *message;
    rlp_segment_t segment;

    assert_int_equal(rlp_segment_open(&segment, file_named(name), size, clock, &message,
                                      unit_pool()),
                     APR_SUCCESS);
    assert_null(message);
    return segment;
}

/* One unit, or a look at what is left. */
static int64_t count(const rlp_segment_t *segment, const rlp_clock_t *clock, const char *identity,
                     const char *words, bool takes)
{
    const rlp_question_t question = { .now = clock->monotonic, .wall = clock->wall };
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];
    rlp_charge_t charge;
    rlp_answer_t answer;
    rlp_store_t *store;

    assert_int_equal(rlp_shm_create(&store, segment, unit_pool()), APR_SUCCESS);
    rlp_charge_init(&charge, identity, strlen(identity), rlp_signature("api", NULL, limit), limit);
    if (limit->state_size > sizeof(charge.room)) {
        charge.entry.state = apr_palloc(unit_pool(), limit->state_size);
    }
    assert_int_equal((takes ? rlp_check : rlp_peek)(store, &charge, 1, &question, &answer),
                     APR_SUCCESS);
    return charge.decision.remaining;
}

/* --- what a visit shows */

typedef struct {
    int n;
    int most; /* the visit ends then */
    rlp_counter_t counters[MANY];
} list_t;

static bool list_add(void *baton, const rlp_counter_t *counter)
{
    list_t *list = baton;

    assert_true(list->n < MANY);
    assert_true(rlp_counter_sound(counter));
    list->counters[list->n] = *counter;
    list->counters[list->n].state = apr_pmemdup(unit_pool(), counter->state, counter->size);
    return ++list->n != list->most;
}

static list_t *list_read(const rlp_segment_t *segment, rlp_time_t now, int most)
{
    list_t *list = apr_pcalloc(unit_pool(), sizeof(*list));

    list->most = most;
    assert_int_equal(rlp_segment_visit(segment, now, list_add, list, unit_pool()), APR_SUCCESS);
    return list;
}

static const char *const kinds[] = { "rate=10/hour",
                                     "rate=10/hour algorithm=sliding-log",
                                     "rate=100/hour algorithm=sliding-log",
                                     "rate=8192/hour algorithm=sliding-log",
                                     "rate=10/hour algorithm=leaky-bucket",
                                     "rate=10/hour algorithm=fixed-window",
                                     "rate=10/hour algorithm=sliding-window",
                                     "rate=10/hour algorithm=stepped-bucket",
                                     "quota=10/day",
                                     "quota=10" };

static void test_visit(void)
{
    rlp_segment_t segment = segment_open("one", MB, &here);

    assert_int_equal(list_read(&segment, UPTIME, 0)->n, 0);
    for (size_t i = 0; i < UNIT_N(kinds); i++) {
        (void)count(&segment, &here, "user:1", kinds[i], true);
    }
    (void)count(&segment, &here, "user:2", kinds[0], true);
    assert_int_equal(list_read(&segment, UPTIME, 0)->n, UNIT_N(kinds) + 1);
    assert_int_equal(list_read(&segment, UPTIME, 3)->n, 3);
    /* an hour and more later the quotas are left */
    assert_int_equal(list_read(&segment, UPTIME + 9000 * RLP_SECOND, 0)->n, 2);
    /* a place is held by a process, and no counter to be carried away */
    (void)count(&segment, &here, "user:1", "concurrent=3", true);
    assert_int_equal(list_read(&segment, UPTIME, 0)->n, UNIT_N(kinds) + 1);
    rlp_segment_close(&segment);
}

/* --- carried */

/* All that is counted goes into another file, of another host, and counts on there. */
static void test_carry(void)
{
    rlp_segment_t from = segment_open("one", MB, &here);
    rlp_segment_t to = segment_open("two", 4 * MB, &there);
    rlp_origin_t origin;
    int64_t left[UNIT_N(kinds)];

    for (size_t i = 0; i < UNIT_N(kinds); i++) {
        (void)count(&from, &here, "user:1", kinds[i], true);
        left[i] = count(&from, &here, "user:1", kinds[i], true);
    }
    const list_t *list = list_read(&from, UPTIME, 0);

    assert_int_equal(rlp_segment_origin(&from, &origin), APR_SUCCESS);
    /* a minute of the wall clock went by */
    origin.offset += UPTIME + 60 * RLP_SECOND - there.monotonic;
    assert_int_equal(rlp_segment_adopt(&to, &origin, &there), APR_SUCCESS);
    for (int i = 0; i < list->n; i++) {
        assert_int_equal(rlp_segment_put(&to, &list->counters[i], false, there.monotonic,
                                         unit_pool()),
                         RLP_PUT_DONE);
    }
    const list_t *copy = list_read(&to, there.monotonic, 0);

    assert_int_equal(copy->n, list->n);
    for (size_t i = 0; i < UNIT_N(kinds); i++) {
        assert_int_equal(count(&to, &there, "user:1", kinds[i], false), left[i]);
    }
    assert_int_equal(count(&to, &there, "user:2", kinds[0], false), 10);
    rlp_segment_close(&from);
    rlp_segment_close(&to);
    /* a server goes on with it */
    to = segment_open("two", 2 * MB, &there);
    assert_int_equal(count(&to, &there, "user:1", kinds[0], false), left[0]);
    rlp_segment_close(&to);
}

/* What is there stays, unless it is to go, however large it is. */
static void test_kept(void)
{
    rlp_segment_t segment = segment_open("one", MB, &here);

    for (size_t i = 0; i < UNIT_N(kinds); i++) {
        const int64_t left = count(&segment, &here, "user:1", kinds[i], true);
        rlp_counter_t before = list_read(&segment, UPTIME, 0)->counters[0];

        for (int k = 0; k < 9; k++) {
            (void)count(&segment, &here, "user:1", kinds[i], true);
        }
        const int64_t less = count(&segment, &here, "user:1", kinds[i], false);

        assert_int_equal(rlp_segment_put(&segment, &before, false, UPTIME, unit_pool()),
                         RLP_PUT_KEPT);
        assert_int_equal(count(&segment, &here, "user:1", kinds[i], false), less);
        assert_int_equal(rlp_segment_put(&segment, &before, true, UPTIME, unit_pool()),
                         RLP_PUT_DONE);
        assert_int_equal(count(&segment, &here, "user:1", kinds[i], false), left);
        rlp_segment_close(&segment);
        assert_int_equal(unlink(file_named("one")), 0);
        segment = segment_open("one", MB, &here);
    }
    rlp_segment_close(&segment);
}

/* Of a state of 64 kB all lines may differ: more than an update can undo. */
static void test_large(void)
{
    rlp_segment_t segment = segment_open("one", MB, &here);
    uint64_t words[65640 / 8];

    for (size_t i = 0; i < UNIT_N(words); i++) {
        words[i] = i + 1;
    }
    rlp_counter_t counter = { .fingerprint = 1,
                              .signature = 2,
                              .size = sizeof(words),
                              .expires = WALL + 3600 * RLP_SECOND,
                              .loss = 100,
                              .state = words };

    assert_int_equal(rlp_segment_put(&segment, &counter, false, UPTIME, unit_pool()), RLP_PUT_DONE);
    for (size_t i = 0; i < UNIT_N(words); i++) {
        words[i] = 2 * i + 2;
    }
    assert_int_equal(rlp_segment_put(&segment, &counter, false, UPTIME, unit_pool()), RLP_PUT_KEPT);
    assert_int_equal(rlp_segment_put(&segment, &counter, true, UPTIME, unit_pool()), RLP_PUT_DONE);
    const list_t *list = list_read(&segment, UPTIME, 0);

    assert_int_equal(list->n, 1);
    assert_memory_equal(list->counters[0].state, words, sizeof(words));
    rlp_segment_close(&segment);
}

/* What can be no counter, or is over, leaves nothing. */
static void test_refused(void)
{
    static const uint64_t words[65640 / 8] = { 1 };
    const rlp_counter_t good = {
        .fingerprint = 1, .signature = 2, .size = 40, .expires = RLP_TIME_NEVER, .state = words
    };
    const struct {
        uint64_t fingerprint;
        uint32_t size;
        rlp_time_t expires;
        rlp_put_t result;
    } cases[] = { { 0, 40, RLP_TIME_NEVER, RLP_PUT_FAILED },
                  { 1, 0, RLP_TIME_NEVER, RLP_PUT_FAILED },
                  { 1, 39, RLP_TIME_NEVER, RLP_PUT_FAILED },
                  { 1, 48, RLP_TIME_NEVER, RLP_PUT_FAILED },
                  { 1, 65648, RLP_TIME_NEVER, RLP_PUT_FAILED },
                  { 1, UINT32_MAX, RLP_TIME_NEVER, RLP_PUT_FAILED },
                  { 1, 40, WALL - 1, RLP_PUT_OVER },
                  { 1, 40, 0, RLP_PUT_OVER },
                  { 1, 40, INT64_MIN, RLP_PUT_OVER } };
    rlp_segment_t segment = segment_open("one", MB, &here);

    for (size_t i = 0; i < UNIT_N(cases); i++) {
        rlp_counter_t counter = good;

        counter.fingerprint = cases[i].fingerprint;
        counter.size = cases[i].size;
        counter.expires = cases[i].expires;
        assert_int_equal(rlp_segment_put(&segment, &counter, false, UPTIME, unit_pool()),
                         cases[i].result);
    }
    assert_int_equal(list_read(&segment, UPTIME, 0)->n, 0);
    assert_int_equal(rlp_segment_put(&segment, &good, false, UPTIME, unit_pool()), RLP_PUT_DONE);
    memset(segment.memory, 0, 8);
    assert_int_equal(rlp_segment_put(&segment, &good, false, UPTIME, unit_pool()), RLP_PUT_FAILED);
    assert_int_not_equal(rlp_segment_visit(&segment, UPTIME, list_add, NULL, unit_pool()),
                         APR_SUCCESS);
    assert_int_not_equal(rlp_segment_origin(&segment, &(rlp_origin_t){ .offset = 0 }), APR_SUCCESS);
    assert_int_not_equal(rlp_segment_adopt(&segment, &(rlp_origin_t){ .offset = 0 }, &here),
                         APR_SUCCESS);
    rlp_segment_close(&segment);
}

/* --- shared */

static rlp_segment_t join(bool shares)
{
    const char *message = NULL;
    bool shared = !shares;
    rlp_segment_t segment;

    assert_int_equal(rlp_segment_join(&segment, file_named("one"), &here, &shared, &message,
                                      unit_pool()),
                     APR_SUCCESS);
    assert_int_equal(shared, shares);
    assert_null(message);
    return segment;
}

/* What one does the other sees; the file stays the server's. */
static void test_join(void)
{
    rlp_segment_t server = segment_open("one", MB, &here);
    const char *message = NULL;
    rlp_segment_t other;
    rlp_store_t *store;

    assert_int_equal(count(&server, &here, "user:1", kinds[0], true), 9);
    rlp_segment_t tool = join(true);

    assert_int_equal(count(&tool, &here, "user:1", kinds[0], true), 8);
    assert_int_equal(rlp_shm_create(&store, &tool, unit_pool()), APR_SUCCESS);
    assert_int_equal(rlp_shm_forget(store, "user:2", 6), 0);
    assert_int_equal(rlp_shm_forget(store, "user:1", 6), 1);
    assert_int_equal(count(&server, &here, "user:1", kinds[0], true), 9);
    rlp_segment_close(&tool);
    assert_int_not_equal(rlp_segment_borrow(&other, file_named("one"), &here, &message,
                                            unit_pool()),
                         APR_SUCCESS);
    rlp_segment_close(&server);
    tool = join(false);
    assert_int_equal(count(&tool, &here, "user:1", kinds[0], true), 8);
    rlp_segment_close(&tool);
    assert_int_equal(unlink(file_named("one")), 0);
    bool shared = true;

    assert_int_not_equal(rlp_segment_join(&other, file_named("one"), &here, &shared, &message,
                                          unit_pool()),
                         APR_SUCCESS);
    assert_false(shared);
}

static apr_status_t join_status(const char **message)
{
    rlp_segment_t segment;
    bool shared = false;
    const apr_status_t rv =
        rlp_segment_join(&segment, file_named("one"), &here, &shared, message, unit_pool());

    assert_true(shared && segment.fd < 0);
    return rv;
}

/* Who has the file alone, as a server that makes its locks anew, is waited for, but not for
   ever. */
static void test_alone(void)
{
    rlp_segment_t server = segment_open("one", MB, &here);
    const char *message = NULL;
    rlp_segment_t tool;

    rlp_segment_close(&server);
    assert_int_equal(rlp_segment_borrow(&tool, file_named("one"), &here, &message, unit_pool()),
                     APR_SUCCESS);
    assert_int_equal(join_status(&message), EAGAIN);
    assert_non_null(strstr(message, "is in use by another process"));
    rlp_segment_close(&tool);
    tool = join(false);
    rlp_segment_close(&tool);
}

/* Whose processes have other numbers would take locks from those who live. */
static void test_outside(void)
{
    rlp_segment_t server = segment_open("one", MB, &here);
    header_t *header = server.memory;
    const uint64_t numbers = header->numbers;
    const char *message = NULL;
    rlp_segment_t tool;

    header->numbers = numbers + 1;
    assert_int_equal(join_status(&message), APR_EINVAL);
    assert_non_null(strstr(message, "is in use in another PID namespace"));
    header->numbers = 0; /* not known */
    tool = join(true);
    rlp_segment_close(&tool);
    header->numbers = numbers + 1;
    rlp_segment_close(&server);
    tool = join(false);
    rlp_segment_close(&tool);
    server = segment_open("one", MB, &here);
    header = server.memory;
    assert_true(header->numbers == numbers);
    rlp_segment_close(&server);
}

/* Nobody has a file alone while a tool works on it, and a server does not wait for it for ever, nor
   take from it what it has locked. */
static void test_overstays(void)
{
    rlp_segment_t server = segment_open("one", MB, &here);
    rlp_segment_t tool = join(true);
    const char *message = NULL;
    rlp_segment_t other;

    assert_int_equal(count(&server, &here, "user:1", kinds[0], true), 9);
    rlp_segment_close(&server);
    assert_int_equal(rlp_segment_borrow(&other, file_named("one"), &here, &message, unit_pool()),
                     EAGAIN);
    slab_t slab;

    assert_null(slab_attach(&slab, tool.memory, tool.size));
    assert_int_equal(slab_hold_shard(&slab, 0), 0);
    const latch_t own = slab_shard(&slab, 0)->latch;

    server = segment_open("one", MB, &here);
    assert_true(slab_shard(&slab, 0)->latch == own);
    slab_release_shard(&slab, 0);
    assert_int_equal(count(&tool, &here, "user:1", kinds[0], true), 8);
    assert_int_equal(count(&server, &here, "user:1", kinds[0], true), 7);
    rlp_segment_close(&tool);
    tool = join(true);
    assert_int_equal(count(&tool, &here, "user:1", kinds[0], true), 6);
    rlp_segment_close(&tool);
    rlp_segment_close(&server);
}

#define TURNS 200000

/* One unit after another. */
static bool spend(const rlp_segment_t *segment, const char *words)
{
    const rlp_question_t question = { .now = UPTIME, .wall = WALL };
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];
    bool all = true;
    rlp_charge_t charge;
    rlp_answer_t answer;
    rlp_store_t *store;

    (void)rlp_shm_create(&store, segment, unit_pool());
    for (int i = 0; i < TURNS; i++) {
        rlp_charge_init(&charge, "user:1", 6, rlp_signature("api", NULL, limit), limit);
        all &= rlp_check(store, &charge, 1, &question, &answer) == APR_SUCCESS;
    }
    return all;
}

/* Requests of another process go on exactly, while all is dumped, put and forgotten beside them. */
static void test_beside(void)
{
    rlp_segment_t server = segment_open("one", MB, &here);
    const char *words = "quota=1000000000";
    rlp_segment_t tool = join(true);
    int status = 1;
    rlp_store_t *store;

    assert_int_equal(rlp_shm_create(&store, &tool, unit_pool()), APR_SUCCESS);
    const pid_t child = fork();

    if (child == 0) {
        _exit(spend(&server, words) ? 0 : 1);
    }
    do {
        const list_t *list = list_read(&tool, UPTIME, 0);

        assert_in_range(list->n, 0, 2);
        for (int i = 0; i < list->n; i++) {
            (void)rlp_segment_put(&tool, &list->counters[i], false, UPTIME, unit_pool());
        }
        (void)count(&tool, &here, "user:2", words, true);
        assert_int_equal(rlp_shm_forget(store, "user:2", 6), 1);
    } while (waitpid(child, &status, WNOHANG) == 0);
    assert_int_equal(status, 0);
    assert_int_equal(count(&server, &here, "user:1", words, false), 1000000000 - TURNS);
    rlp_segment_close(&tool);
    rlp_segment_close(&server);
}

static void (*const tests[])(void) = { test_visit,     test_carry, test_kept,  test_large,
                                       test_refused,   test_join,  test_alone, test_outside,
                                       test_overstays, test_beside };

int main(void)
{
    static const char *const names[UNIT_N(tests)] = { "all counters are shown",
                                                      "they count on in another file",
                                                      "what is there stays, or is replaced",
                                                      "a large state",
                                                      "what is no counter is refused",
                                                      "a tool shares a store",
                                                      "who has it alone is waited for",
                                                      "who has other numbers is sent away",
                                                      "a server waits for tools, not for ever",
                                                      "beside a server's requests" };

    for (size_t i = 0; i < UNIT_N(tests); i++) {
        unit_add(names[i], test_in_directory, &tests[i]);
    }
    return unit_run();
}
