/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What the targets share.
 */

#include "fuzz.h"

#include <apr_general.h>

#include <stdio.h>
#include <stdlib.h>

apr_pool_t *fuzz_pool(void)
{
    static apr_pool_t *pool;

    if (pool != NULL) {
        apr_pool_clear(pool);
    } else if (apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        abort();
    }
    return pool;
}

void fuzz_expect(int holds, const char *words)
{
    if (!holds) {
        fprintf(stderr, "%s: expected that %s\n", fuzz_name, words);
        abort();
    }
}
