/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef DUMP_H
#define DUMP_H

/*
 * rlpctl dump and load: counters as lines of JSON, out of a file or a Redis and into another one.
 */

#include "dump_line.h"
#include "option.h"

#include <stdbool.h>

/* What is asked. */
typedef struct {
    bool loads;
    bool json;
    bool with_key;
    bool replaces;
    bool checks; /* only reads */
    option_place_t place;
    size_t size;      /* of a file that is not there; 0: not given */
    const char *name; /* of the dump */
    apr_pool_t *pool;
} dump_job_t;

/* What became of what a dump has. */
typedef struct {
    uint64_t loaded;
    uint64_t kept; /* there already */
    uint64_t over; /* their life had ended */
    uint64_t crowded;
    uint64_t overrides_loaded;
    uint64_t overrides_kept;
    uint64_t evicted;
} dump_sum_t;

/* Is the word dump or load? */
bool dump_is_command(const char *word);

/* Runs dump or load, its name being the first word; the exit status. */
int dump_main(int argc, const char *const argv[], apr_pool_t *pool);

/* Each returns NULL, or what went wrong, and the exit status for it. */
const char *dump_file(const dump_job_t *job, dump_out_t *out, int *status);
const char *load_file(const dump_job_t *job, dump_in_t *in, dump_sum_t *sum, int *status);
const char *dump_redis(const dump_job_t *job, dump_out_t *out, int *status);
const char *load_redis(const dump_job_t *job, dump_in_t *in, dump_sum_t *sum, int *status);

#endif
