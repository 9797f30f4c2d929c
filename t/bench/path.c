/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Comparisons of hostile paths with path=: a line for each, NAME NANOSECONDS, the least of many.
 *
 *   path [-n COMPARISONS]
 *
 * -n  so many comparisons of the first, without a figure: for a profiler, which counts.
 */

#include "glob.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GROUP 64   /* comparisons between two looks at the clock */
#define GROUPS 500 /* of which the fastest counts */

static const struct {
    const char *name;
    const char *text; /* of the pattern, so often */
    int n;
    int segments; /* of the path */
} paths[] = {
    { "81 segments, six **", "/**/a", 6, 81 },
    { "4090 segments, six **", "/**/a", 6, 4090 },
    { "81 segments, ** and 30 more", "/a", 30, 81 },
};

static char *path_repeat(const char *begin, const char *text, int n, const char *end,
                         apr_pool_t *pool)
{
    char *all = apr_pcalloc(pool, strlen(begin) + strlen(text) * (size_t)n + strlen(end) + 1);

    strcat(all, begin);
    for (int i = 0; i < n; i++) {
        strcat(all, text);
    }
    return strcat(all, end);
}

static uint64_t path_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* So many comparisons, of which none matches; their time. */
static uint64_t path_compare(const path_glob_t *glob, const char *path, long n)
{
    const uint64_t begin = path_now();

    for (long i = 0; i < n; i++) {
        if (glob_matches(glob, path)) {
            abort();
        }
    }
    return path_now() - begin;
}

static uint64_t path_least(const path_glob_t *glob, const char *path)
{
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < GROUPS; i++) {
        const uint64_t took = path_compare(glob, path, GROUP) / GROUP;

        least = took < least ? took : least;
    }
    return least;
}

int main(int argc, char **argv)
{
    const long n = argc > 2 && strcmp(argv[1], "-n") == 0 ? atol(argv[2]) : 0;
    apr_pool_t *pool = NULL;

    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return 1;
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        const char *begin = paths[i].text[1] == '*' ? "" : "/**";
        path_glob_t *glob = NULL;
        const char *path = path_repeat("", "/a", paths[i].segments, "", pool);

        if (glob_compile(&glob, path_repeat(begin, paths[i].text, paths[i].n, "/b", pool), pool)) {
            return 1;
        }
        if (n > 0) {
            (void)path_compare(glob, path, n);
            return 0;
        }
        printf("%-34s %8" PRIu64 "\n", paths[i].name, path_least(glob, path));
    }
    return 0;
}
