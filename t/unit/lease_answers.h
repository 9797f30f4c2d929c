/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#ifndef LEASE_ANSWERS_H
#define LEASE_ANSWERS_H

/*
 * A table of leases, with answers of the test's own in place of Redis.
 */

#include "redis/lease.h"

#define T0 (1000 * RLP_SECOND)
#define AHEAD (INT64_C(1700000000) * RLP_SECOND) /* Redis' clock, of ours */
#define PATIENCE RLP_SECOND
#define HOUR (3600 * RLP_SECOND)
#define BUCKET "rate=1000/hour"
#define WINDOW "rate=1000/hour algorithm=fixed-window"

extern lease_table_t *table;
extern lease_result_t result;     /* of what was done last */
extern lease_question_t question; /* that was asked last */

/* One of so many leases; it is freed by the caller. */
lease_table_t *table_make(uint32_t leases);

/* An empty table. */
void table_setup(void);

/* What a test has left. */
void table_free(void);

/* A charge by the first limit of a plan of these words, always of the same counter. */
lease_charge_t charge_of(const char *words, rlp_units_t cost);

lease_outcome_t spend(const lease_charge_t *charge, rlp_time_t now);

/* An answer of a Redis that has much left. */
lease_answer_t answer_of(rlp_units_t granted, rlp_time_t now);

/* The question is answered; NULL: it was not. */
lease_outcome_t granted(const lease_answer_t *answer, rlp_time_t now);

/* A lease of so many units, of which the first charge is spent. */
void lease_begin(const char *words, rlp_units_t units);

#endif
