/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The slab in requests: finding, evicting, locking, writing. What lies where: slab_layout.h.
 */

#include "slab_layout.h"
#include "state.h"

#include <errno.h>
#include <string.h>

SLAB_INLINE slot_t *slab_way(const place_t *place, uint32_t way)
{
    return (slot_t *)(void *)(place->set + (size_t)place->stride * (way & place->mask));
}

SLAB_INLINE bool slab_expired(const slot_t *slot, rlp_time_t now)
{
    const uint64_t expires = slot->fate >> 16;

    return expires != SLAB_EXPIRES_NEVER && (rlp_time_t)(expires << SLAB_TICK) <= now;
}

/* The loss of most slots shrinks evenly to nothing at their end, so what is kept is loss per
   microsecond of life: the upper half of a float. Where the lowest bit is set it is the loss
   itself, which lasts. What is held has no loss and no end, but so many words. */
SLAB_INLINE uint64_t slab_fate(const rlp_entry_t *entry, rlp_time_t now)
{
    uint64_t expires = SLAB_EXPIRES_NEVER;
    rlp_time_t life = SLAB_LIFE_NEVER;
    uint32_t bits;

    if (entry->held) {
        return SLAB_EXPIRES_NEVER << 16 | SLAB_HELD | entry->key.size / sizeof(rlp_hold_t);
    }
    if (entry->expires < (rlp_time_t)(SLAB_EXPIRES_NEVER << SLAB_TICK)) {
        expires = ((uint64_t)entry->expires + (1 << SLAB_TICK) - 1) >> SLAB_TICK;
        life = entry->expires > now ? entry->expires - now : 1;
    }
    const float kept = entry->loss / (entry->lasting ? 1 : (float)life);
    memcpy(&bits, &kept, sizeof(bits));
    return expires << 16 | (bits >> 16 & ~SLAB_LASTING) | (entry->lasting ? SLAB_LASTING : 0);
}

float slab_weight(const slot_t *slot, rlp_time_t now)
{
    const uint64_t expires = slot->fate >> 16;
    const uint32_t bits = (uint32_t)(slot->fate & (SLAB_HELD - 1)) << 16;
    float kept;

    if (slot->fingerprint == 0 || (slot->fate & SLAB_HELD) != 0 || slab_expired(slot, now)) {
        return 0;
    }
    memcpy(&kept, &bits, sizeof(kept));
    if ((slot->fate & SLAB_LASTING) != 0) {
        return kept;
    }
    return kept * (float)(expires == SLAB_EXPIRES_NEVER ? SLAB_LIFE_NEVER
                                                        : (rlp_time_t)(expires << SLAB_TICK) - now);
}

SLAB_INLINE bool slab_matches(const slot_t *slot, const rlp_key_t *key)
{
    return slot->fingerprint == key->fingerprint && slot->signature == key->signature;
}

/* The key's slot in one set; else one never used; else NULL. */
static slot_t *slab_search(const place_t *place, const rlp_key_t *key)
{
    for (uint32_t i = 0; i <= place->mask; i++) {
        slot_t *slot = slab_way(place, place->home + i);

        if (slab_matches(slot, key) || slot->fingerprint == 0) {
            return slot;
        }
    }
    return NULL;
}

__attribute__((noinline)) static slot_t *slab_find_on(const slab_t *slab, const place_t *place,
                                                      const rlp_key_t *key)
{
    slot_t *slot = slab_search(place, key);

    if (slot == NULL) {
        place_t second = *place;

        slab_go_second(slab, key, &second);
        slot = slab_search(&second, key);
    }
    return slot != NULL && slot->fingerprint != 0 ? slot : NULL;
}

/* Most keys are in their home slot. What else is asked about a place gets a copy, so that the place
   of such a key never has to be in memory. */
SLAB_INLINE slot_t *slab_find(const slab_t *slab, const place_t *place, const rlp_key_t *key)
{
    slot_t *slot = slab_way(place, place->home);

    if (!slab_matches(slot, key)) {
        const place_t copy = *place;

        slot = slab_find_on(slab, &copy, key);
    }
    return slot;
}

/* Is it held by a process that lives? The number of its words is not trusted. */
static bool slab_held(const slab_t *slab, const slot_t *slot, uint32_t stride)
{
    const size_t room = (stride - SLAB_SLOT_HEAD) / sizeof(rlp_hold_t);
    const size_t words = slot->fate & (SLAB_HELD - 1);
    const rlp_hold_t *holds = (const rlp_hold_t *)slot + SLAB_SLOT_HEAD / sizeof(rlp_hold_t);

    if ((slot->fate & SLAB_HELD) == 0) {
        return false;
    }
    for (size_t i = 0; i < words && i < room; i++) {
        if (rlp_hold_lives(&slab_header(slab)->owners, holds[i])) {
            return true;
        }
    }
    return false;
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

/* The search for a slot for a newcomer: the best so far. */
typedef struct {
    const slab_t *slab;
    rlp_time_t now;
    const place_t *taken;
    int n;
    slot_t *victim;
    float least;
} choice_t;

/* Goes on with one set; true: nothing is lost with the victim. */
static bool slab_choose(choice_t *choice, const place_t *place)
{
    for (uint32_t i = 0; i <= place->mask; i++) {
        slot_t *slot = slab_way(place, place->home + i);
        const float weight = slab_weight(slot, choice->now);

        if (slot->fingerprint != 0 && (slab_taken(choice->taken, choice->n, slot) ||
                                       slab_held(choice->slab, slot, place->stride))) {
            continue;
        }
        if (weight <= 0) {
            choice->victim = slot;
            return true;
        }
        if (choice->victim == NULL || weight < choice->least ||
            (weight <= choice->least && slot->fate >> 16 < choice->victim->fate >> 16)) {
            choice->victim = slot;
            choice->least = weight;
        }
    }
    return false;
}

__attribute__((noinline)) slot_t *slab_victim(const slab_t *slab, const rlp_key_t *key,
                                              const place_t *place, rlp_time_t now,
                                              const place_t taken[], int n)
{
    choice_t choice = { .slab = slab, .now = now, .taken = taken, .n = n };

    if (!slab_choose(&choice, place)) {
        place_t second = *place;

        slab_go_second(slab, key, &second);
        (void)slab_choose(&choice, &second);
    }
    return choice.victim;
}

/* Saves a line that is about to be written, as the n-th of this update in its shard. */
SLAB_INLINE void slab_remember(const slab_t *slab, shard_t *shard, const void *line, uint32_t n)
{
    undo_t *undo = &shard->undo[n];

    undo->offset = (uint64_t)((const unsigned char *)line - slab->base);
    memcpy(undo->line, line, SLAB_LINE);
    slab_barrier();
    shard->n = n + 1;
    slab_barrier();
}

/* How many lines the update has saved in a shard. */
SLAB_INLINE uint32_t slab_saved(const shard_t *shard)
{
    /* slab_changes() keeps it below, unless the memory is damaged */
    return shard->n < SLAB_UNDO_LINES ? shard->n : 0;
}

__attribute__((noinline)) void slab_roll_back(const slab_t *slab, shard_t *shard)
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

SLAB_INLINE int slab_lock(const slab_t *slab, shard_t *shard)
{
    const int rv = latch_take(&shard->latch);

    if (rv == EOWNERDEAD) {
        slab_roll_back(slab, shard);
        return 0;
    }
    return rv;
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
        latch_free(&held->shards[i]->latch);
    }
}

/* With the first locked, all others. Nobody sleeps who holds one: who needs that one alone would
   wait for the owner of another, for two seconds where that has been stopped. */
__attribute__((noinline)) static int slab_lock_more(const slab_t *slab, const held_t *held)
{
    for (int i = 1; i < held->n; i++) {
        if (latch_try(&held->shards[i]->latch) == 0) {
            continue;
        }
        slab_unlock(held, i);
        int rv = slab_lock(slab, held->shards[i]);

        if (rv == 0) {
            latch_free(&held->shards[i]->latch);
            rv = slab_lock(slab, held->shards[0]);
        }
        if (rv != 0) {
            return rv;
        }
        i = 0;
    }
    return 0;
}

SLAB_INLINE int slab_lock_all(const slab_t *slab, held_t *held, const place_t places[], int n)
{
    held->n = 1;
    held->shards[0] = places[0].shard;
    for (int i = 1; i < n; i++) {
        if (places[i].shard != places[i - 1].shard) {
            slab_hold(held, places[i].shard);
        }
    }
    const int rv = slab_lock(slab, held->shards[0]);

    return rv == 0 && held->n > 1 ? slab_lock_more(slab, held) : rv;
}

/* All that is written of a state, so that nothing else of the caller's memory gets into the
   slot. */
SLAB_INLINE void slab_load(rlp_entry_t *entry, const place_t *place, rlp_time_t now)
{
    const uint32_t size = place->lines > 1 ? entry->key.size : RLP_STATE_MAX;

    entry->dirty = false;
    if (place->slot == NULL || slab_expired(place->slot, now)) {
        memset(entry->state, 0, size);
    } else {
        state_copy(entry->state, place->slot->state, size);
    }
}

/* Writes the first line of a slot, all of a small one. */
SLAB_INLINE void slab_write(slot_t *slot, const rlp_entry_t *entry, rlp_time_t now)
{
    slot->fingerprint = entry->key.fingerprint;
    slot->signature = entry->key.signature;
    slot->fate = slab_fate(entry, now);
    state_copy(slot->state, entry->state, RLP_STATE_MAX);
}

/* What lies in a slot behind its first line: the i-th line of the slot, how much of it belongs to
   the state, and the same part of the entry's. */
typedef struct {
    unsigned char *line;
    const unsigned char *state;
    size_t len;
} part_t;

static part_t slab_part(const rlp_entry_t *entry, slot_t *slot, uint32_t i)
{
    const size_t from = (size_t)i * SLAB_LINE - SLAB_SLOT_HEAD;
    const size_t len = entry->key.size - from;

    return (part_t){ .line = (unsigned char *)slot + (size_t)i * SLAB_LINE,
                     .state = (const unsigned char *)entry->state + from,
                     .len = len < SLAB_LINE ? len : SLAB_LINE };
}

static bool slab_differs(const part_t *part)
{
    return memcmp(part->line, part->state, part->len) != 0;
}

/* Is what the slot holds of no use to its update? */
SLAB_INLINE bool slab_fresh(const place_t *place, rlp_time_t now)
{
    return place->slot == NULL || slab_expired(place->slot, now);
}

/* The lines of a slot that is kept as far as it may have been changed. */
SLAB_INLINE uint32_t slab_reach(const rlp_entry_t *entry, const place_t *place)
{
    const uint32_t lines = slab_lines(entry->reach);

    return entry->reach > 0 && lines < place->lines ? lines : place->lines;
}

/* How many lines this update will save before it writes them. */
static uint32_t slab_changes(rlp_entry_t *const entries[], const place_t places[], int n,
                             rlp_time_t now)
{
    uint32_t changes = 0;

    for (int i = 0; i < n; i++) {
        const place_t *place = &places[i];
        const uint32_t lines = slab_fresh(place, now) ? 1 : slab_reach(entries[i], place);

        changes += entries[i]->dirty;
        for (uint32_t k = 1; k < lines && entries[i]->dirty; k++) {
            const part_t part = slab_part(entries[i], place->slot, k);

            changes += slab_differs(&part);
        }
    }
    return changes;
}

/* What a slot of several lines held is forgotten by the writing of one word, so that its other
   lines are nobody's and need not be saved; its first line saves that it is forgotten. */
static void slab_write_anew(const slab_t *slab, const rlp_entry_t *entry, const place_t *place)
{
    slab_barrier();
    place->slot->fate = 0;
    slab_barrier();
    slab_remember(slab, place->shard, place->slot, slab_saved(place->shard));
    for (uint32_t i = 1; i < place->lines; i++) {
        const part_t part = slab_part(entry, place->slot, i);

        memcpy(part.line, part.state, part.len);
    }
    slab_barrier();
}

/* Writes the lines that differ. */
static void slab_write_changes(const slab_t *slab, const rlp_entry_t *entry, const place_t *place)
{
    const uint32_t lines = slab_reach(entry, place);

    for (uint32_t i = 1; i < lines; i++) {
        const part_t part = slab_part(entry, place->slot, i);

        if (slab_differs(&part)) {
            slab_remember(slab, place->shard, part.line, slab_saved(place->shard));
            memcpy(part.line, part.state, part.len);
        }
    }
    slab_remember(slab, place->shard, place->slot, slab_saved(place->shard));
}

__attribute__((noinline)) static void slab_commit_lines(const slab_t *slab,
                                                        const rlp_entry_t *entry,
                                                        const place_t *place, bool fresh,
                                                        rlp_time_t now)
{
    if (fresh) {
        slab_write_anew(slab, entry, place);
    } else {
        slab_write_changes(slab, entry, place);
    }
    slab_write(place->slot, entry, now);
}

/* alone: the update writes nothing else. */
SLAB_INLINE void slab_commit(const slab_t *slab, const rlp_entry_t *entry, const place_t *place,
                             bool fresh, bool alone, rlp_time_t now)
{
    if (place->lines > 1) {
        const place_t copy = *place;

        slab_commit_lines(slab, entry, &copy, fresh, now);
    } else {
        slab_remember(slab, place->shard, place->slot, alone ? 0 : slab_saved(place->shard));
        slab_write(place->slot, entry, now);
    }
    if (now > place->shard->last) {
        place->shard->last = now;
    }
}

/* A slot for a newcomer; takes note of a counter that goes before its time. */
__attribute__((noinline)) static slot_t *slab_make_room(const slab_t *slab, const rlp_key_t *key,
                                                        const place_t *place, rlp_time_t now,
                                                        const place_t taken[], int n)
{
    slot_t *slot = slab_victim(slab, key, place, now, taken, n);

    if (slot != NULL && slab_weight(slot, now) > 0) {
        (void)__atomic_fetch_add(&place->shard->evicted, 1, __ATOMIC_RELAXED);
    }
    return slot;
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
        const bool fresh = place->lines > 1 && slab_fresh(place, now);

        if (place->slot == NULL) {
            const place_t copy = *place;

            place->slot = slab_make_room(slab, &entries[i]->key, &copy, now, n > 1 ? places : NULL,
                                         n > 1 ? n : 0);
        }
        if (place->slot != NULL) { /* NULL: all taken by this update, or held */
            slab_commit(slab, entries[i], place, fresh, n == 1, now);
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

/* How many lines the states fill; 0 if n or a size is out of range. */
SLAB_INLINE uint32_t slab_locate(const slab_t *slab, rlp_entry_t *entries[], place_t places[],
                                 int n)
{
    uint32_t lines = 0;

    if (n < 1 || n > RLP_ENTRIES_MAX) {
        return 0;
    }
    for (int i = 0; i < n; i++) {
        if (!slab_place(slab, &entries[i]->key, &places[i])) {
            return 0;
        }
        lines += places[i].lines;
    }
    return lines;
}

/* Most updates are of one small key: slab_update() has the compiler make a second copy for that. */
SLAB_INLINE int slab_run(slab_t *slab, rlp_entry_t *entries[], int n, rlp_time_t now,
                         rlp_update_fn *fn, void *baton)
{
    place_t places[RLP_ENTRIES_MAX];
    held_t held;
    const uint32_t lines = slab_locate(slab, entries, places, n);

    if (lines == 0) {
        return EINVAL;
    }
    const int rv = slab_lock_all(slab, &held, places, n);

    if (rv != 0) {
        return rv;
    }
    for (int i = 0; i < n; i++) {
        places[i].slot = slab_find(slab, &places[i], &entries[i]->key);
        slab_load(entries[i], &places[i], now);
    }
    fn(entries, n, now, baton);
    const bool fits =
        lines <= SLAB_UNDO_LINES || slab_changes(entries, places, n, now) <= SLAB_UNDO_LINES;

    if (fits) {
        slab_keep(slab, entries, places, n, now);
        slab_settle(&held);
    }
    slab_unlock(&held, held.n);
    return fits ? 0 : EINVAL;
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

int slab_hold_shard(const slab_t *slab, uint32_t shard)
{
    return slab_lock(slab, slab_shard(slab, shard));
}

void slab_release_shard(const slab_t *slab, uint32_t shard)
{
    latch_free(&slab_shard(slab, shard)->latch);
}
