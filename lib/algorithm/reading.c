/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "algorithm/reading.h"

rlp_op_t reading_judged(const rlp_op_t *op, rlp_time_t at)
{
    rlp_op_t judged = *op;

    judged.now += rlp_late(at, op->now);
    return judged;
}

/* A span up to the state's instant, which is so far ahead, ends with the first reading that is
   taken for it; one beyond is longer by what this reading is older. */
static rlp_time_t reading_span(rlp_time_t span, rlp_time_t late, rlp_time_t ahead)
{
    const rlp_time_t taken = ahead - RLP_CLOCK_SKEW;

    if (span == 0 || span == RLP_TIME_NEVER) {
        return span;
    }
    if (span > ahead) {
        return span + late;
    }
    return span < taken ? span : taken;
}

void reading_tell(rlp_decision_t *d, const rlp_op_t *op, const rlp_op_t *judged, rlp_time_t at)
{
    const rlp_time_t late = judged->now - op->now;
    const rlp_time_t ahead = at > judged->now ? at - judged->now : 0;

    d->late = d->verdict <= RLP_WAIT ? (uint32_t)late : 0;
    d->retry = reading_span(d->retry, late, ahead);
    d->next = reading_span(d->next, late, ahead);
    d->reset = reading_span(d->reset, late, ahead);
}
