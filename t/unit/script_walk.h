/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef SCRIPT_WALK_H
#define SCRIPT_WALK_H

/*
 * Random limits, and what is asked of them in the course of time.
 */

#include "unit.h"

#define LIMITS 6 /* of one question */
#define NOW INT64_C(1700000000000000)
#define DAY (INT64_C(86400) * RLP_SECOND)

typedef struct {
    const char *name;
    const char *words; /* behind a rate; NULL: no rate */
    bool has_burst;
    bool has_initial;
    bool has_start;
} kind_t;

#define KIND_LOG 5
#define KIND_QUOTA 6
#define KIND_CONCURRENCY 7
#define KINDS 8

extern const kind_t walk_kinds[KINDS];

/* What one sequence knows. */
typedef struct {
    uint64_t random;
    apr_pool_t *pool;
    rlp_store_t *store;
    int number;
    int n; /* limits */
    rlp_limit_t limits[LIMITS];
    rlp_branch_t branches[LIMITS];
    const char *words[LIMITS];
    rlp_limit_t former; /* limits[0] before it was changed */
    const char *former_words;
    uint64_t signatures[LIMITS];
    rlp_time_t now;
    rlp_time_t longest;
    rlp_time_t charged_at;
    rlp_time_t waited[LIMITS];
    rlp_units_t taken;
    rlp_decision_t last; /* of the first limit that counts */
    uint64_t holders[64];
    int holders_n;
    uint64_t holder;
    bool kept; /* not for ever */
} walk_t;

/* Adds a limit of that kind. */
void walk_add(walk_t *walk, int kind);

/* Another plan of the same signature, or the one before: what is kept is judged under it. */
void walk_change(walk_t *walk, int kind);

/* Time passes. */
void walk_move(walk_t *walk);

/* No wait, or one up to some drains. */
rlp_time_t random_longest(walk_t *walk);

/* A cost. */
rlp_units_t random_units(walk_t *walk, const rlp_limit_t *limit);

#endif
