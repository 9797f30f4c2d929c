/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef CHECK_ASKED_H
#define CHECK_ASKED_H

/*
 * An algorithm that answers what it is told, over a store that notes what it is given: by these is
 * told what check.c asks, and what it makes of the answers.
 */

#include "unit.h"

#include "check.h"

#define NOW (INT64_C(1700000000) * RLP_SECOND)
#define LATER (INT64_C(77) * RLP_SECOND) /* what the store's time line is ahead */
#define CHARGES 6
#define SMALL (UINT32_C(8) * RLP_OWNERS_USUAL) /* the largest state that is kept aside */

/* One call of a step. */
typedef struct {
    int who;
    rlp_op_t op;
    uint64_t found; /* the first word of the state */
} call_t;

/* What the steps answer, by the limit's ordinal. A step that changes a state raises its first
   word. */
typedef struct {
    rlp_decision_t answer[CHARGES];
    call_t calls[64];
    int n;
} told_t;

extern told_t told;

/* A step, and algorithms that have it. */
void told_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op, rlp_decision_t *d);

extern const rlp_algorithm_t told_units;
extern const rlp_algorithm_t told_quota;
extern const rlp_algorithm_t told_places;

/* A store of one state for each signature, and what it was asked. */
typedef struct {
    rlp_store_t store;
    apr_status_t rv;
    uint64_t states[CHARGES][128];
    int n;
    rlp_op_kind_t kind;
} noting_t;

/* One that is asked for states, and one that decides by itself. */
extern const rlp_store_type_t noting_near;
extern const rlp_store_type_t noting_far;

extern rlp_owners_t noting_owners;

/* A question in the making: so many charges, each of its own state and limit. */
typedef struct {
    noting_t noting;
    rlp_limit_t limits[CHARGES];
    rlp_charge_t charges[CHARGES];
    uint64_t room[CHARGES][128];
    rlp_question_t question;
    rlp_answer_t answer;
    int n;
} ask_t;

/* Begins with n charges, and forgets what was told and asked. */
void ask_begin(ask_t *ask, int n);

typedef apr_status_t how_t(rlp_store_t *store, rlp_charge_t charges[], int n,
                           const rlp_question_t *question, rlp_answer_t *answer);

/* Asks; the calls of steps are as expected: "t0 p1 t0 ", t for TAKE, p PEEK, s SETTLE, r
   RELEASE. */
void ask_put(ask_t *ask, how_t *how, const char *calls);

/* Which states were changed, and how often: "1 0 1 ". */
const char *ask_kept(const ask_t *ask);

/* Which charges were spared: "x-x", - for those. */
const char *ask_spared(const ask_t *ask);

/* Gives a charge a state of that size; above SMALL it is too large to be kept aside. */
void ask_large(ask_t *ask, int i, uint32_t size);

#endif
