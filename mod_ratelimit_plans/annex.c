/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The annex lies behind the counters of a store in shared memory. Any other store has memory
 * without a file beside it, which graceful restarts keep.
 */

#include "annex.h"

#include "provider.h"

#include <sys/mman.h>

#define ANNEX_RETAINED "mod_ratelimit_plans annex 1"

/* Outlives the unloading of this file: plain data. */
typedef struct {
    void *memory; /* NULL: none yet */
} annex_retained_t;

void *annex_memory(const char *name, size_t size)
{
    annex_retained_t *retained = ap_retained_data_get(name);

    if (retained == NULL) {
        retained = ap_retained_data_create(name, sizeof(*retained));
    }
    if (retained->memory == NULL) {
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        retained->memory = memory == MAP_FAILED ? NULL : memory;
    }
    return retained->memory;
}

void *annex_open(void)
{
    void *annex = store_shm_annex();

    if (annex == NULL) {
        annex = annex_memory(ANNEX_RETAINED, RLP_ANNEX_SIZE);
    }
    for (int i = 0; annex != NULL && i < ANNEX_AREAS; i++) {
        if (annex_area(annex, (annex_area_t)i) == NULL) {
            annex_begin(annex, (annex_area_t)i);
        }
    }
    return annex;
}

const rlp_store_t *annex_store(void)
{
    return rlp_world->annexed ? rlp_world->annexed : rlp_world->store;
}

rlp_time_t annex_now(void)
{
    return rlp_store_time(annex_store(), rlp_world->clock->monotonic());
}
