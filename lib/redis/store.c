/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/store.h"

#include "check.h"
#include "redis/key.h"
#include "redis/places.h"
#include "redis/question.h"
#include "redis/swap.h"
#include "store/joint.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define STORE_RENEWALS 64 /* at once */

typedef struct {
    rlp_store_t head;
    redis_store_settings_t settings;
    redis_places_t *places;
    char sha[SCRIPT_SHA_SIZE];
} store_t;

/* --- all or none */

static bool store_refused(const redis_group_t *group)
{
    bool refused = false;

    for (int i = 0; i < group->call.n; i++) {
        refused |= !group->charges[i]->spared && group->charges[i]->decision.verdict > RLP_WAIT;
    }
    return refused;
}

static bool store_has_taken(const redis_group_t *group)
{
    return group->now != 0 && !store_refused(group);
}

/* Is the charge one that this operation gives back? */
static bool store_returns(const rlp_charge_t *charge, script_op_t op)
{
    return !charge->spared && charge->cost > 0 &&
           charge->limit->algorithm->holds == (op == SCRIPT_RELEASE);
}

/* Asks about charges, and whatever becomes of it leaves nothing behind. */
static apr_status_t store_ask(const store_t *store, rlp_charge_t charges[], int n, script_op_t op,
                              const rlp_question_t *question)
{
    redis_question_t made = { .settings = &store->settings, .sha = store->sha };
    apr_status_t rv = redis_question_make(&made, charges, n, op, question);

    if (rv == APR_SUCCESS) {
        rv = redis_question_ask(&made, rlp_clock_monotonic() + store->settings.timeout);
    }
    redis_question_free(&made);
    return rv;
}

/* Gives back what one identity was charged, and has its decisions tell what is there now. */
static void store_return(const store_t *store, const redis_group_t *group, script_op_t op,
                         const rlp_question_t *question)
{
    rlp_charge_t *copies = malloc((size_t)group->call.n * sizeof(*copies));
    int from[RLP_ENTRIES_MAX] = { 0 };
    int n = 0;

    for (int i = 0; copies != NULL && i < group->call.n; i++) {
        if (store_returns(group->charges[i], op)) {
            copies[n] = *group->charges[i];
            copies[n].waited = rlp_waited(&copies[n]);
            copies[n].cost = -copies[n].cost;
            copies[n].branch = RLP_ALWAYS;
            from[n++] = i;
        }
    }
    const bool told = n > 0 && store_ask(store, copies, n, op, question) == APR_SUCCESS;

    for (int i = 0; told && i < n; i++) {
        group->charges[from[i]]->decision = copies[i].decision;
    }
    free(copies);
}

/* Where one identity is refused, or could not be asked for, the others are not charged either. */
static void store_return_all(const store_t *store, const redis_question_t *made,
                             const rlp_question_t *question)
{
    int taken = 0;

    for (int i = 0; i < made->n; i++) {
        taken += store_has_taken(made->groups[i]);
    }
    for (int i = 0; taken < made->n && i < made->n; i++) {
        if (store_has_taken(made->groups[i])) {
            store_return(store, made->groups[i], SCRIPT_SETTLE, question);
            store_return(store, made->groups[i], SCRIPT_RELEASE, question);
        }
    }
}

/* --- places */

static bool store_holds(const rlp_charge_t *charge)
{
    return !charge->spared && charge->cost > 0 && charge->limit->algorithm->holds;
}

/* Those that a request has got are renewed from then on. */
static void store_hold(const store_t *store, const rlp_charge_t charges[], int n, rlp_time_t now)
{
    for (int i = 0; i < n; i++) {
        if (store_holds(&charges[i])) {
            redis_places_note(store->places, &charges[i], now);
        }
    }
}

/* Those that it gives back are not, whether Redis hears of it or not. */
static void store_let_go(const store_t *store, const rlp_charge_t charges[], int n)
{
    for (int i = 0; i < n; i++) {
        if (charges[i].limit->algorithm->holds) {
            redis_places_forget(store->places, &charges[i]);
        }
    }
}

/* Is the answer known, or will it be when another request has its own? */
static bool store_remembers(const store_t *store, rlp_charge_t charges[], int n,
                            rlp_answer_t *answer, rlp_time_t **asking)
{
    redis_denials_t *denials = store->settings.denials;
    const rlp_time_t half = store->settings.timeout / 2;
    const rlp_time_t end = rlp_clock_monotonic() + (half < RLP_SECOND ? half : RLP_SECOND);

    do {
        if (redis_denials_refuse(denials, charges, n, rlp_clock_monotonic(), answer)) {
            return true;
        }
    } while (redis_denials_await(denials, charges, n, end, asking));
    return false;
}

static apr_status_t store_decide(rlp_store_t *head, rlp_charge_t *charges, int n,
                                 const rlp_question_t *question, rlp_op_kind_t kind,
                                 rlp_answer_t *answer)
{
    const store_t *store = (const store_t *)head;
    const rlp_time_t deadline = rlp_clock_monotonic() + store->settings.timeout;
    rlp_time_t *asking = NULL;
    redis_question_t made = { .settings = &store->settings, .sha = store->sha };

    if (kind <= RLP_PEEK && store_remembers(store, charges, n, answer, &asking)) {
        return APR_SUCCESS;
    }
    if (kind == RLP_RELEASE) {
        store_let_go(store, charges, n);
    }
    apr_status_t rv = redis_question_make(&made, charges, n, (script_op_t)kind, question);
    const bool asks = rv == APR_SUCCESS;

    answer->retry = 0;
    if (asks) {
        rv = redis_question_ask(&made, deadline);
    }
    redis_denials_asked(asking);
    if (asks && kind == RLP_TAKE) {
        store_return_all(store, &made, question);
    }
    if (rv == APR_SUCCESS) {
        check_answer(charges, n, answer);
        if (kind == RLP_TAKE && answer->verdict <= RLP_WAIT) {
            store_hold(store, charges, n, question->now);
        }
    } else if (made.n > 0 && made.groups[0]->call.n > 0) {
        const script_key_t *key = &made.groups[0]->keys[0];

        answer->retry = redis_endpoint_wait(store->settings.endpoint, key->bytes, key->len);
    }
    redis_question_free(&made);
    return rv;
}

/* --- the rest of a store */

/* Charges know when they were made (counted_at). */
static rlp_time_t store_time(const rlp_store_t *store, rlp_time_t now)
{
    (void)store;
    return now;
}

/* FNV-1a: for queues of one process. */
static uint64_t store_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    (void)store;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)identity[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static const rlp_store_type_t store_type_scripted = {
    .name = "redis", .time = store_time, .fingerprint = store_fingerprint, .decide = store_decide
};

/* --- algorithms without a script */

/* What is asked of Redis: the script, and the states of algorithms that it does not have. */
typedef struct {
    rlp_store_t head;
    rlp_store_t *scripted;
    rlp_store_t *all; /* the script, then for each identity what it lacks */
} whole_t;

/* The script is the first part; what it lacks of each identity is a part of its own. */
static void whole_choose(int part[], const rlp_charge_t charges[], int n)
{
    int identity[RLP_ENTRIES_MAX] = { 0 };

    (void)redis_identities(identity, charges, n);
    for (int i = 0; i < n; i++) {
        part[i] = script_has(charges[i].limit) ? 0 : 1 + identity[i];
    }
}

static bool whole_is_scripted(const rlp_charge_t charges[], int n)
{
    bool scripted = true;

    for (int i = 0; i < n; i++) {
        scripted = scripted && script_has(charges[i].limit);
    }
    return scripted;
}

static apr_status_t whole_decide(rlp_store_t *head, rlp_charge_t *charges, int n,
                                 const rlp_question_t *question, rlp_op_kind_t kind,
                                 rlp_answer_t *answer)
{
    const whole_t *whole = (const whole_t *)head;

    return whole_is_scripted(charges, n)
               ? store_decide(whole->scripted, charges, n, question, kind, answer)
               : whole->all->type->decide(whole->all, charges, n, question, kind, answer);
}

static const rlp_store_type_t store_type = {
    .name = "redis", .time = store_time, .fingerprint = store_fingerprint, .decide = whole_decide
};

/* A place that Redis does not know any more is not taken again: the request may have given it back
   meanwhile. */
static apr_status_t store_renew(const store_t *store, redis_place_t *place,
                                const rlp_question_t *question)
{
    rlp_charge_t charge;

    redis_subject_charge(&charge, place->subject);
    charge.holder = place->holder;
    const apr_status_t rv = store_ask(store, &charge, 1, SCRIPT_RENEW, question);
    const bool there = charge.decision.verdict == RLP_ALLOW;

    redis_places_told(store->places, place,
                      rv != APR_SUCCESS ? REDIS_PLACE_UNKNOWN
                      : there           ? REDIS_PLACE_KEPT
                                        : REDIS_PLACE_LOST);
    return rv;
}

/* A server that is away keeps those of others waiting for one timeout at most. */
void redis_store_renew(rlp_store_t *head, const rlp_question_t *question)
{
    const store_t *store = (const store_t *)((const whole_t *)head)->scripted;
    const rlp_time_t end = rlp_clock_monotonic() + store->settings.timeout;

    for (int i = 0; i < STORE_RENEWALS; i++) {
        redis_place_t *place = redis_places_due(store->places, question->now);

        if (place == NULL ||
            (store_renew(store, place, question) != APR_SUCCESS && rlp_clock_monotonic() >= end)) {
            return;
        }
    }
}

size_t redis_store_key(const rlp_store_t *head, const rlp_charge_t *charge, char *at, size_t room)
{
    const store_t *store = (const store_t *)((const whole_t *)head)->scripted;
    script_key_t key;

    if (redis_key_room(store->settings.prefix, charge) > room) {
        return 0;
    }
    (void)redis_key_make(&key, at, store->settings.prefix, charge);
    return key.len;
}

static rlp_store_t *whole_create(rlp_store_t *scripted, const redis_store_settings_t *settings,
                                 apr_pool_t *pool)
{
    whole_t *whole = apr_pcalloc(pool, sizeof(*whole));
    rlp_store_t *swap = redis_swap_create(settings, pool);
    rlp_store_t *parts[1 + RLP_ENTRIES_MAX] = { scripted };

    for (int i = 1; i <= RLP_ENTRIES_MAX; i++) {
        parts[i] = swap;
    }
    whole->head = *scripted;
    whole->head.type = &store_type;
    whole->scripted = scripted;
    whole->all = joint_create(parts, 1 + RLP_ENTRIES_MAX, whole_choose, pool);
    return &whole->head;
}

rlp_store_t *redis_store_create(const redis_store_settings_t *settings, apr_pool_t *pool)
{
    store_t *store = apr_pcalloc(pool, sizeof(*store));

    store->head = (rlp_store_t){ .type = &store_type_scripted,
                                 .owners = settings->owners,
                                 .secret = settings->secret };
    store->settings = *settings;
    store->places = redis_places_create(pool);
    script_sha(store->sha);
    return whole_create(&store->head, settings, pool);
}

/* Of an algorithm without a script nothing is known that could be wrong. */
const char *redis_store_limit_error(const rlp_limit_t *limit, rlp_time_t max_wait, apr_pool_t *pool)
{
    return script_has(limit) ? script_limit_error(limit, max_wait, pool) : NULL;
}

const char *redis_store_script(apr_pool_t *pool)
{
    size_t len;
    const char *text = script_text(&len);

    return apr_pstrmemdup(pool, text, len);
}
