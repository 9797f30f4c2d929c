/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REPLAY_STORE_H
#define REPLAY_STORE_H

/*
 * A store for replays, which keeps the states of an identity behind its record.
 */

#include "population.h"
#include "rlp.h"

/* Where one state is. */
typedef struct {
    uint64_t signature;
    size_t offset; /* in the record */
    uint32_t size;
    bool changed; /* on trial: it is in the room */
    void *room;   /* for a copy */
} replay_slot_t;

typedef struct {
    rlp_store_t head;
    int n;
    replay_slot_t slots[RLP_LIMITS_MAX];
    bool trial;
    struct replay_block_t *blocks; /* of large states */
} replay_store_t;

/* Makes a store for the limits of a plan, whose states lie so many bytes behind the beginning of a
   record of an identity; how many bytes of it they take. The fingerprint of a key is the address of
   the record. */
size_t replay_store_create(replay_store_t *store, const rlp_plan_t *plan, size_t offset,
                           apr_pool_t *pool);

/* From now on what is charged to one identity is on trial: it counts, until the trial ends. */
void replay_store_try(replay_store_t *store);

/* Nothing that was on trial was charged. */
void replay_store_forget(replay_store_t *store);

/* Begins to fetch what the record of an identity points to. */
void replay_store_fetch(const replay_store_t *store, const void *record);

#endif
