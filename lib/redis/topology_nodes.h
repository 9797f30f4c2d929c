/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_TOPOLOGY_NODES_H
#define REDIS_TOPOLOGY_NODES_H

/*
 * The servers that an endpoint knows, and which slots they have: what requests (topology.c) and
 * maintenance (topology_maintain.c) share.
 */

#include "redis/slot.h"
#include "redis/topology.h"

#include <pthread.h>

#define TOPOLOGY_NOWHERE ((int16_t)-1)

/* One server. */
typedef struct {
    redis_connection_t *connection; /* NULL: free */
    redis_address_t address;        /* host is in the name */
    char host[REDIS_HOST_MAX];
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
    bool mapped;                /* it has been said which node has which */
    bool remap;                 /* the slots are not where we thought */
    /* the maintenance thread's */
    rlp_time_t asked;
    unsigned trouble;        /* seen when last asked */
    int next;                /* whom to ask first */
    bool known;              /* it has been answered since the last trouble */
    char why[REDIS_WHY_MAX]; /* why not */
};

/* The node at an address, new if need be; under the lock. NULL: no room, or no memory. */
node_t *topology_node(redis_endpoint_t *endpoint, const redis_address_t *address);

/* Is done with a node that was in use. */
void topology_leave(redis_endpoint_t *endpoint, node_t *node);

#endif
