/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Real servers, which the tests start, stop and kill: one, and one behind Sentinels; a cluster is
 * in redis_cluster.c. Skipped where there is no redis-server (REDIS_SERVER names it).
 */

#include "redis_site.h"

#include <apr_strings.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

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
    assert_in_range(site_await(site, "INCR key", got), 1, 200); /* two seconds of them */
    assert_string_equal(got, "1");                              /* it has forgotten */
    assert_int_equal(site->closed, 1);
    server_kill(pid);
}

static void test_stopped(void **state)
{
    const int port = peer_port();
    const pid_t pid = server_start(port, PLAIN);
    int64_t begun = 0;
    char got[64];

    (void)state;
    if (pid == 0) {
        unit_skip("no redis-server");
        return;
    }
    site_t *site = site_open(alone_url(port));

    assert_int_equal(site_ask(site, "INCR key", got), REDIS_FAULT_NONE);
    site->timeout = TIMEOUT;
    kill(pid, SIGSTOP);
    for (int i = 0; i < 3; i++) {
        begun = peer_ms();
        assert_int_equal(site_ask(site, "INCR key", got), REDIS_FAULT_TIMEOUT);
    }
    /* if this machine has stood still, too, the breaker may have let one try, and one more */
    while (site_ask(site, "INCR key", got) != REDIS_FAULT_BREAKER) {
        assert_true(peer_ms() - begun >= RECOVERY / 1000);
        begun = peer_ms();
    }
    kill(pid, SIGCONT);
    site->timeout = ANSWERED;
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
    const struct timeval patience = { .tv_sec = 20 };
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

    site->timeout = TIMEOUT;
    assert_int_equal(pthread_create(&thread, NULL, test_busy_script, &port), 0);
    for (int64_t end = peer_ms() + PATIENCE; fault != REDIS_FAULT_BREAKER && peer_ms() < end;) {
        fault = site_ask(site, "INCR key", got);
        assert_true(fault == REDIS_FAULT_NONE || fault == REDIS_FAULT_AWAY ||
                    fault == REDIS_FAULT_TIMEOUT || fault == REDIS_FAULT_BREAKER);
    }
    assert_int_equal(fault, REDIS_FAULT_BREAKER);
    server_ask(port, "SCRIPT KILL");
    site->timeout = ANSWERED;
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

/* It takes no server for dead that is only slow, until it is told to be in a hurry. */
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
            "sentinel monitor main 127.0.0.1 %d 2\nsentinel down-after-milliseconds main 600000\n"
            "sentinel failover-timeout main 3000\n",
            master);
    fclose(file);
    return server_start(port, "sentinel.conf --sentinel");
}

static redisContext *sentinel_connect(int port)
{
    redisContext *context = redisConnect("127.0.0.1", port);

    assert_non_null(context);
    freeReplyObject(redisCommand(context, "AUTH watch"));
    return context;
}

/* Until it has met the others, who say hello each two seconds, and knows the replicas. */
static void sentinel_await(int port)
{
    redisContext *context = sentinel_connect(port);
    const int64_t end = peer_ms() + PATIENCE;
    bool met = false;

    while (!met && peer_ms() < end) {
        redisReply *reply = redisCommand(context, "INFO sentinel");

        assert_non_null(reply);
        met = reply->str != NULL && strstr(reply->str, "slaves=2,sentinels=3") != NULL;
        freeReplyObject(reply);
        poll(NULL, 0, 20);
    }
    redisFree(context);
    assert_true(met);
}

static void sentinel_hurry(int port)
{
    redisContext *context = sentinel_connect(port);
    redisReply *reply = redisCommand(context, "SENTINEL SET main down-after-milliseconds 300");

    assert_non_null(reply);
    assert_string_equal(reply->str, "OK");
    freeReplyObject(reply);
    redisFree(context);
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
        .session.connect = ANSWERED,
        .breaker = { .threshold = 3, .recovery = RECOVERY, .probe = RLP_SECOND },
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
    for (int i = 0; i < SETS; i++) {
        sentinel_await(watch[i]);
    }
    server_kill(pids[0]);
    server_kill(watchers[0]); /* and one that was asked first */
    assert_int_not_equal(site_ask(site, "SET key 2", got), REDIS_FAULT_NONE);
    for (int i = 1; i < SETS; i++) {
        sentinel_hurry(watch[i]);
    }
    site_await(site, "SET key 2", got);
    assert_true(strcmp(server_ask(ports[1], "GET key"), "2") == 0 ||
                strcmp(server_ask(ports[2], "GET key"), "2") == 0);
    for (int i = 1; i < SETS; i++) {
        server_kill(pids[i]);
        server_kill(watchers[i]);
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
    return unit_run();
}
