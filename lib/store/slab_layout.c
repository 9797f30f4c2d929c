/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The slab outside of requests: its geometry, how it is made, attached and moved to another size.
 */

#include "slab_layout.h"

#include <string.h>

#define SLAB_SHARDS_MAX 256
#define SLAB_SHARD_MIN ((size_t)896 * 1024) /* so that it has a slot of every class */

/* The sets of one shard that fit into so much room. */
static void slab_divide(slab_t *slab, int size_class, size_t room)
{
    const size_t slots = room / slab_classes[size_class].size;
    uint32_t ways = SLAB_WAYS;

    while (ways > slots) {
        ways /= 2;
    }
    const size_t sets = slots / ways;

    slab->classes[size_class].ways = ways;
    slab->classes[size_class].sets = (uint32_t)(sets < UINT32_MAX ? sets : UINT32_MAX);
}

/* Bytes of one class in one shard. */
static size_t slab_extent(const slab_t *slab, int size_class)
{
    return (size_t)slab->classes[size_class].sets * slab->classes[size_class].ways *
           slab_classes[size_class].size;
}

/* Geometry follows from the size alone: it need not be read from memory that may be damaged. */
static void slab_geometry(slab_t *slab, void *memory, size_t size)
{
    *slab = (slab_t){ .base = memory, .size = size, .shards = 1 };
    while (slab->shards < SLAB_SHARDS_MAX && size / slab->shards >= 2 * SLAB_SHARD_MIN) {
        slab->shards *= 2;
    }
    size_t offset = SLAB_HEAD + slab->shards * sizeof(shard_t);
    const size_t room = (size - offset) / slab->shards;
    size_t rest = room;

    for (int i = SLAB_CLASSES - 1; i > 0; i--) {
        slab_divide(slab, i, room / 64 * slab_classes[i].share);
        rest -= slab_extent(slab, i);
    }
    slab_divide(slab, 0, rest);
    for (int i = 0; i < SLAB_CLASSES; i++) {
        slab->classes[i].offset = offset;
        offset += slab_extent(slab, i) * slab->shards;
    }
}

size_t slab_size_min(void)
{
    return (size_t)1024 * 1024;
}

size_t slab_room(size_t size, uint32_t state)
{
    const int size_class = slab_class_of(state);
    slab_t slab;

    if (size_class == SLAB_CLASSES || size < slab_size_min()) {
        return 0;
    }
    slab_geometry(&slab, NULL, size);
    return (size_t)slab.shards * slab.classes[size_class].sets * slab.classes[size_class].ways;
}

uint32_t slab_fit_max(void)
{
    return slab_classes[SLAB_CLASSES - 1].size - (uint32_t)SLAB_SLOT_HEAD;
}

rlp_owners_t *slab_owners(const slab_t *slab)
{
    return &slab_header(slab)->owners;
}

/* Nobody lives any more who had a number. */
static void slab_close_owners(const slab_t *slab)
{
    rlp_owners_t *owners = slab_owners(slab);

    for (uint32_t i = 0; i < RLP_OWNERS_MAX; i++) {
        const uint32_t epoch = (uint32_t)owners->owner[i];

        owners->owner[i] = epoch + (epoch & 1);
    }
}

void slab_unlock_all(slab_t *slab)
{
    slab_close_owners(slab);
    for (uint32_t i = 0; i < slab->shards; i++) {
        shard_t *shard = slab_shard(slab, i);

        slab_roll_back(slab, shard);
        shard->latch = 0;
    }
}

void slab_unlock_dead(slab_t *slab)
{
    slab_close_owners(slab);
    for (uint32_t i = 0; i < slab->shards; i++) {
        if (slab_hold_shard(slab, i) == 0) {
            slab_release_shard(slab, i);
        }
    }
}

void slab_format(void *memory, size_t size, const unsigned char key[32])
{
    slab_t slab;
    header_t *header = memory;

    memset(memory, 0, size);
    slab_geometry(&slab, memory, size);
    slab_unlock_all(&slab);
    memcpy(header->key, key, sizeof(header->key));
    header->layout = SLAB_LAYOUT;
    header->line = SLAB_LINE;
    header->size = size;
    slab_barrier();
    memcpy(header->magic, SLAB_MAGIC, sizeof(header->magic));
}

const char *slab_attach(slab_t *slab, void *memory, size_t size)
{
    const header_t *header = memory;

    if (size < slab_size_min() || memcmp(header->magic, SLAB_MAGIC, sizeof(header->magic)) != 0) {
        return "it is not a store of this module";
    }
    if (header->layout != SLAB_LAYOUT || header->line != SLAB_LINE) {
        return "it was written by another version";
    }
    if (header->size != size) {
        return "it is truncated or has grown";
    }
    slab_geometry(slab, memory, size);
    return NULL;
}

const unsigned char *slab_key(const slab_t *slab)
{
    return slab_header(slab)->key;
}

slab_base_t *slab_base(const slab_t *slab)
{
    return &slab_header(slab)->base;
}

uint64_t *slab_numbers(const slab_t *slab)
{
    return &slab_header(slab)->numbers;
}

rlp_time_t slab_last(const slab_t *slab)
{
    rlp_time_t last = 0;

    for (uint32_t i = 0; i < slab->shards; i++) {
        const rlp_time_t seen = slab_shard(slab, i)->last;
        last = seen > last ? seen : last;
    }
    return last;
}

#define SLAB_SAMPLE 4096 /* slots of each class */

/* Are the counter in it and its life both there? */
static bool slab_lives(const slot_t *slot, rlp_time_t now)
{
    const uint64_t expires = __atomic_load_n(&slot->fate, __ATOMIC_RELAXED) >> 16;

    return __atomic_load_n(&slot->fingerprint, __ATOMIC_RELAXED) != 0 &&
           (expires == SLAB_EXPIRES_NEVER || (rlp_time_t)(expires << SLAB_TICK) > now);
}

/* Slots in use in one class. Any are as good as others: keys are spread by a hash. */
static uint64_t slab_look_at(const slab_t *slab, int size_class, uint64_t slots, rlp_time_t now)
{
    const unsigned char *at = slab->base + slab->classes[size_class].offset;
    const uint64_t step = slots > SLAB_SAMPLE ? slots / SLAB_SAMPLE : 1;
    uint64_t seen = 0;
    uint64_t used = 0;

    for (uint64_t i = 0; i < slots; i += step, seen++) {
        const unsigned char *slot = at + (size_t)slab_classes[size_class].size * (size_t)i;

        used += slab_lives((const slot_t *)(const void *)slot, now);
    }
    return seen > 0 ? used * slots / seen : 0;
}

slab_look_t slab_look(const slab_t *slab, rlp_time_t now)
{
    slab_look_t look = { 0 };

    for (int i = 0; i < SLAB_CLASSES; i++) {
        const uint64_t slots =
            (uint64_t)slab->shards * slab->classes[i].sets * slab->classes[i].ways;

        look.slots += slots;
        look.used += slab_look_at(slab, i, slots, now);
    }
    for (uint32_t i = 0; i < slab->shards; i++) {
        look.evicted += __atomic_load_n(&slab_shard(slab, i)->evicted, __ATOMIC_RELAXED);
    }
    return look;
}

static void slab_move(slab_t *to, const slot_t *slot, int size_class, rlp_time_t now)
{
    const rlp_key_t key = {
        .signature = slot->signature,
        .fingerprint = slot->fingerprint,
        .size = (uint32_t)(slab_classes[size_class].size - SLAB_SLOT_HEAD),
    };
    place_t place;
    slot_t *victim =
        slab_place(to, &key, &place) ? slab_victim(to, &key, &place, now, NULL, 0) : NULL;

    if (victim != NULL && slab_weight(victim, now) <= slab_weight(slot, now)) {
        memcpy(victim, slot, slab_classes[size_class].size);
    }
}

static void slab_move_class(slab_t *to, const slab_t *from, int size_class, rlp_time_t now)
{
    const size_t size = slab_classes[size_class].size;
    const size_t n = slab_extent(from, size_class) / size * from->shards;
    unsigned char *at = from->base + from->classes[size_class].offset;

    for (size_t i = 0; i < n; i++, at += size) {
        const slot_t *slot = (const slot_t *)(const void *)at;

        if (slab_weight(slot, now) > 0) {
            slab_move(to, slot, size_class, now);
        }
    }
}

void slab_rehash(slab_t *to, const slab_t *from, rlp_time_t now)
{
    for (int size_class = 0; size_class < SLAB_CLASSES; size_class++) {
        slab_move_class(to, from, size_class, now);
    }
    slab_shard(to, 0)->last = slab_last(from);
    slab_shard(to, 0)->evicted = slab_look(from, now).evicted;
}

/* One class of one shard, whose sets lie together. */
static uint64_t slab_forget_class(const slab_t *slab, int size_class, uint64_t fingerprint)
{
    const size_t size = slab_classes[size_class].size;
    const size_t extent = slab_extent(slab, size_class);
    unsigned char *at =
        slab->base + slab->classes[size_class].offset + extent * slab_shard_of(slab, fingerprint);
    uint64_t forgotten = 0;

    for (size_t i = 0; i < extent / size; i++, at += size) {
        slot_t *slot = (slot_t *)(void *)at;

        if (slot->fingerprint == fingerprint && slot->fate != 0 && (slot->fate & SLAB_HELD) == 0) {
            slot->fate = 0; /* expired: the slot stays used */
            forgotten++;
        }
    }
    return forgotten;
}

uint64_t slab_forget(slab_t *slab, uint64_t fingerprint)
{
    const uint32_t shard = slab_shard_of(slab, fingerprint);
    uint64_t forgotten = 0;

    if (slab_hold_shard(slab, shard) != 0) {
        return 0;
    }
    for (int size_class = 0; size_class < SLAB_CLASSES; size_class++) {
        forgotten += slab_forget_class(slab, size_class, fingerprint);
    }
    slab_release_shard(slab, shard);
    return forgotten;
}
