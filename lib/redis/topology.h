/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_TOPOLOGY_H
#define REDIS_TOPOLOGY_H

/*
 * Which server to ask: the one there is, the master that the Sentinels name, or the one that has
 * the key's slot. Failover of each needs no restart.
 */

#include "redis/connection.h"
#include "redis/wire.h"

#define REDIS_NODES_MAX 128
#define REDIS_NODE_NAME_MAX (REDIS_HOST_MAX + 8) /* with its port */

typedef struct redis_endpoint_t redis_endpoint_t;

/* An endpoint that contacts nobody yet; may be made in a parent and used in its children. The
   settings' session.login, .db and .master are taken from the URL; .tls is set if the URL says so.
   The n breakers (1 or more) lie in memory shared with all processes of the host. Lives in the
   pool, as do its connections. */
apr_status_t redis_endpoint_create(redis_endpoint_t **endpoint, const redis_url_t *url,
                                   const redis_settings_t *settings, redis_breaker_t breakers[],
                                   int n, apr_pool_t *pool);

/* Asks n (1 to REDIS_CALLS_MAX), pipelined, in one round trip for each server that has some of the
   keys; follows a key that has moved, and asks again where a server has become a replica, once
   each. Returns at the deadline (rlp_clock_monotonic()) at the
   latest, give or take a millisecond. */
void redis_endpoint_exchange(redis_endpoint_t *endpoint, redis_call_t calls[], int n,
                             rlp_time_t deadline);

/* What may take its time: names, Sentinels, slots. For one thread of each process, ten times a
   second or so; does nothing while nothing is due. An endpoint with names, or with Sentinels,
   answers after the first such call only. */
void redis_endpoint_maintain(redis_endpoint_t *endpoint);

/* One of its servers, for a page. */
typedef struct {
    char name[REDIS_NODE_NAME_MAX];
    redis_breaker_look_t breaker;
    char why[REDIS_WHY_MAX]; /* what went wrong last; "" for nothing */
} redis_server_t;

/* Its servers, at most `most`; how many. */
int redis_endpoint_servers(redis_endpoint_t *endpoint, redis_server_t servers[], int most);

/* The time until the server that has the key is probed next; 0: it may be asked now. For
   Retry-After. */
rlp_time_t redis_endpoint_wait(redis_endpoint_t *endpoint, const char *key, size_t key_len);

#endif
