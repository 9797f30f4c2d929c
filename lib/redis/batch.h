/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_BATCH_H
#define REDIS_BATCH_H

/*
 * The commands of one call of redis_connection_exchange(), as bytes to be sent and with the replies
 * that came. Not on its stack: its thread may give up while the leader still reads.
 */

#include "redis/connection.h"

#include <pthread.h>

typedef struct {
    char *bytes; /* by hiredis */
    size_t len;
    redisReply *reply;
    redis_fault_t fault;
} redis_command_t;

typedef struct redis_batch_t redis_batch_t;

struct redis_batch_t {
    redis_batch_t *next;
    pthread_cond_t changed; /* done, or the queue's head while nobody leads */
    redis_ticket_t ticket;
    bool queued;
    bool done;
    bool abandoned; /* its thread has given up: the leader frees it */
    bool unasked;   /* done, since the leader before met a server that does not answer */
    int n;
    redis_command_t commands[];
};

/* Of n calls; one that met NOSCRIPT sends its script. NULL: no memory. */
redis_batch_t *redis_batch_make(redis_call_t *const calls[], int n);

/* With the replies that nobody has taken. */
void redis_batch_free(redis_batch_t *batch);

/* Hands the replies over to the calls that it was made of. */
void redis_batch_take(redis_batch_t *batch, redis_call_t *const calls[]);

/* A condition on the clock of deadlines; false: no memory. */
bool redis_condition_make(pthread_cond_t *condition);

/* A deadline (rlp_clock_monotonic()) as pthread_cond_timedwait() takes it. */
struct timespec redis_condition_until(rlp_time_t deadline);

#endif
