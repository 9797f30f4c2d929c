/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * All counters of a slab, one after another, for tools.
 */

#include "slab_layout.h"

#include <string.h>

/* A visit under way. */
typedef struct {
    const slab_t *slab;
    rlp_time_t now;
    unsigned char *room;
    slab_visit_fn *visit;
    void *baton;
    int status;
} visit_t;

size_t slab_visit_room(void)
{
    return (size_t)slab_classes[SLAB_CLASSES - 1].size * SLAB_WAYS;
}

bool slab_fits(uint32_t size)
{
    for (int i = 0; i < SLAB_CLASSES; i++) {
        if (size == slab_classes[i].size - SLAB_SLOT_HEAD) {
            return true;
        }
    }
    return false;
}

/* A counter with a life before it, of which nobody holds places. */
static bool visit_counts(const slot_t *slot, rlp_time_t now)
{
    const uint64_t expires = slot->fate >> 16;

    return slot->fingerprint != 0 && slot->fate != 0 && (slot->fate & SLAB_HELD) == 0 &&
           (expires == SLAB_EXPIRES_NEVER || (rlp_time_t)(expires << SLAB_TICK) > now);
}

static uint32_t visit_loss(const slot_t *slot, rlp_time_t now)
{
    const float loss = slab_weight(slot, now) + 0.5F;

    return loss < (float)UINT32_MAX ? (uint32_t)loss : UINT32_MAX;
}

/* Shows the counters of a copied set; false: enough. */
static bool visit_set(const visit_t *visit, uint32_t ways, uint32_t size)
{
    for (uint32_t i = 0; i < ways; i++) {
        const slot_t *slot = (const slot_t *)(const void *)(visit->room + (size_t)size * i);
        const uint64_t expires = slot->fate >> 16;
        const slab_counter_t counter = {
            .fingerprint = slot->fingerprint,
            .signature = slot->signature,
            .size = size - (uint32_t)SLAB_SLOT_HEAD,
            .expires =
                expires == SLAB_EXPIRES_NEVER ? RLP_TIME_NEVER : (rlp_time_t)(expires << SLAB_TICK),
            .loss = visit_loss(slot, visit->now),
            .lasting = (slot->fate & SLAB_LASTING) != 0,
            .state = slot->state,
        };

        if (visit_counts(slot, visit->now) && !visit->visit(visit->baton, &counter)) {
            return false;
        }
    }
    return true;
}

/* The sets of one class in one shard: each is copied under the lock, and shown without it. */
static bool visit_class(visit_t *visit, uint32_t shard, int size_class)
{
    const slab_t *slab = visit->slab;
    const uint32_t size = slab_classes[size_class].size;
    const uint32_t sets = slab->classes[size_class].sets;
    const uint32_t ways = slab->classes[size_class].ways;
    const size_t extent = (size_t)size * ways;
    const unsigned char *at =
        slab->base + slab->classes[size_class].offset + extent * sets * (size_t)shard;

    for (uint32_t i = 0; i < sets; i++, at += extent) {
        visit->status = slab_hold_shard(slab, shard);
        if (visit->status != 0) {
            return false;
        }
        memcpy(visit->room, at, extent);
        slab_release_shard(slab, shard);
        if (!visit_set(visit, ways, size)) {
            return false;
        }
    }
    return true;
}

int slab_visit(const slab_t *slab, rlp_time_t now, void *room, slab_visit_fn *visit, void *baton)
{
    visit_t all = { .slab = slab, .now = now, .room = room, .visit = visit, .baton = baton };

    bool more = true;

    for (uint32_t i = 0; more && i < slab->shards * SLAB_CLASSES; i++) {
        more = visit_class(&all, i / SLAB_CLASSES, (int)(i % SLAB_CLASSES));
    }
    return all.status;
}
