/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/script.h"

#include "algorithm/algorithms.h"

#include <apr_sha1.h>
#include <apr_strings.h>

#include <stdio.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide_t;

static const char script_lua[] = {
#include "redis/script_lua.h"
};

/* Doubles hold all whole numbers up to this; in an answer it stands for RLP_TIME_NEVER. */
#define SCRIPT_EXACT (INT64_C(1) << 53)
#define SCRIPT_TIME_MAX (INT64_C(1) << 52)

#define SCRIPT_FORMAT 1
#define SCRIPT_WAIT_MAX (INT64_C(10) * 366 * 86400 * RLP_SECOND) /* no delay is longer */
#define SCRIPT_EDGES 5
#define SCRIPT_HEAD 2 /* numbers in front of an answer */
#define SCRIPT_EACH 6 /* and for each charge */
#define SCRIPT_BAD 4  /* flags beside the verdict */
#define SCRIPT_SPARED 8
#define SCRIPT_FLAGS_END 16

_Static_assert(sizeof(double) == 8, "numbers travel as IEEE doubles");

const char *script_text(size_t *len)
{
    *len = sizeof(script_lua);
    return script_lua;
}

void script_sha(char sha[SCRIPT_SHA_SIZE])
{
    apr_sha1_ctx_t context;
    unsigned char digest[APR_SHA1_DIGESTSIZE];

    apr_sha1_init(&context);
    apr_sha1_update_binary(&context, (const unsigned char *)script_lua,
                           (unsigned int)sizeof(script_lua));
    apr_sha1_final(digest, &context);
    for (size_t i = 0; i < APR_SHA1_DIGESTSIZE; i++) {
        snprintf(&sha[2 * i], 3, "%02x", digest[i]);
    }
}

/* --- writing */

void script_write_bytes(unsigned char at[8], uint64_t bytes)
{
    for (int i = 0; i < 8; i++) {
        at[i] = (unsigned char)(bytes >> 8 * i);
    }
}

/* Numbers beyond what is exact are cut off: costs and spans so large are all the same. */
void script_write(unsigned char at[8], int64_t number)
{
    const int64_t low = number > -SCRIPT_EXACT ? number : -SCRIPT_EXACT;
    const double value = (double)(low < SCRIPT_EXACT ? low : SCRIPT_EXACT);
    uint64_t bytes;

    memcpy(&bytes, &value, sizeof(bytes));
    script_write_bytes(at, bytes);
}

static void script_put_bytes(script_packet_t *packet, uint64_t bytes)
{
    script_write_bytes(&packet->args[packet->args_len], bytes);
    packet->args_len += 8;
}

static void script_put(script_packet_t *packet, int64_t number)
{
    script_write(&packet->args[packet->args_len], number);
    packet->args_len += 8;
}

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

static void token_put(script_packet_t *packet, const rlp_charge_t *charge,
                      const script_call_t *call)
{
    const rlp_limit_t *limit = charge->limit;

    (void)call;
    script_put(packet, limit->count);
    script_put(packet, limit->period);
    script_put(packet, limit->burst);
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
    script_put(packet, limit->count);
    script_put(packet, limit->period);
    script_put(packet, limit->burst);
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
    script_put(packet, limit->count);
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
    script_put(packet, limit->count);
    script_put(packet, limit->period);
    script_put(packet, limit->burst);
    script_put(packet, tick);
}

/* Which period it is, counted from the first edge. */
static int64_t quota_number(const rlp_limit_t *limit, rlp_time_t at)
{
    const rlp_calendar_t *calendar = limit->calendar;
    int low = 0;
    int high = calendar->n - 1;

    if (at < calendar->edges[low]) {
        return -((calendar->edges[low] - at - 1) / limit->period) - 1;
    }
    if (at >= calendar->edges[high]) {
        return high + (at - calendar->edges[high]) / limit->period;
    }
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;

        if (calendar->edges[middle] <= at) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Where a period begins. */
static rlp_time_t quota_edge(const rlp_limit_t *limit, int64_t number)
{
    const rlp_calendar_t *calendar = limit->calendar;
    const int last = calendar->n - 1;

    if (number < 0) {
        return calendar->edges[0] + number * limit->period;
    }
    return number > last ? calendar->edges[last] + (number - last) * limit->period
                         : calendar->edges[number];
}

static void quota_put(script_packet_t *packet, const rlp_charge_t *charge,
                      const script_call_t *call)
{
    const rlp_limit_t *limit = charge->limit;
    const int64_t number = limit->calendar ? quota_number(limit, call->wall) : 0;

    script_put(packet, limit->burst);
    script_put(packet, limit->initial);
    script_put(packet, limit->calendar != NULL);
    for (int i = -1; i < SCRIPT_EDGES - 1; i++) {
        script_put(packet, limit->calendar ? quota_edge(limit, number + i) : 0);
    }
}

static void place_put(script_packet_t *packet, const rlp_charge_t *charge,
                      const script_call_t *call)
{
    const rlp_limit_t *limit = charge->limit;

    script_put(packet, limit->count);
    script_put(packet, limit->lease > 0 ? limit->lease : SCRIPT_LEASE_USUAL);
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

/* Its number in the script, from 1; 0 if it has none. */
static int script_algorithm(const rlp_limit_t *limit)
{
    for (int i = 0; i < SCRIPT_ALGORITHMS; i++) {
        if (script_algorithms[i].algorithm == limit->algorithm) {
            return i + 1;
        }
    }
    return 0;
}

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

/* --- the call */

static bool script_same_key(const script_key_t *a, const script_key_t *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* Lists the call's keys behind what is there; key[i] is the number of charge i's, from 1. */
static void script_put_keys(script_packet_t *packet, const script_call_t *call, int key[])
{
    const int first = packet->argc;

    for (int i = 0; i < call->n; i++) {
        int k = 0;

        while (k < i && !script_same_key(&call->keys[k], &call->keys[i])) {
            k++;
        }
        if (k < i) {
            key[i] = key[k];
            continue;
        }
        packet->argv[packet->argc] = call->keys[i].bytes;
        packet->lens[packet->argc++] = call->keys[i].len;
        key[i] = packet->argc - first;
    }
}

/* Charges of two branches may share a counter. */
static bool script_same_counter(const script_call_t *call, const int key[], int a, int b)
{
    return call->charges[b]->branch == RLP_INSTEAD && key[a] == key[b] &&
           call->charges[a]->entry.key.signature == call->charges[b]->entry.key.signature;
}

/* Writes the counters; slot[i] is the number of charge i's, from 1. How many there are. */
static int script_put_slots(script_packet_t *packet, const script_call_t *call, const int key[],
                            int slot[])
{
    int slots = 0;

    for (int i = 0; i < call->n; i++) {
        int k = 0;

        while (k < i && !script_same_counter(call, key, k, i)) {
            k++;
        }
        if (k < i) {
            slot[i] = slot[k];
            continue;
        }
        slot[i] = ++slots;
        script_put(packet, key[i]);
        script_put_bytes(packet, call->charges[i]->entry.key.signature);
    }
    return slots;
}

/* The limit's own numbers come behind those that all have, their size among them. */
static void script_put_charge(script_packet_t *packet, const script_call_t *call, int i, int slot)
{
    const rlp_charge_t *charge = call->charges[i];
    const int algorithm = script_algorithm(charge->limit);
    const rlp_time_t wait = charge->max_wait < SCRIPT_TIME_MAX ? charge->max_wait : SCRIPT_TIME_MAX;

    script_put(packet, slot);
    script_put(packet, algorithm);
    const size_t size_at = packet->args_len;

    script_put(packet, 0);
    script_put(packet, charge->branch);
    script_put(packet, charge->group);
    script_put(packet, charge->cost);
    script_put(packet, wait);
    script_put(packet, call->charged_at + charge->waited);
    const size_t begin = packet->args_len;

    script_algorithms[algorithm - 1].put(packet, charge, call);
    const size_t end = packet->args_len;

    packet->args_len = size_at;
    script_put(packet, (int64_t)(end - begin));
    packet->args_len = end;
}

static bool script_can(const script_call_t *call)
{
    if (call->n < 1 || call->n > RLP_ENTRIES_MAX) {
        return false;
    }
    for (int i = 0; i < call->n; i++) {
        const rlp_charge_t *charge = call->charges[i];

        if (script_algorithm(charge->limit) == 0 || !script_counts(charge->limit) ||
            !script_reserves(charge->limit, charge->max_wait)) {
            return false;
        }
    }
    return true;
}

static void script_put_arg(script_packet_t *packet, const char *bytes, size_t len)
{
    packet->argv[packet->argc] = bytes;
    packet->lens[packet->argc++] = len;
}

bool script_pack(script_packet_t *packet, const script_call_t *call, const char *sha)
{
    int key[RLP_ENTRIES_MAX];
    int slot[RLP_ENTRIES_MAX] = { 0 };

    if (!script_can(call)) {
        return false;
    }
    packet->argc = 0;
    script_put_arg(packet, "EVALSHA", 7);
    script_put_arg(packet, sha, strlen(sha));
    script_put_arg(packet, packet->keys_n, 0);
    script_put_keys(packet, call, key);
    packet->lens[2] =
        (size_t)snprintf(packet->keys_n, sizeof(packet->keys_n), "%d", (packet->argc - 3) & 0xff);
    packet->args_len = 0;
    script_put(packet, SCRIPT_FORMAT);
    script_put(packet, call->op);
    script_put(packet, call->clock != NULL ? *call->clock : -1);
    const size_t slots_at = packet->args_len;

    script_put(packet, 0);
    script_put(packet, call->n);
    const int slots = script_put_slots(packet, call, key, slot);

    for (int i = 0; i < call->n; i++) {
        script_put_charge(packet, call, i, slot[i]);
    }
    script_put_arg(packet, (const char *)packet->args, packet->args_len);
    packet->args_len = slots_at;
    script_put(packet, slots);
    packet->args_len = packet->lens[packet->argc - 1];
    return true;
}

void script_pack_text(script_packet_t *packet)
{
    packet->argv[0] = "EVAL";
    packet->lens[0] = 4;
    packet->argv[1] = script_text(&packet->lens[1]);
}

/* --- the answer */

int64_t script_number(const char *bytes, int index)
{
    uint64_t word = 0;
    double value;

    for (int i = 7; i >= 0; i--) {
        word = word << 8 | (unsigned char)bytes[8 * index + i];
    }
    memcpy(&value, &word, sizeof(value));
    if (!(value >= 0 && value <= (double)SCRIPT_EXACT) || value != (double)(int64_t)value) {
        return -1;
    }
    return (int64_t)value;
}

/* Do the parts of a decision go together? */
static bool script_plausible(const rlp_decision_t *d, const rlp_charge_t *charge)
{
    const int64_t most = charge->limit->burst > RLP_UNIT ? charge->limit->burst / RLP_UNIT : 1;

    return (d->wait > 0) == (d->verdict == RLP_WAIT) && d->wait <= charge->max_wait &&
           (d->retry > 0) == (d->verdict == RLP_DENY) && d->retry < SCRIPT_EXACT &&
           d->remaining <= most;
}

/* Are the charge's flags those that this question can have? */
static bool script_flags_fit(const script_call_t *call, int64_t flags, const rlp_charge_t *charge)
{
    const bool spared = flags & SCRIPT_SPARED;

    if (flags < 0 || flags >= SCRIPT_FLAGS_END) {
        return false;
    }
    if (call->op > SCRIPT_PEEK) {
        return spared == (charge->limit->algorithm->holds != (call->op != SCRIPT_SETTLE));
    }
    return !spared || charge->branch != RLP_ALWAYS;
}

rlp_time_t script_span(int64_t number)
{
    return number == SCRIPT_EXACT ? RLP_TIME_NEVER : number;
}

/* The decision of a charge, whose numbers begin at an index. */
static bool script_read(rlp_decision_t *d, bool *spared, const script_call_t *call,
                        const char *bytes, int i)
{
    int64_t numbers[SCRIPT_EACH];

    for (int k = 0; k < SCRIPT_EACH; k++) {
        numbers[k] = script_number(bytes, SCRIPT_HEAD + SCRIPT_EACH * i + k);
        if (numbers[k] < 0) {
            return false;
        }
    }
    const int64_t flags = numbers[0];

    *spared = flags & SCRIPT_SPARED;
    *d = (rlp_decision_t){ .verdict = RLP_ALLOW, .damaged = flags & SCRIPT_BAD };
    if (!script_flags_fit(call, flags, call->charges[i])) {
        return false;
    }
    d->reset = script_span(numbers[4]); /* and of a spared quota, why it is */
    d->remaining = numbers[5];
    if (!*spared) {
        d->verdict = (rlp_verdict_t)(flags & 3);
        d->wait = numbers[1];
        d->retry = numbers[2];
        d->next = script_span(numbers[3]);
    }
    return script_plausible(d, call->charges[i]);
}

bool script_unpack(const script_call_t *call, const char *bytes, size_t len, rlp_time_t *now)
{
    rlp_decision_t decisions[RLP_ENTRIES_MAX];
    bool spared[RLP_ENTRIES_MAX];

    if (call->n < 1 || call->n > RLP_ENTRIES_MAX ||
        len != 8 * (SCRIPT_HEAD + SCRIPT_EACH * (size_t)call->n) ||
        script_number(bytes, 0) != SCRIPT_FORMAT || script_number(bytes, 1) < 0) {
        return false;
    }
    for (int i = 0; i < call->n; i++) {
        if (!script_read(&decisions[i], &spared[i], call, bytes, i)) {
            return false;
        }
    }
    *now = script_number(bytes, 1);
    for (int i = 0; i < call->n; i++) {
        call->charges[i]->decision = decisions[i];
        call->charges[i]->spared = spared[i];
    }
    return true;
}
