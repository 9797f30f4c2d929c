/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Where the servers are by now: what names mean, who is the Sentinels' master, who has which slots
 * of a cluster. All that may take its time; for one thread of each process.
 */

#include "redis/topology_nodes.h"

#include "rlp.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define TOPOLOGY_EVERY (30 * RLP_SECOND) /* asks without a reason */
#define TOPOLOGY_ATMOST RLP_SECOND       /* asks with one */

/* What to ask, and what to make of the answer; true if it was one. */
typedef struct {
    const char *const *words;
    int n;
    bool (*take)(redis_endpoint_t *endpoint, const redis_address_t *from, const redisReply *reply);
} question_t;

static bool topology_answers(const node_t *node)
{
    return redis_breaker_look(redis_connection_breaker(node->connection), 0).phase == REDIS_CLOSED;
}

/* Is it in use, and does not answer? */
static bool topology_is_away(const redis_endpoint_t *endpoint, const node_t *node)
{
    return (node->mapped || endpoint->url.kind != REDIS_CLUSTER) && !topology_answers(node);
}

/* The trouble of all nodes together; and whether a server that is in use does not answer. */
static unsigned topology_trouble(redis_endpoint_t *endpoint, bool *away)
{
    unsigned trouble = 0;

    pthread_mutex_lock(&endpoint->mutex);
    for (int i = 0; i < REDIS_NODES_MAX; i++) {
        const node_t *node = &endpoint->nodes[i];

        if (node->connection != NULL) {
            trouble += redis_connection_trouble(node->connection);
            *away |= topology_is_away(endpoint, node);
        }
    }
    pthread_mutex_unlock(&endpoint->mutex);
    return trouble;
}

/* The node at i, in use; NULL: there is none. */
static node_t *topology_use(redis_endpoint_t *endpoint, int i)
{
    node_t *node = &endpoint->nodes[i];

    pthread_mutex_lock(&endpoint->mutex);
    const bool present = node->connection != NULL;

    node->users += present;
    pthread_mutex_unlock(&endpoint->mutex);
    return present ? node : NULL;
}

/* Resolves the names of the nodes: all, or those that have no address yet, or are not there any
   more where they had one. */
static void topology_resolve(redis_endpoint_t *endpoint, bool all)
{
    for (int i = 0; i < REDIS_NODES_MAX; i++) {
        node_t *node = topology_use(endpoint, i);

        if (node != NULL && (all || topology_is_away(endpoint, node) ||
                             !redis_connection_resolved(node->connection))) {
            redis_connection_resolve(node->connection);
        }
        if (node != NULL) {
            topology_leave(endpoint, node);
        }
    }
}

/* Asks one server. */
static bool topology_ask_one(redis_endpoint_t *endpoint, const redis_address_t *address,
                             const question_t *question)
{
    redisReply *reply;
    const redis_fault_t fault = redis_session_ask(address, &endpoint->asking, question->words,
                                                  question->n, &reply, endpoint->why);
    const bool taken = fault == REDIS_FAULT_NONE && question->take(endpoint, address, reply);

    if (fault == REDIS_FAULT_NONE) {
        apr_cpystrn(endpoint->why,
                    reply->elements > 0 ? "the master that it names is not there"
                                        : "no master of that name",
                    sizeof(endpoint->why));
    }
    if (reply != NULL) {
        freeReplyObject(reply);
    }
    return taken;
}

/* Asks those that the URL names in turn until one answers. */
static bool topology_ask_named(redis_endpoint_t *endpoint, const question_t *question)
{
    const redis_url_t *url = &endpoint->url;

    for (int i = 0; i < url->n; i++) {
        const int which = (endpoint->next + i) % url->n;

        if (topology_ask_one(endpoint, &url->addresses[which], question)) {
            endpoint->next = which;
            return true;
        }
    }
    return false;
}

static bool reply_is_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING && reply->str != NULL;
}

/* SENTINEL get-master-addr-by-name: a host and a port. */
static bool topology_take_master(redis_endpoint_t *endpoint, const redis_address_t *from,
                                 const redisReply *reply)
{
    redis_connection_t *connection = endpoint->nodes[0].connection;

    (void)from;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        !reply_is_text(reply->element[0]) || !reply_is_text(reply->element[1])) {
        return false;
    }
    const long port = strtol(reply->element[1]->str, NULL, 10);
    const redis_address_t address = { .host = reply->element[0]->str, .port = (uint16_t)port };

    if (port < 1 || port > 65535 || !redis_connection_move(connection, &address)) {
        return false;
    }
    redis_connection_resolve(connection);
    /* one that is behind the times names a server that is gone, or a replica by now */
    return redis_connection_open(connection) == REDIS_FAULT_NONE;
}

static void topology_maintain_sentinel(redis_endpoint_t *endpoint)
{
    const char *const words[] = { "SENTINEL", "get-master-addr-by-name", endpoint->url.master };
    const question_t question = { .words = words, .n = 3, .take = topology_take_master };

    endpoint->known = topology_ask_named(endpoint, &question);
    if (!endpoint->known) {
        redis_connection_lose(endpoint->nodes[0].connection, endpoint->why);
    }
    endpoint->next = endpoint->known ? endpoint->next : (endpoint->next + 1) % endpoint->url.n;
}

/* Drops nodes that nobody has a use for; under the lock. */
static void topology_sweep(redis_endpoint_t *endpoint)
{
    for (int i = 0; i < REDIS_NODES_MAX; i++) {
        endpoint->nodes[i].mapped = false;
    }
    for (int i = 0; i < REDIS_SLOTS; i++) {
        if (endpoint->slots[i] != TOPOLOGY_NOWHERE) {
            endpoint->nodes[endpoint->slots[i]].mapped = true;
        }
    }
    for (int i = 0; i < REDIS_NODES_MAX; i++) {
        node_t *node = &endpoint->nodes[i];

        if (node->connection != NULL && !node->mapped && !node->named && node->users == 0) {
            redis_connection_destroy(node->connection);
            node->connection = NULL;
        }
    }
}

/* One range of CLUSTER SLOTS: first, last, [host, port, ...] of its master. */
static bool topology_take_range(redis_endpoint_t *endpoint, const redis_address_t *from,
                                const redisReply *range)
{
    const redisReply *master = range->elements < 3 ? NULL : range->element[2];

    if (range->type != REDIS_REPLY_ARRAY || master == NULL ||
        range->element[0]->type != REDIS_REPLY_INTEGER ||
        range->element[1]->type != REDIS_REPLY_INTEGER || master->type != REDIS_REPLY_ARRAY ||
        master->elements < 2 || master->element[1]->type != REDIS_REPLY_INTEGER) {
        return false;
    }
    const long long first = range->element[0]->integer;
    const long long last = range->element[1]->integer;
    const long long port = master->element[1]->integer;
    const redisReply *host = master->element[0];
    const bool same = !reply_is_text(host) || host->len == 0;

    if (first < 0 || last >= REDIS_SLOTS || port < 1 || port > 65535 ||
        (!same && (host->len >= REDIS_HOST_MAX || strcmp(host->str, "?") == 0))) {
        return false;
    }
    const redis_address_t address = { .host = same ? from->host : host->str,
                                      .port = (uint16_t)port };
    const node_t *node = topology_node(endpoint, &address);

    for (long long slot = first; slot <= last && node != NULL; slot++) {
        endpoint->slots[slot] = (int16_t)(node - endpoint->nodes);
    }
    return node != NULL;
}

static bool topology_take_slots(redis_endpoint_t *endpoint, const redis_address_t *from,
                                const redisReply *reply)
{
    bool all = reply->type == REDIS_REPLY_ARRAY && reply->elements > 0;

    if (!all) {
        return false;
    }
    pthread_mutex_lock(&endpoint->mutex);
    topology_sweep(endpoint);
    endpoint->mapped = true;
    endpoint->remap = false;
    for (size_t i = 0; i < reply->elements; i++) {
        all &= topology_take_range(endpoint, from, reply->element[i]);
    }
    topology_sweep(endpoint);
    pthread_mutex_unlock(&endpoint->mutex);
    return all;
}

/* The address of a node that has slots and answers; false: there is none at i. */
static bool topology_member(redis_endpoint_t *endpoint, int i, char host[REDIS_HOST_MAX],
                            redis_address_t *address)
{
    const node_t *node = &endpoint->nodes[i];

    pthread_mutex_lock(&endpoint->mutex);
    const bool member = node->connection != NULL && node->mapped && topology_answers(node);

    if (member) {
        memcpy(host, node->host, REDIS_HOST_MAX);
        *address = (redis_address_t){ .host = host, .port = node->address.port };
    }
    pthread_mutex_unlock(&endpoint->mutex);
    return member;
}

static void topology_maintain_cluster(redis_endpoint_t *endpoint)
{
    static const char *const words[] = { "CLUSTER", "SLOTS" };
    const question_t question = { .words = words, .n = 2, .take = topology_take_slots };
    char host[REDIS_HOST_MAX];
    redis_address_t address;

    for (int i = 0; i < REDIS_NODES_MAX; i++) {
        if (topology_member(endpoint, i, host, &address) &&
            topology_ask_one(endpoint, &address, &question)) {
            endpoint->known = true;
            return;
        }
    }
    endpoint->known = topology_ask_named(endpoint, &question);
}

static bool topology_remaps(redis_endpoint_t *endpoint)
{
    pthread_mutex_lock(&endpoint->mutex);
    const bool remaps = endpoint->remap;

    pthread_mutex_unlock(&endpoint->mutex);
    return remaps;
}

void redis_endpoint_maintain(redis_endpoint_t *endpoint)
{
    const rlp_time_t now = rlp_clock_monotonic();
    bool due = !endpoint->known || topology_remaps(endpoint);
    const unsigned trouble = topology_trouble(endpoint, &due);
    const rlp_time_t pause = due || trouble != endpoint->trouble ? TOPOLOGY_ATMOST : TOPOLOGY_EVERY;

    if (endpoint->asked != 0 && now - endpoint->asked < pause) {
        return;
    }
    endpoint->asked = now;
    endpoint->trouble = trouble;
    if (endpoint->url.kind == REDIS_SENTINEL) {
        topology_maintain_sentinel(endpoint);
        return;
    }
    if (endpoint->url.kind == REDIS_CLUSTER) {
        topology_maintain_cluster(endpoint);
    }
    topology_resolve(endpoint, endpoint->url.kind == REDIS_ALONE);
    endpoint->known |= endpoint->url.kind == REDIS_ALONE;
}
