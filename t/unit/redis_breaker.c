/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The circuit breaker, with the time of the tests: conformance K-01 to K-08, K-11, K-13, K-19 to
 * K-21.
 */

#include "unit.h"

#include "redis/breaker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8
#define START (INT64_C(5000) * RLP_SECOND)

/* K0 of the conformance cases */
static const redis_breaker_settings_t usual = {
    .threshold = 3,
    .recovery = 30 * RLP_SECOND,
    .longest = 30 * RLP_SECOND,
    .probe = RLP_SECOND,
};

/* One endpoint as one test sees it. */
typedef struct {
    redis_breaker_t breaker;
    const redis_breaker_settings_t *settings;
    int contacts;
    char log[64]; /* a letter for each transition: Open, Half open, Closed */
} world_t;

static void world_note(world_t *world, redis_change_t change)
{
    if (change.from != change.to) {
        const size_t len = strlen(world->log);

        assert_true(len + 1 < sizeof(world->log));
        world->log[len] = "COH"[change.to];
        world->log[len + 1] = '\0';
    }
}

/* One request; true if the endpoint was asked. */
static bool world_request(world_t *world, rlp_time_t now, bool answers)
{
    redis_ticket_t ticket;

    world_note(world, redis_breaker_ask(&world->breaker, world->settings, now, &ticket));
    if (!ticket.admitted) {
        return false;
    }
    world->contacts++;
    world_note(world,
               answers ? redis_breaker_succeed(&world->breaker, &ticket)
                       : redis_breaker_fail(&world->breaker, world->settings, &ticket, now, false));
    return true;
}

static void world_is(const world_t *world, redis_phase_t phase, int failures)
{
    const redis_breaker_look_t look = redis_breaker_look(&world->breaker, START);

    assert_int_equal(look.phase, phase);
    assert_int_equal(look.failures, failures);
}

static void test_opens(void **state)
{
    world_t world = { .settings = &usual };

    (void)state;
    world_is(&world, REDIS_CLOSED, 0); /* K-01 */
    assert_true(world_request(&world, START, false));
    world_is(&world, REDIS_CLOSED, 1); /* K-02 */
    assert_true(world_request(&world, START, false));
    assert_true(world_request(&world, START, false));
    world_is(&world, REDIS_OPEN, 0); /* K-03 */
    assert_false(world_request(&world, START, false));
    assert_int_equal(world.contacts, 3); /* K-04 */
    assert_string_equal(world.log, "O"); /* K-20 */
}

static void test_in_a_row(void **state)
{
    world_t world = { .settings = &usual };

    (void)state;
    world_request(&world, START, false);
    world_request(&world, START, false);
    world_request(&world, START, true);
    world_is(&world, REDIS_CLOSED, 0);
    world_request(&world, START, false);
    world_request(&world, START, false);
    world_is(&world, REDIS_CLOSED, 2); /* K-05 */
    world_request(&world, START, false);
    world_is(&world, REDIS_OPEN, 0); /* K-06 */
}

static void world_open(world_t *world, rlp_time_t now)
{
    for (int i = 0; i < world->settings->threshold; i++) {
        assert_true(world_request(world, now, false));
    }
    assert_int_equal(redis_breaker_look(&world->breaker, now).phase, REDIS_OPEN);
    world->contacts = 0;
}

static void test_recovers(void **state)
{
    world_t world = { .settings = &usual };
    redis_ticket_t probe, other;

    (void)state;
    world_open(&world, START);
    assert_false(world_request(&world, START + 29900000, true)); /* K-07 */
    const rlp_time_t due = START + 30 * RLP_SECOND;

    world_note(&world, redis_breaker_ask(&world.breaker, &usual, due, &probe));
    assert_true(probe.admitted && probe.probe);
    world_note(&world, redis_breaker_ask(&world.breaker, &usual, due, &other));
    assert_false(other.admitted);
    world_note(&world, redis_breaker_succeed(&world.breaker, &probe));
    world_is(&world, REDIS_CLOSED, 0); /* K-08 */
    assert_true(world_request(&world, due, true));
    assert_string_equal(world.log, "OHC"); /* K-20 */
}

static void test_probe_fails(void **state)
{
    static const redis_breaker_settings_t doubling = {
        .threshold = 3,
        .recovery = RLP_SECOND,
        .longest = 5 * RLP_SECOND,
        .probe = RLP_SECOND,
    };
    static const int seconds[] = { 1, 2, 4, 5, 5 };
    world_t world = { .settings = &doubling };
    rlp_time_t now = START;

    (void)state;
    world_open(&world, now);
    for (size_t i = 0; i < UNIT_N(seconds); i++) {
        const rlp_time_t wait = redis_breaker_look(&world.breaker, now).wait;

        assert_int_equal(wait, seconds[i] * RLP_SECOND); /* K-13: what Retry-After says */
        assert_false(world_request(&world, now + wait - 1000, false));
        now += wait;
        assert_true(world_request(&world, now, false));
    }
    now += 5 * RLP_SECOND;
    assert_true(world_request(&world, now, true));
    assert_int_equal(redis_breaker_look(&world.breaker, now).wait, 0);
    world_open(&world, now);
    assert_int_equal(redis_breaker_look(&world.breaker, now).wait, RLP_SECOND);
}

static void test_probe_dies(void **state)
{
    world_t world = { .settings = &usual };
    const rlp_time_t due = START + 30 * RLP_SECOND;
    redis_ticket_t dead, next;

    (void)state;
    world_open(&world, START);
    redis_breaker_ask(&world.breaker, &usual, due, &dead);
    assert_true(dead.probe);
    redis_breaker_ask(&world.breaker, &usual, due + RLP_SECOND - 1000, &next);
    assert_false(next.admitted);
    const redis_change_t change =
        redis_breaker_ask(&world.breaker, &usual, due + RLP_SECOND, &next);

    assert_true(next.probe);
    assert_int_equal(change.from, change.to); /* K-20: still half open, and no line */
    redis_breaker_succeed(&world.breaker, &dead);
    redis_breaker_fail(&world.breaker, &usual, &dead, due + RLP_SECOND, false);
    world_is(&world, REDIS_HALF_OPEN, 0); /* one that was given up says nothing any more */
    redis_breaker_succeed(&world.breaker, &next);
    world_is(&world, REDIS_CLOSED, 0);
}

static void test_late_news(void **state)
{
    world_t world = { .settings = &usual };
    redis_ticket_t early;

    (void)state;
    redis_breaker_ask(&world.breaker, &usual, START, &early);
    world_open(&world, START);
    const uint64_t word = world.breaker.word;

    redis_breaker_succeed(&world.breaker, &early);
    redis_breaker_fail(&world.breaker, &usual, &early, START + RLP_SECOND, true);
    assert_true(word == world.breaker.word);
}

static void test_at_once(void **state)
{
    world_t world = { .settings = &usual };
    redis_ticket_t ticket;

    (void)state;
    redis_breaker_ask(&world.breaker, &usual, START, &ticket);
    world_note(&world, redis_breaker_fail(&world.breaker, &usual, &ticket, START, true));
    assert_string_equal(world.log, "O");
}

static void test_window(void **state)
{
    redis_breaker_settings_t settings = usual;
    world_t world = { .settings = &settings };
    const rlp_time_t day = 86400 * RLP_SECOND;

    (void)state;
    settings.window = 10 * RLP_SECOND;
    for (int i = 0; i < 5; i++) {
        world_request(&world, START + i * day, false);
        world_is(&world, REDIS_CLOSED, 1);
    }
    world_request(&world, START + 4 * day + 9 * RLP_SECOND, false);
    world_request(&world, START + 4 * day + 10 * RLP_SECOND, false);
    world_is(&world, REDIS_OPEN, 0);

    world_t without = { .settings = &usual };

    for (int i = 0; i < 3; i++) {
        world_request(&without, START + i * day, false);
    }
    world_is(&without, REDIS_OPEN, 0);
}

/* K-07: not before it is said, and not all at once. */
static void test_jitter(void **state)
{
    redis_breaker_settings_t settings = usual;
    rlp_time_t least = INT64_MAX, most = 0;

    (void)state;
    settings.jitter = 25;
    for (int i = 0; i < 1000; i++) {
        world_t world = { .settings = &settings };
        const rlp_time_t now = START + (rlp_time_t)i * 1000;

        world_open(&world, now);
        const rlp_time_t wait = redis_breaker_look(&world.breaker, now).wait;

        least = wait < least ? wait : least;
        most = wait > most ? wait : most;
    }
    assert_in_range(least, 30000000, 30100000);
    assert_in_range(most, 37400000, 37500000);
}

/* A file's clock from before a reboot: the next probe seems hours away. */
static void test_other_clock(void **state)
{
    world_t world = { .settings = &usual };

    (void)state;
    world_open(&world, START);
    assert_true(world_request(&world, 10 * RLP_SECOND, true));
    world_is(&world, REDIS_CLOSED, 0);
}

/* Any word that damage may leave ends in a state from which probes go out. */
static void test_damaged(void **state)
{
    uint64_t seed = unit_seed();

    (void)state;
    for (int i = 0; i < 100000; i++) {
        world_t world = { .breaker.word = unit_random(&seed), .settings = &usual };

        if (!world_request(&world, START, true)) {
            assert_true(world_request(&world, START + 70 * RLP_SECOND, true));
        }
        world_is(&world, REDIS_CLOSED, 0);
    }
}

static world_t *world_shared(void)
{
    world_t *world =
        mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(world, MAP_FAILED);
    *world = (world_t){ .settings = &usual };
    return world;
}

static void test_children(void **state)
{
    world_t *world = world_shared();
    int status;
    const pid_t child = fork();

    (void)state;
    assert_true(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 3; i++) {
            world_request(world, START, false);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(world_request(world, START, true)); /* K-19 */
    munmap(world, sizeof(*world));
}

typedef struct {
    redis_breaker_t *breaker;
    atomic_int *started;
    atomic_int *probes;
    atomic_int *opened;
} racer_t;

static void *race(void *data)
{
    const racer_t *racer = data;
    redis_ticket_t ticket;

    while (!atomic_load(racer->started)) {
        sched_yield();
    }
    const redis_change_t opened =
        redis_breaker_ask(racer->breaker, &usual, START + 30 * RLP_SECOND, &ticket);

    atomic_fetch_add(racer->probes, ticket.admitted);
    atomic_fetch_add(racer->opened, opened.from != opened.to);
    return NULL;
}

static void test_race(void **state)
{
    (void)state;
    for (int run = 0; run < 50; run++) {
        world_t world = { .settings = &usual };
        atomic_int started = 0, probes = 0, opened = 0;
        racer_t racer = { &world.breaker, &started, &probes, &opened };
        pthread_t threads[THREADS];

        world_open(&world, START);
        for (int i = 0; i < THREADS; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, race, &racer), 0);
        }
        atomic_store(&started, 1);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
        }
        assert_int_equal(probes, 1);
        assert_int_equal(opened, 1);
    }
}

static void test_of(void **state)
{
    redis_breaker_t breakers[4];

    (void)state;
    memset(breakers, 0, sizeof(breakers));
    redis_breaker_t *a = redis_breaker_of(breakers, 4, 8);
    redis_breaker_t *b = redis_breaker_of(breakers, 4, 12);

    assert_ptr_not_equal(a, b);
    assert_ptr_equal(a, redis_breaker_of(breakers, 4, 8));
    assert_ptr_equal(b, redis_breaker_of(breakers, 4, 12));
    redis_breaker_of(breakers, 4, 0);
    redis_breaker_of(breakers, 4, 2);
    redis_breaker_t *shared = redis_breaker_of(breakers, 4, 77);

    assert_true(shared >= breakers && shared < breakers + 4);
    assert_ptr_equal(shared, redis_breaker_of(breakers, 4, 77));
}

int main(void)
{
    unit_add("K-01 K-02 K-03 K-04 K-11: three failures open it", test_opens, NULL);
    unit_add("K-05 K-06: a success between them starts the count anew", test_in_a_row, NULL);
    unit_add("K-07 K-08 K-20: one probe closes it, each transition told once", test_recovers, NULL);
    unit_add("K-13: each failed probe doubles the time to the next", test_probe_fails, NULL);
    unit_add("a probe whose process died makes room for another", test_probe_dies, NULL);
    unit_add("results from before it opened change nothing", test_late_news, NULL);
    unit_add("what time does not heal opens it at once", test_at_once, NULL);
    unit_add("K-21: failures far apart, with a window and without", test_window, NULL);
    unit_add("K-07: jitter spreads the probes", test_jitter, NULL);
    unit_add("a clock from before a reboot", test_other_clock, NULL);
    unit_add("damaged words", test_damaged, NULL);
    unit_add("K-19: children share it", test_children, NULL);
    unit_add("K-07: one of many threads probes", test_race, NULL);
    unit_add("each endpoint has a breaker of its own while there are some", test_of, NULL);
    return unit_run();
}
