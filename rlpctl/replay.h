/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REPLAY_H
#define REPLAY_H

/*
 * Requests judged again, in the order of their times, under one or more plans.
 */

#include "population.h"
#include "replay_store.h"

#define REPLAY_PLANS_MAX 16
#define REPLAY_SHOWN 20 /* differences that are kept */

/* How often the same requests are judged where the log does not tell their microseconds. */
enum { REPLAY_FEWEST, REPLAY_MOST, REPLAY_RUNS };

/* What a log in our own format says became of a request. */
typedef enum { REPLAY_PASS, REPLAY_DELAY, REPLAY_DENY, REPLAY_UNKNOWN } replay_verdict_t;

typedef struct {
    uint64_t refused;
    uint64_t delayed;
    uint64_t identities; /* with a refused request */
    uint64_t slowed;     /* identities with a delayed one; not of an hour */
} replay_sum_t;

/* What is kept of an identity under each plan in each run. */
typedef struct {
    uint32_t refused;
    uint32_t delayed;
    uint32_t hour; /* of the last refusal, from 1970 on */
} replay_use_t;

/* One hour that has requests. */
typedef struct {
    uint32_t hour; /* from 1970 on */
    uint64_t requests;
    replay_sum_t sums[REPLAY_PLANS_MAX][REPLAY_RUNS];
} replay_hour_t;

typedef struct {
    const rlp_plan_t *plan;
    const char *limits; /* as they were given */
    replay_store_t stores[REPLAY_RUNS];
    rlp_charge_t charges[RLP_LIMITS_MAX];
    replay_sum_t sums[REPLAY_RUNS];
} replay_plan_t;

/* A request, as it is put in order. */
typedef struct {
    rlp_time_t at;
    uint64_t line; /* number of the input << 40 | number of the line */
    rlp_units_t cost;
    uint32_t identity;
    uint8_t logged; /* replay_verdict_t */
    bool passes;    /* the one run that asks twice */
} replay_request_t;

/* A verdict that is not what the log says. */
typedef struct {
    replay_request_t request;
    replay_verdict_t verdict;
} replay_difference_t;

/* Everything there is to report. */
typedef struct {
    int plans;
    replay_plan_t plan[REPLAY_PLANS_MAX];
    int runs;         /* 1: times are exact */
    rlp_time_t tick;  /* how exact they are */
    rlp_units_t cost; /* of each request, unless they are priced by themselves: */
    bool priced;
    rlp_time_t max_wait;
    bool compare;

    population_t *population;
    uint64_t requests;
    rlp_time_t first;
    rlp_time_t last;
    uint64_t sorted; /* requests that came after a later one, and were put in their place */
    uint64_t late;   /* that came too late for that, and were judged later than they were made */
    int hours;
    replay_hour_t *hour;
    uint64_t differences;
    replay_difference_t difference[REPLAY_SHOWN];

    int hours_room;
    size_t record; /* of an identity, bytes */
    size_t uses;   /* where in it they are */
    struct replay_window_t *window;
    apr_pool_t *pool;
} replay_t;

/* Prepares a replay whose first part, up to compare, and plans are set. NULL, or what failed. */
const char *replay_open(replay_t *replay, apr_pool_t *pool);

/* Takes a request of an identity. NULL, or what failed. */
const char *replay_add(replay_t *replay, replay_request_t request, const char *identity,
                       size_t len);

/* Judges what still waits for its turn. */
void replay_finish(replay_t *replay);

/* Are the numbers of refusals under a plan bounds of what is possible (docs/simulate.md)? Else they
   are those of two runs. */
bool replay_bounds(const replay_t *replay, int plan);

/* What was kept of an identity under a plan in a run. */
replay_use_t *replay_use(const replay_t *replay, identity_t *identity, int plan, int run);

/* Judges the requests of one second, which are in order, and may be left in another. For
   replay_window.c. */
void replay_second(replay_t *replay, replay_request_t *requests, size_t n);

#endif
