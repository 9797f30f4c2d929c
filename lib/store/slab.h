/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef SLAB_H
#define SLAB_H

/*
 * A bounded table of small states in memory it is given; shared by processes, without a pointer
 * inside. It forgets what is least worth knowing instead of growing. See docs/architecture.md, "The
 * slab".
 */

#include "rlp_entry.h"

#define SLAB_CLASSES 6

/* A process's view of a slab. Filled by slab_attach(). */
typedef struct {
    unsigned char *base;
    size_t size;
    uint32_t shards; /* a power of two */
    struct {
        size_t offset; /* from the base */
        uint32_t sets; /* of one shard */
        uint32_t ways; /* slots of one set; a power of two */
    } classes[SLAB_CLASSES];
} slab_t;

/* Lays out an empty slab; nothing in the memory before counts. memory: aligned to 4096, size bytes,
   at least slab_size_min(). key: random, unknowable to clients. */
void slab_format(void *memory, size_t size, const unsigned char key[32]);

/* The smallest memory that slab_format() can lay out. */
size_t slab_size_min(void);

/* How many states of so many bytes have room in that size. */
size_t slab_room(size_t size, uint32_t state);

/* The largest state that has a slot, in a slab of any size. */
uint32_t slab_fit_max(void);

/* Is that the state of a slot, as a whole? */
bool slab_fits(uint32_t size);

/* Looks at memory that may hold anything. NULL, or why it is no slab of this layout and size. */
const char *slab_attach(slab_t *slab, void *memory, size_t size);

/* Makes the locks anew, rolls back what a dead owner left undone and voids what processes held.
   Only while nobody else uses it. */
void slab_unlock_all(slab_t *slab);

/* The same while tools may be at work: what a process that lives has locked stays its own. */
void slab_unlock_dead(slab_t *slab);

/* The 32 random bytes: 16 for fingerprints, 16 for digests of secrets. */
const unsigned char *slab_key(const slab_t *slab);

/* The processes that may hold places. */
rlp_owners_t *slab_owners(const slab_t *slab);

/* Time base: the slab's time is a monotonic clock plus this; whose boot that was; wall clock less
   slab time. */
typedef struct {
    rlp_time_t offset;
    rlp_time_t wall_offset;
    char boot_id[40];
} slab_base_t;

/* The time base kept in the slab; to be changed only while nobody else uses it. */
slab_base_t *slab_base(const slab_t *slab);

/* The PID namespace whose numbers stand in the locks; 0: not known. To be changed only while nobody
   else uses it. */
uint64_t *slab_numbers(const slab_t *slab);

/* The latest instant that any update has brought. */
rlp_time_t slab_last(const slab_t *slab);

/* rlp_store_type_t.update on slab time. Every entry's fingerprint is set: a keyed hash of its
   identity. 0; EINVAL (n or a size out of range, or more lines of large states changed than can be
   undone: nothing is kept); ETIMEDOUT (latch.h). A new key is left out, though 0 is returned, where
   every slot that it could have is held by a process that lives, or belongs to another key of this
   update. */
int slab_update(slab_t *slab, rlp_entry_t *entries[], int n, rlp_time_t now, rlp_update_fn *fn,
                void *baton);

/* Locks one shard, as an update does, for what is no update; 0, or why it cannot be locked. Nothing
   may wait under it. */
int slab_hold_shard(const slab_t *slab, uint32_t shard);
void slab_release_shard(const slab_t *slab, uint32_t shard);

/* Forgets all counters of a fingerprint, but not what processes hold, while others may update; how
   many those were. */
uint64_t slab_forget(slab_t *slab, uint64_t fingerprint);

/* A counter as its slot has it. */
typedef struct {
    uint64_t fingerprint;
    uint64_t signature;
    uint32_t size;      /* of the slot's state, bytes: the limit's is that or less */
    rlp_time_t expires; /* slab time; RLP_TIME_NEVER */
    uint32_t loss;      /* now, as rlp_entry_t has it */
    bool lasting;
    const void *state;
} slab_counter_t;

/* Called for each; false ends the visit. */
typedef bool slab_visit_fn(void *baton, const slab_counter_t *counter);

/* Shows all counters that are not over at the instant now of the slab's time, but not what
   processes hold, while others may update: each as it was at some instant of the visit. room: for
   copies, slab_visit_room() bytes. 0, or why a shard cannot be locked. */
int slab_visit(const slab_t *slab, rlp_time_t now, void *room, slab_visit_fn *visit, void *baton);
size_t slab_visit_room(void);

/* What there is in it. */
typedef struct {
    uint64_t slots;   /* for counters, of all sizes */
    uint64_t used;    /* of them, by counters that are not over; from a sample */
    uint64_t evicted; /* counters forgotten before their time, to make room, ever */
} slab_look_t;

/* Looks, while others may update. */
slab_look_t slab_look(const slab_t *slab, rlp_time_t now);

/* Copies all live counters of one slab into another, formatted with the same key, whatever their
   sizes. What processes held is left behind: no holder outlives a change of size. Only while nobody
   else uses either. */
void slab_rehash(slab_t *to, const slab_t *from, rlp_time_t now);

#endif
