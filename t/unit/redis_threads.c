/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Many threads on one connection: each gets its own replies.
 */

#include "redis_client.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define THREADS 8

typedef struct {
    client_t *client;
    int number;
    int rounds;
    atomic_int *wrong;
    atomic_int *right;
    pthread_barrier_t *all; /* have begun */
} worker_t;

/* Commands whose replies are theirs alone; each second time two at once. */
static void *work(void *data)
{
    const worker_t *worker = data;

    pthread_barrier_wait(worker->all);
    for (int i = 0; i < worker->rounds; i++) {
        char words[2][32];
        const char *argv[2][2] = { { "ECHO", words[0] }, { "ECHO", words[1] } };
        size_t len[2][2];
        redis_call_t call[2];
        redis_call_t *const calls[] = { &call[0], &call[1] };
        const int n = 1 + i % 2;

        for (int k = 0; k < 2; k++) {
            snprintf(words[k], sizeof(words[k]), "%d-%d-%d", worker->number, i, k);
            len[k][0] = 4;
            len[k][1] = strlen(words[k]);
            call[k] = (redis_call_t){ .argc = 2, .argv = argv[k], .argv_len = len[k] };
        }
        redis_connection_exchange(worker->client->connection, calls, n,
                                  rlp_clock_monotonic() + worker->client->settings.session.connect);
        for (int k = 0; k < n; k++) {
            if (call[k].reply == NULL) {
                continue;
            }
            atomic_fetch_add(strcmp(call[k].reply->str, words[k]) == 0 ? worker->right
                                                                       : worker->wrong,
                             1);
            freeReplyObject(call[k].reply);
        }
    }
    return NULL;
}

static void work_together(client_t *client, int rounds, atomic_int *right, atomic_int *wrong)
{
    pthread_t threads[THREADS];
    worker_t workers[THREADS];
    pthread_barrier_t all;

    assert_int_equal(pthread_barrier_init(&all, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker_t){ client, i, rounds, wrong, right, &all };
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&all);
}

static void test_threads(void **state)
{
    client_t client = { 0 };
    peer_t peer;
    atomic_int right = 0, wrong = 0;

    (void)state;
    peer_start(&peer, client_serve_echo, NULL);
    client_open(&client, peer.port);
    client.settings.session.connect = 20 * RLP_SECOND;
    work_together(&client, 500, &right, &wrong);
    assert_int_equal(wrong, 0);
    assert_int_equal(right, THREADS * 750);
    assert_int_equal(peer.clients, 1);
    client_close(&client);
    peer_stop(&peer);
}

#define FAULTS_ROUNDS 300
#define FAULTS_CALLS (THREADS * FAULTS_ROUNDS * 3 / 2)
#define HANGS_UP 97 /* at each so many'th command, */
#define SILENT 811  /* or says nothing while anybody waits; at most 16 are under way then */

static atomic_int silences;

/* Now and then hangs up, or falls silent for longer than anybody waits. */
static bool serve_badly(peer_t *peer, int fd, const redisReply *command)
{
    const int n = atomic_load(&peer->commands);

    if (command != NULL && n % SILENT == 0) {
        struct pollfd gone = { .fd = fd, .events = POLLRDHUP };

        atomic_fetch_add(&silences, poll(&gone, 1, 20000) == 1);
    } else if (command != NULL && n % HANGS_UP == 0) {
        return false;
    }
    return client_serve_echo(peer, fd, command);
}

static void test_threads_faults(void **state)
{
    client_t client = { 0 };
    peer_t peer;
    atomic_int right = 0, wrong = 0;

    (void)state;
    peer_start(&peer, serve_badly, NULL);
    client_open(&client, peer.port);
    client.settings.session.connect = TIMEOUT;
    client.settings.breaker.threshold = 1000;
    work_together(&client, FAULTS_ROUNDS, &right, &wrong);
    assert_int_equal(wrong, 0);
    assert_in_range(silences, 1, FAULTS_CALLS / SILENT);
    assert_in_range(peer.clients, FAULTS_CALLS / 2 / HANGS_UP, FAULTS_CALLS);
    assert_in_range(right, FAULTS_CALLS / 2, FAULTS_CALLS - FAULTS_CALLS / 2 / HANGS_UP);
    client_close(&client);
    peer_stop(&peer);
}

/* Eight requests wait on a server that does not answer: one failure, not eight. */
static bool serve_never(peer_t *peer, int fd, const redisReply *command)
{
    (void)peer;
    (void)fd;
    (void)command;
    return true;
}

static void test_threads_one_failure(void **state)
{
    client_t client = { 0 };
    peer_t peer;
    atomic_int right = 0, wrong = 0;
    const int64_t begun = peer_ms();

    (void)state;
    peer_start(&peer, serve_never, NULL);
    client_open(&client, peer.port);
    client.settings.session.connect = TIMEOUT;
    work_together(&client, 1, &right, &wrong);
    assert_in_range(peer_ms() - begun, 0, TIMEOUT / 1000 + SLACK);
    assert_int_equal(right + wrong, 0);
    assert_int_equal(client_look(&client).phase, REDIS_CLOSED);
    assert_int_equal(client_look(&client).failures, 1);
    client_close(&client);
    peer_stop(&peer);
}

int main(void)
{
    unit_add("8 threads, one connection: each its own replies", test_threads, NULL);
    unit_add("8 threads, and a peer that hangs up and stalls", test_threads_faults, NULL);
    unit_add("8 threads that wait in vain are one failure", test_threads_one_failure, NULL);
    return unit_run();
}
