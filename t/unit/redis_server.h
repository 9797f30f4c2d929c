/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_SERVER_H
#define REDIS_SERVER_H

/*
 * A redis-server of the test's own, on a UNIX socket in a new directory; it goes with the program.
 */

#include <stdbool.h>

#include <hiredis/hiredis.h>

#include "redis/store.h"

/* Starts it. False: there is none, and a row of the name that was given, which stands for the tests
   that need it, is skipped and says why. */
bool redis_server_start(const char *tests);

/* The connection to it; the program aborts if that breaks. */
redisContext *redis_server(void);

/* Its socket, for connections of the test's own. */
const char *redis_server_path(void);

/* A new connection, which no earlier test has left in the midst of something. */
void redis_server_again(void);

/* The reply to a command; the test fails without one. To be freed. */
redisReply *redis_server_ask(const char *format, ...);

/* How stores reach the server of a socket, this one or none, and connect in so long; all have the
   same breakers. script: what it is to run, or NULL. */
redis_endpoint_t *redis_server_endpoint(const char *path, const char *script, rlp_time_t connect);

/* A store there, with keys of "t:", to which the question says what time it is. */
rlp_store_t *redis_server_told(void);

#endif
