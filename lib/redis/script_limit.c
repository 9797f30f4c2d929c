/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What each algorithm of the script is told of its limit, and which limits it can count.
 */

#include "redis/script_limit.h"

#include "algorithm/algorithms.h"

#include <apr_strings.h>

__extension__ typedef unsigned __int128 wide_t;

#define SCRIPT_WAIT_MAX (INT64_C(10) * 366 * 86400 * RLP_SECOND) /* no delay is longer */
#define SCRIPT_EDGES 5

/* Credit as whole microseconds of the limit's count, and the rest. */
static void script_put_credit(script_packet_t *packet, wide_t credit, const rlp_limit_t *limit)
{
    const wide_t span = credit / (uint64_t)limit->count;

    script_put(packet, span < (uint64_t)SCRIPT_EXACT ? (int64_t)span : SCRIPT_EXACT);
    script_put(packet, (int64_t)(credit % (uint64_t)limit->count));
}

static wide_t script_credit(rlp_units_t units, const rlp_limit_t *limit)
{
    return (wide_t)(uint64_t)(units < 0 ? -units : units) * (uint64_t)limit->price;
}

static wide_t script_earned(rlp_time_t span, const rlp_limit_t *limit)
{
    return (wide_t)(uint64_t)span * (uint64_t)limit->count;
}

/* --- what each algorithm is told */

/* bucket_room() */
static wide_t token_room(const rlp_limit_t *limit, rlp_time_t wait)
{
    const rlp_time_t most = wait < SCRIPT_WAIT_MAX ? wait : SCRIPT_WAIT_MAX;
    const wide_t room = limit->capacity + script_earned(most, limit);

    return room < INT64_MAX ? room : INT64_MAX;
}

/* What buckets and logs are told first. */
static void script_put_rate(script_packet_t *packet, const rlp_limit_t *limit)
{
    script_put(packet, limit->count);
    script_put(packet, limit->period);
    script_put(packet, limit->burst);
}

static void token_put(script_packet_t *packet, const rlp_charge_t *charge,
                      const script_call_t *call)
{
    const rlp_limit_t *limit = charge->limit;

    (void)call;
    script_put_rate(packet, limit);
    script_put(packet, limit->drain);
    script_put(packet, limit->initial == limit->burst);
    script_put_credit(packet, limit->capacity, limit);
    script_put_credit(packet, (uint64_t)limit->period, limit);
    script_put_credit(packet, script_credit(charge->cost, limit), limit);
    script_put_credit(packet, token_room(limit, charge->max_wait), limit);
    script_put_credit(packet, token_room(limit, SCRIPT_WAIT_MAX), limit);
    script_put_credit(packet, limit->capacity - script_credit(limit->initial, limit), limit);
}

/* How many periods of so many units ahead a turn may be at most. */
static int64_t script_ahead(const rlp_limit_t *limit, int64_t counted)
{
    const int64_t waited = SCRIPT_WAIT_MAX / limit->period + 1;

    return counted < waited ? counted : waited;
}

static void stepped_put(script_packet_t *packet, const rlp_charge_t *charge,
                        const script_call_t *call)
{
    const rlp_limit_t *limit = charge->limit;

    (void)call;
    script_put_rate(packet, limit);
    script_put(packet, limit->initial);
    script_put(packet, limit->start);
    script_put(packet,
               script_ahead(limit, (INT64_MAX / 2 - limit->burst) / (limit->count * RLP_UNIT)));
}

static void leaky_put(script_packet_t *packet, const rlp_charge_t *charge,
                      const script_call_t *call)
{
    const rlp_limit_t *limit = charge->limit;
    const wide_t drained = script_earned(charge->max_wait, limit);

    (void)call;
    script_put_rate(packet, limit);
    script_put_credit(packet, (wide_t)(uint64_t)limit->period + limit->capacity, limit);
    script_put_credit(packet, (uint64_t)limit->period, limit);
    script_put_credit(packet, script_credit(charge->cost, limit), limit);
    script_put_credit(packet,
                      (uint64_t)limit->period +
                          (drained < limit->capacity ? drained : limit->capacity),
                      limit);
}

static void fixed_put(script_packet_t *packet, const rlp_charge_t *charge,
                      const script_call_t *call)
{
    const rlp_limit_t *limit = charge->limit;

    (void)call;
    script_put(packet, limit->period);
    script_put(packet, limit->burst);
    script_put(packet, limit->start);
    script_put(packet, script_ahead(limit, INT64_MAX / 2 / limit->burst - 1));
}

static void sliding_put(script_packet_t *packet, const rlp_charge_t *charge,
                        const script_call_t *call)
{
    (void)call;
    script_put(packet, charge->limit->period);
    script_put(packet, charge->limit->burst);
    script_put(packet, charge->limit->start);
}

/* Ages up to 2^39 ticks: log_shift() */
static void log_put(script_packet_t *packet, const rlp_charge_t *charge, const script_call_t *call)
{
    const rlp_limit_t *limit = charge->limit;
    int64_t tick = 1;

    (void)call;
    while (tick << 39 < limit->period) {
        tick <<= 1;
    }
    script_put_rate(packet, limit);
    script_put(packet, tick);
}

static void quota_put(script_packet_t *packet, const rlp_charge_t *charge,
                      const script_call_t *call)
{
    const rlp_limit_t *limit = charge->limit;
    const int64_t number = limit->calendar ? rlp_period_number(limit, call->wall) : 0;

    script_put(packet, limit->burst);
    script_put(packet, limit->initial);
    script_put(packet, limit->calendar != NULL);
    for (int i = -1; i < SCRIPT_EDGES - 1; i++) {
        script_put(packet, limit->calendar ? rlp_period_edge(limit, number + i) : 0);
    }
}

rlp_time_t script_lease(const rlp_limit_t *limit)
{
    return limit->lease > 0 ? limit->lease : SCRIPT_LEASE_USUAL;
}

static void place_put(script_packet_t *packet, const rlp_charge_t *charge,
                      const script_call_t *call)
{
    const rlp_limit_t *limit = charge->limit;

    script_put(packet, limit->count);
    script_put(packet, script_lease(limit));
    script_put_bytes(packet, call->holder);
}

/* In the script's order. */
static const struct script_algorithm {
    const rlp_algorithm_t *algorithm;
    void (*put)(script_packet_t *packet, const rlp_charge_t *charge, const script_call_t *call);
} script_algorithms[] = {
    { &rlp_token_bucket, token_put },
    { &rlp_stepped_bucket, stepped_put },
    { &rlp_leaky_bucket, leaky_put },
    { &rlp_fixed_window, fixed_put },
    { &rlp_sliding_window, sliding_put },
    { &rlp_sliding_log, log_put },
    { &rlp_quota, quota_put },
    { &rlp_concurrency, place_put },
};

#define SCRIPT_ALGORITHMS ((int)(sizeof(script_algorithms) / sizeof(script_algorithms[0])))

int script_algorithm(const rlp_limit_t *limit)
{
    for (int i = 0; i < SCRIPT_ALGORITHMS; i++) {
        if (script_algorithms[i].algorithm == limit->algorithm) {
            return i + 1;
        }
    }
    return 0;
}

void script_put_limit(script_packet_t *packet, int algorithm, const rlp_charge_t *charge,
                      const script_call_t *call)
{
    script_algorithms[algorithm - 1].put(packet, charge, call);
}

/* --- what it can count */

/* Do turns that far ahead stay within what is exact? What is reserved is counted in thousandths. */
static bool script_reserves(const rlp_limit_t *limit, rlp_time_t max_wait)
{
    const rlp_time_t wait = max_wait < SCRIPT_WAIT_MAX ? max_wait : SCRIPT_WAIT_MAX;

    if (limit->period == 0 || limit->algorithm->credit) {
        return true;
    }
    return (wide_t)(uint64_t)(wait / limit->period + 2) * (uint64_t)limit->count * RLP_UNIT +
               3 * (wide_t)(uint64_t)limit->burst <
           (uint64_t)SCRIPT_EXACT;
}

/* Are all its numbers exact? */
static bool script_counts(const rlp_limit_t *limit)
{
    return limit->count <= SCRIPT_COUNT_MAX && limit->burst <= SCRIPT_COUNT_MAX * RLP_UNIT &&
           (!limit->algorithm->holds || limit->count <= SCRIPT_PLACES_MAX);
}

bool script_has(const rlp_limit_t *limit)
{
    return script_algorithm(limit) != 0;
}

bool script_fits(const rlp_limit_t *limit, rlp_time_t max_wait)
{
    return script_has(limit) && script_counts(limit) && script_reserves(limit, max_wait);
}

const char *script_limit_error(const rlp_limit_t *limit, rlp_time_t max_wait, apr_pool_t *pool)
{
    if (script_algorithm(limit) == 0) {
        return apr_psprintf(pool, "expected an algorithm that has a script, got %s",
                            limit->algorithm->name);
    }
    if (limit->algorithm->holds && !script_counts(limit)) {
        return apr_psprintf(pool,
                            "expected at most %d places in Redis, got concurrent=%" APR_INT64_T_FMT,
                            SCRIPT_PLACES_MAX, limit->count);
    }
    if (!script_counts(limit)) {
        return apr_psprintf(pool,
                            "expected a count and a burst of at most %" APR_INT64_T_FMT
                            " in Redis, got %" APR_INT64_T_FMT,
                            SCRIPT_COUNT_MAX,
                            limit->count > SCRIPT_COUNT_MAX ? limit->count
                                                            : limit->burst / RLP_UNIT);
    }
    return script_reserves(limit, max_wait)
               ? NULL
               : apr_psprintf(pool,
                              "expected a shorter delay or a smaller count in Redis, which counts "
                              "to %" APR_INT64_T_FMT " units ahead, got %" APR_INT64_T_FMT
                              " in each period",
                              SCRIPT_EXACT / RLP_UNIT, limit->count);
}
