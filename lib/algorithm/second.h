/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef SECOND_H
#define SECOND_H

/*
 * One counter under two limits: a rule of the same name in a deeper section, or the plan before. A
 * bucket drains by its own rate, so each limit has a bucket of its own in the state, and what is
 * charged under one is charged to both. Else who asks under both in turn would fill the smaller at
 * the larger one's rate. Of the limit that was asked last there is all; of the other there is what
 * its next turn needs: who it is, its burst and its rate (in a word, its mark), and what is used.
 */

#include "rlp_algorithm.h"

__extension__ typedef unsigned __int128 second_wide_t;

#define SECOND_MAX (INT64_C(1) << 52) /* microseconds; no drain is longer */
#define SECOND_SPARE UINT64_C(32)     /* a bit that no mark has: counts are below 2^50 */
/* In the mark of a second limit: one of the two has been charged less than all since both were
   unused. Then nobody can tell what there is to be given back to it. */
#define SECOND_CUT SECOND_SPARE

/* Never 0. Of two limits that differ by less than the bits tell the larger burst and the slower
   rate count for both. */
uint64_t second_mark(rlp_units_t burst, int64_t count);

/* The burst of a mark: not below that of the limit, in thousandths. */
rlp_units_t second_burst(uint64_t mark);

/* The count of a mark: not above that of the limit, never 0. */
int64_t second_count(uint64_t mark);

/* Could a limit have this mark? */
bool second_sound(uint64_t mark);

/* Microseconds in which the limit of this mark earns the credit. */
rlp_time_t second_span(uint64_t mark, second_wide_t credit, bool up);

/* What a bucket of credit keeps of its second limit. */
typedef struct {
    uint64_t mark;   /* 0: there is none; else it may have SECOND_CUT */
    rlp_time_t full; /* from when on nothing is used under it */
} second_t;

/* Could it have come from these functions? */
bool second_is_sound(const second_t *second);

/* The credit in use under this limit of a state that was written at `at` under another one, which
   has that mark and so much in use, and is the second from then on. A limit that was the second
   finds its own again, whatever that is; to a new one it is carried, up to `most`: it is empty
   then, not in debt. */
uint64_t second_turn(second_t *second, uint64_t mark, rlp_time_t at, uint64_t used, uint64_t most,
                     const rlp_limit_t *limit);

/* The second limit of a state that was written at `was`, and is at `at`. A clock that has stepped
   back takes along what is used. */
void second_follow(second_t *second, rlp_time_t was, rlp_time_t at);

/* Units are charged at an instant, for a turn, up to what the second limit holds: its burst and
   `more` credit. Below 0 they are given back, of what was charged for that turn; but not where the
   bucket may have been full by then, and so was charged less (RLP_TIME_EVER: in any case). In
   microseconds, to the disadvantage of the client. */
void second_settle(second_t *second, rlp_time_t at, rlp_time_t turn, rlp_units_t units,
                   const rlp_limit_t *limit, uint64_t more);

/* What eviction would forget, and until when, is that of the limit that has more: units are
   compared, as a share of this limit. */
void second_report(const second_t *second, rlp_time_t now, const rlp_limit_t *limit, uint64_t more,
                   rlp_decision_t *d);

/* Where units are counted, not credit. */

/* When that has its turn which `op` has charged; of what it gives back, when it was charged. */
rlp_time_t second_instant(const rlp_decision_t *d, const rlp_op_t *op);

/* The second limit, with so much in use, is charged the units, too, up to what it holds at that
   instant, or is given them back; but not where it may have been full by then, and so was charged
   less. `cut`: it has been charged less already; the answer: it has now. */
bool second_settle_units(rlp_units_t *used, bool cut, const rlp_op_t *op, rlp_units_t most);

#endif
