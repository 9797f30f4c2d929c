/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "algorithm/second.h"

#define SECOND_BITS 26 /* of the digits of a number in a mark; 6 more for its power of two */

/* 32 bits of a number: exact up to 2^26. */
static uint64_t second_narrow(uint64_t number, bool up)
{
    const int size = 64 - __builtin_clzll(number | 1);
    const int shift = size > SECOND_BITS ? size - SECOND_BITS : 0;
    const uint64_t digits = number >> shift;
    const uint64_t most = (UINT64_C(1) << SECOND_BITS) - 1;

    if (up && digits << shift != number) {
        return digits == most ? (digits / 2 + 1) << 6 | (uint64_t)(shift + 1)
                              : (digits + 1) << 6 | (uint64_t)shift;
    }
    return digits << 6 | (uint64_t)shift;
}

uint64_t second_mark(rlp_units_t burst, int64_t count)
{
    return second_narrow((uint64_t)burst, true) << 32 | second_narrow((uint64_t)count, false);
}

static uint64_t second_wide(uint64_t narrow)
{
    const int shift = (int)(narrow & 63);

    return shift <= 64 - SECOND_BITS ? (narrow & UINT32_MAX) >> 6 << shift : 0;
}

rlp_units_t second_burst(uint64_t mark)
{
    return (rlp_units_t)second_wide(mark >> 32);
}

int64_t second_count(uint64_t mark)
{
    const uint64_t count = second_wide(mark & UINT32_MAX & ~SECOND_SPARE);

    return count > 0 ? (int64_t)count : 1;
}

bool second_sound(uint64_t mark)
{
    return second_burst(mark) > 0 && second_burst(mark) <= 2 * RLP_UNITS_MAX &&
           (mark & UINT32_MAX) >> 6 > 0 && (mark & SECOND_SPARE) == 0 &&
           second_count(mark) <= RLP_UNITS_MAX / RLP_UNIT;
}

rlp_time_t second_span(uint64_t mark, second_wide_t credit, bool up)
{
    const uint64_t count = (uint64_t)second_count(mark);
    const second_wide_t span = (credit + (up ? count - 1 : 0)) / count;

    return span < SECOND_MAX ? (rlp_time_t)span : SECOND_MAX;
}

bool second_is_sound(const second_t *second)
{
    return second->mark == 0 ? second->full == 0
                             : second_sound(second->mark & ~SECOND_CUT) && second->full >= 0 &&
                                   second->full <= INT64_C(1) << 62;
}

uint64_t second_turn(second_t *second, uint64_t mark, rlp_time_t at, uint64_t used, uint64_t most,
                     const rlp_limit_t *limit)
{
    const second_t other = *second;

    second->mark = mark | (other.mark & SECOND_CUT);
    second->full = at + second_span(mark, used, true);
    if ((other.mark & ~SECOND_CUT) == limit->mark) {
        const uint64_t span = other.full > at ? (uint64_t)(other.full - at) : 0;
        const second_wide_t credit = (second_wide_t)span * (uint64_t)limit->count;

        return credit < INT64_MAX ? (uint64_t)credit : INT64_MAX;
    }
    if (used > most) {
        second->mark |= SECOND_CUT;
        return most;
    }
    return used;
}

void second_follow(second_t *second, rlp_time_t was, rlp_time_t at)
{
    if (was - at > RLP_CLOCK_SKEW) {
        second->full -= was - at < second->full ? was - at : second->full;
    }
}

void second_settle(second_t *second, rlp_time_t at, rlp_time_t turn, rlp_units_t units,
                   const rlp_limit_t *limit, uint64_t more)
{
    const second_wide_t price = (uint64_t)limit->price;
    const second_wide_t credit = (uint64_t)(units < 0 ? -units : units) * price;
    const rlp_time_t all =
        second_span(second->mark, (uint64_t)second_burst(second->mark) * price + more, true);
    const rlp_time_t from = second->full > at ? second->full : at;

    if (units >= 0) {
        const rlp_time_t sum = from + second_span(second->mark, credit, true);
        const rlp_time_t most = from > turn + all ? from : turn + all;

        second->full = sum < most ? sum : most;
        second->mark |= sum > most ? SECOND_CUT : 0;
    } else if (turn >= RLP_TIME_EVER ||
               (second->full - all < turn && (second->mark & SECOND_CUT) == 0)) {
        const rlp_time_t sum = from - second_span(second->mark, credit, false);

        second->full = sum > at ? sum : at;
    }
}

void second_report(const second_t *second, rlp_time_t now, const rlp_limit_t *limit, uint64_t more,
                   rlp_decision_t *d)
{
    if (second->mark == 0 || second->full <= now) {
        return;
    }
    const uint64_t all = limit->capacity + more;
    const second_wide_t used =
        (second_wide_t)(uint64_t)(second->full - now) * (uint64_t)second_count(second->mark);
    const uint32_t loss = rlp_loss(used < all ? (uint64_t)used : all, all);

    d->loss = loss > d->loss ? loss : d->loss;
    d->expires = second->full > d->expires ? second->full : d->expires;
}

rlp_time_t second_instant(const rlp_decision_t *d, const rlp_op_t *op)
{
    return op->units < 0 ? op->charged_at : op->now + d->wait;
}

bool second_settle_units(rlp_units_t *used, bool cut, const rlp_op_t *op, rlp_units_t most)
{
    const rlp_units_t sum = *used + op->units;

    if (op->units < 0 && cut && op->charged_at < RLP_TIME_EVER) {
        return true;
    }
    if (*used < most) {
        *used = sum < 0 ? 0 : sum < most ? sum : most;
    }
    return cut || (op->units >= 0 && sum > most);
}
