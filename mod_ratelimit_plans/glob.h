/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef GLOB_H
#define GLOB_H

/*
 * Patterns of paths, without anything of httpd.
 */

#include <apr_pools.h>

#include <stdbool.h>

#define GLOB_SEGMENTS_MAX 32 /* of a pattern: with a path's, the bound of the work */

/* A pattern, ready to be compared. */
typedef struct path_glob_t path_glob_t;

/* Takes a pattern apart: segments, of which "*" stands for one and "**" for any number. NULL, or
   what was expected. */
const char *glob_compile(path_glob_t **glob, const char *text, apr_pool_t *pool);

/* Does the whole path match? Slashes at its end or beside others make no difference. At most as
   many comparisons as the path has segments, times those of the pattern. */
bool glob_matches(const path_glob_t *glob, const char *path);

/* The pattern as it was written. */
const char *glob_text(const path_glob_t *glob);

#endif
