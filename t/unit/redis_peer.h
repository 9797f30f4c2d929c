/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_PEER_H
#define REDIS_PEER_H

/*
 * The other end of the tests of Redis: a peer that says what a test wants, and real servers.
 */

#include "unit.h"

#include "redis/topology.h"

#include <stdatomic.h>
#include <sys/types.h>

typedef struct peer_t peer_t;

/* Serves one command; NULL: a client has just come. false hangs up. */
typedef bool peer_serve_fn(peer_t *peer, int fd, const redisReply *command);

struct peer_t {
    int listener;
    int port; /* on 127.0.0.1 */
    peer_serve_fn *serve;
    const void *baton;
    atomic_int clients;  /* that have come */
    atomic_int commands; /* served */
    atomic_bool stopped;
    pthread_t thread;
};

/* Listens on a free port of the loopback and serves in a thread of its own. */
void peer_start(peer_t *peer, peer_serve_fn *serve, const void *baton);
void peer_stop(peer_t *peer);

/* Sends text; false: the client is gone. */
bool peer_say(int fd, const char *text);

/* Is it this command? */
bool peer_is(const redisReply *command, const char *name);

/* A free port of the loopback, which is this program's until it ends. */
int peer_port(void);

/* Starts redis-server with this port, in a directory of its own, with more arguments (parted by
   spaces); it ends with the test program at the latest. 0: there is none on this machine. */
pid_t server_start(int port, const char *arguments);

/* Ends it at once, as a crash would, and waits for its end. */
void server_kill(pid_t pid);

/* Sends one command to a port by hiredis' own client; the reply as text: a status, string, number,
   or "" for others; errors begin with "-". "" too where nobody answers. From unit_pool(). */
const char *server_ask(int port, const char *command);

/* Waits until the server answers `answer` to the command; fails after some seconds. */
void server_await(int port, const char *command, const char *answer);

/* A directory for this program's servers, removed when it ends. */
const char *server_directory(void);

/* The number of milliseconds since some moment. */
int64_t peer_ms(void);

#endif
