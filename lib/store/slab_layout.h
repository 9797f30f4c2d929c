/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef SLAB_LAYOUT_H
#define SLAB_LAYOUT_H

/*
 * What lies in the memory of a slab, and where: for slab.c, which updates it, and slab_layout.c,
 * which makes it.
 *
 * memory:  [ header, owners | shard x S: lock + undo area | class 0 | class 1 | ... ]
 * class:   [ set x (sets per shard * S) ]      the sets of one shard lie together
 * set:     [ slot x ways ]                     8 ways, or 4, 2 or 1 where few slots have room
 * slot:    [ fingerprint 8 | signature 8 | expires 48 bit, loss rate 16 bit | state ... ]
 *
 * A key has two sets of one shard, by two parts of its hash. In each it is looked for from its home
 * slot on until a slot never used. Nothing is ever emptied, and a key goes to its second set only
 * where no slot of the first is free: a slot never used in the first ends the look-up. All keys of
 * one fingerprint belong to one shard.
 */

#include "latch.h"
#include "slab.h"

#include <stdatomic.h>

/* what every request goes through */
#define SLAB_INLINE __attribute__((always_inline)) static inline

#define SLAB_MAGIC "RLPSLAB"
#define SLAB_LAYOUT 8
#define SLAB_LINE 64
#define SLAB_PAGE 4096
#define SLAB_WAYS 8 /* at most; always so many in the smallest class */
#define SLAB_UNDO_LINES 256
#define SLAB_TICK 10 /* expiry is kept in units of 1024 microseconds */
#define SLAB_EXPIRES_NEVER ((UINT64_C(1) << 48) - 1)
#define SLAB_LIFE_NEVER (INT64_C(1) << 57) /* microseconds, of what never expires */
#define SLAB_LASTING 1U   /* the lowest bit of the loss rate: the loss, which does not shrink */
#define SLAB_HELD 0x8000U /* in place of the loss rate: held; the other 15 bits count its words */

typedef struct {
    uint64_t fingerprint; /* 0: never used */
    uint64_t signature;
    uint64_t fate; /* expires, slab time in units of 1024 microseconds, << 16 | loss rate */
    uint64_t state[RLP_STATE_MAX / 8];
} slot_t;

_Static_assert(sizeof(slot_t) == SLAB_LINE, "a slot of the smallest class is one cache line");

#define SLAB_SLOT_HEAD offsetof(slot_t, state)

typedef struct {
    uint64_t offset; /* of a line, from the base */
    unsigned char line[SLAB_LINE];
} undo_t;

typedef struct {
    latch_t latch;
    uint32_t n; /* lines to restore if the owner of the latch is dead; written last */
    rlp_time_t last;
    uint64_t evicted; /* counters forgotten before their time, to make room */
    _Alignas(SLAB_LINE) undo_t undo[SLAB_UNDO_LINES];
} shard_t;

_Static_assert(offsetof(shard_t, undo) % SLAB_LINE == 0, "the lock does not share its line");

/* Slot sizes, and how much of the memory is theirs, of 64; 0: the rest, 47 of 64 or more. */
static const struct {
    uint32_t size;
    uint32_t share;
} slab_classes[] = {
    { 64, 0 }, { 256, 4 }, { 1024, 2 }, { 4096, 3 }, { 16384, 3 }, { 65664, 5 },
};

_Static_assert(sizeof(slab_classes) / sizeof(slab_classes[0]) == SLAB_CLASSES, "as slab.h says");

typedef struct {
    char magic[8];
    uint32_t layout;
    uint32_t line;
    uint64_t size;
    unsigned char key[32];
    slab_base_t base;
    uint64_t numbers; /* the PID namespace of who has the latches; 0: not known */
    _Alignas(SLAB_LINE) rlp_owners_t owners;
} header_t;

#define SLAB_HEAD ((size_t)3 * SLAB_PAGE)

_Static_assert(sizeof(header_t) <= SLAB_HEAD, "the header is three pages");

SLAB_INLINE header_t *slab_header(const slab_t *slab)
{
    return (header_t *)(void *)slab->base;
}

SLAB_INLINE shard_t *slab_shard(const slab_t *slab, uint32_t shard)
{
    return (shard_t *)(void *)(slab->base + SLAB_HEAD) + shard;
}

SLAB_INLINE uint32_t slab_shard_of(const slab_t *slab, uint64_t fingerprint)
{
    return (uint32_t)(fingerprint >> 32) & (slab->shards - 1);
}

SLAB_INLINE int slab_class_of(uint32_t size)
{
    int size_class = 0;

    while (size_class < SLAB_CLASSES && size > slab_classes[size_class].size - SLAB_SLOT_HEAD) {
        size_class++;
    }
    return size_class;
}

SLAB_INLINE uint32_t slab_lines(uint32_t size)
{
    return size <= RLP_STATE_MAX ? 1
                                 : ((uint32_t)SLAB_SLOT_HEAD + size + SLAB_LINE - 1) / SLAB_LINE;
}

/* Where a key lives: found once, before anything is locked. */
typedef struct {
    shard_t *shard;
    unsigned char *set;
    slot_t *slot; /* the key's own; NULL: it has none */
    uint32_t stride;
    uint32_t mask;  /* ways less one */
    uint32_t home;  /* the search in a set begins here */
    uint32_t lines; /* of the slot that the state fills */
} place_t;

/* Its lower half chooses the first set, its upper half the second. The fingerprint is
   pseudo-random; with the signature, the limits of one identity do not crowd one set. */
SLAB_INLINE uint64_t slab_hash(const rlp_key_t *key)
{
    return key->fingerprint ^ key->signature;
}

/* A number below n, by 32 bits of a hash. */
SLAB_INLINE uint32_t slab_below(uint32_t n, uint64_t hash)
{
    return (uint32_t)((uint64_t)(uint32_t)hash * n >> 32);
}

/* Where a key is to be looked for first. False: no class has slots of that size. */
SLAB_INLINE bool slab_place(const slab_t *slab, const rlp_key_t *key, place_t *place)
{
    const uint64_t hash = slab_hash(key);
    const uint32_t shard = slab_shard_of(slab, key->fingerprint);
    const int size_class = key->size <= RLP_STATE_MAX ? 0 : slab_class_of(key->size);

    if (size_class == SLAB_CLASSES) {
        return false;
    }
    const uint32_t sets = slab->classes[size_class].sets;
    const uint32_t ways = size_class == 0 ? SLAB_WAYS : slab->classes[size_class].ways;
    const size_t set = (size_t)sets * shard + slab_below(sets, hash);

    place->shard = slab_shard(slab, shard);
    place->stride = slab_classes[size_class].size;
    place->set = slab->base + slab->classes[size_class].offset + (size_t)place->stride * ways * set;
    place->mask = ways - 1;
    place->home = (uint32_t)(hash >> 40);
    place->lines = slab_lines(key->size);
    /* fetched while the lock is taken, behind which nothing is read ahead */
    __builtin_prefetch(place->set + (size_t)place->stride * (place->home & place->mask), 1);
    return true;
}

/* From the first set to the second: another one, unless the shard has only one. */
static inline void slab_go_second(const slab_t *slab, const rlp_key_t *key, place_t *place)
{
    const uint32_t sets = slab->classes[slab_class_of(key->size)].sets;
    const uint32_t first = slab_below(sets, slab_hash(key));
    const uint32_t step = 1 + slab_below(sets - 1, slab_hash(key) >> 32);
    const ptrdiff_t second = (ptrdiff_t)(((uint64_t)first + step) % sets);

    place->set += (second - (ptrdiff_t)first) * (ptrdiff_t)place->stride * (place->mask + 1);
}

/* Process death stops between two instructions: only the compiler may not move a write across. */
SLAB_INLINE void slab_barrier(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

/* What would be forgotten with this slot now; 0 for nothing, and for what processes hold: that is
   no loss but forbidden, or void. */
float slab_weight(const slot_t *slot, rlp_time_t now);

/* The slot that a newcomer may have: one of its first set that is free, else one of its second,
   else the one of both whose loss forgets least: none of those taken by the same update, none held
   by a process that lives. NULL: there is none. */
slot_t *slab_victim(const slab_t *slab, const rlp_key_t *key, const place_t *place, rlp_time_t now,
                    const place_t taken[], int n);

/* Restores what an update that was cut off has written. */
void slab_roll_back(const slab_t *slab, shard_t *shard);

#endif
