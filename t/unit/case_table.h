/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef CASE_TABLE_H
#define CASE_TABLE_H

/*
 * The table cases.txt. A peek before each request must foretell its answer.
 */

#include "unit.h"

/* Asks somewhere, RLP_TAKE or RLP_PEEK. */
typedef void case_ask_fn(rlp_op_kind_t kind, rlp_charge_t charges[], int n,
                         const rlp_question_t *question, rlp_answer_t *answer);

/* Why a limit cannot be asked about there, or NULL. */
typedef const char *case_refuse_fn(const rlp_limit_t *limit, rlp_time_t max_wait, apr_pool_t *pool);

/* Adds a test of each line; what is behind its name, refuse may be NULL. False if the table is not
   found. */
bool case_table_add(const char *what, case_ask_fn *ask, case_refuse_fn *refuse);

#endif
