/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef READING_H
#define READING_H

/*
 * Requests meet under the lock in another order than they have read the clock. A bucket of credit
 * takes who comes with a reading older than its state for one that comes at the state's instant,
 * which lies between the reading and the moment in which it is judged: so of as many requests at
 * once as a full bucket has units all pass, whichever is judged first. A reading that is older by
 * more than RLP_CLOCK_SKEW is of a clock that has stepped back.
 */

#include "rlp_algorithm.h"

/* The question as it is judged, of a state that was written at that instant. */
rlp_op_t reading_judged(const rlp_op_t *op, rlp_time_t at);

/* Makes the decision on what is judged that on what was asked: its spans begin at the reading. The
   state is of the instant `at` by now. */
void reading_tell(rlp_decision_t *d, const rlp_op_t *op, const rlp_op_t *judged, rlp_time_t at);

#endif
