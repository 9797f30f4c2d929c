/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef OVERRIDE_H
#define OVERRIDE_H

/*
 * Bans, and plans given for a time: what people have ordered for single identities. A table of
 * fixed size in the annex of a store, which all children see. Without httpd: a tool works on it,
 * too.
 *
 * area:  [ tag x 4096 | entry x 4096 ]
 * tag:   0: never used; 1: used no more; else the fingerprint of an identity
 *
 * An identity is looked for from its home on until a tag never used. Requests read without a lock;
 * who changes something has the lock of the head.
 */

#include "annex.h"
#include "rlp.h"

#define OVERRIDES_MAX 4096
#define OVERRIDE_SHOWN 24

typedef struct {
    uint64_t digest; /* of the identity: equal fingerprints are not enough */
    rlp_time_t ban;  /* the store's time; 0: none */
    rlp_time_t until;
    uint64_t plan;              /* override_plan_hash(); counts until then; 0: none */
    char shown[OVERRIDE_SHOWN]; /* whom people gave, cut off; not for comparing */
} override_entry_t;

typedef struct {
    uint64_t tags[OVERRIDES_MAX];
    override_entry_t entries[OVERRIDES_MAX];
} override_area_t;

_Static_assert(sizeof(override_area_t) == RLP_ANNEX_SIZE - ANNEX_OVERRIDES_AT, "it fills its area");

/* What is kept beside the area. */
typedef struct {
    rlp_latch_t latch;                    /* of who changes them */
    uint32_t count;                       /* of entries that may be in force */
    rlp_time_t next;                      /* the first of them ends then */
    uint32_t changes;                     /* goes up with each */
    uint64_t source;                      /* of those that hold on all hosts; 0: there are none */
    uint64_t version;                     /* of all of them, as they were brought; 0: unknown */
    uint64_t brought[OVERRIDES_MAX / 64]; /* a bit for each entry that holds on all hosts */
} override_head_t;

_Static_assert(sizeof(override_head_t) <= sizeof(((annex_head_t *)0)->room), "it has room there");

typedef struct {
    override_head_t *head;
    override_area_t *area;
} override_table_t;

/* An identity, as the table has it. */
typedef struct {
    uint64_t fingerprint;
    uint64_t digest;
} override_key_t;

/* What is in force for one identity. */
typedef struct {
    rlp_time_t ban;   /* nothing passes until then; 0: none */
    rlp_time_t until; /* of the plan */
    uint64_t plan;    /* 0: none */
    bool brought;     /* it holds on all hosts; override_visit() alone knows */
} override_t;

typedef enum {
    OVERRIDE_DONE,
    OVERRIDE_NONE, /* there was nothing to end */
    OVERRIDE_FULL,
    OVERRIDE_BUSY, /* somebody else holds the lock and lives, or was faster */
    OVERRIDE_AWAY, /* where they are kept for all hosts nobody could be asked */
    OVERRIDE_LOST, /* ... who was asked did not answer, and may have done it */
    OVERRIDE_LATE  /* it is ordered for all hosts, but not in force here */
} override_result_t;

/* One of those that hold on all hosts. */
typedef struct {
    override_key_t key;
    override_t wanted;
    const char *shown;
} override_brought_t;

/* What the table has of those, before one looks for more. */
typedef struct {
    uint64_t source;
    uint64_t version; /* 0: unknown */
    uint32_t changes;
} override_mark_t;

/* Is there anything at all? */
static inline bool override_any(const uint32_t *count)
{
    return __builtin_expect(__atomic_load_n(count, __ATOMIC_RELAXED) != 0, 0);
}

#pragma GCC visibility push(hidden)

/* The table of an annex; false if there is none. */
bool override_attach(override_table_t *overrides, void *annex);

/* Whom an identity's text stands for. */
override_key_t override_key(const rlp_store_t *store, const char *identity, size_t len);

/* What stands for a plan's name; never 0. */
uint64_t override_plan_hash(const char *name);

/* What is in force for the identity at that moment of the store's time; false: nothing. */
bool override_find(const override_table_t *overrides, const override_key_t *key, rlp_time_t now,
                   override_t *found);

/* Sets what is in force from now on, of both kinds; ends what is 0. */
override_result_t override_set(const override_table_t *overrides, const override_key_t *key,
                               const override_t *wanted, const char *shown, rlp_time_t now);

/* The same for one that holds on all hosts: override_bring() may end it. */
override_result_t override_set_brought(const override_table_t *overrides,
                                       const override_brought_t *one, rlp_time_t now);

/* From now on those that hold on all hosts come from there; whoever looks elsewhere brings nothing
   any more. 0: from nowhere, and what came ends. */
void override_adopt(const override_table_t *overrides, uint64_t source, rlp_time_t now);

/* Before one looks there: what is known. False: they come from elsewhere. */
bool override_mark(const override_table_t *overrides, uint64_t source, override_mark_t *mark);

/* Puts the n of that version in force, and ends what was brought before and is not among them; what
   was ordered here alone stays. Nothing is done, and it is OVERRIDE_BUSY, if something was changed
   since the mark was made. OVERRIDE_FULL: some found no room, and the next look brings all again.
 */
override_result_t override_bring(const override_table_t *overrides, const override_mark_t *mark,
                                 uint64_t version, const override_brought_t items[], int n,
                                 rlp_time_t now);

/* Forgets what has ended by now, if anything may have and nobody else is at it. */
void override_tidy(const override_table_t *overrides, rlp_time_t now);

/* Called for each entry in force. */
typedef void override_visit_fn(void *baton, const override_key_t *key, const char *shown,
                               const override_t *found);
void override_visit(const override_table_t *overrides, rlp_time_t now, override_visit_fn *visit,
                    void *baton);

#pragma GCC visibility pop

#endif
