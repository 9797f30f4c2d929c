/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_CLIENT_H
#define REDIS_CLIENT_H

/*
 * A connection under test, with a breaker of its own.
 */

#include "redis_peer.h"

#define TIMEOUT (RLP_SECOND / 2)   /* of an exchange that nobody answers */
#define PATIENCE (20 * RLP_SECOND) /* of one that is answered, on a slow machine, too */
#define SLACK 4000                 /* ms that a slow machine may add */

/* The end of the connection that is tested. */
typedef struct {
    redis_settings_t settings;
    redis_breaker_t breaker;
    redis_connection_t *connection;
    atomic_int transitions;
} client_t;

/* Opens it, to a server on that port of this host; in the settings the session may be set. */
void client_open(client_t *client, int port);

/* Closes it, and forgets the session. */
void client_close(client_t *client);

/* Its breaker. */
redis_breaker_look_t client_look(const client_t *client);

/* ECHO word, by such a deadline; the fault, and the reply as text in `got`. */
redis_fault_t client_echo_by(client_t *client, const char *word, char got[32], rlp_time_t deadline);

/* The same, with patience. */
redis_fault_t client_echo(client_t *client, const char *word, char got[32]);

/* A peer that answers to ECHO, and OK to anything else. */
bool client_serve_echo(peer_t *peer, int fd, const redisReply *command);

#endif
