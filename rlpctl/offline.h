/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef OFFLINE_H
#define OFFLINE_H

/*
 * Commands on the file of a store, which a server may have open.
 */

#include "json.h"
#include "rlp.h"

typedef struct {
    const char *path;
    const char *command;
    const char *identity; /* as it is counted; NULL: the command has none */
    const char *secret;   /* NULL, or the value of which identity is the type */
    const char *plan;     /* of set-plan; "none" ends it */
    const char *when;     /* NULL: the command has none */
    apr_pool_t *pool;
} offline_t;

/* Runs the command and writes an object. NULL, or what was expected. */
const char *offline_run(const offline_t *job, json_out_t *out);

/* How long until then: a span, or a moment to come, ten years away at most. NULL, or what was
   expected. */
const char *offline_span(rlp_time_t *left, const char *when, rlp_time_t wall, apr_pool_t *pool);

#endif
