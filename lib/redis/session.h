/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_SESSION_H
#define REDIS_SESSION_H

/*
 * From a socket to a server that takes our commands: the right password, database and role.
 */

#include "redis/wire.h"

#define REDIS_WHY_MAX 160

/* What a session is begun with. Read-only from then on. */
typedef struct {
    redis_login_t login;
    int db;
    bool master;                /* the server must be one: Sentinel may not know yet */
    const char *const *scripts; /* loaded when a connection opens */
    int n_scripts;
    rlp_time_t connect;     /* connecting and beginning may take so long */
    const redis_tls_t *tls; /* NULL: without */
} redis_session_t;

/* Connects and begins, pipelined: two round trips in all. `why` says in words what failed. */
redis_fault_t redis_session_open(redis_wire_t *wire, redis_addresses_t *addresses,
                                 const redis_session_t *session, rlp_time_t deadline,
                                 char why[REDIS_WHY_MAX]);

/* Connects, asks one question, hangs up. The reply is the caller's to free; an error reply is a
   fault. Resolves names: not for threads that have no time to lose. */
redis_fault_t redis_session_ask(const redis_address_t *address, const redis_session_t *session,
                                const char *const words[], int n, redisReply **reply,
                                char why[REDIS_WHY_MAX]);

/* The fault in a reply, which is not NULL. */
redis_fault_t redis_reply_fault(const redisReply *reply);

/* What an error reply says, fit for a terminal, but for the words of the command, which some
   servers repeat: a password may be among them, or who asks. */
void redis_reply_why(const redisReply *reply, char why[REDIS_WHY_MAX]);

/* The server's clock by a reply, not NULL, that begins as one to TIME does: microseconds since the
   epoch, below 2^53; -1: it does not. */
rlp_time_t redis_reply_time(const redisReply *reply);

#endif
