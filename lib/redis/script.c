/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/script_limit.h"

#include <apr_sha1.h>

#include <stdio.h>
#include <string.h>

static const char script_lua[] = {
#include "redis/script_lua.h"
};

#define SCRIPT_TIME_MAX (INT64_C(1) << 52)

#define SCRIPT_FORMAT 1
#define SCRIPT_HEAD 2 /* numbers in front of an answer */
#define SCRIPT_EACH 6 /* and for each charge */
#define SCRIPT_BAD 4  /* flags beside the verdict */
#define SCRIPT_SPARED 8
#define SCRIPT_LATE 16 /* for each microsecond of rlp_decision_t.late */

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

    script_put_limit(packet, algorithm, charge, call);
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

        if (!script_fits(charge->limit, charge->max_wait)) {
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

/* Do the parts of a decision go together? */
static bool script_plausible(const rlp_decision_t *d, const rlp_charge_t *charge)
{
    const int64_t most = charge->limit->burst > RLP_UNIT ? charge->limit->burst / RLP_UNIT : 1;

    return (d->wait > 0) == (d->verdict == RLP_WAIT) && d->wait <= charge->max_wait &&
           (d->retry > 0) == (d->verdict == RLP_DENY) && d->retry < SCRIPT_EXACT &&
           d->remaining <= most;
}

/* Is what stands beside the verdict such as this question can have? */
static bool script_flags_fit(const script_call_t *call, const rlp_decision_t *d, bool spared,
                             const rlp_charge_t *charge)
{
    if (call->op > SCRIPT_PEEK) {
        return d->late == 0 &&
               spared == (charge->limit->algorithm->holds != (call->op != SCRIPT_SETTLE));
    }
    if (spared) {
        return d->late == 0 && charge->branch != RLP_ALWAYS;
    }
    return d->late == 0 || d->verdict <= RLP_WAIT;
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
    *d = (rlp_decision_t){ .verdict = *spared ? RLP_ALLOW : (rlp_verdict_t)(flags & 3),
                           .damaged = flags & SCRIPT_BAD };
    if (flags / SCRIPT_LATE > RLP_CLOCK_SKEW) {
        return false;
    }
    d->late = (uint32_t)(flags / SCRIPT_LATE);
    if (!script_flags_fit(call, d, *spared, call->charges[i])) {
        return false;
    }
    d->reset = script_span(numbers[4]); /* and of a spared quota, why it is */
    d->remaining = numbers[5];
    if (!*spared) {
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
