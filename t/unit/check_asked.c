/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "check_asked.h"

#include <apr_errno.h>

#include <string.h>

told_t told;

void told_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op, rlp_decision_t *d)
{
    uint64_t *word = state;

    assert_in_range(told.n, 0, UNIT_N(told.calls) - 1);
    told.calls[told.n++] = (call_t){ .who = (int)limit->ordinal, .op = *op, .found = *word };
    *d = told.answer[limit->ordinal];
    d->changed = op->kind != RLP_PEEK && d->verdict <= RLP_WAIT;
    *word += d->changed;
}

const rlp_algorithm_t told_units = { .name = "units", .state_size = 8, .step = told_step };
const rlp_algorithm_t told_quota = {
    .name = "quota", .state_size = 8, .quota = true, .step = told_step
};
const rlp_algorithm_t told_places = {
    .name = "places", .state_size = 8, .holds = true, .step = told_step
};

static apr_status_t noting_update(rlp_store_t *store, rlp_entry_t *entries[], int n, rlp_time_t now,
                                  rlp_update_fn *fn, void *baton)
{
    noting_t *noting = (noting_t *)store;

    noting->n = n;
    if (noting->rv != APR_SUCCESS) {
        return noting->rv;
    }
    for (int i = 0; i < n; i++) {
        memcpy(entries[i]->state, noting->states[entries[i]->key.signature], entries[i]->key.size);
    }
    fn(entries, n, now + LATER, baton);
    for (int i = 0; i < n; i++) {
        if (entries[i]->dirty) {
            memcpy(noting->states[entries[i]->key.signature], entries[i]->state,
                   entries[i]->key.size);
        }
    }
    return APR_SUCCESS;
}

static rlp_time_t noting_time(const rlp_store_t *store, rlp_time_t now)
{
    (void)store;
    return now + LATER;
}

static uint64_t noting_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    (void)store;
    return (uint64_t)identity[0] << 8 | len;
}

static apr_status_t noting_decide(rlp_store_t *store, rlp_charge_t *charges, int n,
                                  const rlp_question_t *question, rlp_op_kind_t kind,
                                  rlp_answer_t *answer)
{
    noting_t *noting = (noting_t *)store;

    (void)charges;
    (void)question;
    (void)answer;
    noting->n = n;
    noting->kind = kind;
    return noting->rv;
}

const rlp_store_type_t noting_near = {
    .name = "near", .update = noting_update, .time = noting_time, .fingerprint = noting_fingerprint
};
const rlp_store_type_t noting_far = { .name = "far", .time = noting_time, .decide = noting_decide };

rlp_owners_t noting_owners;

void ask_begin(ask_t *ask, int n)
{
    memset(&told, 0, sizeof(told));
    memset(ask, 0, sizeof(*ask));
    ask->noting.store = (rlp_store_t){ .type = &noting_near, .owners = &noting_owners };
    ask->question = (rlp_question_t){ .now = NOW, .wall = 5, .owner = 6, .charged_at = NOW - 9 };
    ask->n = n;
    for (int i = 0; i < n; i++) {
        ask->limits[i] = (rlp_limit_t){
            .algorithm = &told_units, .count = 1, .ordinal = (unsigned)i, .state_size = 8
        };
        rlp_charge_init(&ask->charges[i], "u", 1, (uint64_t)i, &ask->limits[i]);
        ask->charges[i].cost = 100 + i;
        ask->charges[i].max_wait = INT64_C(10) * i;
        ask->charges[i].entry.state = ask->room[i];
        told.answer[i].remaining = 10;
    }
    /* left over from another question */
    ask->answer = (rlp_answer_t){ .unasked = true, .told = true, .refuses = true, .retry = 5 };
}

/* What was asked of whom: "t0 p1 t0", t for TAKE, p PEEK, s SETTLE, r RELEASE. */
static const char *asked(void)
{
    static char text[UNIT_N(told.calls) * 3 + 1];
    char *end = text;

    for (int i = 0; i < told.n; i++) {
        *end++ = "tpsr"[told.calls[i].op.kind];
        *end++ = (char)('0' + told.calls[i].who);
        *end++ = ' ';
    }
    *end = '\0';
    return text;
}

void ask_put(ask_t *ask, how_t *how, const char *calls)
{
    assert_int_equal(how(&ask->noting.store, ask->charges, ask->n, &ask->question, &ask->answer),
                     APR_SUCCESS);
    assert_string_equal(asked(), calls);
}

const char *ask_kept(const ask_t *ask)
{
    static char text[2 * CHARGES + 1];
    char *end = text;

    for (int i = 0; i < ask->n; i++) {
        *end++ = (char)('0' + ask->noting.states[i][0]);
        *end++ = ' ';
    }
    *end = '\0';
    return text;
}

void ask_large(ask_t *ask, int i, uint32_t size)
{
    ask->charges[i].entry.key.size = size;
    ask->limits[i].state_size = size;
}

const char *ask_spared(const ask_t *ask)
{
    static char text[CHARGES + 1];

    memset(text, 0, sizeof(text));
    for (int i = 0; i < ask->n; i++) {
        text[i] = ask->charges[i].spared ? '-' : 'x';
    }
    return text;
}
