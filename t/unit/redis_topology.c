/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Clusters and Sentinels that peers play: redirections, slots that make no sense, Sentinels that
 * are behind the times.
 */

#include "redis_peer.h"

#include "redis/slot.h"

#include <apr_strings.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT (RLP_SECOND / 2)   /* of what nobody answers */
#define PATIENCE (20 * RLP_SECOND) /* of what is answered, on a slow machine, too */

typedef struct scene_t scene_t;

/* What two peers play: each knows its number by its port. */
struct scene_t {
    const char *name;
    const char *url;      /* %d: the ports of the peers */
    const char *slots[2]; /* what each says to CLUSTER SLOTS; %d: the ports */
    const char *get[2];   /* ... and to GET; NULL: its number */
    const char *role[2];
    peer_t peers[2];
    atomic_int slots_asked;
    atomic_int asking[2];
    atomic_bool asks; /* the last command of the one client was ASKING */
};

static const redis_settings_t settings = {
    .session.connect = PATIENCE,
    .breaker = { .threshold = 100, .recovery = RLP_SECOND, .probe = RLP_SECOND },
};

/* The text with the ports of the peers in it. */
static void scene_fill(const scene_t *scene, const char *text, char filled[512])
{
    const char *port;
    size_t len = 0;
    int i = 0;

    while ((port = strchr(text, '#')) != NULL) {
        i = port[1] - '0';
        len += (size_t)snprintf(filled + len, 512 - len, "%.*s%d", (int)(port - text), text,
                                scene->peers[i].port);
        text = port + 2;
    }
    snprintf(filled + len, 512 - len, "%s", text);
}

/* A slot is on its way to the second peer, which takes those who say ASKING alone, and has no
   script yet. */
static const char *scene_run(const scene_t *scene, int i, bool whole)
{
    if (i == 0) {
        return "-ASK 12182 127.0.0.1:#1\r\n";
    }
    if (!atomic_load(&scene->asks)) {
        return "-MOVED 12182 127.0.0.1:#0\r\n";
    }
    return whole ? ":1\r\n" : "-NOSCRIPT No matching script.\r\n";
}

static bool scene_serve(peer_t *peer, int fd, const redisReply *command)
{
    scene_t *scene = (scene_t *)(uintptr_t)peer->baton;
    const int i = peer == &scene->peers[1];
    char own[16], text[512];
    const char *answer = "+OK\r\n";

    if (command == NULL) {
        return true;
    }
    snprintf(own, sizeof(own), ":%d\r\n", i);
    if (peer_is(command, "GET")) {
        answer = scene->get[i] == NULL ? own : scene->get[i];
    } else if (peer_is(command, "CLUSTER") || peer_is(command, "SENTINEL")) {
        atomic_fetch_add(&scene->slots_asked, 1);
        answer = scene->slots[i];
    } else if (peer_is(command, "ASKING")) {
        atomic_fetch_add(&scene->asking[i], 1);
    } else if (peer_is(command, "EVALSHA") || peer_is(command, "EVAL")) {
        answer = scene_run(scene, i, peer_is(command, "EVAL"));
    } else if (peer_is(command, "ROLE")) {
        answer = scene->role[i];
    }
    atomic_store(&scene->asks, peer_is(command, "ASKING"));
    scene_fill(scene, answer, text);
    return peer_say(fd, text);
}

/* The endpoint of a scene that plays from now on; its breakers in the pool. */
static redis_endpoint_t *scene_begin(scene_t *scene)
{
    redis_breaker_t *breakers = apr_pcalloc(unit_pool(), 8 * sizeof(*breakers));
    redis_endpoint_t *endpoint;
    redis_url_t url;
    char text[512];

    for (int i = 0; i < 2; i++) {
        peer_start(&scene->peers[i], scene_serve, scene);
    }
    atomic_store(&scene->slots_asked, 0);
    atomic_store(&scene->asking[0], 0);
    atomic_store(&scene->asking[1], 0);
    scene_fill(scene, scene->url, text);
    assert_null(redis_url_parse(&url, text, NULL, unit_pool()));
    assert_int_equal(redis_endpoint_create(&endpoint, &url, &settings, breakers, 8, unit_pool()),
                     APR_SUCCESS);
    return endpoint;
}

static void scene_end(scene_t *scene)
{
    for (int i = 0; i < 2; i++) {
        peer_stop(&scene->peers[i]);
    }
}

/* GET key, in such a time: which peer answered; -1: none, and *fault says why. */
static int scene_get_in(redis_endpoint_t *endpoint, const char *key, redis_fault_t *fault,
                        rlp_time_t timeout)
{
    const char *argv[] = { "GET", key };
    const size_t len[] = { 3, strlen(key) };
    redis_call_t call = {
        .key = key, .key_len = strlen(key), .argc = 2, .argv = argv, .argv_len = len
    };
    int peer = -1;

    redis_endpoint_exchange(endpoint, &call, 1, rlp_clock_monotonic() + timeout);
    *fault = call.fault;
    if (call.reply != NULL) {
        peer = call.fault == REDIS_FAULT_NONE ? (int)call.reply->integer : -1;
        freeReplyObject(call.reply);
    }
    return peer;
}

static int scene_get(redis_endpoint_t *endpoint, const char *key, redis_fault_t *fault)
{
    return scene_get_in(endpoint, key, fault, PATIENCE);
}

/* Why nobody answers who is not known yet. */
static redis_fault_t scene_miss(redis_endpoint_t *endpoint, const char *key)
{
    redis_fault_t fault;

    assert_int_equal(scene_get_in(endpoint, key, &fault, TIMEOUT), -1);
    return fault;
}

#define ALL_OF_0 "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:#0\r\n"
#define ALL_OF_1 "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:#1\r\n"

static void test_moved(void **state)
{
    static scene_t scene = {
        .url = "redis-cluster://127.0.0.1:#0",
        .slots = { ALL_OF_0, ALL_OF_0 },
        .get = { "-MOVED 12182 127.0.0.1:#1\r\n", NULL },
    };
    redis_endpoint_t *endpoint = scene_begin(&scene);
    redis_fault_t fault;

    (void)state;
    assert_int_equal(scene_get(endpoint, "foo", &fault), 1);
    assert_int_equal(scene.peers[0].commands, 1);
    assert_int_equal(scene_get(endpoint, "foo", &fault), 1); /* that slot is known by now */
    assert_int_equal(scene.peers[0].commands, 1);
    assert_int_equal(scene.peers[1].commands, 2);
    scene_end(&scene);
}

static const char *const asked_first[] = { "redis-cluster://127.0.0.1:#0",
                                           "redis-cluster://127.0.0.1:#1" };

/* Each command of a slot that is on its way has its own ASKING, that which brings the script,
   too. Who asks elsewhere at first is led to who has the slot, and on from there. */
static void test_ask_script(void **state)
{
    static scene_t scene = { .slots = { ALL_OF_0, ALL_OF_0 } };

    scene.url = *(const char *const *)unit_row(state);
    redis_endpoint_t *endpoint = scene_begin(&scene);
    const char *argv[] = { "EVALSHA", "digest", "1", "foo" };
    const size_t len[] = { 7, 6, 1, 3 };
    redis_call_t call = { .key = "foo",
                          .key_len = 3,
                          .argc = 4,
                          .argv = argv,
                          .argv_len = len,
                          .script = "return 1",
                          .script_len = 8 };

    redis_endpoint_exchange(endpoint, &call, 1, rlp_clock_monotonic() + PATIENCE);
    assert_int_equal(call.fault, REDIS_FAULT_NONE);
    assert_int_equal(call.reply->integer, 1);
    assert_int_equal(scene.asking[1], 2);
    freeReplyObject(call.reply);
    scene_end(&scene);
}

static void test_moved_nowhere(void **state)
{
    static const char *const answers[] = {
        "-MOVED 12182 127.0.0.1:0\r\n",
        "-MOVED 12182 127.0.0.1:65536\r\n",
        "-MOVED 12182 127.0.0.1\r\n",
        "-MOVED 12182 ?:7000\r\n",
        "-MOVED 99999 127.0.0.1:7000\r\n",
        "-MOVED -1 127.0.0.1:7000\r\n",
        "-MOVED\r\n",
        "-MOVED 12182\r\n",
        "-MOVED x 127.0.0.1:7000\r\n",
        "-ASK\r\n",
        "-ASK 12182 127.0.0.1:x\r\n",
    };
    redis_fault_t fault;

    (void)state;
    for (size_t i = 0; i < UNIT_N(answers); i++) {
        scene_t scene = { .url = "redis-cluster://127.0.0.1:#0", .get = { answers[i], NULL } };
        redis_endpoint_t *endpoint = scene_begin(&scene);

        assert_int_equal(scene_get(endpoint, "foo", &fault), -1);
        assert_true(fault == REDIS_FAULT_MOVED || fault == REDIS_FAULT_ASK);
        scene_end(&scene);
    }
}

static void test_moved_same_host(void **state)
{
    static scene_t scene = {
        .url = "redis-cluster://127.0.0.1:#0",
        .get = { "-MOVED 12182 :#1\r\n", NULL },
    };
    redis_endpoint_t *endpoint = scene_begin(&scene);
    redis_fault_t fault;

    (void)state;
    assert_int_equal(scene_get(endpoint, "foo", &fault), 1);
    scene_end(&scene);
}

static void test_storm(void **state)
{
    static scene_t scene = {
        .url = "redis-cluster://127.0.0.1:#0",
        .slots = { ALL_OF_0, ALL_OF_1 },
        .get = { "-MOVED 12182 127.0.0.1:#1\r\n", "-MOVED 12182 127.0.0.1:#0\r\n" },
    };
    redis_endpoint_t *endpoint = scene_begin(&scene);
    const int64_t begun = peer_ms();
    redis_fault_t fault;

    (void)state;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(scene_get(endpoint, "foo", &fault), -1);
        assert_int_equal(fault, REDIS_FAULT_MOVED);
        redis_endpoint_maintain(endpoint);
    }
    /* two contacts each time, and the slots asked for once in this second or two */
    assert_in_range(scene.slots_asked, 1, 2 + (peer_ms() - begun) / 1000);
    assert_int_equal(scene.peers[0].commands + scene.peers[1].commands, 100 + scene.slots_asked);
    scene_end(&scene);
}

/* A server that names another one each time does not make us remember them all. */
static void test_many_servers(void **state)
{
    static scene_t scene = { .url = "redis-cluster://127.0.0.1:#0", .slots = { ALL_OF_0, NULL } };
    redis_server_t servers[REDIS_NODES_MAX + 1];
    redis_endpoint_t *endpoint = scene_begin(&scene);
    char answer[64];
    redis_fault_t fault;

    (void)state;
    for (int i = 0; i < 2 * REDIS_NODES_MAX; i++) {
        char key[16];

        snprintf(key, sizeof(key), "%d", i);
        snprintf(answer, sizeof(answer), "-MOVED %d 127.0.0.%d:1\r\n", redis_slot(key, strlen(key)),
                 2 + i % 250);
        scene.get[0] = answer;
        scene_get(endpoint, key, &fault);
    }
    assert_int_equal(redis_endpoint_servers(endpoint, servers, REDIS_NODES_MAX + 1),
                     REDIS_NODES_MAX);
    redis_endpoint_maintain(endpoint); /* the slots are asked for, and strangers forgotten */
    assert_int_equal(redis_endpoint_servers(endpoint, servers, REDIS_NODES_MAX + 1), 1);
    scene.get[0] = NULL;
    assert_int_equal(scene_get(endpoint, "foo", &fault), 0);
    scene_end(&scene);
}

/* Names as long as DNS has them: each is another server, and none is cut off. */
static void test_long_names(void **state)
{
    static scene_t scene = { .url = "redis-cluster://127.0.0.1:#0", .slots = { ALL_OF_0, NULL } };
    redis_server_t servers[3];
    redis_endpoint_t *endpoint = scene_begin(&scene);
    char host[256];

    (void)state;
    memset(host, 'a', sizeof(host) - 1);
    host[sizeof(host) - 1] = '\0';
    for (int i = 1; i <= 2; i++) {
        char answer[300];
        char name[300];

        const char *key = i == 1 ? "foo" : "bar";

        snprintf(answer, sizeof(answer), "-MOVED %d %s:%d\r\n", redis_slot(key, 3), host, 6378 + i);
        snprintf(name, sizeof(name), "%s:%d", host, 6378 + i);
        scene.get[0] = answer;
        (void)scene_miss(endpoint, key);
        assert_int_equal(redis_endpoint_servers(endpoint, servers, 3), 1 + i);
        assert_string_equal(servers[i].name, name);
    }
    scene_end(&scene);
}

static void test_ask(void **state)
{
    static scene_t scene = {
        .url = "redis-cluster://127.0.0.1:#0",
        .slots = { ALL_OF_0, ALL_OF_0 },
        .get = { "-ASK 12182 127.0.0.1:#1\r\n", NULL },
    };
    redis_endpoint_t *endpoint = scene_begin(&scene);
    redis_fault_t fault;

    (void)state;
    redis_endpoint_maintain(endpoint);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(scene_get(endpoint, "foo", &fault), 1);
        assert_int_equal(scene.asking[1], i);
        assert_int_equal(scene.peers[0].commands, 1 + i); /* still asked first */
    }
    scene_end(&scene);
}

/* Of those that the URL names the first may be gone for good: a new process asks the next. */
static void test_first_gone(void **state)
{
    static scene_t scene = { .slots = { "", "" } };
    redis_fault_t fault;

    (void)state;
    scene.url = apr_psprintf(unit_pool(), "redis-cluster://127.0.0.1:%d,127.0.0.1:#1", peer_port());
    redis_endpoint_t *endpoint = scene_begin(&scene);

    for (int i = 1; i <= 5; i++) { /* also when it is not asked any more */
        assert_int_equal(scene_get(endpoint, "foo", &fault), 1);
        assert_int_equal(fault, REDIS_FAULT_NONE);
        assert_int_equal(scene.peers[1].commands, i);
    }
    scene_end(&scene);
}

static void test_two_servers(void **state)
{
    static scene_t scene = {
        .url = "redis-cluster://127.0.0.1:#0",
        .slots = { "*2\r\n*3\r\n:0\r\n:8191\r\n*2\r\n$9\r\n127.0.0.1\r\n:#0\r\n"
                   "*3\r\n:8192\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:#1\r\n",
                   "" },
    };
    static const char *const keys[] = { "foo", "bar", "foo", "bar" }; /* 12182, 5061 */
    static const int expected[] = { 1, 0, 1, 0 };
    redis_endpoint_t *endpoint = scene_begin(&scene);
    const char *argv[4][2];
    const size_t len[] = { 3, 3 };
    redis_call_t calls[4];

    (void)state;
    redis_endpoint_maintain(endpoint);
    for (int i = 0; i < 4; i++) {
        argv[i][0] = "GET";
        argv[i][1] = keys[i];
        calls[i] = (redis_call_t){
            .key = keys[i], .key_len = 3, .argc = 2, .argv = argv[i], .argv_len = len
        };
    }
    redis_endpoint_exchange(endpoint, calls, 4, rlp_clock_monotonic() + PATIENCE);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(calls[i].fault, REDIS_FAULT_NONE);
        assert_int_equal(calls[i].reply->integer, expected[i]);
        freeReplyObject(calls[i].reply);
    }
    scene_end(&scene);
}

static void test_slots_damaged(void **state)
{
    static const char *const slots[] = {
        "+OK\r\n",
        "*0\r\n",
        "*1\r\n:1\r\n",
        "*1\r\n*0\r\n",
        "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n",
        "*1\r\n*3\r\n:-1\r\n:5\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n$9\r\n127.0.0.1\r\n:0\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n:1\r\n$1\r\n1\r\n",
        "*1\r\n*3\r\n$1\r\n0\r\n:5\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n*1\r\n$9\r\n127.0.0.1\r\n",
        "*1\r\n*3\r\n:0\r\n:5\r\n$1\r\nx\r\n",
        "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\n?\r\n:1\r\n",
        "-NOPERM this user has no permissions\r\n",
        "!\r\n",
    };
    redis_fault_t fault;

    (void)state;
    for (size_t i = 0; i < UNIT_N(slots); i++) {
        scene_t scene = { .url = "redis-cluster://127.0.0.1:#0", .slots = { slots[i], "" } };
        redis_endpoint_t *endpoint = scene_begin(&scene);

        redis_endpoint_maintain(endpoint);
        assert_int_equal(scene_get(endpoint, "foo", &fault), 0);
        scene_end(&scene);
    }
}

#define MASTER_0 "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n#0\r\n"
#define MASTER_1 "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n#1\r\n"
#define IS_MASTER "*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n"
#define IS_REPLICA "*5\r\n$5\r\nslave\r\n$1\r\nx\r\n:1\r\n$9\r\nconnected\r\n:1\r\n"

/* The peers are both Sentinel and server. */
static scene_t sentinels[] = {
    { .name = "the first names the master",
      .slots = { MASTER_1, MASTER_0 },
      .role = { IS_REPLICA, IS_MASTER } },
    { .name = "the first is behind the times",
      .slots = { MASTER_0, MASTER_1 },
      .role = { IS_REPLICA, IS_MASTER } },
    { .name = "the first knows of no master",
      .slots = { "*-1\r\n", MASTER_1 },
      .role = { IS_REPLICA, IS_MASTER } },
    { .name = "the first talks nonsense",
      .slots = { "*2\r\n:1\r\n:2\r\n", MASTER_1 },
      .role = { IS_REPLICA, IS_MASTER } },
    { .name = "the first names no port",
      .slots = { "*2\r\n$9\r\n127.0.0.1\r\n$1\r\n0\r\n", MASTER_1 },
      .role = { IS_REPLICA, IS_MASTER } },
    { .name = "the first wants a password",
      .slots = { "-NOAUTH\r\n", MASTER_1 },
      .role = { IS_REPLICA, IS_MASTER } },
};

static void test_sentinel(void **state)
{
    scene_t *scene = (scene_t *)(uintptr_t)unit_row(state);
    redis_fault_t fault;

    scene->url = "redis-sentinel://127.0.0.1:#0,127.0.0.1:#1/main";
    redis_endpoint_t *endpoint = scene_begin(scene);

    assert_int_equal(scene_miss(endpoint, "foo"), REDIS_FAULT_NAME);
    redis_endpoint_maintain(endpoint);
    assert_int_equal(scene_get(endpoint, "foo", &fault), 1);
    scene_end(scene);
}

/* Neither of them helps: what the last one has to say. */
static void test_sentinel_why(void **state)
{
    static const char *const rows[][2] = {
        { "*-1\r\n", "Sentinel: no master of that name" },
        { "*2\r\n$0\r\n\r\n$4\r\n6379\r\n", "Sentinel: the master that it names is not there" },
        { "-NOAUTH Authentication required.\r\n", "Sentinel: NOAUTH Authentication required." },
        { "!\r\n", "Sentinel: reply not understood" },
    };
    redis_server_t servers[1];

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        scene_t scene = { .url = "redis-sentinel://127.0.0.1:#0/main",
                          .slots = { rows[i][0], "" } };
        redis_endpoint_t *endpoint = scene_begin(&scene);

        redis_endpoint_maintain(endpoint);
        assert_int_equal(scene_miss(endpoint, "foo"), REDIS_FAULT_NAME);
        assert_int_equal(redis_endpoint_servers(endpoint, servers, 1), 1);
        assert_string_equal(servers[0].why, rows[i][1]);
        scene_end(&scene);
    }
}

static void test_demoted(void **state)
{
    static scene_t scene = { .url = "redis-sentinel://127.0.0.1:#0/main",
                             .slots = { MASTER_0, "" },
                             .role = { IS_MASTER, IS_MASTER } };
    redis_endpoint_t *endpoint = scene_begin(&scene);
    redis_fault_t fault;

    (void)state;
    redis_endpoint_maintain(endpoint);
    assert_int_equal(scene_get(endpoint, "foo", &fault), 0);
    scene.role[0] = IS_REPLICA;
    scene.get[0] = "-READONLY You can't write against a read only replica.\r\n";
    scene.slots[0] = MASTER_1;
    assert_int_equal(scene_get(endpoint, "foo", &fault), -1);
    assert_int_equal(fault, REDIS_FAULT_READONLY);
    for (int64_t end = peer_ms() + PATIENCE / 1000; peer_ms() < end; poll(NULL, 0, 10)) {
        redis_endpoint_maintain(endpoint);
        if (scene_get_in(endpoint, "foo", &fault, TIMEOUT) == 1) {
            break;
        }
    }
    assert_int_equal(scene_get(endpoint, "foo", &fault), 1);
    scene_end(&scene);
}

/* Behind a name or an address that moves: another server answers the next connection. */
static bool moved_serve(peer_t *peer, int fd, const redisReply *command)
{
    const int replicas = *(const int *)peer->baton;

    if (command == NULL) {
        return true;
    }
    return peer_say(fd, atomic_load(&peer->clients) <= replicas
                            ? "-READONLY You can't write against a read only replica.\r\n"
                            : ":1\r\n");
}

/* How many connections one question takes, which meets so many replicas. */
static int moved_clients(int replicas, redis_fault_t *fault)
{
    redis_breaker_t *breakers = apr_pcalloc(unit_pool(), 8 * sizeof(*breakers));
    redis_endpoint_t *endpoint;
    redis_url_t url;
    peer_t peer;

    peer_start(&peer, moved_serve, &replicas);
    assert_null(redis_url_parse(&url, apr_psprintf(unit_pool(), "redis://127.0.0.1:%d", peer.port),
                                NULL, unit_pool()));
    assert_int_equal(redis_endpoint_create(&endpoint, &url, &settings, breakers, 8, unit_pool()),
                     APR_SUCCESS);
    (void)scene_get(endpoint, "foo", fault);
    peer_stop(&peer);
    return atomic_load(&peer.clients);
}

static void test_readonly(void **state)
{
    redis_fault_t fault;

    (void)state;
    assert_int_equal(moved_clients(0, &fault), 1);
    assert_int_equal(fault, REDIS_FAULT_NONE);
    assert_int_equal(moved_clients(1, &fault), 2);
    assert_int_equal(fault, REDIS_FAULT_NONE);
    assert_int_equal(moved_clients(9, &fault), 2);
    assert_int_equal(fault, REDIS_FAULT_READONLY);
}

int main(void)
{
    unit_add("MOVED is followed once and remembered", test_moved, NULL);
    for (size_t i = 0; i < UNIT_N(asked_first); i++) {
        unit_add_case("ASK to who has no script yet", asked_first[i], test_ask_script,
                      &asked_first[i]);
    }
    unit_add("MOVED and ASK to nowhere", test_moved_nowhere, NULL);
    unit_add("MOVED to another port of the same host", test_moved_same_host, NULL);
    unit_add("a storm of MOVED: two contacts a request, slots once a second", test_storm, NULL);
    unit_add("servers without end are not remembered", test_many_servers, NULL);
    unit_add("names of servers as long as may be", test_long_names, NULL);
    unit_add("ASK: ASKING goes ahead, and nothing is remembered", test_ask, NULL);
    unit_add("the first server is gone for good", test_first_gone, NULL);
    unit_add("keys of two servers", test_two_servers, NULL);
    unit_add("CLUSTER SLOTS without sense", test_slots_damaged, NULL);
    for (size_t i = 0; i < UNIT_N(sentinels); i++) {
        unit_add_case("Sentinels", sentinels[i].name, test_sentinel, &sentinels[i]);
    }
    unit_add("Sentinels that do not help: why", test_sentinel_why, NULL);
    unit_add("READONLY: the Sentinels are asked again", test_demoted, NULL);
    unit_add("READONLY: a new connection, once", test_readonly, NULL);
    return unit_run();
}
