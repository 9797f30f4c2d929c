/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A store for replays: no table and no lock, since whoever asks has the record of the identity. It
 * forgets nothing. Small states lie in the record, and are copied as other stores do it. Large
 * ones, of which most identities never fill much, lie by themselves and are changed where they are.
 */

#include "replay_store.h"

#include <stdlib.h>
#include <string.h>

#define STORE_BLOCK 1048576 /* bytes of large states: the system gives their pages when written */

struct replay_block_t {
    struct replay_block_t *next;
    size_t used;
    uint64_t room[];
};

typedef struct {
    rlp_time_t expires;
    union {
        uint64_t state[RLP_STATE_MAX / 8];
        void *large;
    } kept;
} replay_state_t;

static replay_slot_t *replay_find(replay_store_t *store, uint64_t signature)
{
    int i = 0;

    while (i < store->n - 1 && store->slots[i].signature != signature) {
        i++;
    }
    return &store->slots[i];
}

static replay_state_t *replay_state(const replay_slot_t *slot, const rlp_key_t *key)
{
    char *record = (char *)(uintptr_t)key->fingerprint;

    return (replay_state_t *)(void *)(record + slot->offset);
}

/* --- large states */

static apr_status_t replay_free(void *data)
{
    replay_store_t *store = data;

    while (store->blocks != NULL) {
        struct replay_block_t *next = store->blocks->next;

        free(store->blocks);
        store->blocks = next;
    }
    return APR_SUCCESS;
}

/* Room of zeros. */
static void *replay_room(replay_store_t *store, size_t size)
{
    struct replay_block_t *block = store->blocks;

    if (block == NULL || STORE_BLOCK - block->used < size) {
        block = calloc(1, sizeof(*block) + STORE_BLOCK);
        if (block == NULL) {
            abort(); /* nothing true could be said any more */
        }
        block->next = store->blocks;
        store->blocks = block;
    }
    void *room = (char *)block->room + block->used;

    block->used += size;
    return room;
}

/* The state itself: a step that refuses leaves it as it is. */
static void *replay_large(replay_store_t *store, const replay_slot_t *slot, replay_state_t *state,
                          rlp_time_t now)
{
    if (state->kept.large == NULL) {
        state->kept.large = replay_room(store, slot->size);
    } else if (state->expires <= now) {
        memset(state->kept.large, 0, slot->size);
    }
    return state->kept.large;
}

/* --- one update */

static void replay_load(replay_store_t *store, replay_slot_t *slot, rlp_entry_t *entry,
                        rlp_time_t now)
{
    replay_state_t *state = replay_state(slot, &entry->key);
    const bool large = slot->size > RLP_STATE_MAX;

    entry->dirty = false;
    entry->state = slot->room;
    if (large && !store->trial) {
        entry->state = replay_large(store, slot, state, now);
    } else if (store->trial && slot->changed) {
        return;
    } else if (state->expires <= now) {
        memset(slot->room, 0, slot->size);
    } else {
        memcpy(slot->room, large ? state->kept.large : state->kept.state, slot->size);
    }
}

static void replay_keep(const replay_store_t *store, replay_slot_t *slot, const rlp_entry_t *entry)
{
    replay_state_t *state = replay_state(slot, &entry->key);

    if (store->trial) {
        slot->changed = true;
        return;
    }
    state->expires = entry->expires;
    if (slot->size <= RLP_STATE_MAX) {
        memcpy(state->kept.state, entry->state, slot->size);
    }
}

static apr_status_t replay_update(rlp_store_t *head, rlp_entry_t *entries[], int n, rlp_time_t now,
                                  rlp_update_fn *fn, void *baton)
{
    replay_store_t *store = (replay_store_t *)head;
    replay_slot_t *slots[RLP_LIMITS_MAX];

    if (n < 1 || n > store->n) {
        return APR_EINVAL;
    }
    for (int i = 0; i < n; i++) {
        slots[i] = replay_find(store, entries[i]->key.signature);
        replay_load(store, slots[i], entries[i], now);
    }
    fn(entries, n, now, baton);
    for (int i = 0; i < n; i++) {
        if (entries[i]->dirty) {
            replay_keep(store, slots[i], entries[i]);
        }
    }
    return APR_SUCCESS;
}

static rlp_time_t replay_time(const rlp_store_t *store, rlp_time_t now)
{
    (void)store;
    return now;
}

/* Whoever asks knows the record. */
static uint64_t replay_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    (void)store;
    (void)identity;
    (void)len;
    return 0;
}

static const rlp_store_type_t replay_type = {
    .name = "replay",
    .update = replay_update,
    .time = replay_time,
    .fingerprint = replay_fingerprint,
};

size_t replay_store_create(replay_store_t *store, const rlp_plan_t *plan, size_t offset,
                           apr_pool_t *pool)
{
    size_t bytes = 0;

    *store = (replay_store_t){ .head = { .type = &replay_type }, .n = plan->n };
    apr_pool_cleanup_register(pool, store, replay_free, apr_pool_cleanup_null);
    store->head.owners = apr_pcalloc(pool, sizeof(*store->head.owners));
    store->head.secret = apr_pcalloc(pool, RLP_STORE_SECRET);
    for (int i = 0; i < plan->n; i++) {
        const uint32_t size = plan->limits[i].state_size;
        const size_t room = size > RLP_STATE_MAX ? size : RLP_STATE_MAX;
        const size_t inside = size > RLP_STATE_MAX ? sizeof(void *) : size;

        store->slots[i] =
            (replay_slot_t){ .signature = rlp_signature("simulate", NULL, &plan->limits[i]),
                             .offset = offset + bytes,
                             .size = size,
                             .room = apr_palloc(pool, room) };
        bytes += offsetof(replay_state_t, kept) + inside;
    }
    return bytes;
}

void replay_store_try(replay_store_t *store)
{
    store->trial = true;
}

void replay_store_forget(replay_store_t *store)
{
    store->trial = false;
    for (int i = 0; i < store->n; i++) {
        store->slots[i].changed = false;
    }
}

void replay_store_fetch(const replay_store_t *store, const void *record)
{
    for (int i = 0; i < store->n; i++) {
        const replay_slot_t *slot = &store->slots[i];
        const replay_state_t *state = (const void *)((const char *)record + slot->offset);

        if (slot->size > RLP_STATE_MAX) {
            __builtin_prefetch(state->kept.large, 1);
        }
    }
}
