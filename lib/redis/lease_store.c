/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/lease_store.h"

#include "check.h"
#include "redis/lease_call.h"

#include <apr_siphash.h>
#include <apr_time.h>

#include <stdlib.h>
#include <string.h>

#define LEASE_PAUSE 500 /* microseconds, until another may have its answer */

typedef struct {
    rlp_store_t head;
    lease_store_settings_t settings;
    redis_denials_t *denials; /* NULL: nobody wants to know */
    lease_renew_fn *renew;    /* of this process */
    void *baton;
    char sha[SCRIPT_SHA_SIZE];
} lease_store_t;

/* One request to make charges. */
typedef struct {
    lease_store_t *store;
    rlp_charge_t *charges;
    int n;
    const rlp_question_t *question;
    rlp_time_t deadline;
    bool leased[RLP_ENTRIES_MAX];
} take_t;

/* --- asking Redis */

static apr_status_t lease_exchange(const lease_store_t *store, lease_question_t *question,
                                   lease_answer_t *answer, rlp_time_t deadline)
{
    lease_packet_t packet;
    size_t text_len;
    const char *text = script_text(&text_len);

    lease_pack(&packet, question, store->sha, NULL);
    redis_call_t call = { .key = question->key,
                          .key_len = question->key_len,
                          .argc = LEASE_ARGC,
                          .argv = packet.argv,
                          .argv_len = packet.lens,
                          .script = text,
                          .script_len = text_len };

    redis_endpoint_exchange(store->settings.endpoint, &call, 1, deadline);
    const redisReply *reply = call.reply;
    apr_status_t rv = APR_SUCCESS;

    if (call.fault != REDIS_FAULT_NONE) {
        rv = redis_remedy(call.fault)->status;
    } else if (reply == NULL || reply->type != REDIS_REPLY_STRING ||
               !lease_unpack(answer, question, reply->str, reply->len)) {
        rv = APR_EGENERAL;
    }
    freeReplyObject(call.reply);
    return rv;
}

/* --- charging */

/* Is the charge made from a lease? */
static bool lease_is_for(const lease_store_t *store, const rlp_charge_t *charge)
{
    const rlp_sync_t sync = charge->terms ? charge->terms->sync : RLP_SYNC_USUAL;

    return (sync == RLP_SYNC_USUAL ? store->settings.usual : sync == RLP_SYNC_LEASE) &&
           lease_fits(charge);
}

static lease_charge_t lease_charge(const lease_store_t *store, const rlp_charge_t *charge)
{
    const rlp_key_t *key = &charge->entry.key;

    return (lease_charge_t){ .identity = apr_siphash24(key->identity, key->identity_len,
                                                       lease_table_secret(store->settings.table)),
                             .signature = key->signature,
                             .cost = charge->cost,
                             .limit = charge->limit };
}

static void lease_learn(const lease_store_t *store, rlp_charge_t *charge,
                        const lease_question_t *question, const lease_answer_t *answer)
{
    const redis_told_t told = { .asked = question->sent,
                                .lag = rlp_clock_monotonic() - question->sent,
                                .server = answer->now };

    charge->decision = answer->decision;
    redis_denials_learn(store->denials, &charge, 1, &told);
}

/* Asks for units, and spends of them. */
static apr_status_t lease_fetch(const take_t *take, rlp_charge_t *charge,
                                lease_question_t *question, lease_result_t *result)
{
    const lease_store_t *store = take->store;
    char bytes[LEASE_KEY_MAX];
    const script_key_t key = {
        .bytes = bytes, .len = redis_store_key(store->settings.exact, charge, bytes, sizeof(bytes))
    };
    lease_answer_t answer;
    apr_status_t rv = APR_SUCCESS;

    if (key.len == 0 || !lease_identify(question, charge, &key, take->question->wall)) {
        lease_granted(store->settings.table, question, NULL, question->sent, result);
        result->outcome = LEASE_NONE;
        return APR_SUCCESS;
    }
    rv = lease_exchange(store, question, &answer, take->deadline);
    lease_granted(store->settings.table, question, rv == APR_SUCCESS ? &answer : NULL,
                  rlp_clock_monotonic(), result);
    if (rv == APR_SUCCESS) {
        lease_learn(store, charge, question, &answer);
    }
    if (rv == APR_SUCCESS && result->outcome > LEASE_WAIT) {
        result->outcome = LEASE_WAIT;
    }
    return rv;
}

/* Charges one from its lease; asks for units, or waits for who does. */
static apr_status_t lease_take(const take_t *take, rlp_charge_t *charge, lease_result_t *result)
{
    const lease_store_t *store = take->store;
    const lease_charge_t wanted = lease_charge(store, charge);
    lease_question_t question;
    rlp_time_t now = rlp_clock_monotonic();

    for (;;) {
        apr_status_t rv = APR_SUCCESS;

        lease_spend(store->settings.table, &wanted, now, result, &question);
        if (result->outcome == LEASE_ASK) {
            rv = lease_fetch(take, charge, &question, result);
        }
        if (rv != APR_SUCCESS || result->outcome != LEASE_WAIT) {
            return rv;
        }
        if (now >= take->deadline) {
            return APR_TIMEUP;
        }
        apr_sleep(LEASE_PAUSE);
        now = rlp_clock_monotonic();
    }
}

static void lease_settle_one(const lease_store_t *store, rlp_charge_t *charge, rlp_units_t cost,
                             bool *done)
{
    lease_charge_t paid = lease_charge(store, charge);

    paid.cost = cost;
    *done = lease_settle(store->settings.table, &paid, charge->holder, charge->counted_at,
                         rlp_clock_monotonic());
}

/* What there is to tell of a charge that is not made; spared, where this host does not know. */
static bool lease_look_at(const lease_store_t *store, rlp_charge_t *charge)
{
    const lease_charge_t wanted = lease_charge(store, charge);

    return lease_peek(store->settings.table, &wanted, rlp_clock_monotonic(), &charge->decision);
}

/* What was spent comes back: to Redis, where the lease has been reported meanwhile or is over.
   Where Redis does not answer, it is not asked. */
static void take_back(const take_t *take, const rlp_charge_t *charge, bool answers)
{
    rlp_store_t *exact = take->store->settings.exact;
    rlp_charge_t back = *charge;
    rlp_answer_t answer;
    bool done;

    back.cost = -charge->cost;
    lease_settle_one(take->store, &back, back.cost, &done);
    if (!done && answers) {
        const lease_charge_t those = lease_charge(take->store, &back);

        (void)exact->type->decide(exact, &back, 1, take->question, RLP_SETTLE, &answer);
        lease_reconsider(take->store->settings.table, &those);
    }
}

/* Another refuses, or could not be asked: what was spent comes back. Those before `end` have
   paid. */
static void take_undo(const take_t *take, int refusing, int end, bool answers)
{
    for (int i = 0; i < take->n; i++) {
        rlp_charge_t *charge = &take->charges[i];

        if (i == refusing) {
            continue;
        }
        if (i < end && take->leased[i]) {
            take_back(take, charge, answers);
        }
        charge->spared = !take->leased[i] || !lease_look_at(take->store, charge);
    }
}

static void lease_nudge(const lease_store_t *store, uint32_t index)
{
    lease_renew_fn *renew = __atomic_load_n(&store->renew, __ATOMIC_ACQUIRE);

    if (renew != NULL) {
        renew(store->baton, index);
    }
}

/* Makes the leased charges. *refusing is the one that refuses, or -1. */
static apr_status_t take_leased(take_t *take, int *refusing)
{
    *refusing = -1;
    for (int i = 0; i < take->n; i++) {
        rlp_charge_t *charge = &take->charges[i];
        lease_result_t result;

        if (!take->leased[i]) {
            continue;
        }
        const apr_status_t rv = lease_take(take, charge, &result);

        if (rv != APR_SUCCESS) {
            take_undo(take, i, i, false);
            return rv;
        }
        if (result.outcome == LEASE_NONE) {
            take->leased[i] = false;
            continue;
        }
        charge->decision = result.decision;
        charge->holder = result.id;
        charge->counted_at = result.charged_at;
        if (result.renew) {
            lease_nudge(take->store, result.index);
        }
        if (result.outcome == LEASE_REFUSED) {
            *refusing = i;
            take_undo(take, i, i, true);
            return APR_SUCCESS;
        }
    }
    return APR_SUCCESS;
}

/* Asks the exact store about those that are not leased. */
static apr_status_t take_exact(const take_t *take, rlp_op_kind_t kind, rlp_answer_t *answer)
{
    rlp_store_t *exact = take->store->settings.exact;
    rlp_charge_t *copies = malloc((size_t)take->n * sizeof(*copies));
    int from[RLP_ENTRIES_MAX];
    int n = 0;

    if (copies == NULL) {
        return APR_ENOMEM;
    }
    for (int i = 0; i < take->n; i++) {
        if (!take->leased[i]) {
            copies[n] = take->charges[i];
            from[n++] = i;
        }
    }
    apr_status_t rv = APR_SUCCESS;

    answer->verdict = RLP_ALLOW;
    if (n > 0) {
        rv = exact->type->decide(exact, copies, n, take->question, kind, answer);
    }
    for (int i = 0; rv == APR_SUCCESS && i < n; i++) {
        take->charges[from[i]] = copies[i];
    }
    free(copies);
    return rv;
}

/* An exact one refuses, or could not be asked: what is leased comes back, and tells what is
   there. */
static void take_return(const take_t *take, bool answers)
{
    for (int i = 0; i < take->n; i++) {
        if (take->leased[i]) {
            take_back(take, &take->charges[i], answers);
            take->charges[i].spared = !lease_look_at(take->store, &take->charges[i]);
        }
    }
}

static bool take_has_leased(const take_t *take)
{
    bool leased = false;

    for (int i = 0; i < take->n; i++) {
        leased |= take->leased[i];
    }
    return leased;
}

static apr_status_t take_run(take_t *take, rlp_answer_t *answer)
{
    int refusing;
    apr_status_t rv = take_leased(take, &refusing);

    if (rv == APR_SUCCESS && refusing < 0) {
        rv = take_exact(take, RLP_TAKE, answer);
        if (rv != APR_SUCCESS || answer->verdict > RLP_WAIT) {
            take_return(take, rv == APR_SUCCESS);
        }
    } else if (rv != APR_SUCCESS) {
        const rlp_charge_t *first = &take->charges[0];
        char bytes[LEASE_KEY_MAX];
        const size_t len =
            redis_store_key(take->store->settings.exact, first, bytes, sizeof(bytes));

        answer->retry = redis_endpoint_wait(take->store->settings.endpoint, bytes, len);
    }
    return rv;
}

/* --- the store */

static apr_status_t lease_decide_take(take_t *take, rlp_answer_t *answer)
{
    for (int i = 0; i < take->n; i++) {
        take->charges[i].spared = false;
        take->leased[i] = lease_is_for(take->store, &take->charges[i]);
    }
    answer->retry = 0;
    return take_run(take, answer);
}

static apr_status_t lease_decide_peek(take_t *take, rlp_answer_t *answer)
{
    for (int i = 0; i < take->n; i++) {
        take->charges[i].spared = false;
        take->leased[i] = lease_is_for(take->store, &take->charges[i]) &&
                          lease_look_at(take->store, &take->charges[i]);
    }
    return take_exact(take, RLP_PEEK, answer);
}

/* What has come back in Redis can be had by who was refused a moment ago. */
static void lease_reconsider_those(const take_t *take)
{
    for (int i = 0; i < take->n; i++) {
        const rlp_charge_t *charge = &take->charges[i];

        if (!take->leased[i] && charge->cost < 0 && lease_fits_limit(charge->limit)) {
            const lease_charge_t back = lease_charge(take->store, charge);

            lease_reconsider(take->store->settings.table, &back);
        }
    }
}

static apr_status_t lease_decide_settle(take_t *take, rlp_answer_t *answer)
{
    for (int i = 0; i < take->n; i++) {
        rlp_charge_t *charge = &take->charges[i];

        charge->spared = false;
        if (charge->counted_at != 0 && lease_fits_limit(charge->limit)) {
            lease_settle_one(take->store, charge, charge->cost, &take->leased[i]);
        }
        if (take->leased[i]) {
            charge->decision = (rlp_decision_t){ .verdict = RLP_ALLOW };
            (void)lease_look_at(take->store, charge);
        }
    }
    const apr_status_t rv = take_exact(take, RLP_SETTLE, answer);

    lease_reconsider_those(take);
    return rv;
}

static apr_status_t lease_decide(rlp_store_t *head, rlp_charge_t *charges, int n,
                                 const rlp_question_t *question, rlp_op_kind_t kind,
                                 rlp_answer_t *answer)
{
    lease_store_t *store = (lease_store_t *)head;
    rlp_store_t *exact = store->settings.exact;
    take_t take = { .store = store,
                    .charges = charges,
                    .n = n,
                    .question = question,
                    .deadline = rlp_clock_monotonic() + store->settings.timeout };
    apr_status_t rv;

    switch (kind) {
    case RLP_TAKE:
        rv = lease_decide_take(&take, answer);
        break;
    case RLP_PEEK:
        rv = lease_decide_peek(&take, answer);
        break;
    case RLP_SETTLE:
        rv = lease_decide_settle(&take, answer);
        break;
    default:
        return exact->type->decide(exact, charges, n, question, kind, answer);
    }
    if (rv == APR_SUCCESS && take_has_leased(&take)) {
        check_answer(charges, n, answer);
    }
    return rv;
}

static rlp_time_t lease_time(const rlp_store_t *head, rlp_time_t now)
{
    return rlp_store_time(((const lease_store_t *)head)->settings.exact, now);
}

static uint64_t lease_fingerprint(const rlp_store_t *head, const char *identity, size_t len)
{
    return rlp_store_fingerprint(((const lease_store_t *)head)->settings.exact, identity, len);
}

static const rlp_store_type_t lease_type = {
    .name = "redis", .time = lease_time, .fingerprint = lease_fingerprint, .decide = lease_decide
};

rlp_store_t *lease_store_create(const lease_store_settings_t *settings, apr_pool_t *pool)
{
    lease_store_t *store = apr_pcalloc(pool, sizeof(*store));

    store->head = *settings->exact;
    store->head.type = &lease_type;
    store->settings = *settings;
    script_sha(store->sha);
    return &store->head;
}

void lease_store_note(rlp_store_t *head, redis_denials_t *denials)
{
    ((lease_store_t *)head)->denials = denials;
}

/* --- what nobody waits for */

void lease_store_tell(rlp_store_t *head, lease_renew_fn *renew, void *baton)
{
    lease_store_t *store = (lease_store_t *)head;

    store->baton = renew != NULL ? baton : store->baton;
    __atomic_store_n(&store->renew, renew, __ATOMIC_RELEASE);
}

static void lease_see_to(const lease_store_t *store, uint32_t index, bool all)
{
    lease_table_t *table = store->settings.table;
    lease_question_t question;
    lease_answer_t answer;
    lease_result_t result;

    if (lease_due(table, index, all, rlp_clock_monotonic(), &question)) {
        const apr_status_t rv =
            lease_exchange(store, &question, &answer, question.sent + store->settings.timeout);

        lease_granted(table, &question, rv == APR_SUCCESS ? &answer : NULL, rlp_clock_monotonic(),
                      &result);
    }
}

void lease_store_renew(rlp_store_t *head, uint32_t index)
{
    lease_see_to((const lease_store_t *)head, index, false);
}

void lease_store_return(rlp_store_t *head, bool all, const volatile unsigned *stop)
{
    const lease_store_t *store = (const lease_store_t *)head;
    lease_table_t *table = store->settings.table;

    if (!all && !lease_table_turn(table, rlp_clock_monotonic())) {
        return;
    }
    for (uint32_t i = 0; i < lease_table_room(table) && *stop == 0; i++) {
        lease_see_to(store, i, all);
    }
}
