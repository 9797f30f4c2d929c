/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef RLP_STORE_H
#define RLP_STORE_H

/*
 * The contract of a store: a transactional map from a key to a small state. A store sees no limit,
 * no rate and no plan.
 */

#include "rlp_entry.h"

#include <apr_errno.h>
#include <apr_pools.h>

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rlp_store_t rlp_store_t;

/* What becomes of a request while a store does not answer. */
typedef enum {
    RLP_FAILURE_USUAL, /* as the store itself says */
    RLP_FAILURE_LOCAL, /* counted on this host alone */
    RLP_FAILURE_OPEN,  /* passes uncounted */
    RLP_FAILURE_CLOSED /* refused */
} rlp_failure_t;

/* How the hosts that share a store agree. */
typedef enum {
    RLP_SYNC_USUAL, /* as the store itself says */
    RLP_SYNC_EXACT, /* each request asks */
    RLP_SYNC_LEASE  /* units are drawn ahead, where they can be */
} rlp_sync_t;

/* What a rule wants for its charges. */
typedef struct rlp_terms_t {
    int store; /* of those of rlp_joint_create() */
    rlp_failure_t failure;
    rlp_sync_t sync;
} rlp_terms_t;

/* What a store that decides by itself is told (rlp.h). */
struct rlp_charge_t;
struct rlp_question_t;
struct rlp_answer_t;

/* One kind of store. */
typedef struct {
    const char *name;
    /* Loads the states of n different keys (at most RLP_ENTRIES_MAX), calls fn, keeps the dirty
       ones: one atomic act. The store turns now, the caller's monotonic clock, into its own time
       line. Any thread of any process may call at once. APR_SUCCESS, or why the question could not
       be asked; then nothing was kept. */
    apr_status_t (*update)(rlp_store_t *store, rlp_entry_t *entries[], int n, rlp_time_t now,
                           rlp_update_fn *fn, void *baton);
    /* The same instant on the store's own time line, for charged_at of a refund. */
    rlp_time_t (*time)(const rlp_store_t *store, rlp_time_t now);
    /* What the store makes of an identity, for whoever asks about the same one often and wants to
       keep it with the key (rlp_key_t); 0 for nothing. */
    uint64_t (*fingerprint)(const rlp_store_t *store, const char *identity, size_t len);
    /* For a store that decides by itself, in place of update(): answers as rlp_check(), rlp_peek(),
       rlp_settle() or rlp_release() do. It sets counted_at of the charges that it makes. After a
       failure answer->retry is when to ask again. NULL for others. */
    apr_status_t (*decide)(rlp_store_t *store, struct rlp_charge_t *charges, int n,
                           const struct rlp_question_t *question, rlp_op_kind_t kind,
                           struct rlp_answer_t *answer);
} rlp_store_type_t;

#define RLP_STORE_SECRET 16 /* bytes */

/* The head of every store; an implementation puts its own fields behind it. */
struct rlp_store_t {
    const rlp_store_type_t *type;
    rlp_owners_t *owners; /* the processes that may hold places in it, where all of them see it */
    const unsigned char *secret; /* RLP_STORE_SECRET random bytes that live as long as the counters,
                                    the same for all who share them (rlp_store_digest()) */
};

/* A store in the memory of this process that forgets nothing: the oracle of the tests, and for
   tools. Threads may share it. Lives in the pool. */
apr_status_t rlp_memory_create(rlp_store_t **store, apr_pool_t *pool);

/* A store made of n others (1 or more): each charge goes to the one that its terms name
   (rlp_terms_t). Charges are made in all of them or in none, as well as can be: those that keep
   counters near are asked first, then those that decide by themselves, each kind in the order
   given. Where one refuses, those behind it are not asked, their charges are spared, and what those
   before it have charged is given back: for that moment they count one request too many. One that
   cannot be asked has its charges spared, unless it says that nobody is to pass; with an answer of
   one store at least the status is APR_SUCCESS. The secret is the first store's if it is NULL.
   Lives in the pool. */
rlp_store_t *rlp_joint_create(rlp_store_t *const stores[], int n, const unsigned char *secret,
                              apr_pool_t *pool);

/* The number of this process in store i of them (rlp_owner_open()); rlp_question_t.owner is not
   used. Before the first question. */
void rlp_joint_owner(rlp_store_t *joint, int i, rlp_hold_t owner);

/* What a mapped segment is: plain data without pointers into code, so that it may be remembered
   across the unloading of a module. */
typedef struct {
    int fd; /* holds the lock on the file; -1: none */
    void *memory;
    size_t size; /* of the counters; the annex lies behind them */
} rlp_segment_t;

/* The clocks at one moment, and which boot the monotonic one belongs to. */
typedef struct {
    rlp_time_t monotonic;
    rlp_time_t wall;
    char boot_id[40]; /* empty where the system has none */
} rlp_clock_t;

#define RLP_SEGMENT_MIN 1048576 /* bytes */
#define RLP_ANNEX_SIZE 1048576  /* bytes; the same for all segments */

/* Opens or makes the segment file, locks it against other servers and maps it, read-write and
   shared, size bytes (a whole number of pages, at least RLP_SEGMENT_MIN) and the annex. Counters of
   an earlier server live on; one of another size is rehashed. *message is a sentence for the
   administrator, from the pool: what went wrong when it fails, else NULL or that an unusable file
   was replaced by an empty one. The file is made 0600 and never reached through a symbolic link.
   Tools that are at work on it are waited for, two seconds at most. For the parent in a full
   start. */
apr_status_t rlp_segment_open(rlp_segment_t *segment, const char *path, size_t size,
                              const rlp_clock_t *clock, const char **message, apr_pool_t *pool);

/* What a server keeps beside the counters, RLP_ANNEX_SIZE bytes at a page's begin: all zero when
   the file is made, and it lives as long. It may have been damaged: the library does not look at
   it. */
void *rlp_segment_annex(const rlp_segment_t *segment);

/* The same for a tool: the file of a store as it is, whatever its size, which no server has open.
   It is neither made nor replaced: what cannot be used is refused. */
apr_status_t rlp_segment_borrow(rlp_segment_t *segment, const char *path, const rlp_clock_t *clock,
                                const char **message, apr_pool_t *pool);

/* The same, but of a server that has it open, too (*shared), whose locks it keeps to: one of this
   process's PID namespace. Waits two seconds at most for who has it alone. */
apr_status_t rlp_segment_join(rlp_segment_t *segment, const char *path, const rlp_clock_t *clock,
                              bool *shared, const char **message, apr_pool_t *pool);

/* A counter as a segment keeps it. The identity cannot be told from it, nor the limit. */
typedef struct {
    uint64_t fingerprint; /* of the identity, by the segment's key */
    uint64_t signature;   /* of the limit (rlp_signature()) */
    uint32_t size;        /* bytes of its slot's state: the limit's is that or less */
    rlp_time_t expires;   /* on the store's time line; RLP_TIME_NEVER */
    uint32_t loss;        /* what forgetting it now would lose, in RLP_LOSS_REQUEST */
    bool lasting;
    const void *state;
} rlp_counter_t;

/* Can it be one, by its fingerprint and its size? */
bool rlp_counter_sound(const rlp_counter_t *counter);

/* Called for each; false ends the visit. */
typedef bool rlp_counter_fn(void *baton, const rlp_counter_t *counter);

/* Shows all counters of a mapped segment that are not over, while others may update; now: the
   caller's monotonic clock. What is in flight is left out. */
apr_status_t rlp_segment_visit(const rlp_segment_t *segment, rlp_time_t now, rlp_counter_fn *visit,
                               void *baton, apr_pool_t *pool);

/* What became of a counter that was put into a segment. */
typedef enum {
    RLP_PUT_DONE,
    RLP_PUT_KEPT,    /* there was one already, and it stays */
    RLP_PUT_OVER,    /* its life had ended */
    RLP_PUT_CROWDED, /* there is no room but what living processes hold */
    RLP_PUT_FAILED   /* no slot has that size, or the segment is damaged */
} rlp_put_t;

/* Puts a counter into a mapped segment, while others may update; replaces one that is there, or
   leaves it. The memory at state is counter->size bytes, all of which count. */
rlp_put_t rlp_segment_put(const rlp_segment_t *segment, const rlp_counter_t *counter, bool replaces,
                          rlp_time_t now, apr_pool_t *pool);

#define RLP_SEGMENT_KEY 32 /* bytes */

/* What its counters and their times mean something by: the random key of fingerprints and digests,
   a secret, and how far the time line is from the monotonic clock. */
typedef struct {
    unsigned char key[RLP_SEGMENT_KEY];
    rlp_time_t offset;
} rlp_origin_t;

/* The origin of a mapped segment. */
apr_status_t rlp_segment_origin(const rlp_segment_t *segment, rlp_origin_t *origin);

/* Empties it and gives it another origin. Only while nobody else has it. */
apr_status_t rlp_segment_adopt(const rlp_segment_t *segment, const rlp_origin_t *origin,
                               const rlp_clock_t *clock);

/* Unmaps and unlocks, also where children of this process have it; the file stays. For tools and
   tests, and for what cannot be used any more: a server keeps it until it exits. */
void rlp_segment_close(rlp_segment_t *segment);

/* How many counters with states of so many bytes a segment of that size has room for. */
size_t rlp_segment_room(size_t size, uint32_t state);

/* What there is in a segment. */
typedef struct {
    uint64_t slots;   /* for counters, of all sizes */
    uint64_t used;    /* of them, by counters that are not over; from a sample */
    uint64_t evicted; /* counters forgotten before their time, to make room, ever */
} rlp_segment_look_t;

/* Looks at a mapped segment that others may update; now: the caller's monotonic clock. All 0 where
   it is damaged. */
rlp_segment_look_t rlp_segment_look(const rlp_segment_t *segment, rlp_time_t now);

/* A store on a mapped segment. May be made again for the same segment, by each generation of a
   server. The segment's memory must outlive it. A new key that could only take the place of keys
   held by living processes is not kept, though its update succeeds. An update that changes more
   than 256 lines of 64 bytes in states already kept fails with APR_EINVAL and keeps nothing; states
   that are new or expired count as one line. */
apr_status_t rlp_shm_create(rlp_store_t **store, const rlp_segment_t *segment, apr_pool_t *pool);

/* Forgets all counters of an identity, of all rules, but not what is in flight, while others may
   update; how many those were. */
uint64_t rlp_shm_forget(rlp_store_t *store, const char *identity, size_t len);

/* The largest state that such a store keeps, bytes; an update of a larger one fails with
   APR_EINVAL. The same for all segments, whatever their size; but a small one has few slots for
   large states: above 16360 bytes one for each MB. */
uint32_t rlp_shm_state_max(const rlp_store_t *store);

/* Gives a process its number, under which it may hold places; what an earlier process of that
   number held is void. 0 if all numbers are taken. */
rlp_hold_t rlp_owner_open(rlp_store_t *store, pid_t pid);

/* The process is gone: what it held is void from now on. Does nothing for one that has no
   number. */
void rlp_owner_close(rlp_store_t *store, pid_t pid);

/* Closes all whose process is gone; true if there was one. */
bool rlp_owner_sweep(rlp_store_t *store);

/* A lock in memory that the processes of one PID namespace share, as an annex is: for what takes
   less than a millisecond and waits for nothing. 0: it is free. It is taken from an owner that is
   dead, who may have left anything half done. */
typedef uint64_t rlp_latch_t;

/* False: for two seconds somebody who lives has had it, who has been stopped. */
bool rlp_latch_take(rlp_latch_t *latch);

/* False: somebody who lives has it. Does not wait. */
bool rlp_latch_claim(rlp_latch_t *latch);

/* By who has it. */
void rlp_latch_free(rlp_latch_t *latch);

#ifdef __cplusplus
}
#endif

#endif
