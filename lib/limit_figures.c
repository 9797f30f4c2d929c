/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What follows from a limit that has been parsed: its share on one of several hosts, and the
 * figures that clients are told.
 */

#include "limit.h"

#include "algorithm/second.h"

#include <string.h>

uint32_t limit_requests(const rlp_limit_t *limit, uint64_t units)
{
    const uint64_t most = (uint64_t)limit->burst / units;

    return most == 0 ? 1 : most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
}

void limit_weigh(rlp_limit_t *limit)
{
    limit->requests = limit_requests(limit, RLP_UNIT);
    limit->usual = limit->initial == limit->burst ? RLP_UNIT : INT64_MIN;
}

void rlp_limit_share(rlp_limit_t *limit, int64_t hosts)
{
    const bool full = limit->initial == limit->burst;

    if (hosts <= 1 || limit->count == 0) {
        return;
    }
    limit->count = limit->count / hosts > 1 ? limit->count / hosts : 1;
    limit->burst = limit->burst / hosts > RLP_UNIT ? limit->burst / hosts : RLP_UNIT;
    limit->initial = full ? limit->burst : limit->initial / hosts;
    limit_weigh(limit);
    if (limit->period > 0) {
        limit->capacity = (uint64_t)limit->burst * (uint64_t)limit->price;
        limit->drain =
            (rlp_time_t)((limit->capacity + (uint64_t)limit->count - 1) / (uint64_t)limit->count);
        limit->mark = second_mark(limit->burst, limit->count);
    }
}

bool limit_same_kind(const rlp_limit_t *a, const rlp_limit_t *b)
{
    const char *a_zone = a->calendar ? a->calendar->zone : "";
    const char *b_zone = b->calendar ? b->calendar->zone : "";

    return a->algorithm == b->algorithm && a->period == b->period && a->start == b->start &&
           strcmp(a_zone, b_zone) == 0;
}

int64_t rlp_seconds(rlp_time_t span)
{
    return span <= RLP_SECOND ? 1 : (span - 1) / RLP_SECOND + 1;
}

int64_t rlp_limit_quota(const rlp_limit_t *limit)
{
    return limit->burst / RLP_UNIT;
}

int64_t rlp_limit_window(const rlp_limit_t *limit)
{
    return limit->drain > 0 ? rlp_seconds(limit->drain) : 0;
}

/* ceil(units * period / count): spending them evenly over it is the rate itself. */
static rlp_time_t limit_pace(const rlp_limit_t *limit, int64_t units)
{
    const uint64_t count = (uint64_t)limit->count;
    uint64_t credit;

    if (!__builtin_mul_overflow((uint64_t)units, (uint64_t)limit->period, &credit)) {
        return (rlp_time_t)(credit / count + (credit % count != 0));
    }
    __extension__ const unsigned __int128 wide =
        (unsigned __int128)(uint64_t)units * (uint64_t)limit->period;

    return (rlp_time_t)((wide + count - 1) / count);
}

int64_t rlp_limit_effective(const rlp_limit_t *limit, const rlp_decision_t *decision)
{
    rlp_time_t span = decision->reset;

    if (decision->remaining == 0) {
        span = decision->next;
    } else if (limit->algorithm->holds) {
        return -1; /* places have no rate */
    } else if (!limit->algorithm->windowed) {
        span = limit_pace(limit, decision->remaining);
    } else if (span == 0) {
        span = limit->period; /* of a sliding window nothing is used: no end is told */
    } else if (limit->calendar == NULL && span > limit->period && span != RLP_TIME_NEVER) {
        span =
            (span - 1) % limit->period + 1; /* to the end of this window, not of what it leaves */
    }
    return span == RLP_TIME_NEVER ? -1 : rlp_seconds(span);
}
