/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_CONNECTION_STATE_H
#define REDIS_CONNECTION_STATE_H

/*
 * What requests (connection.c) and opening (connection_open.c) share of a connection.
 */

#include "redis/batch.h"
#include "redis/connection.h"

#include <pthread.h>

struct redis_connection_t {
    char *name;
    const redis_settings_t *settings;
    redis_breaker_t *breaker;
    unsigned trouble;

    pthread_mutex_t mutex; /* of what follows */
    redis_address_t address;
    redis_addresses_t addresses;
    pthread_cond_t located;   /* there are addresses now */
    char lost[REDIS_WHY_MAX]; /* why there are no addresses; "": the name means nothing (yet) */
    bool moved;               /* not to be used again where it is */
    pid_t pid;                /* who opened it */
    redis_batch_t *queue;
    char why[REDIS_WHY_MAX];
    bool led; /* a leader is at work; what follows is the leader's */

    redis_wire_t wire;
    rlp_time_t used;
};

/* In a child that was forked while the connection was open: what its parent left is no use. */
void connection_own(redis_connection_t *connection);

/* Opens a new wire from the addresses as they are, and keeps in mind which of them answered. */
redis_fault_t connection_dial(redis_connection_t *connection, redis_wire_t *wire,
                              rlp_time_t deadline, char why[REDIS_WHY_MAX]);

/* A process that has just begun does not know yet where its server is: the maintenance thread is
   about to. */
void connection_locate(redis_connection_t *connection, rlp_time_t deadline);

#endif
