/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef FUZZ_H
#define FUZZ_H

/*
 * A target of libFuzzer: it takes any bytes and aborts when something is wrong.
 */

#include <apr_pools.h>

#include <stddef.h>
#include <stdint.h>

/* The target's name, which is that of its corpus. */
extern const char fuzz_name[];

/* Tries one input; by libFuzzer's name. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A pool that is cleared by each call. */
apr_pool_t *fuzz_pool(void);

/* Ends the process with the words unless it holds. */
void fuzz_expect(int holds, const char *words);

#endif
