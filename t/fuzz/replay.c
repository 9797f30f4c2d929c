/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Gives a target all files of its corpus, and beginnings of each: a test for any compiler.
 */

#include "fuzz.h"

#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX 4096 /* libFuzzer's own bound for what it makes */
#define BEGINNINGS 100

static void replay_file(const char *path, const char *name, int number, apr_pool_t *pool)
{
    uint8_t data[FILE_MAX];
    apr_file_t *file = NULL;
    apr_size_t size = 0;

    if (apr_file_open(&file, path, APR_FOPEN_READ, 0, pool) != APR_SUCCESS ||
        apr_file_read_full(file, data, sizeof(data), &size) != APR_EOF) {
        printf("not ok %d - %s: cannot be read, or is too long\n", number, name);
        return;
    }
    const apr_size_t step = size / BEGINNINGS + 1;

    for (apr_size_t n = size % step; n <= size; n += step) {
        uint8_t *copy = malloc(n ? n : 1); /* of exactly that size, for the sanitizers */

        if (copy == NULL) {
            abort();
        }
        memcpy(copy, data, n);
        (void)LLVMFuzzerTestOneInput(copy, n);
        free(copy);
    }
    apr_file_close(file);
    printf("ok %d - %s/%s\n", number, fuzz_name, name);
}

int main(void)
{
    apr_pool_t *pool = NULL;
    apr_dir_t *dir = NULL;
    apr_finfo_t info;
    const char *top = getenv("top_srcdir");
    int n = 0;

    (void)fuzz_pool(); /* initializes APR */
    if (apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        abort();
    }
    const char *path = apr_pstrcat(pool, top ? top : ".", "/t/fuzz/corpus/", fuzz_name, NULL);

    if (apr_dir_open(&dir, path, pool) != APR_SUCCESS) {
        printf("Bail out! %s is missing (top_srcdir)\n", path);
        return 1;
    }
    while (apr_dir_read(&info, APR_FINFO_NAME, dir) == APR_SUCCESS) {
        if (info.name[0] != '.') {
            replay_file(apr_pstrcat(pool, path, "/", info.name, NULL), info.name, ++n, pool);
        }
    }
    apr_dir_close(dir);
    printf("1..%d\n", n);
    return n > 0 ? 0 : 1;
}
