/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_HOSTS_H
#define REDIS_HOSTS_H

/*
 * How many hosts count together: each tells Redis now and then that it lives, in one small key.
 */

#include "redis/topology.h"

#define REDIS_HOST_ID 8 /* bytes */
#define REDIS_HOSTS_EVERY (2 * RLP_SECOND)
#define REDIS_HOSTS_TTL (10 * RLP_SECOND) /* of who tells no more */

/* What all processes of a host share; all zero: nothing is known. */
typedef struct {
    rlp_time_t due;  /* when to tell again; rlp_clock_monotonic() */
    uint64_t living; /* how many, by the last answer there was; 0: none */
} redis_hosts_t;

typedef struct {
    redis_endpoint_t *endpoint;
    const char *prefix;      /* of the key */
    const unsigned char *id; /* REDIS_HOST_ID random bytes that no other host has */
    rlp_time_t timeout;
    rlp_time_t ttl; /* whole milliseconds */
} redis_hosts_settings_t;

/* Tells that this host lives, if it is due and no other process does so, and hears how many do.
   True: Redis has answered. For a maintenance thread. */
bool redis_hosts_tell(redis_hosts_t *hosts, const redis_hosts_settings_t *settings, rlp_time_t now);

/* How many lived when Redis said so last; 1 or more. */
int64_t redis_hosts_living(const redis_hosts_t *hosts);

#endif
