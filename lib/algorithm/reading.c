/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "algorithm/reading.h"

rlp_op_t reading_judged(const rlp_op_t *op, rlp_time_t at)
{
    rlp_op_t judged = *op;

    judged.now += rlp_late(at, op->now);
    return judged;
}

/* What is over is over. */
static rlp_time_t reading_span(rlp_time_t span, rlp_time_t late)
{
    return span > 0 && span != RLP_TIME_NEVER ? span + late : span;
}

void reading_tell(rlp_decision_t *d, const rlp_op_t *op, const rlp_op_t *judged)
{
    const rlp_time_t late = judged->now - op->now;

    d->late = d->verdict <= RLP_WAIT ? (uint32_t)late : 0;
    d->retry = reading_span(d->retry, late);
    d->next = reading_span(d->next, late);
    d->reset = reading_span(d->reset, late);
}
