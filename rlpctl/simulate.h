/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef SIMULATE_H
#define SIMULATE_H

/*
 * rlpctl simulate: access logs replayed against plans.
 */

#include "log_cost.h"
#include "log_filter.h"
#include "log_format.h"
#include "log_key.h"
#include "replay.h"

#include <stdio.h>

#define SIMULATE_MALFORMED 5 /* lines that are named */

/* A line of an input. */
typedef struct {
    const char *input;
    uint64_t line;
} simulate_place_t;

typedef struct {
    replay_t replay;

    log_format_t *format;
    const char *format_text;
    log_key_t *key;
    const char *key_text;
    log_filter_t *filter;
    const char *cost_text; /* NULL: all requests cost the same */
    log_cost_t cost;
    int action; /* where the value is, to compare */
    bool json;
    const char *html;

    int inputs;
    const char **input;
    uint64_t lines;
    uint64_t malformed;
    simulate_place_t malformed_at[SIMULATE_MALFORMED];
    uint64_t filtered;  /* that do not pass, or were not judged by the server either */
    uint64_t unpriced;  /* whose cost is no number */
    uint64_t anonymous; /* without the identity that is asked for */
    int unreadable;     /* inputs */
    apr_pool_t *pool;
} simulate_t;

/* Runs the command with the words behind its name; the exit status. */
int simulate_main(int argc, const char *const argv[], apr_pool_t *pool);

/* Reads all inputs and replays them. NULL, or what failed. */
const char *simulate_run(simulate_t *simulate);

/* Where a request stood, as FILE:LINE. From the pool. */
const char *simulate_place(const simulate_t *simulate, uint64_t line, apr_pool_t *pool);

#endif
