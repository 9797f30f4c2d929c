/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef CHECK_H
#define CHECK_H

#include "rlp.h"

/* The answer for all n charges from their decisions, for who decides them elsewhere. Spared ones
   count for nothing. */
void check_answer(const rlp_charge_t charges[], int n, rlp_answer_t *answer);

#endif
