/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/topology_nodes.h"

#include "rlp.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a: the same in every process. */
static uint64_t topology_id(const char *name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* Makes a node of an address in a free place; under the lock. NULL: no room, or no memory. */
static node_t *topology_add(redis_endpoint_t *endpoint, const redis_address_t *address,
                            const char *name)
{
    node_t *node = endpoint->nodes;

    while (node < endpoint->nodes + REDIS_NODES_MAX && node->connection != NULL) {
        node++;
    }
    if (node == endpoint->nodes + REDIS_NODES_MAX) {
        return NULL;
    }
    *node = (node_t){ .address = *address };
    if (address->host != NULL) {
        apr_cpystrn(node->host, address->host, sizeof(node->host));
        node->address.host = node->host;
    }
    node->connection =
        redis_connection_create(name, address, &endpoint->settings,
                                redis_breaker_of(endpoint->breakers, endpoint->n_breakers,
                                                 topology_id(name)));
    return node->connection == NULL ? NULL : node;
}

static void topology_name(char name[REDIS_NODE_NAME_MAX], const redis_address_t *address)
{
    if (address->path != NULL) {
        snprintf(name, REDIS_NODE_NAME_MAX, "%s", address->path);
    } else {
        snprintf(name, REDIS_NODE_NAME_MAX, "%s:%u", address->host, (unsigned)address->port);
    }
}

node_t *topology_node(redis_endpoint_t *endpoint, const redis_address_t *address)
{
    char name[REDIS_NODE_NAME_MAX];

    for (int i = 0; i < REDIS_NODES_MAX; i++) {
        node_t *node = &endpoint->nodes[i];

        if (node->connection != NULL && node->address.port == address->port &&
            strcmp(node->host, address->host) == 0) {
            return node;
        }
    }
    topology_name(name, address);
    return topology_add(endpoint, address, name);
}

static apr_status_t topology_cleanup(void *data)
{
    redis_endpoint_t *endpoint = data;

    for (int i = 0; i < REDIS_NODES_MAX; i++) {
        if (endpoint->nodes[i].connection != NULL) {
            redis_connection_destroy(endpoint->nodes[i].connection);
        }
    }
    pthread_mutex_destroy(&endpoint->mutex);
    return APR_SUCCESS;
}

/* The nodes that the URL names; behind Sentinels one, whose address is not known yet. */
static bool topology_begin(redis_endpoint_t *endpoint)
{
    const redis_url_t *url = &endpoint->url;
    const redis_address_t nowhere = { .host = "" };
    char name[REDIS_NODE_NAME_MAX];

    if (url->kind == REDIS_SENTINEL) {
        endpoint->nodes[0].named = topology_add(endpoint, &nowhere, url->master) != NULL;
        return endpoint->nodes[0].named;
    }
    for (int i = 0; i < url->n; i++) {
        topology_name(name, &url->addresses[i]);
        node_t *node = topology_add(endpoint, &url->addresses[i], name);

        if (node == NULL) {
            return false;
        }
        node->named = true;
    }
    return true;
}

apr_status_t redis_endpoint_create(redis_endpoint_t **endpoint, const redis_url_t *url,
                                   const redis_settings_t *settings, redis_breaker_t breakers[],
                                   int n, apr_pool_t *pool)
{
    redis_endpoint_t *made = apr_pcalloc(pool, sizeof(*made));

    if (url->tls != (settings->session.tls != NULL)) {
        return APR_EINVAL; /* never in the open by mistake */
    }
    made->url = *url;
    made->settings = *settings;
    made->settings.session.login = url->login;
    made->settings.session.db = url->db;
    made->settings.session.master = url->kind == REDIS_SENTINEL;
    made->asking.login = url->kind == REDIS_SENTINEL ? url->sentinels : url->login;
    made->asking.connect = settings->session.connect;
    made->asking.tls = settings->session.tls;
    made->breakers = breakers;
    made->n_breakers = n;
    for (int i = 0; i < REDIS_SLOTS; i++) {
        made->slots[i] = TOPOLOGY_NOWHERE;
    }
    pthread_mutex_init(&made->mutex, NULL);
    apr_pool_cleanup_register(pool, made, topology_cleanup, apr_pool_cleanup_null);
    *endpoint = made;
    return topology_begin(made) ? APR_SUCCESS : APR_ENOMEM;
}

/* --- requests */

/* The node for a key; under the lock. Before the slots are known any node does: it says MOVED. */
static node_t *topology_home(redis_endpoint_t *endpoint, const char *key, size_t key_len)
{
    if (endpoint->url.kind != REDIS_CLUSTER) {
        return &endpoint->nodes[0];
    }
    const int16_t at = endpoint->slots[key == NULL ? 0 : redis_slot(key, key_len)];

    if (at == TOPOLOGY_NOWHERE) {
        endpoint->remap = true;
        return &endpoint->nodes[0];
    }
    return &endpoint->nodes[at];
}

/* Gathers the calls for the node of the first that has none yet. How many. */
static int topology_gather(redis_endpoint_t *endpoint, redis_call_t calls[], bool asked[], int n,
                           redis_call_t *gathered[], node_t **node)
{
    int count = 0;

    pthread_mutex_lock(&endpoint->mutex);
    for (int i = 0; i < n; i++) {
        node_t *home = asked[i] ? NULL : topology_home(endpoint, calls[i].key, calls[i].key_len);

        if (home != NULL && (count == 0 || home == *node)) {
            *node = home;
            asked[i] = true;
            gathered[count++] = &calls[i];
        }
    }
    if (count > 0) {
        (*node)->users++;
    }
    pthread_mutex_unlock(&endpoint->mutex);
    return count;
}

void topology_leave(redis_endpoint_t *endpoint, node_t *node)
{
    pthread_mutex_lock(&endpoint->mutex);
    node->users--;
    pthread_mutex_unlock(&endpoint->mutex);
}

/* Takes "HOST:PORT" apart; no host: that of the server which said so. */
static bool topology_parse(redis_address_t *address, char *text, const node_t *from)
{
    char *colon = strrchr(text, ':');
    const long port = colon == NULL ? 0 : strtol(colon + 1, NULL, 10);

    if (port < 1 || port > 65535 || colon - text >= REDIS_HOST_MAX) {
        return false;
    }
    *colon = '\0';
    *address =
        (redis_address_t){ .host = *text == '\0' ? from->host : text, .port = (uint16_t)port };
    return strcmp(address->host, "?") != 0;
}

/* The node that "MOVED SLOT HOST:PORT" or "ASK ..." names, in use; NULL: none. */
static node_t *topology_redirect(redis_endpoint_t *endpoint, const redis_call_t *call,
                                 const node_t *from)
{
    char text[REDIS_NODE_NAME_MAX + 32];
    redis_address_t address;
    int slot = -1, at = 0;

    apr_cpystrn(text, call->reply->str, sizeof(text));
    if (sscanf(text, "%*s %d %n", &slot, &at) != 1 || slot < 0 || slot >= REDIS_SLOTS || at == 0) {
        return NULL;
    }
    pthread_mutex_lock(&endpoint->mutex);
    node_t *node =
        topology_parse(&address, text + at, from) ? topology_node(endpoint, &address) : NULL;

    endpoint->remap |= call->fault == REDIS_FAULT_MOVED;
    if (node != NULL) {
        node->users++;
        if (call->fault == REDIS_FAULT_MOVED) {
            endpoint->slots[slot] = (int16_t)(node - endpoint->nodes);
        }
    }
    pthread_mutex_unlock(&endpoint->mutex);
    return node;
}

/* Asks the node where the key is by now, and gives it, in use; NULL for a key that is not
   elsewhere. */
static node_t *topology_hop(redis_endpoint_t *endpoint, redis_call_t *call, const node_t *from,
                            rlp_time_t deadline)
{
    const char *asking_word = "ASKING";
    const size_t asking_len = 6;
    redis_call_t asking = { .argc = 1, .argv = &asking_word, .argv_len = &asking_len };
    redis_call_t *both[] = { &asking, call };
    const bool ask = call->fault == REDIS_FAULT_ASK;
    node_t *node =
        ask || call->fault == REDIS_FAULT_MOVED ? topology_redirect(endpoint, call, from) : NULL;

    if (node == NULL) {
        return NULL;
    }
    freeReplyObject(call->reply);
    call->reply = NULL;
    call->fault = REDIS_FAULT_NONE;
    call->asking = ask ? &asking : NULL;
    redis_connection_exchange(node->connection, ask ? both : both + 1, ask ? 2 : 1, deadline);
    call->asking = NULL;
    if (asking.reply != NULL) {
        freeReplyObject(asking.reply);
    }
    return node;
}

/* Follows a key once; and once more where who has the slot says that it is on its way. */
static void topology_follow(redis_endpoint_t *endpoint, redis_call_t *call, const node_t *from,
                            rlp_time_t deadline)
{
    const bool moved = call->fault == REDIS_FAULT_MOVED;
    node_t *node = topology_hop(endpoint, call, from, deadline);
    node_t *next = node != NULL && moved && call->fault == REDIS_FAULT_ASK
                       ? topology_hop(endpoint, call, node, deadline)
                       : NULL;

    if (next != NULL) {
        topology_leave(endpoint, next);
    }
    if (node != NULL) {
        topology_leave(endpoint, node);
    }
}

/* A master that has become a replica ends the connection: a new one, once, may lead to another
   server, where Sentinels, a name or an address have moved by now. */
static void topology_repeat(redis_call_t *call, const node_t *node, rlp_time_t deadline)
{
    if (call->fault != REDIS_FAULT_READONLY) {
        return;
    }
    freeReplyObject(call->reply);
    call->reply = NULL;
    call->fault = REDIS_FAULT_NONE;
    redis_connection_exchange(node->connection, &call, 1, deadline);
}

/* Could nobody be asked, where any server would do? */
static bool topology_is_lost(redis_endpoint_t *endpoint, const redis_call_t *call)
{
    const redis_fault_t fault = call->fault;

    if (endpoint->url.kind != REDIS_CLUSTER ||
        (fault != REDIS_FAULT_NAME && fault != REDIS_FAULT_CONNECT &&
         fault != REDIS_FAULT_BREAKER)) {
        return false;
    }
    pthread_mutex_lock(&endpoint->mutex);
    const bool mapped = endpoint->mapped;

    pthread_mutex_unlock(&endpoint->mutex);
    return !mapped;
}

/* Before the slots are known, the others that the URL names are asked in turn: the first may be
   gone for good. Who was asked last. */
static const node_t *topology_try(redis_endpoint_t *endpoint, redis_call_t *call,
                                  const node_t *first, rlp_time_t deadline)
{
    const node_t *node = first;

    for (int i = 0; i < endpoint->url.n && topology_is_lost(endpoint, call); i++) {
        if (&endpoint->nodes[i] != first) {
            node = &endpoint->nodes[i];
            call->fault = REDIS_FAULT_NONE;
            redis_connection_exchange(node->connection, &call, 1, deadline);
        }
    }
    return node;
}

void redis_endpoint_exchange(redis_endpoint_t *endpoint, redis_call_t calls[], int n,
                             rlp_time_t deadline)
{
    redis_call_t *gathered[REDIS_CALLS_MAX];
    bool asked[REDIS_CALLS_MAX] = { false };
    node_t *node = NULL;
    int count;

    while ((count = topology_gather(endpoint, calls, asked, n, gathered, &node)) > 0) {
        redis_connection_exchange(node->connection, gathered, count, deadline);
        for (int i = 0; i < count; i++) {
            const node_t *asked_last = topology_try(endpoint, gathered[i], node, deadline);

            topology_repeat(gathered[i], asked_last, deadline);
            topology_follow(endpoint, gathered[i], asked_last, deadline);
        }
        topology_leave(endpoint, node);
    }
}

/* --- for pages */

int redis_endpoint_servers(redis_endpoint_t *endpoint, redis_server_t servers[], int most)
{
    const rlp_time_t now = rlp_clock_monotonic();
    int n = 0;

    pthread_mutex_lock(&endpoint->mutex);
    for (int i = 0; i < REDIS_NODES_MAX && n < most; i++) {
        redis_connection_t *connection = endpoint->nodes[i].connection;

        if (connection != NULL) {
            apr_cpystrn(servers[n].name, redis_connection_name(connection),
                        sizeof(servers[n].name));
            servers[n].breaker = redis_breaker_look(redis_connection_breaker(connection), now);
            redis_connection_why(connection, servers[n].why);
            n++;
        }
    }
    pthread_mutex_unlock(&endpoint->mutex);
    return n;
}

rlp_time_t redis_endpoint_wait(redis_endpoint_t *endpoint, const char *key, size_t key_len)
{
    pthread_mutex_lock(&endpoint->mutex);
    const redis_breaker_t *breaker =
        redis_connection_breaker(topology_home(endpoint, key, key_len)->connection);

    pthread_mutex_unlock(&endpoint->mutex);
    return redis_breaker_look(breaker, rlp_clock_monotonic()).wait;
}
