/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef SLAB_CELLS_H
#define SLAB_CELLS_H

/*
 * What the tests of the slab share: a slab of their own, and one key at a time in it, what
 * processes hold, and junk.
 */

#include "unit.h"

#include "store/slab.h"

#define MB ((size_t)1024 * 1024)
#define NOW (INT64_C(1700000000) * RLP_SECOND)
#define LARGEST 65640 /* bytes of a state */

/* The key of each slab. */
extern const unsigned char slab_test_key[32];

/* Shared with children, between two pages that nobody may touch. */
slab_t slab_new(size_t size);
void slab_free(const slab_t *slab);

/* Another slab, of that size, with what the first has. */
slab_t slab_rehashed(const slab_t *from, size_t size);

/* A store in the slab. */
rlp_store_t *slab_store(const slab_t *slab);

/* --- one key at a time */

typedef struct {
    uint64_t fingerprint;
    uint64_t signature;
    uint32_t size;
    rlp_time_t expires;
    uint32_t loss;
    bool lasting;
} cell_t;

/* What the update finds, and what it puts there; nothing with keep false. */
typedef struct {
    unsigned char found;
    unsigned char put;
    bool whole; /* all bytes are alike */
    bool keep;
    const cell_t *cell;
} visit_t;

/* What slab_update() says. */
int cell_visit(slab_t *slab, visit_t *visit, const cell_t *cell, rlp_time_t now);

/* Puts a value into all bytes of a state; the value that they have, or 0. */
void cell_put(slab_t *slab, const cell_t *cell, unsigned char value, rlp_time_t now);
unsigned char cell_get(slab_t *slab, const cell_t *cell, rlp_time_t now);

/* Puts one value everywhere; then a tracing parent gets its turn. */
typedef struct {
    int value;
    bool stops;
} fill_t;

/* An update (rlp_update_fn); the baton is a fill_t. */
void fill_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton);

/* --- what processes hold */

/* Puts a hold into all words of a state but the last, and another into that. What else is said of
   the state would let it go. */
typedef struct {
    rlp_hold_t first;
    rlp_hold_t last;
    bool stops;
} hold_t;

/* Updates (rlp_update_fn) that put holds, and that look for them; the baton is a hold_t. */
void hold_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton);
void hold_find(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton);

/* One of these. */
void hold_visit(slab_t *slab, const cell_t *cell, rlp_update_fn *fn, hold_t *hold);

/* Puts holds; the first of them. */
void hold_put(slab_t *slab, const cell_t *cell, rlp_hold_t first, rlp_hold_t last);
rlp_hold_t hold_get(slab_t *slab, const cell_t *cell);

/* --- identities never seen before */

/* Asks for one unit of each limit of a plan. */
rlp_answer_t flood_ask(rlp_store_t *store, const rlp_plan_t *plan, const char *name,
                       rlp_time_t now);

/* "ip:" and 16 digits of a number. */
const char *junk_name(uint64_t number, char name[20]);

#endif
