/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef HOSTS_WORLD_H
#define HOSTS_WORLD_H

/*
 * Hosts that share one Redis, in simulated time: their leases (lib/redis/lease.c), what they
 * remember of refusals (denial.c) and their breakers (breaker.c) are the real ones; connections,
 * threads and Redis itself are not.
 */

#include "rlp.h"

#define WORLD_TOP 64 /* keys asked for most, of which more is known */

typedef struct {
    const rlp_limit_t *limit; /* of each key, cost of a request: one unit */
    bool leases;              /* sync=lease; else exact */
    uint32_t hosts;           /* 1 to 256 */
    uint32_t keys;
    double exponent; /* of the keys' Zipf distribution */
    double rate;     /* requests a second, of all hosts together */
    double skew;     /* host i has its share by 1 / (i + 1)^skew; 0: all the same */
    int64_t seconds;
    uint64_t seed;
    rlp_time_t latency; /* one way, at least, */
    rlp_time_t jitter;  /* and so much more on average */
    rlp_time_t service; /* of Redis for a call, which come one after the other */
    rlp_time_t timeout; /* of a call */
    int lost;           /* questions, and answers, of 1 000 000 each */
    rlp_time_t away;    /* so long does Redis not answer, */
    rlp_time_t every;   /* each so often; 0: never */
    bool forgets;       /* and is empty afterwards */
} world_settings_t;

typedef struct {
    uint64_t requests;
    uint64_t admitted;
    uint64_t refused;
    uint64_t unasked; /* there was no answer: failure= decides */
    uint64_t due;     /* what one counter, asked without delay, would have admitted */
    uint64_t above;   /* admitted though the limit had none left */
    uint64_t worst;   /* of them, of one key */
    uint64_t trips;   /* calls to Redis, */
    uint64_t waited;  /* those that a request waited for, */
    uint64_t crowded; /* and requests for whose key a host had no room for a lease */
    uint64_t outages; /* of Redis */
    uint32_t living;  /* keys that Redis has in the end */
    double fairness;  /* Jain's index over the hosts of what they admitted, of the keys asked for
                         most that were refused: their mean; 1 where all are the same */
    double busy;      /* the share of time in which Redis worked */
    rlp_time_t p50;   /* until a request was decided, */
    rlp_time_t p99;   /* rounded up to a power of 2^(1/4) */
    rlp_time_t most;
    uint64_t top_requests[WORLD_TOP];
    uint64_t top_admitted[WORLD_TOP];
    uint64_t top_trips[WORLD_TOP];
    uint64_t digest; /* of all that happened, in its order */
} world_result_t;

/* Runs it. The program ends where there is no memory. */
world_result_t world_run(const world_settings_t *settings, apr_pool_t *pool);

#endif
