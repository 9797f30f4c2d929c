/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "slab.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/*
 * memory:  [ header, owners | shard x S: lock + undo area | class 0 | class 1 | ... ]
 * class:   [ set x (sets per shard * S) ]      the sets of one shard lie together
 * set:     [ slot x 8 ]
 * slot:    [ fingerprint 8 | signature 8 | expires 48 bit, loss rate 16 bit | state ... ]
 *
 * A key has one set; it is looked for from its home slot on until a slot never used. Nothing is
 * ever emptied, so every look-up ends there or after 8 slots. All keys of one fingerprint belong to
 * one shard.
 */

/* what every request goes through */
#define SLAB_INLINE __attribute__((always_inline)) static inline

#define SLAB_MAGIC "RLPSLAB"
#define SLAB_LAYOUT 2
#define SLAB_LINE 64
#define SLAB_PAGE 4096
#define SLAB_WAYS 8
#define SLAB_UNDO_LINES 128
#define SLAB_SHARDS_MAX 256
#define SLAB_SHARD_MIN ((size_t)640 * 1024) /* so that it has a set of every class */
#define SLAB_PAUSES_MIN 64
#define SLAB_PAUSES_MAX 512
#define SLAB_TICK 10 /* expiry is kept in units of 1024 microseconds */
#define SLAB_EXPIRES_NEVER ((UINT64_C(1) << 48) - 1)

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
    pthread_mutex_t mutex;
    uint32_t n; /* lines to restore if the owner of the mutex is dead; written last */
    rlp_time_t last;
    _Alignas(SLAB_LINE) undo_t undo[SLAB_UNDO_LINES];
} shard_t;

_Static_assert(offsetof(shard_t, undo) % SLAB_LINE == 0, "the lock does not share its line");

/* Slot sizes, and how much of the memory is theirs, of 64. */
static const struct {
    uint32_t size;
    uint32_t share;
} slab_classes[] = {
    { 64, 52 },
    { 256, 4 },
    { 1024, 4 },
    { 4096, 4 },
};

_Static_assert(sizeof(slab_classes) / sizeof(slab_classes[0]) == SLAB_CLASSES, "as slab.h says");

typedef struct {
    char magic[8];
    uint32_t layout;
    uint32_t line;
    uint64_t size;
    unsigned char key[32];
    slab_base_t base;
    _Alignas(SLAB_LINE) rlp_owners_t owners;
} header_t;

#define SLAB_HEAD ((size_t)3 * SLAB_PAGE)

_Static_assert(sizeof(header_t) <= SLAB_HEAD, "the header is three pages");

static header_t *slab_header(const slab_t *slab)
{
    return (header_t *)(void *)slab->base;
}

static shard_t *slab_shard(const slab_t *slab, uint32_t shard)
{
    return (shard_t *)(void *)(slab->base + SLAB_HEAD) + shard;
}

/* Geometry follows from the size alone: it need not be read from memory that may be damaged. */
static void slab_geometry(slab_t *slab, void *memory, size_t size)
{
    *slab = (slab_t){ .base = memory, .size = size, .shards = 1 };
    while (slab->shards < SLAB_SHARDS_MAX && size / slab->shards >= 2 * SLAB_SHARD_MIN) {
        slab->shards *= 2;
    }
    size_t offset = SLAB_HEAD + slab->shards * sizeof(shard_t);
    const size_t room = (size - offset) / 64;

    for (int i = 0; i < SLAB_CLASSES; i++) {
        const size_t set = (size_t)slab_classes[i].size * SLAB_WAYS;
        const size_t sets = room * slab_classes[i].share / set / slab->shards;

        slab->classes[i].offset = offset;
        slab->classes[i].sets = (uint32_t)(sets < UINT32_MAX ? sets : UINT32_MAX);
        offset += set * slab->shards * slab->classes[i].sets;
    }
}

size_t slab_size_min(void)
{
    return (size_t)1024 * 1024;
}

static uint32_t slab_shard_of(const slab_t *slab, uint64_t fingerprint)
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
    uint32_t home;  /* the search in the set begins here */
    uint32_t lines; /* of the slot that the state fills */
} place_t;

/* The set of a key is spread by the fingerprint, which is pseudo-random, and by the signature, so
   that the limits of one identity do not crowd one set. False: no class has slots of that size. */
SLAB_INLINE bool slab_place(const slab_t *slab, const rlp_key_t *key, place_t *place)
{
    const uint64_t hash = key->fingerprint ^ key->signature;
    const uint32_t shard = slab_shard_of(slab, key->fingerprint);
    const int size_class = slab_class_of(key->size);

    if (size_class == SLAB_CLASSES) {
        return false;
    }
    const uint32_t sets = slab->classes[size_class].sets;
    const size_t set = (size_t)sets * shard + (size_t)((uint64_t)(uint32_t)hash * sets >> 32);

    place->shard = slab_shard(slab, shard);
    place->stride = slab_classes[size_class].size;
    place->set =
        slab->base + slab->classes[size_class].offset + (size_t)place->stride * SLAB_WAYS * set;
    place->home = (uint32_t)(hash >> 40);
    place->lines = slab_lines(key->size);
    return true;
}

SLAB_INLINE slot_t *slab_way(const place_t *place, uint32_t way)
{
    return (slot_t *)(void *)(place->set + (size_t)place->stride * (way % SLAB_WAYS));
}

SLAB_INLINE bool slab_expired(const slot_t *slot, rlp_time_t now)
{
    const uint64_t expires = slot->fate >> 16;

    return expires != SLAB_EXPIRES_NEVER && (rlp_time_t)(expires << SLAB_TICK) <= now;
}

/* The loss of a slot shrinks evenly to nothing at its end, so what is kept is loss per tick of
   life: the upper half of a float. */
SLAB_INLINE uint64_t slab_fate(const rlp_entry_t *entry, rlp_time_t now)
{
    uint64_t expires = SLAB_EXPIRES_NEVER;
    uint64_t life = SLAB_EXPIRES_NEVER / 2;
    uint32_t bits;

    if (entry->expires < (rlp_time_t)(SLAB_EXPIRES_NEVER << SLAB_TICK)) {
        expires = ((uint64_t)entry->expires + (1 << SLAB_TICK) - 1) >> SLAB_TICK;
        life = entry->expires > now ? ((uint64_t)(entry->expires - now) >> SLAB_TICK) + 1 : 1;
    }
    const float rate = (float)entry->loss / (float)(int64_t)life;
    memcpy(&bits, &rate, sizeof(bits));
    return expires << 16 | bits >> 16;
}

/* What would be forgotten with this slot now; 0 for nothing. */
static float slab_weight(const slot_t *slot, rlp_time_t now)
{
    const uint64_t expires = slot->fate >> 16;
    const uint32_t bits = (uint32_t)(slot->fate & UINT64_C(0x7fff)) << 16;
    float rate;

    if (slot->fingerprint == 0 || slab_expired(slot, now)) {
        return 0;
    }
    memcpy(&rate, &bits, sizeof(rate));
    return rate * (float)(expires == SLAB_EXPIRES_NEVER ? SLAB_EXPIRES_NEVER / 2
                                                        : expires - ((uint64_t)now >> SLAB_TICK));
}

SLAB_INLINE slot_t *slab_find(const place_t *place, const rlp_key_t *key)
{
    for (uint32_t i = 0; i < SLAB_WAYS; i++) {
        slot_t *slot = slab_way(place, place->home + i);

        if (slot->fingerprint == key->fingerprint && slot->signature == key->signature) {
            return slot;
        }
        if (slot->fingerprint == 0) {
            return NULL;
        }
    }
    return NULL;
}

static bool slab_taken(const place_t taken[], int n, const slot_t *slot)
{
    for (int i = 0; i < n; i++) {
        if (taken[i].slot == slot) {
            return true;
        }
    }
    return false;
}

/* The slot of the set whose loss forgets least, but none of those taken by the same update. */
__attribute__((noinline)) static slot_t *slab_victim(const place_t *place, rlp_time_t now,
                                                     const place_t taken[], int n)
{
    slot_t *victim = NULL;
    float least = 0;

    for (uint32_t i = 0; i < SLAB_WAYS; i++) {
        slot_t *slot = slab_way(place, place->home + i);
        const float weight = slab_weight(slot, now);

        if (slab_taken(taken, n, slot)) {
            continue;
        }
        if (slot->fingerprint == 0 || weight <= 0) {
            return slot;
        }
        if (victim == NULL || weight < least ||
            (weight <= least && slot->fate >> 16 < victim->fate >> 16)) {
            victim = slot;
            least = weight;
        }
    }
    return victim;
}

/* Process death stops between two instructions: only the compiler may not move a write across. */
static void slab_barrier(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

SLAB_INLINE void slab_remember(const slab_t *slab, shard_t *shard, const slot_t *slot,
                               uint32_t lines)
{
    const unsigned char *from = (const unsigned char *)slot;
    /* slab_fits() keeps it below, unless the memory is damaged */
    const uint32_t n = shard->n <= SLAB_UNDO_LINES - lines ? shard->n : 0;

    for (uint32_t i = 0; i < lines; i++, from += SLAB_LINE) {
        undo_t *undo = &shard->undo[n + i];

        undo->offset = (uint64_t)(from - slab->base);
        memcpy(undo->line, from, SLAB_LINE);
    }
    slab_barrier();
    shard->n = n + lines;
    slab_barrier();
}

__attribute__((noinline)) static void slab_roll_back(const slab_t *slab, shard_t *shard)
{
    const size_t first = slab->classes[0].offset;

    for (uint32_t i = shard->n < SLAB_UNDO_LINES ? shard->n : SLAB_UNDO_LINES; i > 0; i--) {
        const undo_t *undo = &shard->undo[i - 1];

        if (undo->offset % SLAB_LINE == 0 && undo->offset >= first &&
            undo->offset <= slab->size - SLAB_LINE) {
            memcpy(slab->base + undo->offset, undo->line, SLAB_LINE);
        }
    }
    slab_barrier();
    shard->n = 0;
}

static void slab_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A lock is held for some dozens of nanoseconds: look again before sleeping in the kernel, but not
   so often that the looking takes the lock's line from its owner. */
__attribute__((noinline)) static int slab_lock_busy(const slab_t *slab, shard_t *shard, int rv)
{
    for (int pauses = SLAB_PAUSES_MIN; rv == EBUSY && pauses <= SLAB_PAUSES_MAX; pauses *= 2) {
        for (int i = 0; i < pauses; i++) {
            slab_pause();
        }
        rv = pthread_mutex_trylock(&shard->mutex);
    }
    if (rv == EBUSY) {
        rv = pthread_mutex_lock(&shard->mutex);
    }
    if (rv == EOWNERDEAD) {
        slab_roll_back(slab, shard);
        rv = pthread_mutex_consistent(&shard->mutex);
    }
    return rv;
}

SLAB_INLINE int slab_lock(const slab_t *slab, shard_t *shard)
{
    const int rv = pthread_mutex_trylock(&shard->mutex);

    return rv == 0 ? 0 : slab_lock_busy(slab, shard, rv);
}

/* The shards of one update, in order: locked so, no two updates can wait for each other. */
typedef struct {
    int n;
    shard_t *shards[RLP_ENTRIES_MAX];
} held_t;

static void slab_hold(held_t *held, shard_t *shard)
{
    int i = held->n;

    while (i > 0 && held->shards[i - 1] > shard) {
        i--;
    }
    if (i > 0 && held->shards[i - 1] == shard) {
        return;
    }
    memmove(&held->shards[i + 1], &held->shards[i], (size_t)(held->n - i) * sizeof(shard_t *));
    held->shards[i] = shard;
    held->n++;
}

SLAB_INLINE void slab_unlock(const held_t *held, int n)
{
    for (int i = 0; i < n; i++) {
        pthread_mutex_unlock(&held->shards[i]->mutex);
    }
}

SLAB_INLINE int slab_lock_all(const slab_t *slab, held_t *held, const place_t places[], int n)
{
    held->n = 1;
    held->shards[0] = places[0].shard;
    for (int i = 1; i < n; i++) {
        slab_hold(held, places[i].shard);
    }
    for (int i = 0; i < held->n; i++) {
        const int rv = slab_lock(slab, held->shards[i]);

        if (rv != 0) {
            slab_unlock(held, i);
            return rv;
        }
    }
    return 0;
}

/* States of the smallest class have room for all of a slot's. Copied in the words they are written
   in: the processor forwards a store to a load of the same word, but not to a wider one. */
SLAB_INLINE void slab_copy(uint64_t *to, const uint64_t *from, uint32_t size)
{
    if (size > RLP_STATE_MAX) {
        memcpy(to, from, size);
        return;
    }
    to[0] = from[0];
    to[1] = from[1];
    to[2] = from[2];
    to[3] = from[3];
    to[4] = from[4];
    _Static_assert(RLP_STATE_MAX == 5 * sizeof(uint64_t), "all of them");
}

SLAB_INLINE void slab_load(rlp_entry_t *entry, const slot_t *slot, rlp_time_t now)
{
    entry->dirty = false;
    if (slot == NULL || slab_expired(slot, now)) {
        memset(entry->state, 0, entry->key.size);
    } else {
        slab_copy(entry->state, slot->state, entry->key.size);
    }
}

SLAB_INLINE void slab_write(slot_t *slot, const rlp_entry_t *entry, rlp_time_t now)
{
    slot->fingerprint = entry->key.fingerprint;
    slot->signature = entry->key.signature;
    slot->fate = slab_fate(entry, now);
    slab_copy(slot->state, entry->state, entry->key.size);
}

SLAB_INLINE void slab_commit(const slab_t *slab, const rlp_entry_t *entry, const place_t *place,
                             rlp_time_t now)
{
    slab_remember(slab, place->shard, place->slot, place->lines);
    slab_write(place->slot, entry, now);
    if (now > place->shard->last) {
        place->shard->last = now;
    }
}

/* Writes what is dirty. */
SLAB_INLINE void slab_keep(const slab_t *slab, rlp_entry_t *const entries[], place_t places[],
                           int n, rlp_time_t now)
{
    for (int i = 0; i < n; i++) {
        place_t *place = &places[i];

        if (!entries[i]->dirty) {
            continue;
        }
        if (place->slot == NULL) {
            place->slot = slab_victim(place, now, places, n);
        }
        if (place->slot != NULL) { /* NULL: nine new keys of one update in one set */
            slab_commit(slab, entries[i], place, now);
        }
    }
}

/* From here on what was written counts. */
SLAB_INLINE void slab_settle(const held_t *held)
{
    slab_barrier();
    for (int i = 0; i < held->n; i++) {
        held->shards[i]->n = 0;
    }
    slab_barrier();
}

SLAB_INLINE bool slab_fits(const slab_t *slab, rlp_entry_t *entries[], place_t places[], int n)
{
    size_t lines = 0;

    if (n < 1 || n > RLP_ENTRIES_MAX) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (!slab_place(slab, &entries[i]->key, &places[i])) {
            return false;
        }
        lines += places[i].lines;
    }
    return lines <= SLAB_UNDO_LINES;
}

/* Most updates are of one small key: slab_update() has the compiler make a second copy for that. */
SLAB_INLINE int slab_run(slab_t *slab, rlp_entry_t *entries[], int n, rlp_time_t now,
                         rlp_update_fn *fn, void *baton)
{
    place_t places[RLP_ENTRIES_MAX];
    held_t held;

    if (!slab_fits(slab, entries, places, n)) {
        return EINVAL;
    }
    const int rv = slab_lock_all(slab, &held, places, n);

    if (rv != 0) {
        return rv;
    }
    for (int i = 0; i < n; i++) {
        places[i].slot = slab_find(&places[i], &entries[i]->key);
        slab_load(entries[i], places[i].slot, now);
    }
    fn(entries, n, now, baton);
    slab_keep(slab, entries, places, n, now);
    slab_settle(&held);
    slab_unlock(&held, held.n);
    return 0;
}

__attribute__((noinline)) static int slab_run_many(slab_t *slab, rlp_entry_t *entries[], int n,
                                                   rlp_time_t now, rlp_update_fn *fn, void *baton)
{
    return slab_run(slab, entries, n, now, fn, baton);
}

int slab_update(slab_t *slab, rlp_entry_t *entries[], int n, rlp_time_t now, rlp_update_fn *fn,
                void *baton)
{
    if (n == 1 && entries[0]->key.size <= RLP_STATE_MAX) {
        return slab_run(slab, entries, 1, now, fn, baton);
    }
    return slab_run_many(slab, entries, n, now, fn, baton);
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
    pthread_mutexattr_t attr;

    slab_close_owners(slab);

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    for (uint32_t i = 0; i < slab->shards; i++) {
        shard_t *shard = slab_shard(slab, i);

        slab_roll_back(slab, shard);
        memset(&shard->mutex, 0, sizeof(shard->mutex));
        pthread_mutex_init(&shard->mutex, &attr);
    }
    pthread_mutexattr_destroy(&attr);
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

rlp_time_t slab_last(const slab_t *slab)
{
    rlp_time_t last = 0;

    for (uint32_t i = 0; i < slab->shards; i++) {
        const rlp_time_t seen = slab_shard(slab, i)->last;
        last = seen > last ? seen : last;
    }
    return last;
}

static void slab_move(slab_t *to, const slot_t *slot, int size_class, rlp_time_t now)
{
    const rlp_key_t key = {
        .signature = slot->signature,
        .fingerprint = slot->fingerprint,
        .size = (uint32_t)(slab_classes[size_class].size - SLAB_SLOT_HEAD),
    };
    place_t place;
    slot_t *victim = slab_place(to, &key, &place) ? slab_victim(&place, now, NULL, 0) : NULL;

    if (victim != NULL && slab_weight(victim, now) <= slab_weight(slot, now)) {
        memcpy(victim, slot, slab_classes[size_class].size);
    }
}

static void slab_move_class(slab_t *to, const slab_t *from, int size_class, rlp_time_t now)
{
    const size_t size = slab_classes[size_class].size;
    const size_t n = (size_t)from->classes[size_class].sets * from->shards * SLAB_WAYS;
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
}
