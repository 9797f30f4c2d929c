/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_CONNECTION_H
#define REDIS_CONNECTION_H

/*
 * One connection to one server, shared by the threads of a process: the first thread that comes
 * leads, writes what has queued up and reads all replies; what comes meanwhile waits for the next
 * leader. Replies belong to commands by their order, so any error ends the connection.
 */

#include "redis/breaker.h"
#include "redis/session.h"

/* One command. The caller sets the first part, and clears the second. */
typedef struct redis_call_t {
    const char *key; /* by which a cluster is asked; NULL: any server */
    size_t key_len;
    int argc;
    const char **argv;
    const size_t *argv_len;
    const char *script; /* the body, where argv is EVALSHA with its digest; else NULL */
    size_t script_len;
    struct redis_call_t *asking; /* that goes before it, whenever it is sent; NULL: none does */
    redisReply *reply;           /* freeReplyObject(); an error reply too; NULL where none came */
    redis_fault_t fault;
} redis_call_t;

#define REDIS_CALLS_MAX 64 /* at once */

/* Told of each transition of the breaker, by the thread that made it. */
typedef void redis_report_fn(void *baton, const char *server, redis_change_t change,
                             const char *why);

/* Told of an error that a script is answered with and the breaker does not count. */
typedef void redis_error_fn(void *baton, const char *server, const char *why);

/* What all connections of an endpoint share; outlives them. */
typedef struct {
    redis_session_t session;
    redis_breaker_settings_t breaker;
    redis_report_fn *report; /* NULL: nobody wants to know */
    redis_error_fn *error;   /* the same */
    void *baton;
} redis_settings_t;

typedef struct redis_connection_t redis_connection_t;

/* A connection that opens when it is first used, in the process that does. `name` is what logs call
   it. NULL: no memory. */
redis_connection_t *redis_connection_create(const char *name, const redis_address_t *address,
                                            const redis_settings_t *settings,
                                            redis_breaker_t *breaker);

/* Nobody may use it any more. */
void redis_connection_destroy(redis_connection_t *connection);

/* Asks n (1 to REDIS_CALLS_MAX) in one round trip and returns at the deadline
   (rlp_clock_monotonic()) at the latest, give or take a millisecond. A script that the server does
   not know is sent in full in a second one. */
void redis_connection_exchange(redis_connection_t *connection, redis_call_t *const calls[], int n,
                               rlp_time_t deadline);

/* Resolves its name; for a maintenance thread. The last addresses stay while there are no
   others. */
void redis_connection_resolve(redis_connection_t *connection);

/* Does it have an address? */
bool redis_connection_resolved(redis_connection_t *connection);

/* Opens it ahead of the next request, if it is closed; for a maintenance thread. */
redis_fault_t redis_connection_open(redis_connection_t *connection);

/* The server is elsewhere from now on. false: no memory, and it stays. */
bool redis_connection_move(redis_connection_t *connection, const redis_address_t *address);

/* Why nobody knows where it is, if nobody does: in the words of a Sentinel. */
void redis_connection_lose(redis_connection_t *connection, const char *why);

/* Goes up with each event after which one should ask where the server is. */
unsigned redis_connection_trouble(const redis_connection_t *connection);

/* What went wrong last, in words; "" for nothing. */
void redis_connection_why(redis_connection_t *connection, char why[REDIS_WHY_MAX]);

/* Its breaker and name. */
const redis_breaker_t *redis_connection_breaker(const redis_connection_t *connection);
const char *redis_connection_name(const redis_connection_t *connection);

#endif
