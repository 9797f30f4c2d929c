/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/topology.h"

#include "redis/slot.h"
#include "rlp.h"

#include <apr_strings.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPOLOGY_NAME_MAX 128
#define TOPOLOGY_EVERY (30 * RLP_SECOND) /* asks without a reason */
#define TOPOLOGY_ATMOST RLP_SECOND       /* asks with one */
#define TOPOLOGY_NOWHERE ((int16_t)-1)

typedef struct {
    redis_connection_t *connection; /* NULL: free */
    redis_address_t address;        /* host is in the name */
    char host[TOPOLOGY_NAME_MAX];
    int users;   /* threads that use it now */
    bool named;  /* in the URL: never dropped */
    bool mapped; /* has slots */
} node_t;

struct redis_endpoint_t {
    redis_url_t url;
    redis_settings_t settings;
    redis_session_t asking; /* how Sentinels, and servers for their slots, are spoken to */
    redis_breaker_t *breakers;
    int n_breakers;
    pthread_mutex_t mutex; /* of what follows */
    node_t nodes[REDIS_NODES_MAX];
    int16_t slots[REDIS_SLOTS]; /* the node that has it */
    bool remap;                 /* the slots are not where we thought */
    /* the maintenance thread's */
    rlp_time_t asked;
    unsigned trouble; /* seen when last asked */
    int next;         /* whom to ask first */
    bool known;       /* it has been answered since the last trouble */
};

/* What to ask, and what to make of the answer; true if it was one. */
typedef struct {
    const char *const *words;
    int n;
    bool (*take)(redis_endpoint_t *endpoint, const redis_address_t *from, const redisReply *reply);
} question_t;

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

static void topology_name(char name[TOPOLOGY_NAME_MAX], const redis_address_t *address)
{
    if (address->path != NULL) {
        snprintf(name, TOPOLOGY_NAME_MAX, "%s", address->path);
    } else {
        snprintf(name, TOPOLOGY_NAME_MAX, "%s:%u", address->host, (unsigned)address->port);
    }
}

/* The node at an address, new if need be; under the lock. */
static node_t *topology_node(redis_endpoint_t *endpoint, const redis_address_t *address)
{
    char name[TOPOLOGY_NAME_MAX];

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
    char name[TOPOLOGY_NAME_MAX];

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

static void topology_leave(redis_endpoint_t *endpoint, node_t *node)
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

    if (port < 1 || port > 65535 || colon - text >= TOPOLOGY_NAME_MAX - 8) {
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
    char text[TOPOLOGY_NAME_MAX + 32];
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

/* Asks the node where the key is by now, once; nothing for one that is not elsewhere. */
static void topology_follow(redis_endpoint_t *endpoint, redis_call_t *call, const node_t *from,
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
        return;
    }
    freeReplyObject(call->reply);
    call->reply = NULL;
    call->fault = REDIS_FAULT_NONE;
    redis_connection_exchange(node->connection, ask ? both : both + 1, ask ? 2 : 1, deadline);
    if (asking.reply != NULL) {
        freeReplyObject(asking.reply);
    }
    topology_leave(endpoint, node);
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
            topology_repeat(gathered[i], node, deadline);
            topology_follow(endpoint, gathered[i], node, deadline);
        }
        topology_leave(endpoint, node);
    }
}

/* --- maintenance */

static bool topology_answers(const node_t *node)
{
    return redis_breaker_look(redis_connection_breaker(node->connection), 0).phase == REDIS_CLOSED;
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
            *away |=
                (node->mapped || endpoint->url.kind != REDIS_CLUSTER) && !topology_answers(node);
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

/* Resolves the names of the nodes: all, or those that have no address yet. */
static void topology_resolve(redis_endpoint_t *endpoint, bool all)
{
    for (int i = 0; i < REDIS_NODES_MAX; i++) {
        node_t *node = topology_use(endpoint, i);

        if (node != NULL && (all || !redis_connection_resolved(node->connection))) {
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
    char why[REDIS_WHY_MAX];
    redisReply *reply;
    const redis_fault_t fault =
        redis_session_ask(address, &endpoint->asking, question->words, question->n, &reply, why);
    const bool taken = fault == REDIS_FAULT_NONE && question->take(endpoint, address, reply);

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
    endpoint->next = endpoint->known ? endpoint->next : (endpoint->next + 1) % endpoint->url.n;
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
        (!same && (host->len >= TOPOLOGY_NAME_MAX - 8 || strcmp(host->str, "?") == 0))) {
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
    endpoint->remap = false;
    for (size_t i = 0; i < reply->elements; i++) {
        all &= topology_take_range(endpoint, from, reply->element[i]);
    }
    topology_sweep(endpoint);
    pthread_mutex_unlock(&endpoint->mutex);
    return all;
}

/* The address of a node that has slots and answers; false: there is none at i. */
static bool topology_member(redis_endpoint_t *endpoint, int i, char host[TOPOLOGY_NAME_MAX],
                            redis_address_t *address)
{
    const node_t *node = &endpoint->nodes[i];

    pthread_mutex_lock(&endpoint->mutex);
    const bool member = node->connection != NULL && node->mapped && topology_answers(node);

    if (member) {
        memcpy(host, node->host, TOPOLOGY_NAME_MAX);
        *address = (redis_address_t){ .host = host, .port = node->address.port };
    }
    pthread_mutex_unlock(&endpoint->mutex);
    return member;
}

static void topology_maintain_cluster(redis_endpoint_t *endpoint)
{
    static const char *const words[] = { "CLUSTER", "SLOTS" };
    const question_t question = { .words = words, .n = 2, .take = topology_take_slots };
    char host[TOPOLOGY_NAME_MAX];
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
