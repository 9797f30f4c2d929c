/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a name means may change while it is in use.
 */

#include "redis_peer.h"

#include <apr_strings.h>

#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define PATIENCE (20 * RLP_SECOND) /* a slow machine may be slow */

/* What one name means by now. */
static const char *moved_to;

/* NOLINTBEGIN(bugprone-reserved-identifier): names of the linker's */
int __real_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);
int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);

int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found)
{
    const bool moves = strcmp(name, "moves.test") == 0 && !(hints->ai_flags & AI_NUMERICHOST);

    return __real_getaddrinfo(moves ? moved_to : name, service, hints, found);
}
/* NOLINTEND(bugprone-reserved-identifier) */

/* A server that has all slots, and is known to the Cluster by its name. */
static bool named_serve(peer_t *peer, int fd, const redisReply *command)
{
    char slots[64];

    (void)snprintf(slots, sizeof(slots),
                   "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$10\r\nmoves.test\r\n:%d\r\n", peer->port);

    return command == NULL || peer_say(fd, peer_is(command, "CLUSTER") ? slots : ":1\r\n");
}

static redis_fault_t named_get(redis_endpoint_t *endpoint)
{
    const char *argv[] = { "GET", "foo" };
    const size_t len[] = { 3, 3 };
    redis_call_t call = { .key = "foo", .key_len = 3, .argc = 2, .argv = argv, .argv_len = len };

    redis_endpoint_exchange(endpoint, &call, 1, rlp_clock_monotonic() + PATIENCE);
    freeReplyObject(call.reply);
    return call.fault;
}

/* Of a Cluster it comes back with another address. */
static void test_cluster(void **state)
{
    static const redis_settings_t settings = {
        .session.connect = PATIENCE,
        .breaker = { .threshold = 1, .recovery = RLP_SECOND / 20, .probe = RLP_SECOND },
    };
    redis_breaker_t *breakers = apr_pcalloc(unit_pool(), 8 * sizeof(*breakers));
    redis_endpoint_t *endpoint;
    redis_url_t url;
    peer_t peer;

    (void)state;
    peer_start(&peer, named_serve, NULL);
    assert_null(
        redis_url_parse(&url, apr_psprintf(unit_pool(), "redis-cluster://127.0.0.1:%d", peer.port),
                        NULL, unit_pool()));
    assert_int_equal(redis_endpoint_create(&endpoint, &url, &settings, breakers, 8, unit_pool()),
                     APR_SUCCESS);
    moved_to = "127.0.0.2"; /* where nobody listens */
    redis_endpoint_maintain(endpoint);
    assert_int_not_equal(named_get(endpoint), REDIS_FAULT_NONE);
    moved_to = "127.0.0.1";
    for (int64_t end = peer_ms() + PATIENCE / 1000;
         named_get(endpoint) != REDIS_FAULT_NONE && peer_ms() < end; poll(NULL, 0, 10)) {
        redis_endpoint_maintain(endpoint);
    }
    assert_int_equal(named_get(endpoint), REDIS_FAULT_NONE);
    peer_stop(&peer);
}

int main(void)
{
    unit_add("a server of a Cluster has another address", test_cluster, NULL);
    return unit_run();
}
