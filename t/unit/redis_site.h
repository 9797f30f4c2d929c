/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_SITE_H
#define REDIS_SITE_H

/*
 * An endpoint under test, over real servers that the tests start.
 */

#include "redis_peer.h"

#define TIMEOUT (RLP_SECOND / 5)   /* of an exchange that nobody answers */
#define ANSWERED (20 * RLP_SECOND) /* of one that is answered, on a slow machine, too */
#define RECOVERY (RLP_SECOND / 2)  /* of a breaker */
#define SLACK 4000                 /* ms that a slow machine may add */
#define PATIENCE 120000            /* ms: Sentinels that have slept rub their eyes for 30 s */
#define SETS 3
#define PLAIN "--save --appendonly no --repl-diskless-sync-delay 0 --busy-reply-threshold 20"

/* An endpoint with its breakers and what they told. */
typedef struct {
    redis_endpoint_t *endpoint;
    redis_breaker_t breakers[16];
    rlp_time_t timeout; /* of an exchange: ANSWERED, unless a test sets another */
    atomic_int opened;
    atomic_int closed;
} site_t;

/* Opens it by its URL. */
site_t *site_open(const char *text);

/* One command, its words parted by spaces, its key the second or the fourth (EVALSHA); the reply as
   server_ask() gives it. */
redis_fault_t site_ask(const site_t *site, const char *command, char got[64]);

/* The same each 10 ms until it is answered, the endpoint kept up meanwhile: how often. A count is
   the same where the machine stands still for a while. */
int site_await(const site_t *site, const char *command, char got[64]);

#endif
