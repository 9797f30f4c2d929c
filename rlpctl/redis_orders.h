/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef RLPCTL_REDIS_ORDERS_H
#define RLPCTL_REDIS_ORDERS_H

/*
 * Bans and plans for a time in a Redis, for all hosts that count there.
 */

#include "json.h"
#include "option.h"

typedef struct {
    const option_place_t *place;
    const char *command;
    const char *identity; /* as it is counted; NULL: the command has none */
    const char *plan;     /* of set-plan; "none" ends it */
    const char *when;     /* NULL: the command has none */
    apr_pool_t *pool;
} orders_t;

/* Runs the command and writes an object. NULL and the exit status, or what was expected. */
const char *orders_run(const orders_t *job, json_out_t *out, int *status);

#endif
