/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/local.h"

#include <stdlib.h>
#include <string.h>

#define LOCAL_BATCH 32  /* limits of identities that Redis is told of in a tick */
#define LOCAL_UNHEARD 8 /* of those may be of servers that are away */

struct redis_local_t {
    redis_local_settings_t settings;
    redis_ledger_t *ledger; /* of this process */
};

/* A limit as this host has it. Its algorithm charges a new key first with what Redis had counted of
   it. */
typedef struct {
    rlp_limit_t limit; /* first: what the step is given leads to the rest */
    rlp_limit_t share;
    rlp_algorithm_t algorithm;
    rlp_units_t used; /* by others and before */
    uint64_t outage;  /* the answer of Redis that was its last */
    const rlp_limit_t *whole;
} stand_t;

/* --- the share */

static bool local_is_new(const void *state, uint32_t size)
{
    const unsigned char *bytes = state;

    for (uint32_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static void local_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                       rlp_decision_t *decision)
{
    const stand_t *stand = (const stand_t *)limit;
    const rlp_limit_t *share = &stand->share;
    const bool seeds =
        op->kind <= RLP_PEEK && stand->used > 0 && local_is_new(state, share->state_size);

    if (seeds) {
        rlp_op_t seed = *op;

        seed.kind = RLP_SETTLE;
        seed.units = stand->used;
        seed.charged_at = op->now;
        share->algorithm->step(state, share, &seed, decision);
    }
    share->algorithm->step(state, share, op, decision);
    if (seeds) {
        decision->reach = 0;
    }
}

/* What is missing of the share's units at its beginning, so that the part of them that is left is
   the part that is left of the whole. */
static rlp_units_t local_used(const stand_t *stand, const redis_level_t *level)
{
    const rlp_limit_t *whole = stand->whole;
    const rlp_units_t left = whole->burst - level->remaining * RLP_UNIT;
    const rlp_units_t used = redis_left(whole, left > 0 ? left : 0, level->age, level->reset);
    const rlp_units_t part =
        whole->burst > 0 ? redis_part(whole->burst - used, stand->share.burst, whole->burst) : 0;

    return stand->share.initial > part ? stand->share.initial - part : 0;
}

static int64_t local_hosts(const redis_local_t *local)
{
    return local->settings.hosts > 0 ? local->settings.hosts
                                     : redis_hosts_living(&local->settings.shared->hosts);
}

/* Puts the share of a limit in its place. What is counted between two answers of Redis is one
   counter; a correction finds it by what the charge remembers. */
static void local_stand(const redis_local_t *local, stand_t *stand, rlp_charge_t *charge,
                        rlp_op_kind_t kind)
{
    redis_level_t level;

    *stand = (stand_t){ .whole = charge->limit, .share = *charge->limit };
    rlp_limit_share(&stand->share, local_hosts(local));
    stand->limit = stand->share;
    if (!charge->limit->algorithm->holds && kind > RLP_PEEK) {
        stand->outage = charge->holder;
    } else if (!charge->limit->algorithm->holds &&
               redis_denials_level(local->settings.denials, charge, rlp_clock_monotonic(),
                                   &level)) {
        stand->outage = (uint64_t)level.server;
        stand->used = local_used(stand, &level);
    }
    stand->algorithm = *charge->limit->algorithm;
    stand->algorithm.step = local_step;
    stand->limit.algorithm = &stand->algorithm;
    charge->limit = &stand->limit;
    charge->entry.key.signature ^= stand->outage * UINT64_C(0x9E3779B97F4A7C15);
    charge->counted_at = 0;
    charge->holder = stand->outage;
}

static void local_unstand(const stand_t *stand, rlp_charge_t *charge)
{
    charge->limit = stand->whole;
    charge->entry.key.signature ^= stand->outage * UINT64_C(0x9E3779B97F4A7C15);
}

/* --- asking */

static apr_status_t local_ask(rlp_store_t *store, rlp_charge_t *charges, int n,
                              const rlp_question_t *question, rlp_op_kind_t kind,
                              rlp_answer_t *answer)
{
    switch (kind) {
    case RLP_TAKE:
        return rlp_check(store, charges, n, question, answer);
    case RLP_PEEK:
        return rlp_peek(store, charges, n, question, answer);
    case RLP_SETTLE:
        return rlp_settle(store, charges, n, question, answer);
    default:
        return rlp_release(store, charges, n, question, answer);
    }
}

/* Notes what was charged, to tell Redis later. */
static void local_note(const redis_local_t *local, const rlp_charge_t charges[], int n)
{
    const rlp_time_t now = rlp_clock_monotonic();

    for (int i = 0; i < n; i++) {
        const rlp_charge_t *charge = &charges[i];

        if (!charge->spared && charge->cost != 0 && !charge->limit->algorithm->holds) {
            redis_ledger_note(local->ledger, charge, charge->cost, charge->holder, now);
        }
    }
}

apr_status_t redis_local_decide(redis_local_t *local, rlp_charge_t *charges, int n,
                                const rlp_question_t *question, rlp_op_kind_t kind,
                                rlp_answer_t *answer)
{
    stand_t *stands = malloc((size_t)n * sizeof(*stands));

    if (stands == NULL) {
        return APR_ENOMEM;
    }
    if (kind <= RLP_PEEK) { /* Redis had no answer */
        __atomic_store_n(&local->settings.shared->away, 1, __ATOMIC_RELAXED);
    }
    for (int i = 0; i < n; i++) {
        local_stand(local, &stands[i], &charges[i], kind);
    }
    const apr_status_t rv = local_ask(local->settings.local, charges, n, question, kind, answer);

    for (int i = 0; i < n; i++) {
        local_unstand(&stands[i], &charges[i]);
    }
    free(stands);
    if (rv == APR_SUCCESS &&
        (kind == RLP_SETTLE || (kind == RLP_TAKE && answer->verdict <= RLP_WAIT))) {
        local_note(local, charges, n);
    }
    return rv;
}

/* --- handing back */

/* A state that is too large for a charge has room of its own. */
static bool local_has_room(rlp_charge_t *charge)
{
    if (charge->entry.key.size > sizeof(charge->room)) {
        charge->entry.state = malloc(charge->entry.key.size);
    }
    return charge->entry.state != NULL;
}

/* Tells Redis of what was counted here, as far as it is still in use. */
static apr_status_t local_hand_back(const redis_local_t *local, const redis_debt_t *debt)
{
    const rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_charge_t charge;
    rlp_answer_t answer;

    redis_subject_charge(&charge, debt->subject);
    charge.cost = redis_left(charge.limit, debt->units, question.now - debt->at, debt->reset);
    if (charge.cost <= 0 || !local_has_room(&charge)) {
        return APR_SUCCESS;
    }
    const apr_status_t rv = rlp_settle(local->settings.redis, &charge, 1, &question, &answer);

    if (charge.entry.state != charge.room) {
        free(charge.entry.state);
    }
    return rv;
}

/* Has Redis surely not heard it? What has no answer may have been heard, and is not told again; nor
   is what it has no memory for: no breaker would keep that from being asked all the time. */
static bool local_is_unheard(apr_status_t rv)
{
    return rv == APR_EAGAIN || rv == APR_ECONNREFUSED;
}

/* For one timeout at most, and one question more: a server may be slow, or away. And it may be
   there, and not have the slot: no breaker keeps that from being asked. */
static void local_hand_back_some(const redis_local_t *local)
{
    const rlp_time_t end = rlp_clock_monotonic() + local->settings.own.timeout;
    const int size = redis_ledger_size(local->ledger);
    const int most = size < LOCAL_BATCH ? size : LOCAL_BATCH;
    int unheard = 0;

    for (int i = 0; i < most && unheard < LOCAL_UNHEARD && rlp_clock_monotonic() < end; i++) {
        redis_debt_t *debt = redis_ledger_take(local->ledger);

        if (debt == NULL) {
            return;
        }
        if (local_is_unheard(local_hand_back(local, debt))) {
            redis_ledger_put(local->ledger, debt);
            unheard++;
        } else {
            redis_debt_free(debt);
        }
    }
}

void redis_local_maintain(redis_local_t *local)
{
    redis_local_shared_t *shared = local->settings.shared;

    if (redis_hosts_tell(&shared->hosts, &local->settings.own, rlp_clock_monotonic())) {
        __atomic_store_n(&shared->away, 0, __ATOMIC_RELAXED);
    }
    if (__atomic_load_n(&shared->away, __ATOMIC_RELAXED) == 0) {
        local_hand_back_some(local);
    }
}

/* --- making */

redis_local_t *redis_local_create(const redis_local_settings_t *settings, apr_pool_t *pool)
{
    redis_local_t *local = apr_pcalloc(pool, sizeof(*local));

    local->settings = *settings;
    local->ledger = redis_ledger_create(pool);
    return local->ledger != NULL ? local : NULL;
}
