/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_BREAKER_H
#define REDIS_BREAKER_H

/*
 * A circuit breaker for one endpoint, shared by all processes of a host. Time is an argument; it
 * logs nothing, but tells each transition to the one caller that made it.
 */

#include "rlp_algorithm.h"

typedef enum {
    REDIS_CLOSED,   /* all pass; failures in a row are counted */
    REDIS_OPEN,     /* none pass before the next probe is due */
    REDIS_HALF_OPEN /* one probe is under way */
} redis_phase_t;

/* In shared memory. All zero: closed. */
typedef struct {
    uint64_t word; /* phase, failures, failed probes and a time in one, so that one swap does */
    uint64_t id;   /* of the endpoint; 0: free */
} redis_breaker_t;

typedef struct {
    int threshold;       /* failures in a row that open it, 1 to 1000 */
    rlp_time_t window;   /* ... within which time; 0: whenever */
    rlp_time_t recovery; /* from opening to the first probe; whole milliseconds */
    rlp_time_t longest;  /* doubled with each failed probe up to this; recovery: never doubled */
    rlp_time_t probe;    /* after so long without a result the next may probe: its process died */
    int jitter;          /* it may be so many percent longer, 0 to 100: hosts that all close at once
                            would open at once for ever where there is too much to do */
} redis_breaker_settings_t;

/* What a request is told, and what it reports its result with. */
typedef struct {
    bool admitted;
    bool probe;
    uint64_t word;
} redis_ticket_t;

/* The transition that a call made; from == to: none, or it was made by somebody else. */
typedef struct {
    redis_phase_t from;
    redis_phase_t to;
} redis_change_t;

/* What a page shows. */
typedef struct {
    redis_phase_t phase;
    int failures;    /* in a row, while closed */
    rlp_time_t wait; /* until the next probe may begin; 0 while closed */
} redis_breaker_look_t;

/* May this request go to the endpoint? Each that is admitted reports one result at most. */
redis_change_t redis_breaker_ask(redis_breaker_t *breaker, const redis_breaker_settings_t *settings,
                                 rlp_time_t now, redis_ticket_t *ticket);

/* The endpoint answered. */
redis_change_t redis_breaker_succeed(redis_breaker_t *breaker, const redis_ticket_t *ticket);

/* It did not. With `at_once` it opens whatever the threshold. */
redis_change_t redis_breaker_fail(redis_breaker_t *breaker,
                                  const redis_breaker_settings_t *settings,
                                  const redis_ticket_t *ticket, rlp_time_t now, bool at_once);

/* Its state, changing nothing. */
redis_breaker_look_t redis_breaker_look(const redis_breaker_t *breaker, rlp_time_t now);

/* The breaker of an endpoint among n (1 or more): its own or a free one, which it then has; when
   all are taken it shares one. */
redis_breaker_t *redis_breaker_of(redis_breaker_t breakers[], int n, uint64_t id);

#endif
