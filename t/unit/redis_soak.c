/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The store in Redis under load while its server is killed, stopped, emptied and cut off at random:
 * threads of several processes share an endpoint and its breakers, as httpd's children do. Each
 * answer is sound and in time, no limit is exceeded by more than restarts explain, and in the end
 * the server is found again. RLP_SOAK is the number of seconds (3).
 */

#include "redis_peer.h"

#include "redis/store.h"

#include <apr_strings.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMEOUT (RLP_SECOND / 20)
#define LATE_MS 20000 /* no answer takes so long, on any machine */
#define CHILDREN 3
#define THREADS 5
#define BREAKERS 8
#define CLIENTS 12
#define LIMIT 500 /* of the quota, which is never renewed */
#define PLAIN "--save --appendonly no"

/* In memory that the processes share. */
typedef struct {
    redis_breaker_t breakers[BREAKERS];
    rlp_owners_t owners;
    atomic_int admitted[CLIENTS]; /* by the quota */
    atomic_int answered;
    atomic_int failed;
    atomic_int opened;
    atomic_int wrong; /* answers that cannot be */
} shared_t;

static const char *const kinds[] = { "quota=500",
                                     "rate=1000/min",
                                     "rate=50/s algorithm=sliding-log",
                                     "rate=300/min algorithm=fixed-window",
                                     "rate=300/min algorithm=sliding-window",
                                     "rate=60/min algorithm=leaky-bucket",
                                     "concurrent=7 lease=1s" };

static struct {
    shared_t *shared;
    redis_endpoint_t *endpoint;
    rlp_store_t *store;
    const rlp_limit_t *limits[UNIT_N(kinds)];
    int port;
    pid_t server; /* 0: it is not there */
    int starts;
} soak;

/* --- a child */

typedef struct {
    uint64_t random;
    atomic_bool *stop;
} worker_t;

static bool answer_is_sound(const rlp_charge_t charges[], int n, const rlp_answer_t *answer)
{
    bool sound = answer->tightest >= 0 && answer->tightest < n;

    for (int i = 0; i < n; i++) {
        const rlp_decision_t *decision = &charges[i].decision;

        sound &= decision->verdict <= RLP_NEVER && decision->remaining >= 0 &&
                 decision->retry >= 0 && decision->wait >= 0 && decision->reset >= 0;
    }
    return sound;
}

/* A request: two limits of one client or of two, sometimes corrected, places given back. */
static void worker_ask(worker_t *worker)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    const int who = (int)unit_below(&worker->random, CLIENTS);
    const int other = unit_below(&worker->random, 3) == 0 ? (who + 1) % CLIENTS : who;
    const size_t kind = 1 + (size_t)unit_below(&worker->random, UNIT_N(kinds) - 1);
    const int64_t begun = peer_ms();
    rlp_charge_t charges[2];
    rlp_answer_t answer;
    char names[2][16];

    for (int i = 0; i < 2; i++) {
        const size_t which = i == 0 ? 0 : kind;
        const int len = snprintf(names[i], sizeof(names[i]), "user:%d", i == 0 ? who : other);

        rlp_charge_init(&charges[i], names[i], (size_t)len,
                        rlp_signature(kinds[which], NULL, soak.limits[which]), soak.limits[which]);
        charges[i].rule = which == 0 ? "quota" : "other";
    }
    const apr_status_t rv = rlp_check(soak.store, charges, 2, &question, &answer);

    atomic_fetch_add(rv == APR_SUCCESS ? &soak.shared->answered : &soak.shared->failed, 1);
    if (peer_ms() - begun > LATE_MS ||
        (rv == APR_SUCCESS && !answer_is_sound(charges, 2, &answer))) {
        atomic_fetch_add(&soak.shared->wrong, 1);
    }
    if (rv != APR_SUCCESS) {
        poll(NULL, 0, 1);
    }
    if (rv != APR_SUCCESS || answer.verdict > RLP_WAIT) {
        return;
    }
    atomic_fetch_add(&soak.shared->admitted[who], 1);
    if (soak.limits[kind]->algorithm->holds) {
        (void)rlp_release(soak.store, &charges[1], 1, &question, &answer);
    } else if (unit_below(&worker->random, 4) == 0) {
        charges[1].cost = -charges[1].cost;
        (void)rlp_settle(soak.store, &charges[1], 1, &question, &answer);
    }
}

static void *worker_run(void *data)
{
    worker_t *worker = data;

    while (!atomic_load(worker->stop)) {
        worker_ask(worker);
    }
    return NULL;
}

static void *keeper_run(void *data)
{
    atomic_bool *stop = data;

    while (!atomic_load(stop)) {
        redis_endpoint_maintain(soak.endpoint);
        poll(NULL, 0, 20);
    }
    return NULL;
}

/* Works for so many milliseconds; then ends in good order, or as a crash would. */
static void child_run(uint64_t random, int ms, bool crashes)
{
    atomic_bool stop = false;
    worker_t workers[THREADS];
    pthread_t threads[THREADS + 1];

    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker_t){ .random = random + (uint64_t)i, .stop = &stop };
        pthread_create(&threads[i], NULL, worker_run, &workers[i]);
    }
    pthread_create(&threads[THREADS], NULL, keeper_run, &stop);
    poll(NULL, 0, ms);
    if (crashes) {
        kill(getpid(), SIGKILL);
    }
    atomic_store(&stop, true);
    for (int i = 0; i <= THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    _exit(0);
}

static pid_t child_start(uint64_t *random)
{
    const int ms = 300 + (int)unit_below(random, 3000);
    const bool crashes = unit_below(random, 4) == 0;
    const uint64_t seed = unit_random(random);
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        child_run(seed, ms, crashes);
    }
    return pid;
}

/* Replaces those that have ended, unless it is over; how many still run. */
static int children_tend(pid_t pids[CHILDREN], uint64_t *random, bool over)
{
    int running = 0;

    for (int i = 0; i < CHILDREN; i++) {
        int status = 0;

        if (pids[i] != 0 && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
            assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
            pids[i] = 0;
        }
        if (pids[i] == 0 && !over) {
            pids[i] = child_start(random);
        }
        running += pids[i] != 0;
    }
    return running;
}

/* --- the server */

static void server_begin(void)
{
    soak.server = server_start(soak.port, PLAIN);
    soak.starts++;
}

static void server_suffer(uint64_t *random)
{
    if (soak.server == 0) {
        server_begin();
        return;
    }
    switch (unit_below(random, 6)) {
    case 0:
        server_kill(soak.server);
        soak.server = 0;
        return;
    case 1:
        kill(soak.server, SIGSTOP);
        poll(NULL, 0, (int)unit_below(random, 400));
        kill(soak.server, SIGCONT);
        return;
    case 2:
        server_ask(soak.port, "SCRIPT FLUSH");
        return;
    case 3:
        server_ask(soak.port, "CLIENT KILL TYPE normal");
        return;
    default:
        return;
    }
}

/* --- the test */

static void soak_report(void *baton, const char *server, redis_change_t change, const char *why)
{
    (void)baton;
    (void)server;
    (void)why;
    atomic_fetch_add(&soak.shared->opened, change.to == REDIS_OPEN);
}

static void soak_open(void)
{
    static const char *scripts[1];
    const redis_settings_t settings = {
        .session = { .scripts = scripts, .n_scripts = 1, .connect = TIMEOUT },
        .breaker = { .threshold = 3,
                     .recovery = RLP_SECOND / 20,
                     .longest = RLP_SECOND / 5,
                     .probe = RLP_SECOND,
                     .jitter = 20 },
        .report = soak_report,
    };
    const redis_store_settings_t made = { .prefix = "" };
    redis_store_settings_t inner = made;
    redis_url_t url;

    scripts[0] = redis_store_script(unit_pool());
    soak.shared =
        mmap(NULL, sizeof(*soak.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(soak.shared, MAP_FAILED);
    assert_null(redis_url_parse(&url, apr_psprintf(unit_pool(), "redis://127.0.0.1:%d", soak.port),
                                NULL, unit_pool()));
    assert_int_equal(redis_endpoint_create(&soak.endpoint, &url, &settings, soak.shared->breakers,
                                           BREAKERS, unit_pool()),
                     APR_SUCCESS);
    inner.endpoint = soak.endpoint;
    inner.timeout = TIMEOUT;
    inner.owners = &soak.shared->owners;
    soak.store = redis_store_create(&inner, unit_pool());
    for (size_t i = 0; i < UNIT_N(kinds); i++) {
        soak.limits[i] = &unit_plan(kinds[i])->limits[0];
    }
}

/* An answer after all that; false: none came. */
static bool soak_recovers(void)
{
    const int before = atomic_load(&soak.shared->answered);
    worker_t worker = { .random = 1 };

    for (int64_t end = peer_ms() + LATE_MS; peer_ms() < end; poll(NULL, 0, 10)) {
        redis_endpoint_maintain(soak.endpoint);
        worker_ask(&worker);
        if (atomic_load(&soak.shared->answered) > before) {
            return true;
        }
    }
    return false;
}

static void test_soak(void **state)
{
    const char *seconds = getenv("RLP_SOAK");
    uint64_t random = unit_seed();
    pid_t pids[CHILDREN] = { 0 };

    (void)state;
    soak.port = peer_port();
    server_begin();
    if (soak.server == 0) {
        unit_skip("no redis-server");
        return;
    }
    soak_open();
    for (int64_t end = peer_ms() + INT64_C(1000) * (seconds == NULL ? 3 : atoi(seconds));
         peer_ms() < end;) {
        children_tend(pids, &random, false);
        poll(NULL, 0, 50 + (int)unit_below(&random, 250));
        server_suffer(&random);
    }
    while (children_tend(pids, &random, true) > 0) {
        poll(NULL, 0, 20);
    }
    if (soak.server == 0) {
        server_begin();
    }
    assert_true(soak_recovers());
    printf("# %d answers, %d without, %d starts of the server, the breaker opened %d times\n",
           soak.shared->answered, soak.shared->failed, soak.starts, soak.shared->opened);
    assert_int_equal(soak.shared->wrong, 0);
    for (int i = 0; i < CLIENTS; i++) {
        assert_in_range(soak.shared->admitted[i], 0, LIMIT * soak.starts);
    }
    server_kill(soak.server);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    unit_add("threads, processes, and a server that dies again and again", test_soak, NULL);
    return unit_run();
}
