/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The only code that knows both stores and algorithms.
 */

#include "rlp.h"

typedef struct {
    rlp_charge_t *charges;
    rlp_op_t op;
    bool damaged; /* found so by the first look, which mends what it looks at */
} check_t;

/* what every request goes through */
#define CHECK_INLINE __attribute__((always_inline)) static inline

CHECK_INLINE void check_step(rlp_charge_t *charge, const rlp_op_t *op)
{
    charge->limit->algorithm->step(charge->entry.state, charge->limit, op, &charge->decision);
    charge->entry.dirty = charge->decision.changed;
    charge->entry.expires = charge->decision.expires;
    charge->entry.loss = charge->decision.loss;
}

/* One limit decides for itself. */
static void check_update_one(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    check_t *check = baton;

    (void)entries;
    (void)n;
    check->op.now = now;
    check_step(check->charges, &check->op);
}

/* Of several, all are asked before any is charged; when one refuses, the refusing ones are asked
   for good, since that may heal a state (rlp_algorithm.h), and the others stay as they are. */
static void check_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    check_t *check = baton;
    rlp_op_t peek = check->op;
    bool refused = false;

    (void)entries;
    check->op.now = now;
    peek.now = now;
    peek.kind = RLP_PEEK;
    for (int i = 0; i < n && check->op.kind == RLP_TAKE; i++) {
        check_step(&check->charges[i], &peek);
        check->damaged |= check->charges[i].decision.damaged;
        refused |= check->charges[i].decision.verdict != RLP_ALLOW;
    }
    for (int i = 0; i < n; i++) {
        if (!refused || check->charges[i].decision.verdict != RLP_ALLOW) {
            check_step(&check->charges[i], &check->op);
        }
    }
}

bool rlp_decision_tighter(const rlp_limit_t *a_limit, const rlp_decision_t *a,
                          const rlp_limit_t *b_limit, const rlp_decision_t *b)
{
    if (a->verdict != b->verdict) {
        return a->verdict > b->verdict;
    }
    if (a->verdict == RLP_DENY && a->retry != b->retry) {
        return a->retry > b->retry;
    }
    if (a->remaining != b->remaining) {
        return a->remaining < b->remaining;
    }
    /* unsigned, so that -1, which is never, is the longest */
    return (uint64_t)rlp_limit_effective(a_limit, a) > (uint64_t)rlp_limit_effective(b_limit, b);
}

static void check_answer_many(const rlp_charge_t charges[], int n, rlp_answer_t *answer)
{
    for (int i = 1; i < n; i++) {
        const rlp_decision_t *d = &charges[i].decision;
        const rlp_charge_t *first = &charges[answer->tightest];

        answer->damaged |= d->damaged;
        if (rlp_decision_tighter(charges[i].limit, d, first->limit, &first->decision)) {
            answer->tightest = i;
        }
        if (d->verdict > answer->verdict) {
            answer->verdict = d->verdict;
        }
        if (d->retry > answer->retry) {
            answer->retry = d->retry;
        }
    }
    if (answer->verdict == RLP_NEVER) {
        answer->retry = 0;
    }
}

static apr_status_t check_run_many(rlp_store_t *store, rlp_charge_t charges[], int n,
                                   const rlp_question_t *question, check_t *check,
                                   rlp_answer_t *answer)
{
    rlp_entry_t *entries[RLP_ENTRIES_MAX];

    if (n < 1 || n > RLP_ENTRIES_MAX) {
        return APR_EINVAL;
    }
    for (int i = 0; i < n; i++) {
        entries[i] = &charges[i].entry;
    }
    const apr_status_t rv =
        store->type->update(store, entries, n, question->now, check_update, check);

    if (rv == APR_SUCCESS) {
        const rlp_decision_t *d = &charges[0].decision;

        *answer = (rlp_answer_t){ .verdict = d->verdict, .retry = d->retry };
        answer->damaged = check->damaged | d->damaged;
        check_answer_many(charges, n, answer);
    }
    return rv;
}

CHECK_INLINE apr_status_t check_run(rlp_store_t *store, rlp_charge_t charges[], int n,
                                    const rlp_question_t *question, check_t *check,
                                    rlp_answer_t *answer)
{
    rlp_entry_t *entry = &charges[0].entry;

    check->charges = charges;
    if (n != 1) {
        return check_run_many(store, charges, n, question, check, answer);
    }
    const apr_status_t rv =
        store->type->update(store, &entry, 1, question->now, check_update_one, check);

    answer->verdict = charges[0].decision.verdict;
    answer->retry = charges[0].decision.retry;
    answer->damaged = charges[0].decision.damaged;
    answer->tightest = 0;
    return rv;
}

apr_status_t rlp_check(rlp_store_t *store, rlp_charge_t charges[], int n,
                       const rlp_question_t *question, rlp_answer_t *answer)
{
    check_t check = { .op = { .kind = RLP_TAKE, .units = question->cost } };

    return check_run(store, charges, n, question, &check, answer);
}

apr_status_t rlp_peek(rlp_store_t *store, rlp_charge_t charges[], int n,
                      const rlp_question_t *question, rlp_answer_t *answer)
{
    check_t check = { .op = { .kind = RLP_PEEK, .units = question->cost } };

    return check_run(store, charges, n, question, &check, answer);
}

apr_status_t rlp_refund(rlp_store_t *store, rlp_charge_t charges[], int n,
                        const rlp_question_t *question, rlp_answer_t *answer)
{
    check_t check = { .op = { .kind = RLP_SETTLE, .charged_at = question->charged_at } };

    if (question->cost < 0 || question->cost > RLP_UNITS_MAX) {
        return APR_EINVAL;
    }
    check.op.units = -question->cost;
    return check_run(store, charges, n, question, &check, answer);
}

rlp_time_t rlp_store_time(const rlp_store_t *store, rlp_time_t now)
{
    return store->type->time(store, now);
}

uint64_t rlp_store_fingerprint(const rlp_store_t *store, const char *identity, size_t identity_len)
{
    return store->type->fingerprint(store, identity, identity_len);
}
