/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The store with leases of one limit; and processes that are killed in the midst of it.
 * RLP_PROCESSES=no leaves these out, for the thread sanitizer.
 */

#include "lease_hosts.h"
#include "redis_server.h"
#include "unit.h"

#include <apr_strings.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const rlp_limit_t *thread_limit;

/* What is left of the limit of the threads, when no host has a lease: by a look at Redis. */
static int threads_left(void)
{
    const rlp_question_t question = question_now();
    rlp_charge_t charge;
    rlp_answer_t answer;

    rlp_charge_init(&charge, "user:42", 7, 42, thread_limit);
    charge.rule = "api";
    charge.max_wait = 1;
    assert_int_equal(rlp_peek(stores[0], &charge, 1, &question, &answer), APR_SUCCESS);
    return (int)charge.decision.remaining;
}

/* --- charges */

static void test_leased(void **state)
{
    (void)state;
    hosts_fresh();
    for (int i = 0; i < 1000; i++) {
        rlp_charge_t charge;

        charge_init(&charge, "user:42", "api", "rate=1000/10weeks");
        assert_int_equal(host_take(0, &charge, 1).verdict, RLP_ALLOW);
        assert_int_equal(charge.decision.remaining, 999 - i);
        assert_true(charge.counted_at > 0);
    }
    assert_in_range(hosts_asked(), 2, 60);
    const int asked = hosts_asked();

    assert_int_equal(host_admits(0, 1000, "rate=1000/10weeks"), 0);
    assert_in_range(hosts_asked() - asked, 0, 2);
}

static void test_refusal(void **state)
{
    const rlp_time_t begun = rlp_clock_monotonic();
    rlp_charge_t charge;

    (void)state;
    hosts_fresh();
    assert_int_equal(host_admits(0, 5, "rate=5/hour"), 5);
    charge_init(&charge, "user:42", "api", "rate=5/hour");
    const rlp_answer_t answer = host_take(0, &charge, 1);

    assert_int_equal(answer.verdict, RLP_DENY);
    assert_in_range(answer.retry, 719 * RLP_SECOND - (rlp_clock_monotonic() - begun),
                    720 * RLP_SECOND - 1);
    assert_int_equal(charge.decision.remaining, 0);
    charge.cost = 6 * RLP_UNIT;
    assert_int_equal(host_take(0, &charge, 1).verdict, RLP_NEVER);
    charge_init(&charge, "user:1", "api", "quota=2");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(host_take(0, &charge, 1).verdict, i < 2 ? RLP_ALLOW : RLP_NEVER);
    }
    assert_int_equal(host_take(0, &charge, 1).verdict, RLP_NEVER);
    assert_int_equal(charge.decision.next, RLP_TIME_NEVER);
}

/* What waits is asked about in Redis, and sees what is leased. */
static void test_exact_beside(void **state)
{
    int admitted = 0;

    (void)state;
    hosts_fresh();
    assert_int_equal(host_admits(0, 40, "rate=100/hour"), 40);
    for (int i = 0; i < 100; i++) {
        rlp_charge_t charge;

        charge_init(&charge, "user:42", "api", "rate=100/hour");
        charge.max_wait = 1;
        admitted += host_take(1, &charge, 1).verdict == RLP_ALLOW;
    }
    admitted += host_admits(0, 100, "rate=100/hour");
    assert_int_equal(admitted, 60);
}

static void test_peek(void **state)
{
    const rlp_question_t question = question_now();
    rlp_charge_t charge;
    rlp_answer_t answer;

    (void)state;
    hosts_fresh();
    charge_init(&charge, "user:42", "api", "rate=5/hour");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rlp_peek(stores[0], &charge, 1, &question, &answer), APR_SUCCESS);
        assert_int_equal(answer.verdict, RLP_ALLOW);
        assert_int_equal(charge.decision.remaining, 5);
    }
    assert_int_equal(host_admits(0, 6, "rate=5/hour"), 5);
    const int asked = hosts_asked();

    assert_int_equal(rlp_peek(stores[0], &charge, 1, &question, &answer), APR_SUCCESS);
    assert_int_equal(answer.verdict, RLP_DENY);
    assert_int_equal(hosts_asked(), asked);
}

/* A full table refuses nobody, and lets nobody pass. */
static void test_full(void **state)
{
    (void)state;
    hosts_fresh();
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 2 * LEASE_TABLE_STEP; i++) {
            const char *identity = apr_psprintf(unit_pool(), "user:%d", i);
            rlp_charge_t charge;

            charge_init(&charge, identity, "api", "rate=3/10weeks");
            assert_int_equal(host_take(0, &charge, 1).verdict, round < 3 ? RLP_ALLOW : RLP_DENY);
        }
    }
}

#define THREADS 8

static void *thread_take(void *data)
{
    int *admitted = data;

    for (int i = 0; i < 500; i++) {
        rlp_charge_t charge = { .cost = 0 };
        const rlp_question_t question = question_now();
        rlp_answer_t answer;

        rlp_charge_init(&charge, "user:42", 7, 42, thread_limit);
        charge.rule = "api";
        if (rlp_check(stores[i % HOSTS], &charge, 1, &question, &answer) == APR_SUCCESS) {
            *admitted += answer.verdict == RLP_ALLOW;
        }
    }
    return NULL;
}

/* Of two hosts at once. */
static void test_threads(void **state)
{
    pthread_t threads[THREADS];
    int admitted[THREADS] = { 0 };
    int sum = 0;

    (void)state;
    hosts_fresh();
    thread_limit = &unit_plan("rate=1000/10weeks")->limits[0];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, thread_take, &admitted[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += admitted[i];
    }
    for (int i = 0; i < HOSTS; i++) {
        lease_store_return(stores[i], true, &never);
    }
    assert_int_equal(sum + threads_left(), 1000);
}

/* --- corrections */

static void test_refund(void **state)
{
    static const char *const limits[] = { "rate=10/10weeks",
                                          "rate=10/10weeks algorithm=fixed-window",
                                          "rate=10/10weeks algorithm=sliding-window",
                                          "quota=10/year" };

    (void)state;
    for (size_t i = 0; i < UNIT_N(limits); i++) {
        hosts_fresh();
        for (int k = 0; k < 30; k++) {
            rlp_charge_t charge;

            charge_init(&charge, "user:42", "api", limits[i]);
            assert_int_equal(host_take(0, &charge, 1).verdict, RLP_ALLOW);
            host_settle(charge, -RLP_UNIT);
        }
        assert_int_equal(host_admits(0, 20, limits[i]), 10);
    }
}

/* What is owed is charged with the next question. */
static void test_debt(void **state)
{
    rlp_charge_t charge;

    (void)state;
    hosts_fresh();
    charge_init(&charge, "user:42", "api", "rate=100/hour");
    assert_int_equal(host_take(0, &charge, 1).verdict, RLP_ALLOW);
    host_settle(charge, 50 * RLP_UNIT);
    assert_int_equal(host_admits(0, 200, "rate=100/hour"), 49);
}

/* --- between hosts */

static void test_return(void **state)
{
    (void)state;
    hosts_fresh();
    assert_int_equal(host_admits(0, 100, "quota=1000"), 100);
    lease_store_return(stores[0], true, &never);
    assert_int_equal(host_admits(1, 1000, "quota=1000"), 900);
}

static void renewals_count(void *baton, uint32_t index)
{
    int *renewals = baton;

    *renewals += 1;
    lease_store_renew(stores[0], index);
}

static void test_renewal(void **state)
{
    int renewals = 0;

    (void)state;
    hosts_fresh();
    lease_store_tell(stores[0], renewals_count, &renewals);
    for (int i = 0; i < 100 || (renewals == 0 && i < 1000000); i++) {
        assert_int_equal(host_admits(0, 1, "rate=1000000/s"), 1);
    }
    assert_true(renewals > 0);
}

/* --- who is killed */

static void process_spend(int admitted[])
{
    const lease_charge_t wanted = { .identity = 1,
                                    .signature = 2,
                                    .cost = RLP_UNIT,
                                    .limit = &unit_plan("rate=1000000000/s")->limits[0] };

    for (;;) {
        lease_result_t result;
        lease_question_t question;
        const lease_answer_t answer = { .now = rlp_clock_wall(),
                                        .granted = 100 * RLP_UNIT,
                                        .lasts = LEASE_SPAN };
        const rlp_time_t now = rlp_clock_monotonic();

        lease_spend(tables[0], &wanted, now, &result, &question);
        if (result.outcome == LEASE_ASK) {
            question.key_len = question.args_len = 1;
            lease_granted(tables[0], &question, &answer, now, &result);
        }
        __atomic_add_fetch(admitted, result.outcome == LEASE_SPENT, __ATOMIC_RELAXED);
    }
}

/* Killed at any instruction, also while it asks or has the lock: the others go on. */
static void test_killed(void **state)
{
    int *admitted =
        mmap(NULL, sizeof(*admitted), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[2] = { 0 };
    uint64_t seed = unit_seed();

    (void)state;
    assert_true(admitted != MAP_FAILED);
    tables[0] = table_open(RLP_SECOND / 100);
    for (int i = 0; i < 40; i++) {
        const struct timespec pause = { .tv_nsec = (long)unit_below(&seed, 5000000) };
        const int k = i % 2;

        if (pids[k] != 0) {
            kill(pids[k], SIGKILL);
            waitpid(pids[k], NULL, 0);
        }
        pids[k] = fork();
        assert_true(pids[k] >= 0);
        if (pids[k] == 0) {
            (void)alarm(60); /* where the test fails, too */
            process_spend(admitted);
        }
        nanosleep(&pause, NULL);
    }
    const int before = __atomic_load_n(admitted, __ATOMIC_RELAXED);

    for (int i = 0; i < 2000 && __atomic_load_n(admitted, __ATOMIC_RELAXED) < before + 1000; i++) {
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    }
    assert_true(__atomic_load_n(admitted, __ATOMIC_RELAXED) >= before + 1000);
    for (int k = 0; k < 2; k++) {
        kill(pids[k], SIGKILL);
        waitpid(pids[k], NULL, 0);
    }
    munmap(admitted, sizeof(*admitted));
}

/* One that asks and never comes back; its answer, should it come, counts for nothing. */
static void test_takeover(void **state)
{
    const lease_charge_t wanted = {
        .identity = 1, .signature = 2, .cost = RLP_UNIT, .limit = &unit_plan("rate=10/s")->limits[0]
    };
    const lease_answer_t answer = { .now = 1, .granted = RLP_UNIT, .lasts = LEASE_SPAN };
    const rlp_time_t now = rlp_clock_monotonic();
    lease_question_t first;
    lease_question_t second;
    lease_result_t result;

    (void)state;
    tables[0] = table_open(RLP_SECOND);
    lease_spend(tables[0], &wanted, now, &result, &first);
    assert_int_equal(result.outcome, LEASE_ASK);
    lease_spend(tables[0], &wanted, now + RLP_SECOND - 1, &result, &second);
    assert_int_equal(result.outcome, LEASE_WAIT);
    lease_spend(tables[0], &wanted, now + RLP_SECOND, &result, &second);
    assert_int_equal(result.outcome, LEASE_ASK);
    assert_true(second.sequence > first.sequence);
    first.key_len = first.args_len = 1;
    second.key_len = second.args_len = 1;
    lease_granted(tables[0], &first, &answer, now + RLP_SECOND + 1, &result);
    assert_int_equal(result.outcome, LEASE_WAIT);
    lease_granted(tables[0], &second, &answer, now + RLP_SECOND + 2, &result);
    assert_int_equal(result.outcome, LEASE_SPENT);
    lease_granted(tables[0], &second, &answer, now + RLP_SECOND + 3, &result);
    assert_int_equal(result.outcome, LEASE_WAIT);
    lease_spend(tables[0], &wanted, now + RLP_SECOND + 4, &result, &second);
    assert_int_equal(result.outcome, LEASE_ASK);
}

int main(void)
{
    const char *processes = getenv("RLP_PROCESSES");

    unit_add("who asks and is killed", test_takeover, NULL);
    if (processes == NULL || strcmp(processes, "no") != 0) {
        unit_add("processes are killed at any instruction", test_killed, NULL);
    }
    if (!redis_server_start("the store with leases")) {
        return unit_run();
    }
    unit_add("a limit, in few round trips", test_leased, NULL);
    unit_add("a refusal, until when, and for ever", test_refusal, NULL);
    unit_add("who waits is told without a lease", test_exact_beside, NULL);
    unit_add("a look", test_peek, NULL);
    unit_add("no room for a lease", test_full, NULL);
    unit_add("T-25: threads of two hosts", test_threads, NULL);
    unit_add("a refund goes to the lease", test_refund, NULL);
    unit_add("a late cost is a debt", test_debt, NULL);
    unit_add("what is left goes back", test_return, NULL);
    unit_add("a renewal before the end", test_renewal, NULL);
    return unit_run();
}
