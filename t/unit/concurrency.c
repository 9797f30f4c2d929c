/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Processes and threads on one key admit exactly the burst; killed at any moment they admit no more
 * than it, and the store answers afterwards. No two of them have one number. RLP_PROCESSES=no
 * leaves out what forks, for the thread sanitizer.
 */

#include "unit.h"

#include <apr_strings.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUNS 100
#define PROCESSES 8
#define THREADS 8
#define TRIES 16 /* of each thread */
#define NOW (INT64_C(1700000000) * RLP_SECOND)

/* One crowd that asks at once. Shared by its processes. */
typedef struct {
    rlp_store_t *store;
    const rlp_plan_t *plan;
    char names[2][16]; /* identities; the second is "" for none */
    int threads;
    int tries; /* of each thread; 0: until killed */
    atomic_int admitted;
    atomic_int ready;
    atomic_int started;
} crowd_t;

/* One thread's own charges: all limits of the plan for each identity. In every second thread the
   identities come in the other order. */
static int crowd_charges(const crowd_t *crowd, rlp_charge_t charges[], bool backwards)
{
    int n = 0;

    for (int k = 0; k < 2; k++) {
        const char *name = crowd->names[backwards ? 1 - k : k];

        for (int i = 0; i < crowd->plan->n && *name != '\0'; i++) {
            rlp_charge_init(&charges[n++], name, strlen(name),
                            rlp_signature("crowd", NULL, &crowd->plan->limits[i]),
                            &crowd->plan->limits[i]);
        }
    }
    return n;
}

static void *crowd_thread(void *data)
{
    crowd_t *crowd = data;
    rlp_charge_t charges[2 * RLP_LIMITS_MAX];
    const rlp_question_t question = { .now = NOW };
    rlp_answer_t answer;
    const int n = crowd_charges(crowd, charges, atomic_fetch_add(&crowd->ready, 1) % 2);

    while (!atomic_load(&crowd->started)) {
        sched_yield();
    }
    for (int i = 0; crowd->tries == 0 || i < crowd->tries; i++) {
        if (rlp_check(crowd->store, charges, n, &question, &answer) == APR_SUCCESS &&
            answer.verdict == RLP_ALLOW) {
            atomic_fetch_add(&crowd->admitted, 1);
        }
    }
    return NULL;
}

static void crowd_threads(crowd_t *crowd, pthread_t threads[THREADS])
{
    for (int i = 0; i < crowd->threads; i++) {
        if (pthread_create(&threads[i], NULL, crowd_thread, crowd) != 0) {
            abort();
        }
    }
}

static void crowd_join(const crowd_t *crowd, pthread_t threads[THREADS])
{
    for (int i = 0; i < crowd->threads; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void crowd_fork(crowd_t *crowd, pid_t children[PROCESSES])
{
    pthread_t threads[THREADS];

    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            crowd_threads(crowd, threads);
            crowd_join(crowd, threads);
            _exit(0);
        }
    }
}

static void crowd_start(crowd_t *crowd, int processes)
{
    while (atomic_load(&crowd->ready) < processes * crowd->threads) {
        sched_yield();
    }
    atomic_store(&crowd->started, 1);
}

/* What one more request of the parent is told. */
static rlp_answer_t crowd_ask(const crowd_t *crowd, rlp_charge_t charges[])
{
    const rlp_question_t question = { .now = NOW };
    const int n = crowd_charges(crowd, charges, false);
    rlp_answer_t answer;

    assert_int_equal(rlp_check(crowd->store, charges, n, &question, &answer), APR_SUCCESS);
    return answer;
}

/* --- where the counters live; two identities meet in a store of several shards */

#define ONE_SHARD RLP_SEGMENT_MIN
#define SHARDS ((size_t)16 * 1024 * 1024)

static rlp_store_t *open_shm(size_t size)
{
    static const char *message;
    rlp_clock_t clock = { .wall = NOW };
    char path[] = "/tmp/rlp-unit.XXXXXX";
    const int fd = mkstemp(path);
    rlp_segment_t segment;
    rlp_store_t *store;

    assert_true(fd >= 0);
    assert_int_equal(rlp_segment_open(&segment, path, size, &clock, &message, unit_pool()),
                     APR_SUCCESS);
    close(fd);
    unlink(path);
    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    return store;
}

static rlp_store_t *open_memory(void)
{
    rlp_store_t *store;

    assert_int_equal(rlp_memory_create(&store, unit_pool()), APR_SUCCESS);
    return store;
}

static crowd_t *crowd_of(rlp_store_t *store, const char *words)
{
    crowd_t *crowd =
        mmap(NULL, sizeof(*crowd), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(crowd != MAP_FAILED);
    *crowd =
        (crowd_t){ .store = store, .plan = unit_plan(words), .threads = THREADS, .tries = TRIES };
    return crowd;
}

/* A new key for each run. */
static void crowd_again(crowd_t *crowd, int run, bool two)
{
    apr_snprintf(crowd->names[0], sizeof(crowd->names[0]), "user:%d", run);
    crowd->names[1][0] = '\0';
    if (two) {
        apr_snprintf(crowd->names[1], sizeof(crowd->names[1]), "org:%d", run / 2);
    }
    atomic_store(&crowd->admitted, 0);
    atomic_store(&crowd->ready, 0);
    atomic_store(&crowd->started, 0);
}

/* --- the tests */

typedef struct {
    const char *name;
    const char *words;
    int burst;
    bool two; /* identities in each request */
    int runs;
} plan_t;

static const plan_t plans[] = {
    { "T-24 T-25", "rate=50/day", 50, false, RUNS },
    { "F-03", "rate=50/day algorithm=fixed-window", 50, false, RUNS },
    { "B-24", "rate=50/day algorithm=stepped-bucket", 50, false, RUNS / 4 },
    { "T-24 three limits", "rate=50/day quota=60 rate=70/day algorithm=fixed-window", 50, false,
      RUNS / 4 },
};

static void run_threads(rlp_store_t *store, const plan_t *plan)
{
    crowd_t *crowd = crowd_of(store, plan->words);
    pthread_t threads[THREADS];

    for (int run = 0; run < RUNS / 4; run++) {
        crowd_again(crowd, run, plan->two);
        crowd_threads(crowd, threads);
        crowd_start(crowd, 1);
        crowd_join(crowd, threads);
        assert_int_equal(atomic_load(&crowd->admitted), plan->burst);
    }
    munmap(crowd, sizeof(*crowd));
}

static void test_threads_memory(void **state)
{
    run_threads(open_memory(), unit_row(state));
}

static void test_threads_shm(void **state)
{
    run_threads(open_shm(ONE_SHARD), unit_row(state));
}

/* Several identities, met in either order: everybody is answered, and each keeps its own
   promise. */
static void test_threads_two(void **state)
{
    const plan_t plan = { "", "rate=50/day", 50, true, RUNS / 4 };
    rlp_charge_t charges[2 * RLP_LIMITS_MAX];
    crowd_t *crowd = crowd_of(open_shm(SHARDS), plan.words);
    pthread_t threads[THREADS];

    (void)state;
    for (int run = 0; run < RUNS / 4; run++) {
        crowd_again(crowd, run * 2, true);
        crowd_threads(crowd, threads);
        crowd_start(crowd, 1);
        crowd_join(crowd, threads);
        assert_int_equal(atomic_load(&crowd->admitted), plan.burst);
        assert_int_equal(crowd_ask(crowd, charges).verdict, RLP_DENY);
    }
    munmap(crowd, sizeof(*crowd));
}

static void test_processes(void **state)
{
    const plan_t *plan = unit_row(state);
    crowd_t *crowd = crowd_of(open_shm(plan->two ? SHARDS : ONE_SHARD), plan->words);
    pid_t children[PROCESSES];

    for (int run = 0; run < plan->runs; run++) {
        crowd_again(crowd, run, plan->two);
        crowd_fork(crowd, children);
        crowd_start(crowd, PROCESSES);
        for (int i = 0; i < PROCESSES; i++) {
            int status = -1;

            assert_int_equal(waitpid(children[i], &status, 0), children[i]);
            assert_int_equal(status, 0);
        }
        assert_int_equal(atomic_load(&crowd->admitted), plan->burst);
    }
    munmap(crowd, sizeof(*crowd));
}

/* Children die in the midst of it, one after the other. With a large burst most deaths come while
   units are left. */
static void test_killed(void **state)
{
    const plan_t *plan = unit_row(state);
    crowd_t *crowd = crowd_of(open_shm(plan->two ? SHARDS : ONE_SHARD), plan->words);
    rlp_charge_t charges[2 * RLP_LIMITS_MAX];
    uint64_t random = unit_seed();
    pid_t children[PROCESSES];

    crowd->tries = 0;
    crowd->threads = 2; /* the killer wants its turn, too */
    for (int run = 0; run < plan->runs; run++) {
        crowd_again(crowd, run, plan->two);
        crowd_fork(crowd, children);
        crowd_start(crowd, PROCESSES);
        for (int i = 0; i < PROCESSES; i++) {
            for (uint64_t n = unit_below(&random, 16); n > 0; n--) {
                (void)crowd_ask(crowd, charges);
            }
            assert_int_equal(kill(children[i], SIGKILL), 0);
            assert_int_equal(waitpid(children[i], NULL, 0), children[i]);
        }
        /* what the parent took is in the counter too, so count what is left as well */
        const rlp_answer_t answer = crowd_ask(crowd, charges);

        assert_false(answer.damaged);
        assert_in_range(atomic_load(&crowd->admitted), 0, plan->burst);
        assert_in_range(charges[0].decision.remaining, 0, plan->burst - 1);
        assert_true(atomic_load(&crowd->admitted) + charges[0].decision.remaining <= plan->burst);
    }
    munmap(crowd, sizeof(*crowd));
}

static const plan_t killed[] = {
    { "T-24 kill -9", "rate=500/day", 500, false, 10 },
    { "T-24 kill -9, plenty", "rate=100000000/day", 100000000, false, 10 },
    { "T-24 kill -9, two identities", "rate=100000000/day quota=100000000", 100000000, true, 10 },
};

/* --- the numbers of processes */

/* Shared by all. */
typedef struct {
    atomic_int users[RLP_OWNERS_MAX]; /* how many processes believe to have that number */
    atomic_int twice;
    _Atomic rlp_hold_t holds[PROCESSES];
} numbers_t;

static numbers_t *new_numbers(void)
{
    numbers_t *numbers =
        mmap(NULL, sizeof(*numbers), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(numbers != MAP_FAILED);
    return numbers;
}

/* A pid above all that a system gives. */
#define NOBODY (1 << 23)

static void test_owners(void **state)
{
    rlp_store_t *store = open_shm(ONE_SHARD);
    rlp_hold_t holds[RLP_OWNERS_MAX];

    (void)state;
    for (int i = 0; i < RLP_OWNERS_MAX; i++) {
        holds[i] = rlp_owner_open(store, NOBODY + i);
        assert_int_equal(holds[i] >> 48, i);
        assert_true(rlp_hold_lives(store->owners, holds[i] | 5));
    }
    assert_int_equal(rlp_owner_open(store, NOBODY + RLP_OWNERS_MAX), 0);
    rlp_owner_close(store, NOBODY + 7);
    rlp_owner_close(store, NOBODY + RLP_OWNERS_MAX); /* has none */
    assert_false(rlp_hold_lives(store->owners, holds[7]));
    assert_true(rlp_hold_lives(store->owners, holds[6]) && rlp_hold_lives(store->owners, holds[8]));
    const rlp_hold_t again = rlp_owner_open(store, getpid());

    assert_int_equal(again >> 48, 7);
    assert_false(rlp_hold_lives(store->owners, holds[7]));
    assert_true(rlp_owner_sweep(store)); /* all but ours */
    assert_true(rlp_hold_lives(store->owners, again));
    assert_false(rlp_hold_lives(store->owners, holds[8]));
    assert_false(rlp_owner_sweep(store));
    store->owners->owner[3] = 1; /* damage: no process has the number 0, nor one below */
    store->owners->owner[4] = UINT64_C(0xffffffff00000001);
    assert_true(rlp_owner_sweep(store));
    assert_int_equal(rlp_owner_open(store, getpid()) >> 48, 0);
    assert_int_equal((store->owners->owner[3] | store->owners->owner[4]) & 1, 0);
}

/* Takes a number and gives it back, over and over; also sweeps. */
static void number_child(rlp_store_t *store, numbers_t *numbers)
{
    for (int i = 0; i < 2000; i++) {
        const rlp_hold_t hold = rlp_owner_open(store, getpid());
        const size_t number = hold >> 48;

        if (hold == 0 || atomic_fetch_add(&numbers->users[number], 1) != 0 ||
            !rlp_hold_lives(store->owners, hold)) {
            atomic_fetch_add(&numbers->twice, 1);
        }
        (void)rlp_owner_sweep(store);
        atomic_fetch_sub(&numbers->users[number], 1);
        rlp_owner_close(store, getpid());
    }
}

static void test_owners_race(void **state)
{
    rlp_store_t *store = open_shm(ONE_SHARD);
    numbers_t *numbers = new_numbers();
    pid_t children[PROCESSES];

    (void)state;
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            number_child(store, numbers);
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = -1;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(atomic_load(&numbers->twice), 0);
    munmap(numbers, sizeof(*numbers));
}

/* kill -9: the number is free after a sweep, and whoever gets it next holds nothing. */
static void test_owners_killed(void **state)
{
    rlp_store_t *store = open_shm(ONE_SHARD);
    numbers_t *numbers = new_numbers();
    pid_t children[PROCESSES];

    (void)state;
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            (void)alarm(300); /* where the test fails, too */
            atomic_store(&numbers->holds[i], rlp_owner_open(store, getpid()) | 3);
            for (;;) {
                pause();
            }
        }
        while (atomic_load(&numbers->holds[i]) == 0) {
            sched_yield();
        }
    }
    assert_false(rlp_owner_sweep(store));
    for (int i = 0; i < PROCESSES; i++) {
        const rlp_hold_t hold = atomic_load(&numbers->holds[i]);

        assert_int_equal(hold >> 48, i);
        assert_true(rlp_hold_lives(store->owners, hold));
        assert_int_equal(kill(children[i], SIGKILL), 0);
        assert_int_equal(waitpid(children[i], NULL, 0), children[i]);
        assert_true(rlp_owner_sweep(store));
        assert_false(rlp_hold_lives(store->owners, hold));
    }
    for (int i = 0; i < PROCESSES; i++) {
        const rlp_hold_t hold = rlp_owner_open(store, NOBODY + i);

        assert_int_equal(hold >> 48, i);
        assert_true(rlp_hold_lives(store->owners, hold));
        assert_false(rlp_hold_lives(store->owners, atomic_load(&numbers->holds[i])));
    }
    munmap(numbers, sizeof(*numbers));
}

int main(void)
{
    const char *processes = getenv("RLP_PROCESSES");

    for (size_t i = 0; i < UNIT_N(plans); i++) {
        unit_add_case(plans[i].name, "threads, memory", test_threads_memory, &plans[i]);
        unit_add_case(plans[i].name, "threads, shm", test_threads_shm, &plans[i]);
    }
    unit_add("T-24: threads, two identities in either order", test_threads_two, NULL);
    unit_add("each process has a number of its own", test_owners, NULL);
    if (processes != NULL && strcmp(processes, "no") == 0) {
        return unit_run();
    }
    for (size_t i = 0; i < UNIT_N(plans); i++) {
        unit_add_case(plans[i].name, "8 processes x 8 threads", test_processes, &plans[i]);
    }
    unit_add("processes never share a number", test_owners_race, NULL);
    unit_add("kill -9 frees the number and voids what it held", test_owners_killed, NULL);
    for (size_t i = 0; i < UNIT_N(killed); i++) {
        unit_add_case(killed[i].name, killed[i].words, test_killed, &killed[i]);
    }
    return unit_run();
}
