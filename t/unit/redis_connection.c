/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * One connection against a peer that does all that a server should not: what the caller is told,
 * when, and what the breaker makes of it. Many threads on one are in redis_threads.c.
 */

#include "redis_client.h"

#include <apr_strings.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- what a peer can do wrong */

typedef struct {
    const char *name;
    const char *text; /* said to each command */
    redis_fault_t fault;
    int failures; /* that the breaker counts; -1: open at once */
    bool stays;   /* the connection */
} answer_t;

static const answer_t answers[] = {
    { "garbage", "!?garbage\r\n", REDIS_FAULT_PROTOCOL, 1, false },
    { "HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", REDIS_FAULT_PROTOCOL, 1, false },
    { "a bad length", "$-7\r\n", REDIS_FAULT_PROTOCOL, 1, false },
    { "an array of 10^9", "*1000000000\r\n", REDIS_FAULT_PROTOCOL, 1, false },
    { "arrays in arrays",
      "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
      REDIS_FAULT_PROTOCOL, 1, false },
    { "two replies", "+OK\r\n+OK\r\n", REDIS_FAULT_NONE, 1, false },
    { "NOSCRIPT", "-NOSCRIPT No matching script.\r\n", REDIS_FAULT_NOSCRIPT, 0, true },
    { "LOADING", "-LOADING Redis is loading\r\n", REDIS_FAULT_AWAY, 1, true },
    { "READONLY", "-READONLY You can't write against a read only replica.\r\n",
      REDIS_FAULT_READONLY, 1, false },
    { "OOM", "-OOM command not allowed when used memory > 'maxmemory'.\r\n", REDIS_FAULT_MEMORY, 0,
      true },
    { "NOAUTH", "-NOAUTH Authentication required.\r\n", REDIS_FAULT_DENIED, -1, false },
    { "NOPERM", "-NOPERM no permissions\r\n", REDIS_FAULT_DENIED, -1, false },
    { "K-20: WRONGTYPE", "-WRONGTYPE Operation against a key\r\n", REDIS_FAULT_ERROR, 0, true },
};

static bool serve_answer(peer_t *peer, int fd, const redisReply *command)
{
    const answer_t *answer = peer->baton;

    return command == NULL || peer_say(fd, answer->text);
}

static void test_answer(void **state)
{
    const answer_t *answer = unit_row(state);
    client_t client = { 0 };
    peer_t peer;
    char got[32];

    peer_start(&peer, serve_answer, answer);
    client_open(&client, peer.port);
    assert_int_equal(client_echo(&client, "a", got), answer->fault);
    assert_int_equal(client_look(&client).phase, answer->failures < 0 ? REDIS_OPEN : REDIS_CLOSED);
    assert_int_equal(client_look(&client).failures, answer->failures < 0 ? 0 : answer->failures);
    if (answer->failures >= 0) {
        client_echo(&client, "a", got);
        assert_int_equal(peer.clients, answer->stays ? 1 : 2);
    }
    client_close(&client);
    peer_stop(&peer);
}

/* What is told of a script's errors: those that the breaker says nothing of. */
static char error_told[REDIS_WHY_MAX];

static void error_tell(void *baton, const char *server, const char *why)
{
    (void)baton;
    (void)server;
    apr_cpystrn(error_told, why, sizeof(error_told));
}

static const struct {
    answer_t answer;
    const char *told;
} errors[] = {
    { { .text = ":1\r\n" }, "" },
    { { .text = "-LOADING Redis is loading\r\n" }, "" },
    { { .text = "-MOVED 42 127.0.0.1:7000\r\n" }, "" },
    { { .text = "-TRYAGAIN Multiple keys request\r\n" }, "" },
    { { .text = "-OOM command not allowed\r\n" }, "OOM command not allowed" },
    { { .text = "-CLUSTERDOWN Hash slot not served\r\n" }, "CLUSTERDOWN Hash slot not served" },
    { { .text = "-ERR of the script\r\n" }, "ERR of the script" },
};

static void test_error_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(errors); i++) {
        const char *argv[] = { "EVALSHA", "digest", "0" };
        const size_t len[] = { 7, 6, 1 };
        redis_call_t call = {
            .argc = 3, .argv = argv, .argv_len = len, .script = "return 1", .script_len = 8
        };
        redis_call_t *const calls[] = { &call };
        client_t client = { .settings.error = error_tell };
        peer_t peer;

        error_told[0] = '\0';
        peer_start(&peer, serve_answer, &errors[i].answer);
        client_open(&client, peer.port);
        redis_connection_exchange(client.connection, calls, 1, rlp_clock_monotonic() + PATIENCE);
        assert_string_equal(error_told, errors[i].told);
        freeReplyObject(call.reply);
        client_close(&client);
        peer_stop(&peer);
    }
}

/* How a peer lets one wait, or goes. */
typedef struct {
    const char *name;
    const char *first; /* said at once */
    int dribble;       /* then so many bytes, one each 10 ms */
    bool hangs_up;
    redis_fault_t fault;
    rlp_time_t timeout;
} slowness_t;

static const slowness_t slownesses[] = {
    { "K-16: it never answers", "", 0, false, REDIS_FAULT_TIMEOUT, TIMEOUT },
    { "half a reply, then silence", "$5\r\nab", 0, false, REDIS_FAULT_TIMEOUT, TIMEOUT },
    { "a byte each 10 ms", "$1000\r\n", 100, false, REDIS_FAULT_TIMEOUT, TIMEOUT },
    { "it hangs up without a word", "", 0, true, REDIS_FAULT_CLOSED, PATIENCE },
    { "it hangs up in mid-reply", "$5\r\nab", 0, true, REDIS_FAULT_CLOSED, PATIENCE },
};

static bool serve_slowly(peer_t *peer, int fd, const redisReply *command)
{
    const slowness_t *slowness = peer->baton;

    if (command == NULL) {
        return true;
    }
    peer_say(fd, slowness->first);
    for (int i = 0; i < slowness->dribble && peer_say(fd, "x"); i++) {
        poll(NULL, 0, 10);
    }
    return !slowness->hangs_up;
}

static void test_slow(void **state)
{
    const slowness_t *slowness = unit_row(state);
    client_t client = { 0 };
    peer_t peer;
    char got[32];
    const int64_t begun = peer_ms();

    peer_start(&peer, serve_slowly, slowness);
    client_open(&client, peer.port);
    assert_int_equal(client_echo_by(&client, "a", got, rlp_clock_monotonic() + slowness->timeout),
                     slowness->fault);
    assert_in_range(peer_ms() - begun, 0, TIMEOUT / 1000 + SLACK);
    assert_int_equal(client_look(&client).failures, 1);
    client_close(&client);
    peer_stop(&peer);
}

static bool serve_large(peer_t *peer, int fd, const redisReply *command)
{
    const char *piece = apr_psprintf(unit_pool(), "%0*d", 65536, 0);

    (void)peer;
    if (command == NULL) {
        return true;
    }
    peer_say(fd, "$100000000\r\n");
    while (peer_say(fd, piece)) {
        continue;
    }
    return false;
}

static void test_large(void **state)
{
    client_t client = { 0 };
    peer_t peer;
    char got[32];

    (void)state;
    peer_start(&peer, serve_large, NULL);
    client_open(&client, peer.port);
    assert_int_equal(client_echo(&client, "a", got), REDIS_FAULT_PROTOCOL);
    client_close(&client);
    peer_stop(&peer);
}

static void test_refused(void **state)
{
    client_t client = { 0 };
    char got[32];

    (void)state;
    client_open(&client, peer_port());
    for (int i = 0; i < 3; i++) {
        assert_int_equal(client_echo(&client, "a", got), REDIS_FAULT_CONNECT);
    }
    assert_int_equal(client_look(&client).phase, REDIS_OPEN);
    assert_int_equal(client_echo(&client, "a", got), REDIS_FAULT_BREAKER);
    assert_int_equal(client.transitions, 1);
    client_close(&client);
}

static bool serve_crowded(peer_t *peer, int fd, const redisReply *command)
{
    (void)peer;
    (void)command;
    peer_say(fd, "-ERR max number of clients reached\r\n");
    return false;
}

static void test_crowded(void **state)
{
    client_t client = { 0 };
    peer_t peer;
    char got[32];

    (void)state;
    peer_start(&peer, serve_crowded, NULL);
    client_open(&client, peer.port);
    const redis_fault_t fault = client_echo(&client, "a", got);

    /* its word may be lost with the connection */
    assert_true(fault == REDIS_FAULT_CROWDED || fault == REDIS_FAULT_CLOSED);
    assert_int_equal(client_look(&client).failures, 1);
    client_close(&client);
    peer_stop(&peer);
}

/* --- how a session begins */

static bool serve_login(peer_t *peer, int fd, const redisReply *command)
{
    (void)peer;
    if (peer_is(command, "AUTH") &&
        (command->elements != 3 || strcmp(command->element[2]->str, "right") != 0)) {
        return peer_say(fd, "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    }
    if (peer_is(command, "ROLE")) {
        return peer_say(fd, "*3\r\n$5\r\nslave\r\n:1\r\n:2\r\n");
    }
    return client_serve_echo(peer, fd, command);
}

static void test_login(void **state)
{
    client_t client = { .settings.session = { .login = { "app", "right" }, .db = 3 } };
    peer_t peer;
    char got[32];

    (void)state;
    peer_start(&peer, serve_login, NULL);
    client_open(&client, peer.port);
    assert_int_equal(client_echo(&client, "a", got), REDIS_FAULT_NONE);
    assert_string_equal(got, "a");
    assert_int_equal(client_echo(&client, "b", got), REDIS_FAULT_NONE);
    assert_int_equal(peer.commands, 4); /* AUTH and SELECT once */
    client_close(&client);
    peer_stop(&peer);
}

/* Why a server does not let the client in. */
static void login_fails(client_t *client, peer_serve_fn *serve, redis_fault_t fault,
                        char why[REDIS_WHY_MAX])
{
    peer_t peer;
    char got[32];

    peer_start(&peer, serve, NULL);
    client_open(client, peer.port);
    assert_int_equal(client_echo(client, "a", got), fault);
    redis_connection_why(client->connection, why);
    peer_stop(&peer);
}

static void test_login_wrong(void **state)
{
    client_t client = { .settings.session.login = { "app", "s3cr3t" } };
    char why[REDIS_WHY_MAX];

    (void)state;
    login_fails(&client, serve_login, REDIS_FAULT_DENIED, why);
    assert_int_equal(client_look(&client).phase, REDIS_OPEN);
    assert_non_null(strstr(why, "WRONGPASS"));
    assert_null(strstr(why, "s3cr3t"));
    client_close(&client);
}

/* As Redis 5 and later, renamed commands and proxies do. */
static bool serve_repeat(peer_t *peer, int fd, const redisReply *command)
{
    char text[128];

    (void)peer;
    if (command == NULL) {
        return true;
    }
    snprintf(text, sizeof(text), "-ERR unknown command '%s', with args beginning with: '%s' \r\n",
             command->element[0]->str, command->element[1]->str);
    return peer_say(fd, text);
}

static void test_login_unknown(void **state)
{
    client_t client = { .settings.session.login.password = "s3cr3t" };
    char why[REDIS_WHY_MAX];

    (void)state;
    login_fails(&client, serve_repeat, REDIS_FAULT_CONNECT, why);
    assert_string_equal(why, "ERR unknown command 'AUTH'");
    client_close(&client);
}

static void test_role(void **state)
{
    client_t client = { .settings.session.master = true };
    peer_t peer;
    char got[32];

    (void)state;
    peer_start(&peer, serve_login, NULL);
    client_open(&client, peer.port);
    const unsigned trouble = redis_connection_trouble(client.connection);

    assert_int_equal(client_echo(&client, "a", got), REDIS_FAULT_READONLY);
    assert_int_not_equal(redis_connection_trouble(client.connection), trouble);
    client_close(&client);
    peer_stop(&peer);
}

static bool serve_script(peer_t *peer, int fd, const redisReply *command)
{
    if (peer_is(command, "EVALSHA")) {
        return peer_say(fd, "-NOSCRIPT No matching script. Please use EVAL.\r\n");
    }
    if (peer_is(command, "EVAL")) {
        assert_int_equal(command->elements, 4);
        assert_string_equal(command->element[1]->str, "return ARGV[1]");
        assert_string_equal(command->element[3]->str, "key");
        return peer_say(fd, ":7\r\n");
    }
    return client_serve_echo(peer, fd, command);
}

static void test_noscript(void **state)
{
    static const char *script[] = { "EVALSHA", "0123", "1", "key" };
    static const size_t script_len[] = { 7, 4, 1, 3 };
    static const char *echo[] = { "ECHO", "x" };
    static const size_t echo_len[] = { 4, 1 };
    redis_call_t first = { .argc = 4,
                           .argv = script,
                           .argv_len = script_len,
                           .script = "return ARGV[1]",
                           .script_len = 14 };
    redis_call_t second = { .argc = 2, .argv = echo, .argv_len = echo_len };
    redis_call_t *const calls[] = { &first, &second };
    client_t client = { 0 };
    peer_t peer;

    (void)state;
    peer_start(&peer, serve_script, NULL);
    client_open(&client, peer.port);
    redis_connection_exchange(client.connection, calls, 2, rlp_clock_monotonic() + PATIENCE);
    assert_int_equal(first.fault, REDIS_FAULT_NONE);
    assert_int_equal(first.reply->integer, 7);
    assert_string_equal(second.reply->str, "x");
    assert_int_equal(peer.clients, 1);
    assert_int_equal(client_look(&client).failures, 0);
    freeReplyObject(first.reply);
    freeReplyObject(second.reply);
    client_close(&client);
    peer_stop(&peer);
}

/* --- life */

static void test_comes_back(void **state)
{
    client_t client = { 0 };
    peer_t peer;
    char got[32];

    (void)state;
    peer_start(&peer, client_serve_echo, NULL);
    client_open(&client, peer.port);
    assert_int_equal(client_echo(&client, "a", got), REDIS_FAULT_NONE);
    const redis_address_t gone = { .host = "127.0.0.1", .port = (uint16_t)peer_port() };
    const redis_address_t back = { .host = "127.0.0.1", .port = (uint16_t)peer.port };

    assert_true(redis_connection_move(client.connection, &gone));
    assert_int_equal(client_echo(&client, "b", got), REDIS_FAULT_CONNECT);
    assert_true(redis_connection_move(client.connection, &back));
    assert_int_equal(redis_connection_open(client.connection), REDIS_FAULT_NONE);
    assert_int_equal(client_echo(&client, "c", got), REDIS_FAULT_NONE);
    assert_string_equal(got, "c");
    assert_int_equal(peer.clients, 2);
    assert_int_equal(client_look(&client).failures, 0);
    client_close(&client);
    peer_stop(&peer);
}

/* A server that is told by its name. */
static void named_open(client_t *client, peer_t *peer)
{
    peer_start(peer, client_serve_echo, NULL);
    client_open(client, peer->port);
    const redis_address_t named = { .host = "localhost", .port = (uint16_t)peer->port };

    assert_true(redis_connection_move(client->connection, &named));
}

static void test_names(void **state)
{
    client_t client = { 0 };
    peer_t peer;
    char got[32];

    (void)state;
    named_open(&client, &peer);
    assert_false(redis_connection_resolved(client.connection));
    assert_int_equal(client_echo_by(&client, "a", got, rlp_clock_monotonic() + TIMEOUT),
                     REDIS_FAULT_NAME);
    redis_connection_resolve(client.connection);
    assert_true(redis_connection_resolved(client.connection));
    /* ::1 is refused, if it is there, and 127.0.0.1 is tried */
    assert_int_equal(client_echo(&client, "a", got), REDIS_FAULT_NONE);
    client_close(&client);
    peer_stop(&peer);
}

/* Late, so that the other mostly waits; in whichever order they come, the answer is the same. */
static void *locator_run(void *data)
{
    apr_sleep(RLP_SECOND / 50);
    redis_connection_resolve(data);
    return NULL;
}

/* Who comes before the name is resolved waits for that, which is no failure. */
static void test_early(void **state)
{
    client_t client = { 0 };
    pthread_t locator;
    peer_t peer;
    char got[32];

    (void)state;
    named_open(&client, &peer);
    assert_int_equal(pthread_create(&locator, NULL, locator_run, client.connection), 0);
    assert_int_equal(client_echo(&client, "a", got), REDIS_FAULT_NONE);
    assert_string_equal(got, "a");
    pthread_join(locator, NULL);
    assert_int_equal(client_echo(&client, "b", got), REDIS_FAULT_NONE);
    assert_int_equal(peer.clients, 1); /* it is not opened anew for the address it has */
    assert_int_equal(client_look(&client).failures, 0);
    client_close(&client);
    peer_stop(&peer);
}

static void test_fork(void **state)
{
    client_t client = { 0 };
    peer_t peer;
    char got[32];
    int status;

    (void)state;
    peer_start(&peer, client_serve_echo, NULL);
    client_open(&client, peer.port);
    assert_int_equal(client_echo(&client, "a", got), REDIS_FAULT_NONE);
    const pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        _exit(client_echo(&client, "child", got) == REDIS_FAULT_NONE && strcmp(got, "child") == 0
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(client_echo(&client, "b", got), REDIS_FAULT_NONE);
    assert_string_equal(got, "b");
    assert_int_equal(peer.clients, 2);
    client_close(&client);
    peer_stop(&peer);
}

int main(void)
{
    const char *processes = getenv("RLP_PROCESSES");

    for (size_t i = 0; i < UNIT_N(answers); i++) {
        unit_add_case("told", answers[i].name, test_answer, &answers[i]);
    }
    for (size_t i = 0; i < UNIT_N(slownesses); i++) {
        unit_add(slownesses[i].name, test_slow, &slownesses[i]);
    }
    unit_add("errors of a script that nobody else tells", test_error_told, NULL);
    unit_add("a reply of 100 MB", test_large, NULL);
    unit_add("K-03 K-04: refused three times, then not asked", test_refused, NULL);
    unit_add("max number of clients", test_crowded, NULL);
    unit_add("user, password and database, once a connection", test_login, NULL);
    unit_add("a wrong password opens the circuit and is not shown", test_login_wrong, NULL);
    unit_add("a server without passwords repeats it, and nobody else", test_login_unknown, NULL);
    unit_add("a replica is not asked where a master is wanted", test_role, NULL);
    unit_add("K-18: an unknown script is sent in full, on the same connection", test_noscript,
             NULL);
    unit_add("a server that moves and comes back", test_comes_back, NULL);
    unit_add("names are resolved by whoever has the time", test_names, NULL);
    unit_add("who comes before a name is resolved", test_early, NULL);
    if (processes == NULL || strcmp(processes, "no") != 0) {
        unit_add("a child opens a connection of its own", test_fork, NULL);
    }
    return unit_run();
}
