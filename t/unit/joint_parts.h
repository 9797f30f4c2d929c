/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef JOINT_PARTS_H
#define JOINT_PARTS_H

/*
 * Several stores as one, each with a store in memory behind it: who is asked is written down, and
 * one may fail.
 */

#include "store/joint.h"

#include "unit.h"

#define NOW (INT64_C(1700000000) * RLP_SECOND)
#define PARTS 4 /* a and c keep their counters near, B and D decide by themselves */
#define FAILURE(part) (APR_OS_START_USERERR + (apr_status_t)(part))
#define FREE "rate=5/hour"
#define SPENT "rate=1/hour"

/* One of the stores, with a store in memory behind it, that writes down when it is asked. */
typedef struct {
    rlp_store_t head;
    rlp_store_t *behind;
    char letter;
    int fails_from; /* which of the questions is the first that it does not answer; 0: none */
    bool closed;    /* while it does not answer nobody is to pass */
    int asked;
} part_t;

extern part_t joint_parts[PARTS];
extern rlp_store_t *joint;
extern char joint_asked[64]; /* the letters of those asked, in order */
extern const rlp_question_t joint_question;

/* New stores, behind a new joint one; nobody was asked. */
void joint_fresh(void);

/* A charge of a limit, to be made by a part. */
void joint_charge(rlp_charge_t *charge, int part, const char *words);

/* Makes the charges, or none. */
rlp_answer_t joint_take(rlp_charge_t charges[], int n);

/* What the store behind a part has left; asks nobody else. */
int64_t part_left(int part, const char *words);

/* Charges a unit there; nobody was asked. */
void part_spend(int part, const char *words);

#endif
