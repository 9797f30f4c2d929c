/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef GLOB_H
#define GLOB_H

/*
 * Patterns of paths, without anything of httpd.
 */

#include <apr_pools.h>

#include <stdbool.h>

#define GLOB_SEGMENTS_MAX 32 /* of a pattern: with a path's, the bound of the work */

typedef enum { GLOB_TEXT, GLOB_ONE, GLOB_ANY } glob_kind_t;

/* A pattern, ready to be compared. */
typedef struct {
    const char *text;
    char lead; /* the first byte that a path must have behind its "/"; NUL: any */
    int n;
    struct glob_segment {
        glob_kind_t kind;
        const char *text;
        size_t len;
    } segments[GLOB_SEGMENTS_MAX];
} path_glob_t;

/* Takes a pattern apart: segments, of which "*" stands for one and "**" for any number. NULL, or
   what was expected. */
const char *glob_compile(path_glob_t **glob, const char *text, apr_pool_t *pool);

/* Does the whole path match? Slashes at its end or beside others make no difference. At most as
   many comparisons as the path has segments, times those of the pattern. */
bool glob_matches(const path_glob_t *glob, const char *path);

/* Is one look at the path enough to say that it does not match? */
static inline bool glob_excludes(const path_glob_t *glob, const char *path)
{
    return glob->lead != '\0' && path[0] == '/' && path[1] != glob->lead && path[1] != '/';
}

/* The pattern as it was written. */
const char *glob_text(const path_glob_t *glob);

#endif
