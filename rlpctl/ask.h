/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef ASK_H
#define ASK_H

/*
 * rlpctl get, grant, ban and the like: what people ask of a running server, or do to the file of a
 * store that none has.
 */

#include <apr_pools.h>

#include <stdbool.h>

/* Is it one of these commands? */
bool ask_is_command(const char *word);

/* Runs the command, its name being the first word; the exit status. */
int ask_main(int argc, const char *const argv[], apr_pool_t *pool);

#endif
