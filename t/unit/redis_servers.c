/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Real servers, which the tests start, stop and kill: one, one behind Sentinels, a cluster. Skipped
 * where there is no redis-server (REDIS_SERVER names it).
 */

#include "redis_peer.h"

#include "redis/slot.h"

#include <apr_strings.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define TIMEOUT (RLP_SECOND / 2)
#define SLACK 4000 /* ms that a slow machine may add */
#define PATIENCE 20000
#define SETS 3
#define PLAIN "--save --appendonly no --repl-diskless-sync-delay 0 --busy-reply-threshold 20"

/* An endpoint with its breakers and what they told. */
typedef struct {
    redis_endpoint_t *endpoint;
    redis_breaker_t breakers[16];
    atomic_int opened;
    atomic_int closed;
} site_t;

static void site_report(void *baton, const char *server, redis_change_t change, const char *why)
{
    site_t *site = baton;

    (void)server;
    (void)why;
    atomic_fetch_add(&site->opened, change.from == REDIS_CLOSED);
    atomic_fetch_add(&site->closed, change.to == REDIS_CLOSED);
}

static site_t *site_open(const char *text)
{
    site_t *site = apr_pcalloc(unit_pool(), sizeof(*site));
    const redis_settings_t settings = {
        .session.connect = RLP_SECOND,
        .breaker = { .threshold = 3,
                     .recovery = RLP_SECOND / 2,
                     .longest = RLP_SECOND,
                     .probe = RLP_SECOND },
        .report = site_report,
        .baton = site,
    };
    redis_url_t url;

    assert_null(redis_url_parse(&url, text, NULL, unit_pool()));
    assert_int_equal(redis_endpoint_create(&site->endpoint, &url, &settings, site->breakers, 16,
                                           unit_pool()),
                     APR_SUCCESS);
    return site;
}

/* One command, its words parted by spaces, its key the second or the fourth (EVALSHA); the reply as
   server_ask() gives it. */
static redis_fault_t site_ask(const site_t *site, const char *command, char got[64])
{
    static const char script[] = "return redis.call('SET', KEYS[1], ARGV[1])";
    char text[256], *next;
    const char *argv[8];
    size_t len[8];
    redis_call_t call = { .argv = argv, .argv_len = len };
    const int64_t begun = peer_ms();

    apr_cpystrn(text, command, sizeof(text));
    for (char *word = strtok_r(text, " ", &next); word != NULL; word = strtok_r(NULL, " ", &next)) {
        argv[call.argc] = word;
        len[call.argc++] = strlen(word);
    }
    const bool scripted = strcmp(argv[0], "EVALSHA") == 0;

    call.key = call.argc > 1 ? argv[scripted ? 3 : 1] : NULL;
    call.key_len = call.key == NULL ? 0 : strlen(call.key);
    call.script = scripted ? script : NULL;
    call.script_len = sizeof(script) - 1;
    redis_endpoint_exchange(site->endpoint, &call, 1, rlp_clock_monotonic() + TIMEOUT);
    assert_in_range(peer_ms() - begun, 0, TIMEOUT / 1000 + SLACK);
    got[0] = '\0';
    if (call.reply != NULL) {
        snprintf(got, 64, "%.*s", call.reply->str == NULL ? 0 : 63,
                 call.reply->str == NULL ? "" : call.reply->str);
        if (call.reply->type == REDIS_REPLY_INTEGER) {
            snprintf(got, 64, "%lld", call.reply->integer);
        }
        freeReplyObject(call.reply);
    }
    return call.fault;
}

/* The same until it is answered, the endpoint kept up meanwhile; how many milliseconds it took. */
static int64_t site_await(const site_t *site, const char *command, char got[64])
{
    const int64_t begun = peer_ms();

    while (peer_ms() - begun < PATIENCE) {
        redis_endpoint_maintain(site->endpoint);
        if (site_ask(site, command, got) == REDIS_FAULT_NONE) {
            return peer_ms() - begun;
        }
        poll(NULL, 0, 10);
    }
    fail_msg("%s: never answered", command);
    return 0;
}

static const char *alone_url(int port)
{
    return apr_psprintf(unit_pool(), "redis://127.0.0.1:%d", port);
}

/* --- one server */

#define SHA "a5c59e3a6b1d5b0c2c1b4fb3ba4b8a7cdb4a5d0c" /* of no script: NOSCRIPT each time */

static void test_killed(void **state)
{
    const int port = peer_port();
    pid_t pid = server_start(port, PLAIN);
    char got[64];

    (void)state;
    if (pid == 0) {
        unit_skip("no redis-server");
        return;
    }
    site_t *site = site_open(alone_url(port));

    assert_int_equal(site_ask(site, "INCR key", got), REDIS_FAULT_NONE);
    assert_string_equal(got, "1");
    server_kill(pid);
    for (int i = 0; i < 3; i++) {
        assert_int_not_equal(site_ask(site, "INCR key", got), REDIS_FAULT_NONE);
    }
    const int64_t begun = peer_ms();

    for (int i = 0; i < 10; i++) {
        site_ask(site, "INCR key", got);
    }
    assert_in_range(peer_ms() - begun, 0, SLACK);
    assert_int_equal(site->opened, 1);
    pid = server_start(port, PLAIN);
    assert_in_range(site_await(site, "INCR key", got), 0, 2000);
    assert_string_equal(got, "1"); /* it has forgotten */
    assert_int_equal(site->closed, 1);
    server_kill(pid);
}

static void test_stopped(void **state)
{
    const int port = peer_port();
    const pid_t pid = server_start(port, PLAIN);
    char got[64];

    (void)state;
    if (pid == 0) {
        unit_skip("no redis-server");
        return;
    }
    site_t *site = site_open(alone_url(port));

    assert_int_equal(site_ask(site, "INCR key", got), REDIS_FAULT_NONE);
    kill(pid, SIGSTOP);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(site_ask(site, "INCR key", got), REDIS_FAULT_TIMEOUT);
    }
    assert_int_equal(site_ask(site, "INCR key", got), REDIS_FAULT_BREAKER);
    kill(pid, SIGCONT);
    site_await(site, "INCR key", got);
    assert_int_equal(site->opened, 1);
    assert_int_equal(site->closed, 1);
    server_kill(pid);
}

static void test_script(void **state)
{
    const int port = peer_port();
    const pid_t pid = server_start(port, PLAIN);
    char got[64];

    (void)state;
    if (pid == 0) {
        unit_skip("no redis-server");
        return;
    }
    site_t *site = site_open(alone_url(port));

    assert_int_equal(site_ask(site, "EVALSHA " SHA " 1 key 7", got), REDIS_FAULT_NONE);
    assert_string_equal(server_ask(port, "GET key"), "7");
    assert_string_equal(server_ask(port, "SCRIPT FLUSH"), "OK");
    assert_int_equal(site_ask(site, "EVALSHA " SHA " 1 key 8", got), REDIS_FAULT_NONE);
    assert_string_equal(server_ask(port, "GET key"), "8");
    assert_int_equal(site->opened, 0);
    server_kill(pid);
}

/* What a real server says in trouble. */
static void test_trouble(void **state)
{
    const int port = peer_port();
    const pid_t pid = server_start(port, PLAIN " --maxmemory-policy noeviction");
    redis_fault_t fault;
    char got[64];

    (void)state;
    if (pid == 0) {
        unit_skip("no redis-server");
        return;
    }
    site_t *site = site_open(alone_url(port));

    assert_int_equal(site_ask(site, "SET key text", got), REDIS_FAULT_NONE);
    assert_int_equal(site_ask(site, "HGET key field", got), REDIS_FAULT_ERROR);
    server_ask(port, "CONFIG SET maxmemory 1");
    for (int i = 0; i < 5; i++) {
        assert_int_equal(site_ask(site, "EVALSHA " SHA " 1 key 7", got), REDIS_FAULT_MEMORY);
    }
    assert_int_equal(site_ask(site, "GET key", got), REDIS_FAULT_NONE);
    server_ask(port, "CONFIG SET maxmemory 0");
    assert_int_equal(site->opened, 0);
    server_ask(port, "REPLICAOF 127.0.0.1 1");
    assert_int_equal(site_ask(site, "SET key text", got), REDIS_FAULT_READONLY);
    server_ask(port, "REPLICAOF NO ONE");
    assert_int_equal(site_ask(site, "SET key text", got), REDIS_FAULT_NONE);
    server_ask(port, "CONFIG SET maxclients 1");
    fault = site_ask(site_open(alone_url(port)), "SET key text", got);
    assert_true(fault == REDIS_FAULT_CROWDED || fault == REDIS_FAULT_CLOSED);
    server_kill(pid);
}

static void test_password(void **state)
{
    static const struct {
        const char *login;
        const char *command;
        redis_fault_t fault;
    } logins[] = {
        { ":s3cr3t@", "INCR rlp:1", REDIS_FAULT_NONE },
        { "app:pw@", "INCR rlp:2", REDIS_FAULT_NONE },
        { "app:pw@", "INCR other", REDIS_FAULT_DENIED },
        { "app:pw@", "GET rlp:2", REDIS_FAULT_DENIED },
        { "", "INCR rlp:1", REDIS_FAULT_DENIED },
        { ":wrong@", "INCR rlp:1", REDIS_FAULT_DENIED },
        { "app:wrong@", "INCR rlp:1", REDIS_FAULT_DENIED },
        { "nobody:pw@", "INCR rlp:1", REDIS_FAULT_DENIED },
    };
    const int port = peer_port();
    const pid_t pid = server_start(port, PLAIN " --requirepass s3cr3t --user app on >pw ~rlp:* "
                                               "+incr +select --unixsocket r.sock");
    char got[64];

    (void)state;
    if (pid == 0) {
        unit_skip("no redis-server");
        return;
    }
    for (size_t i = 0; i < UNIT_N(logins); i++) {
        site_t *tcp =
            site_open(apr_psprintf(unit_pool(), "redis://%s127.0.0.1:%d/1", logins[i].login, port));
        site_t *local = site_open(apr_psprintf(unit_pool(), "unix://%s%s/%d/r.sock?db=2",
                                               logins[i].login, server_directory(), port));
        redis_server_t server;

        assert_int_equal(site_ask(tcp, logins[i].command, got), logins[i].fault);
        assert_int_equal(tcp->opened, logins[i].fault != REDIS_FAULT_NONE);
        assert_int_equal(site_ask(local, logins[i].command, got), logins[i].fault);
        assert_int_equal(redis_endpoint_servers(local->endpoint, &server, 1), 1);
        assert_null(strstr(server.why, "s3cr3t"));
        assert_true((*server.why == '\0') == (logins[i].fault == REDIS_FAULT_NONE));
    }
    server_kill(pid);
}

static void *test_busy_script(void *port)
{
    const struct timeval patience = { .tv_sec = 5 };
    redisContext *context = redisConnectWithTimeout("127.0.0.1", *(const int *)port, patience);
    redisReply *reply = redisCommand(context, "EVAL %s 0", "while true do end");

    freeReplyObject(reply);
    redisFree(context);
    return NULL;
}

/* A script that runs on, of somebody else. */
static void test_busy(void **state)
{
    int port = peer_port();
    const pid_t pid = server_start(port, PLAIN);
    redis_fault_t fault = REDIS_FAULT_NONE;
    pthread_t thread;
    char got[64];

    (void)state;
    if (pid == 0) {
        unit_skip("no redis-server");
        return;
    }
    site_t *site = site_open(alone_url(port));

    assert_int_equal(pthread_create(&thread, NULL, test_busy_script, &port), 0);
    for (int64_t end = peer_ms() + PATIENCE; fault != REDIS_FAULT_BREAKER && peer_ms() < end;) {
        fault = site_ask(site, "INCR key", got);
        assert_true(fault == REDIS_FAULT_NONE || fault == REDIS_FAULT_AWAY ||
                    fault == REDIS_FAULT_TIMEOUT || fault == REDIS_FAULT_BREAKER);
    }
    assert_int_equal(fault, REDIS_FAULT_BREAKER);
    server_ask(port, "SCRIPT KILL");
    site_await(site, "INCR key", got);
    pthread_join(thread, NULL);
    server_kill(pid);
}

/* --- Sentinels */

/* Starts n servers, the others replicas of the first; false: there is none on this machine. */
static bool set_start(int ports[], pid_t pids[], int n)
{
    for (int i = 0; i < n; i++) {
        ports[i] = peer_port();
        pids[i] = server_start(ports[i],
                               i == 0 ? PLAIN
                                      : apr_psprintf(unit_pool(), PLAIN " --replicaof 127.0.0.1 %d",
                                                     ports[0]));
        if (pids[i] == 0) {
            return false;
        }
    }
    for (int i = 1; i < n; i++) {
        server_await(ports[i], "INFO replication", "master_link_status:up");
    }
    return true;
}

static pid_t sentinel_start(int port, int master)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%d", server_directory(), port);
    (void)mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/%d/sentinel.conf", server_directory(), port);
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    fprintf(file,
            "requirepass watch\nsentinel sentinel-pass watch\n"
            "sentinel monitor main 127.0.0.1 %d 2\nsentinel down-after-milliseconds main 300\n"
            "sentinel failover-timeout main 3000\n",
            master);
    fclose(file);
    return server_start(port, "sentinel.conf --sentinel");
}

static void test_sentinels(void **state)
{
    int ports[SETS], watch[SETS];
    pid_t pids[SETS], watchers[SETS];
    redis_url_t url;
    char got[64];

    (void)state;
    if (!set_start(ports, pids, SETS)) {
        unit_skip("no redis-server");
        return;
    }
    for (int i = 0; i < SETS; i++) {
        watch[i] = peer_port();
        watchers[i] = sentinel_start(watch[i], ports[0]);
        assert_int_not_equal(watchers[i], 0);
    }
    site_t *site = site_open("redis-sentinel://127.0.0.1:1/main");
    const redis_settings_t settings = {
        .session.connect = RLP_SECOND,
        .breaker = { .threshold = 3, .recovery = RLP_SECOND / 2, .probe = RLP_SECOND },
    };

    assert_null(redis_url_parse(&url,
                                apr_psprintf(unit_pool(),
                                             "redis-sentinel://127.0.0.1:%d,127.0.0.1:%d,"
                                             "127.0.0.1:%d/main",
                                             watch[0], watch[1], watch[2]),
                                NULL, unit_pool()));
    url.sentinels.password = "watch";
    assert_int_equal(redis_endpoint_create(&site->endpoint, &url, &settings, site->breakers, 16,
                                           unit_pool()),
                     APR_SUCCESS);
    site_await(site, "SET key 1", got);
    assert_string_equal(server_ask(ports[0], "GET key"), "1");
    for (int i = 0; i < SETS; i++) {
        server_await(watch[i], "PING", "NOAUTH");
    }
    for (int i = 1; i < SETS; i++) {
        server_await(ports[i], "GET key", "1");
    }
    poll(NULL, 0, 4500); /* until the Sentinels have met: they say hello each two seconds */
    server_kill(pids[0]);
    server_kill(watchers[0]); /* and one that was asked first */
    assert_int_not_equal(site_ask(site, "SET key 2", got), REDIS_FAULT_NONE);
    site_await(site, "SET key 2", got);
    assert_true(strcmp(server_ask(ports[1], "GET key"), "2") == 0 ||
                strcmp(server_ask(ports[2], "GET key"), "2") == 0);
    for (int i = 1; i < SETS; i++) {
        server_kill(pids[i]);
        server_kill(watchers[i]);
    }
}

/* --- a cluster */

typedef struct {
    int port[2 * SETS]; /* masters, then the replica of each */
    pid_t pid[2 * SETS];
    const char *id[2 * SETS];
} cluster_t;

static bool cluster_start(cluster_t *cluster)
{
    for (int i = 0; i < 2 * SETS; i++) {
        cluster->port[i] = peer_port();
        cluster->pid[i] =
            server_start(cluster->port[i],
                         apr_psprintf(unit_pool(),
                                      PLAIN " --cluster-enabled yes --cluster-node-timeout 500 "
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
        server_ask(cluster->port[0], apr_psprintf(unit_pool(), "CLUSTER MEET 127.0.0.1 %d %s", port,
                                                  cluster_bus(port)));
    }
    for (int i = 0; i < 2 * SETS; i++) {
        server_await(cluster->port[i], "CLUSTER INFO", "cluster_known_nodes:6");
    }
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
                 apr_psprintf(unit_pool(), "MIGRATE 127.0.0.1 %d rlp:{user:42} 0 1000",
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
    unit_add("K-08 K-18: killed, and back without data", test_killed, NULL);
    unit_add("K-16: stopped, and continued", test_stopped, NULL);
    unit_add("K-18: scripts flushed", test_script, NULL);
    unit_add("wrong type, no memory, a replica, too many clients", test_trouble, NULL);
    unit_add("a script that runs on", test_busy, NULL);
    unit_add("passwords and rights, by TCP and by a UNIX socket", test_password, NULL);
    unit_add("three servers and three Sentinels: failover", test_sentinels, NULL);
    unit_add("three masters and three replicas: slot migration, failover", test_cluster, NULL);
    return unit_run();
}
