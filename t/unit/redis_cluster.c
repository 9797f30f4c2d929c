/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A cluster of real servers, whose slots move and whose masters die. Skipped where there is no
 * redis-server (REDIS_SERVER names it).
 */

#include "redis_site.h"

#include "redis/slot.h"

#include <apr_strings.h>

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct {
    int port[2 * SETS]; /* masters, then the replica of each */
    pid_t pid[2 * SETS];
    const char *id[2 * SETS];
} cluster_t;

/* None of them takes another for dead that is only slow, until they are told to be in a hurry. */
static bool cluster_start(cluster_t *cluster)
{
    for (int i = 0; i < 2 * SETS; i++) {
        cluster->port[i] = peer_port();
        cluster->pid[i] =
            server_start(cluster->port[i],
                         apr_psprintf(unit_pool(),
                                      PLAIN " --cluster-enabled yes --cluster-node-timeout 600000 "
                                            "--cluster-port %d"
                                            " --cluster-replica-validity-factor 0",
                                      peer_port()));
        if (cluster->pid[i] == 0) {
            return false;
        }
        cluster->id[i] = server_ask(cluster->port[i], "CLUSTER MYID");
    }
    return true;
}

/* The bus port that a node chose. */
static const char *cluster_bus(int port)
{
    redisContext *context = redisConnect("127.0.0.1", port);
    redisReply *reply = redisCommand(context, "CONFIG GET cluster-port");
    const char *bus = apr_pstrdup(unit_pool(), reply->element[1]->str);

    freeReplyObject(reply);
    redisFree(context);
    return bus;
}

/* Each is told of each other: what they tell one another takes its time. */
static void cluster_meet(const cluster_t *cluster)
{
    for (int i = 0; i < 2 * SETS; i++) {
        const char *meet = apr_psprintf(unit_pool(), "CLUSTER MEET 127.0.0.1 %d %s",
                                        cluster->port[i], cluster_bus(cluster->port[i]));

        for (int k = 0; k < i; k++) {
            server_await(cluster->port[k], meet, "OK");
        }
    }
    for (int i = 0; i < 2 * SETS; i++) {
        for (int k = 0; k < 2 * SETS; k++) {
            server_await(cluster->port[i], "CLUSTER NODES", cluster->id[k]);
        }
    }
}

/* From now on who is dead is replaced. */
static void cluster_hurry(const cluster_t *cluster, int dead)
{
    for (int i = 0; i < 2 * SETS; i++) {
        if (i != dead) {
            server_await(cluster->port[i], "CONFIG SET cluster-node-timeout 500", "OK");
        }
    }
}

static void cluster_join(const cluster_t *cluster)
{
    for (int i = 0; i < 2 * SETS; i++) {
        const int port = cluster->port[i];

        if (i < SETS) {
            server_ask(port,
                       apr_psprintf(unit_pool(), "CLUSTER ADDSLOTSRANGE %d %d",
                                    i * REDIS_SLOTS / SETS, (i + 1) * REDIS_SLOTS / SETS - 1));
        }
        server_ask(port, apr_psprintf(unit_pool(), "CLUSTER SET-CONFIG-EPOCH %d", i + 1));
    }
    cluster_meet(cluster);
    for (int i = SETS; i < 2 * SETS; i++) {
        server_await(cluster->port[i],
                     apr_psprintf(unit_pool(), "CLUSTER REPLICATE %s", cluster->id[i - SETS]),
                     "OK");
        server_await(cluster->port[i], "INFO replication", "master_link_status:up");
    }
    for (int i = 0; i < 2 * SETS; i++) {
        server_await(cluster->port[i], "CLUSTER INFO", "cluster_state:ok");
    }
}

/* Counts in a thread of its own. */
typedef struct {
    const site_t *site;
    const char *command;
    atomic_bool stopped;
    atomic_int counted;
    atomic_int failed;
} counter_t;

static void *count(void *data)
{
    counter_t *counter = data;
    char got[64];

    while (!atomic_load(&counter->stopped)) {
        const bool counted = site_ask(counter->site, counter->command, got) == REDIS_FAULT_NONE;

        atomic_fetch_add(counted ? &counter->counted : &counter->failed, 1);
        poll(NULL, 0, 1);
    }
    return NULL;
}

/* So that the counter has counted in this state of affairs. */
static void counter_go_on(const counter_t *counter)
{
    const int before = atomic_load(&counter->counted);

    for (int64_t end = peer_ms() + PATIENCE; peer_ms() < end; poll(NULL, 0, 1)) {
        if (atomic_load(&counter->counted) > before + 5) {
            return;
        }
    }
    fail_msg("it counts no more");
}

/* A slot goes from one master to another while its key is in use. */
static void cluster_migrate(const cluster_t *cluster, const site_t *site)
{
    const int slot = redis_slot("{user:42}", 9);
    const int from = slot * SETS / REDIS_SLOTS, to = (from + 1) % SETS;
    counter_t counter = { .site = site, .command = "INCR rlp:{user:42}" };
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, count, &counter), 0);
    counter_go_on(&counter);
    server_await(cluster->port[to],
                 apr_psprintf(unit_pool(), "CLUSTER SETSLOT %d IMPORTING %s", slot,
                              cluster->id[from]),
                 "OK");
    server_await(cluster->port[from],
                 apr_psprintf(unit_pool(), "CLUSTER SETSLOT %d MIGRATING %s", slot,
                              cluster->id[to]),
                 "OK");
    counter_go_on(&counter);
    server_await(cluster->port[from],
                 apr_psprintf(unit_pool(), "MIGRATE 127.0.0.1 %d rlp:{user:42} 0 20000",
                              cluster->port[to]),
                 "OK");
    counter_go_on(&counter); /* by ASK */
    for (int i = 0; i < SETS; i++) {
        server_await(cluster->port[(to + i) % SETS],
                     apr_psprintf(unit_pool(), "CLUSTER SETSLOT %d NODE %s", slot, cluster->id[to]),
                     "OK");
    }
    counter_go_on(&counter); /* by MOVED, then there */
    redis_endpoint_maintain(site->endpoint);
    counter_go_on(&counter);
    atomic_store(&counter.stopped, true);
    pthread_join(thread, NULL);
    assert_int_equal(counter.failed, 0);
    assert_int_equal(atoi(server_ask(cluster->port[to], "GET rlp:{user:42}")), counter.counted);
}

static void test_cluster(void **state)
{
    cluster_t cluster;
    char got[64];

    (void)state;
    if (!cluster_start(&cluster)) {
        unit_skip("no redis-server");
        return;
    }
    cluster_join(&cluster);
    site_t *site = site_open(apr_psprintf(unit_pool(), "redis-cluster://127.0.0.1:%d,127.0.0.1:%d",
                                          cluster.port[0], cluster.port[1]));

    for (int i = 0; i < 50; i++) { /* with and without knowing the slots */
        assert_int_equal(site_ask(site, apr_psprintf(unit_pool(), "SET {%d}:k %d", i, i), got),
                         REDIS_FAULT_NONE);
        redis_endpoint_maintain(site->endpoint);
    }
    cluster_migrate(&cluster, site);

    const int lost = redis_slot("foo", 3) * SETS / REDIS_SLOTS;

    assert_int_equal(site_ask(site, "SET foo 1", got), REDIS_FAULT_NONE);
    server_kill(cluster.pid[lost]);
    assert_int_not_equal(site_ask(site, "SET foo 2", got), REDIS_FAULT_NONE);
    cluster_hurry(&cluster, lost);
    site_await(site, "SET foo 2", got);
    assert_string_equal(server_ask(cluster.port[lost + SETS], "GET foo"), "2");
    for (int i = 0; i < 2 * SETS; i++) {
        if (i != lost) {
            server_kill(cluster.pid[i]);
        }
    }
}

int main(void)
{
    unit_add("three masters and three replicas: slot migration, failover", test_cluster, NULL);
    return unit_run();
}
