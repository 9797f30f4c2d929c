/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Decisions in Redis a second, in turn: a bare program on hiredis with the simplest script that
 * limits a rate (GCRA: one number a key), and the store, over as many connections with a thread
 * each.
 *
 *   redis -p PORT [-c CONNECTIONS] [-s SECONDS] [-r ROUNDS] [-k KEYS]
 *
 * One line of JSON for each round; ratio is store / bare.
 */

#include "redis/store.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <hiredis.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64

static const char bare_script[] =
    "local t=redis.call('TIME') local now=t[1]*1000000+t[2] "
    "local iv=tonumber(ARGV[1]) local tol=tonumber(ARGV[2]) "
    "local tat=tonumber(redis.call('GET',KEYS[1]) or 0) if tat<now then tat=now end "
    "local nt=tat+iv local d=nt-now if d>tol then return {0,tat-now} end "
    "redis.call('SET',KEYS[1],string.format('%.0f',nt),'PX',math.ceil(d/1000)) return {1,d}";

static struct {
    int port;
    int connections;
    double seconds;
    int rounds;
    unsigned keys;
} options = { .connections = 4, .seconds = 2, .rounds = 5, .keys = 100000 };

typedef struct {
    unsigned random;
    long done;
    const rlp_store_t *store;
    const rlp_limit_t *limit;
} worker_t;

static atomic_bool stopped;

static unsigned worker_key(worker_t *worker)
{
    worker->random = worker->random * 1664525U + 1013904223U;
    return (worker->random >> 8) % options.keys;
}

static void die(const char *what)
{
    fprintf(stderr, "redis: %s\n", what);
    exit(1);
}

/* --- the bare program */

static void bare_ask(redisContext *context, worker_t *worker, const char *sha)
{
    char key[40];

    snprintf(key, sizeof(key), "bare:{user:%u}:api", worker_key(worker));
    const char *argv[] = { "EVALSHA", sha, "1", key, "10", "600000000" };
    redisReply *reply = redisCommandArgv(context, 6, argv, NULL);

    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY) {
        die(reply == NULL ? context->errstr : "no decision");
    }
    freeReplyObject(reply);
    worker->done++;
}

static void *bare_run(void *data)
{
    worker_t *worker = data;
    redisContext *context = redisConnect("127.0.0.1", options.port);
    redisReply *reply =
        context == NULL ? NULL : redisCommand(context, "SCRIPT LOAD %s", bare_script);

    if (reply == NULL || reply->type != REDIS_REPLY_STRING) {
        die("cannot connect");
    }
    while (!stopped) {
        bare_ask(context, worker, reply->str);
    }
    freeReplyObject(reply);
    redisFree(context);
    return NULL;
}

/* --- the store */

static rlp_store_t *store_open(apr_pool_t *pool)
{
    static redis_breaker_t breakers[CONNECTIONS_MAX];
    const char **scripts = apr_palloc(pool, sizeof(*scripts));
    const redis_settings_t settings = {
        .session = { .scripts = scripts, .n_scripts = 1, .connect = RLP_SECOND },
        .breaker = { .threshold = 1000,
                     .recovery = RLP_SECOND,
                     .longest = RLP_SECOND,
                     .probe = RLP_SECOND },
    };
    redis_store_settings_t made = { .prefix = "", .timeout = RLP_SECOND };
    redis_url_t url;

    scripts[0] = redis_store_script(pool);
    if (redis_url_parse(&url, apr_psprintf(pool, "redis://127.0.0.1:%d", options.port), NULL,
                        pool) != NULL ||
        redis_endpoint_create(&made.endpoint, &url, &settings, breakers, CONNECTIONS_MAX, pool) !=
            APR_SUCCESS) {
        die("no store");
    }
    return redis_store_create(&made, pool);
}

static void store_ask(worker_t *worker)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_charge_t charge;
    rlp_answer_t answer;
    char user[24];
    const int len = snprintf(user, sizeof(user), "user:%u", worker_key(worker));

    rlp_charge_init(&charge, user, (size_t)len, rlp_signature("api", NULL, worker->limit),
                    worker->limit);
    charge.rule = "api";
    if (rlp_check((rlp_store_t *)(uintptr_t)worker->store, &charge, 1, &question, &answer) !=
        APR_SUCCESS) {
        die("no answer");
    }
    worker->done++;
}

static void *store_run(void *data)
{
    worker_t *worker = data;

    while (!stopped) {
        store_ask(worker);
    }
    return NULL;
}

/* --- in turn */

/* Decisions a second. */
static double measure(void *(*run)(void *), worker_t workers[])
{
    pthread_t threads[CONNECTIONS_MAX];
    double done = 0;
    const rlp_time_t begun = rlp_clock_monotonic();

    stopped = false;
    for (int i = 0; i < options.connections; i++) {
        workers[i].done = 0;
        if (pthread_create(&threads[i], NULL, run, &workers[i]) != 0) {
            die("no thread");
        }
    }
    usleep((useconds_t)(options.seconds * 1e6));
    stopped = true;
    for (int i = 0; i < options.connections; i++) {
        pthread_join(threads[i], NULL);
        done += (double)workers[i].done;
    }
    return done * RLP_SECOND / (double)(rlp_clock_monotonic() - begun);
}

static void options_read(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "p:c:s:r:k:")) != -1) {
        switch (option) {
        case 'p':
            options.port = atoi(optarg);
            break;
        case 'c':
            options.connections = atoi(optarg);
            break;
        case 's':
            options.seconds = atof(optarg);
            break;
        case 'r':
            options.rounds = atoi(optarg);
            break;
        case 'k':
            options.keys = (unsigned)atoi(optarg);
            break;
        default:
            exit(64);
        }
    }
    if (options.port == 0 || options.connections < 1 || options.connections > CONNECTIONS_MAX ||
        options.keys == 0) {
        die("expected -p PORT, 1 to 64 connections, keys");
    }
}

int main(int argc, char **argv)
{
    static const char *const words[] = { "rate=100000/s", "burst=60000000" };
    worker_t workers[CONNECTIONS_MAX] = { { 0 } };
    const rlp_plan_source_t source = { .name = "bench", .words = words, .n = 2 };
    rlp_plan_t *plan;
    apr_pool_t *pool;

    options_read(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    apr_initialize();
    apr_pool_create(&pool, NULL);
    if (rlp_plan_parse(&plan, &source, pool) != NULL) {
        die("no plan");
    }
    for (int i = 0; i < options.connections; i++) {
        workers[i] = (worker_t){ .random = (unsigned)i + 1,
                                 .store = store_open(pool),
                                 .limit = &plan->limits[0] };
    }
    for (int i = 0; i < options.rounds; i++) {
        const double bare = measure(bare_run, workers);
        const double store = measure(store_run, workers);

        printf("{\"connections\":%d,\"bare\":%.0f,\"store\":%.0f,\"ratio\":%.2f}\n",
               options.connections, bare, store, store / bare);
        fflush(stdout);
    }
    apr_terminate();
    return 0;
}
