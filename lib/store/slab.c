/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "slab.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/*
 * memory:  [ header 4096 | shard x S: lock + undo area | class 0 | class 1 | ... ]
 * class:   [ set x (sets per shard * S) ]      the sets of one shard lie together
 * set:     [ slot x 8 ]
 * slot:    [ fingerprint 8 | signature 8 | expires 48 bit, loss rate 16 bit | state ... ]
 *
 * A key has one set; it is looked for from its home slot on until a slot never used. Nothing is
 * ever emptied, so every look-up ends there or after 8 slots. All keys of one fingerprint belong to
 * one shard.
 */

#define SLAB_MAGIC "RLPSLAB"
#define SLAB_LAYOUT 1
#define SLAB_LINE 64
#define SLAB_PAGE 4096
#define SLAB_WAYS 8
#define SLAB_UNDO_LINES 128
#define SLAB_SHARDS_MAX 256
#define SLAB_SHARD_MIN ((size_t)640 * 1024) /* so that it has a set of every class */
#define SLAB_SPINS 100
#define SLAB_EXPIRES_NEVER ((UINT64_C(1) << 48) - 1)

typedef struct {
    uint64_t fingerprint; /* 0: never used */
    uint64_t signature;
    uint64_t fate; /* expires, slab time in milliseconds, << 16 | loss rate */
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
} header_t;

_Static_assert(sizeof(header_t) <= SLAB_PAGE, "the header is one page");

static header_t *slab_header(const slab_t *slab)
{
    return (header_t *)(void *)slab->base;
}

static shard_t *slab_shard(const slab_t *slab, uint32_t shard)
{
    return (shard_t *)(void *)(slab->base + SLAB_PAGE) + shard;
}

/* Geometry follows from the size alone: it need not be read from memory that may be damaged. */
static void slab_geometry(slab_t *slab, void *memory, size_t size)
{
    *slab = (slab_t){ .base = memory, .size = size, .shards = 1 };
    while (slab->shards < SLAB_SHARDS_MAX && size / slab->shards >= 2 * SLAB_SHARD_MIN) {
        slab->shards *= 2;
    }
    size_t offset = SLAB_PAGE + slab->shards * sizeof(shard_t);
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

static int slab_class_of(uint32_t size)
{
    int size_class = 0;

    while (size_class < SLAB_CLASSES && size > slab_classes[size_class].size - SLAB_SLOT_HEAD) {
        size_class++;
    }
    return size_class;
}

static slot_t *slab_way(unsigned char *set, int size_class, uint32_t way)
{
    return (slot_t *)(void *)(set + (size_t)slab_classes[size_class].size * (way % SLAB_WAYS));
}

/* The set of a key, spread by the fingerprint, which is pseudo-random, and by the signature, so
   that the limits of one identity do not crowd one set. */
static unsigned char *slab_set(const slab_t *slab, const rlp_entry_t *entry, int size_class)
{
    const uint32_t hash = (uint32_t)(entry->fingerprint ^ entry->key.signature);
    const uint32_t sets = slab->classes[size_class].sets;
    const size_t set = (size_t)sets * slab_shard_of(slab, entry->fingerprint) +
                       (size_t)((uint64_t)hash * sets >> 32);

    return slab->base + slab->classes[size_class].offset +
           (size_t)slab_classes[size_class].size * SLAB_WAYS * set;
}

/* Where the search in that set begins. */
static uint32_t slab_home(const rlp_entry_t *entry)
{
    return (uint32_t)((entry->fingerprint ^ entry->key.signature) >> 40);
}

static bool slab_expired(const slot_t *slot, rlp_time_t now)
{
    const uint64_t expires = slot->fate >> 16;

    return expires != SLAB_EXPIRES_NEVER && (rlp_time_t)(expires * 1000) <= now;
}

/* The loss of a slot shrinks evenly to nothing at its end, so what is kept is loss per millisecond
   of life: the upper half of a float. */
static uint64_t slab_fate(const rlp_entry_t *entry, rlp_time_t now)
{
    uint64_t expires = SLAB_EXPIRES_NEVER;
    uint64_t life = SLAB_EXPIRES_NEVER / 2;
    uint32_t bits;

    if (entry->expires / 1000 < (rlp_time_t)SLAB_EXPIRES_NEVER - 1) {
        expires = (uint64_t)((entry->expires + 999) / 1000);
        life = entry->expires > now ? (uint64_t)(entry->expires - now) / 1000 + 1 : 1;
    }
    const float rate = (float)entry->loss / (float)life;
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
                                                        : expires - (uint64_t)(now / 1000));
}

static slot_t *slab_find(const slab_t *slab, const rlp_entry_t *entry)
{
    const int size_class = slab_class_of(entry->key.size);
    unsigned char *set = slab_set(slab, entry, size_class);

    for (uint32_t i = 0, way = slab_home(entry); i < SLAB_WAYS; i++, way++) {
        slot_t *slot = slab_way(set, size_class, way);

        if (slot->fingerprint == entry->fingerprint && slot->signature == entry->key.signature) {
            return slot;
        }
        if (slot->fingerprint == 0) {
            return NULL;
        }
    }
    return NULL;
}

static bool slab_taken(slot_t *const taken[], int n, const slot_t *slot)
{
    for (int i = 0; i < n; i++) {
        if (taken[i] == slot) {
            return true;
        }
    }
    return false;
}

/* The slot of the set whose loss forgets least, but none of those taken by the same update. */
static slot_t *slab_victim(const slab_t *slab, const rlp_entry_t *entry, rlp_time_t now,
                           slot_t *const taken[], int n)
{
    const int size_class = slab_class_of(entry->key.size);
    unsigned char *set = slab_set(slab, entry, size_class);
    slot_t *victim = NULL;
    float least = 0;

    for (uint32_t i = 0, way = slab_home(entry); i < SLAB_WAYS; i++, way++) {
        slot_t *slot = slab_way(set, size_class, way);
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

static size_t slab_lines(uint32_t size)
{
    return (SLAB_SLOT_HEAD + size + SLAB_LINE - 1) / SLAB_LINE;
}

/* Process death stops between two instructions: only the compiler may not move a write across. */
static void slab_barrier(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

static void slab_remember(const slab_t *slab, shard_t *shard, const slot_t *slot, size_t lines)
{
    const unsigned char *from = (const unsigned char *)slot;
    /* slab_fits() keeps it below, unless the memory is damaged */
    const uint32_t n = shard->n <= SLAB_UNDO_LINES - lines ? shard->n : 0;

    for (size_t i = 0; i < lines; i++, from += SLAB_LINE) {
        undo_t *undo = &shard->undo[n + i];

        undo->offset = (uint64_t)(from - slab->base);
        memcpy(undo->line, from, SLAB_LINE);
    }
    slab_barrier();
    shard->n = n + (uint32_t)lines;
    slab_barrier();
}

static void slab_roll_back(const slab_t *slab, shard_t *shard)
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

/* A lock is held for some dozens of nanoseconds: look again before sleeping in the kernel. */
static int slab_lock(const slab_t *slab, uint32_t i)
{
    shard_t *shard = slab_shard(slab, i);
    int rv = pthread_mutex_trylock(&shard->mutex);

    for (int spins = 0; rv == EBUSY && spins < SLAB_SPINS; spins++) {
        slab_pause();
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

/* Shards of one update, a bit each; locked in order, so that two updates cannot wait for each
   other. */
typedef struct {
    uint64_t bits[SLAB_SHARDS_MAX / 64];
} shards_t;

static void slab_unlock_set(const slab_t *slab, const shards_t *held)
{
    for (int word = 0; word < SLAB_SHARDS_MAX / 64; word++) {
        for (uint64_t bits = held->bits[word]; bits; bits &= bits - 1) {
            const uint32_t i = (uint32_t)word * 64 + (uint32_t)__builtin_ctzll(bits);
            pthread_mutex_unlock(&slab_shard(slab, i)->mutex);
        }
    }
}

/* Locks the shards of one word of bits; held says which are, also after a failure. */
static int slab_lock_word(const slab_t *slab, shards_t *held, int word, uint64_t wanted)
{
    for (uint64_t bits = wanted; bits; bits &= bits - 1) {
        const int rv = slab_lock(slab, (uint32_t)word * 64 + (uint32_t)__builtin_ctzll(bits));

        if (rv != 0) {
            return rv;
        }
        held->bits[word] |= bits & -bits;
    }
    return 0;
}

static int slab_lock_set(const slab_t *slab, shards_t *held, rlp_entry_t *const entries[], int n)
{
    shards_t wanted = { { 0 } };
    int rv = 0;

    for (int i = 0; i < n; i++) {
        const uint32_t shard = slab_shard_of(slab, entries[i]->fingerprint);
        wanted.bits[shard / 64] |= UINT64_C(1) << shard % 64;
    }
    for (int word = 0; word < SLAB_SHARDS_MAX / 64 && rv == 0; word++) {
        rv = slab_lock_word(slab, held, word, wanted.bits[word]);
    }
    if (rv != 0) {
        slab_unlock_set(slab, held);
    }
    return rv;
}

static void slab_load(rlp_entry_t *entry, const slot_t *slot, rlp_time_t now)
{
    entry->dirty = false;
    if (slot == NULL || slab_expired(slot, now)) {
        memset(entry->state, 0, entry->key.size);
    } else {
        memcpy(entry->state, slot->state, entry->key.size);
    }
}

static void slab_write(slot_t *slot, const rlp_entry_t *entry, rlp_time_t now)
{
    slot->fingerprint = entry->fingerprint;
    slot->signature = entry->key.signature;
    slot->fate = slab_fate(entry, now);
    memcpy(slot->state, entry->state, entry->key.size);
}

static void slab_commit(const slab_t *slab, const rlp_entry_t *entry, slot_t *slot, rlp_time_t now)
{
    shard_t *shard = slab_shard(slab, slab_shard_of(slab, entry->fingerprint));

    slab_remember(slab, shard, slot, slab_lines(entry->key.size));
    slab_write(slot, entry, now);
    if (now > shard->last) {
        shard->last = now;
    }
}

/* Writes what is dirty; from then on it counts. */
static void slab_keep(const slab_t *slab, rlp_entry_t *const entries[], slot_t *slots[], int n,
                      rlp_time_t now)
{
    for (int i = 0; i < n; i++) {
        if (!entries[i]->dirty) {
            continue;
        }
        if (slots[i] == NULL) {
            slots[i] = slab_victim(slab, entries[i], now, slots, n);
        }
        if (slots[i] != NULL) { /* NULL: nine new keys of one update in one set */
            slab_commit(slab, entries[i], slots[i], now);
        }
    }
    slab_barrier();
    for (int i = 0; i < n; i++) {
        slab_shard(slab, slab_shard_of(slab, entries[i]->fingerprint))->n = 0;
    }
}

static bool slab_fits(rlp_entry_t *entries[], int n)
{
    size_t lines = 0;

    for (int i = 0; i < n; i++) {
        if (slab_class_of(entries[i]->key.size) == SLAB_CLASSES) {
            return false;
        }
        lines += slab_lines(entries[i]->key.size);
        entries[i]->fingerprint |= entries[i]->fingerprint == 0;
    }
    return n > 0 && n <= RLP_ENTRIES_MAX && lines <= SLAB_UNDO_LINES;
}

int slab_update(slab_t *slab, rlp_entry_t *entries[], int n, rlp_time_t now, rlp_update_fn *fn,
                void *baton)
{
    slot_t *slots[RLP_ENTRIES_MAX];
    shards_t held = { { 0 } };

    if (!slab_fits(entries, n)) {
        return EINVAL;
    }
    const int rv = slab_lock_set(slab, &held, entries, n);

    if (rv != 0) {
        return rv;
    }
    for (int i = 0; i < n; i++) {
        slots[i] = slab_find(slab, entries[i]);
        slab_load(entries[i], slots[i], now);
    }
    fn(entries, n, now, baton);
    slab_keep(slab, entries, slots, n, now);
    slab_unlock_set(slab, &held);
    return 0;
}

void slab_unlock_all(slab_t *slab)
{
    pthread_mutexattr_t attr;

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

static void slab_move(slab_t *to, slot_t *slot, int size_class, rlp_time_t now)
{
    rlp_entry_t entry = {
        .key = { .signature = slot->signature,
                 .size = (uint32_t)(slab_classes[size_class].size - SLAB_SLOT_HEAD) },
        .state = slot->state,
        .fingerprint = slot->fingerprint,
    };
    slot_t *place = slab_victim(to, &entry, now, NULL, 0);

    if (place != NULL && slab_weight(place, now) <= slab_weight(slot, now)) {
        memcpy(place, slot, slab_classes[size_class].size);
    }
}

static void slab_move_class(slab_t *to, const slab_t *from, int size_class, rlp_time_t now)
{
    const size_t size = slab_classes[size_class].size;
    const size_t n = (size_t)from->classes[size_class].sets * from->shards * SLAB_WAYS;
    unsigned char *at = from->base + from->classes[size_class].offset;

    for (size_t i = 0; i < n; i++, at += size) {
        slot_t *slot = (slot_t *)(void *)at;

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
