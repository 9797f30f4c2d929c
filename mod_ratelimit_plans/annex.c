/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The annex lies behind the counters of a store in shared memory. Any other store has memory
 * without a file beside it, which graceful restarts keep.
 */

#include "annex.h"

#include "provider.h"
#include "retained.h"

#define ANNEX_RETAINED "mod_ratelimit_plans annex 1"

void *annex_open(void)
{
    void *annex = store_shm_annex();

    if (annex == NULL) {
        annex = retained_memory(ANNEX_RETAINED, RLP_ANNEX_SIZE, NULL);
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
