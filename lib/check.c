/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The only code that knows both stores and algorithms.
 */

#include "check.h"
#include "limit.h"
#include "state.h"

#include <string.h>

typedef struct {
    rlp_charge_t *charges;
    int n;
    rlp_op_t op;
    bool branches; /* not all of the charges count */
    bool large;    /* some state is too large to be kept aside */
    bool damaged;  /* found so by the first look, which mends what it looks at */
} check_t;

/* States up to so many bytes are kept aside rather than asked twice: as long as the holds of the
   usual number of processes. */
#define CHECK_SMALL (8 * RLP_OWNERS_USUAL)

/* what every request goes through */
#define CHECK_INLINE __attribute__((always_inline)) static inline

/* How many requests of such a cost, or of one unit, the limit holds. */
static int64_t check_requests(const rlp_limit_t *limit, rlp_units_t cost)
{
    const uint64_t units = cost < 0 ? 0 - (uint64_t)cost : (uint64_t)cost;

    return units <= RLP_UNIT ? limit->requests : limit_requests(limit, units);
}

CHECK_INLINE float check_weigh(const rlp_charge_t *charge, int64_t held)
{
    return (float)held * (float)charge->decision.loss *
           ((float)RLP_LOSS_REQUEST / (float)RLP_LOSS_FULL);
}

/* A key that may not have all at first (initial=) lacks the rest from its beginning, and nobody has
   used that: or one request, which may even be refused, would weigh as much as a whole burst. */
__attribute__((noinline)) static float check_loss_else(const rlp_charge_t *charge)
{
    const rlp_limit_t *limit = charge->limit;
    const int64_t held = check_requests(limit, charge->cost);
    const float loss = check_weigh(charge, held);

    if (limit->initial == limit->burst) {
        return loss;
    }
    const float lacks = (float)held * RLP_LOSS_REQUEST *
                        ((float)(limit->burst - limit->initial) / (float)limit->burst);
    const float least = loss < RLP_LOSS_REQUEST ? loss : RLP_LOSS_REQUEST;

    return loss - lacks > least ? loss - lacks : least;
}

/* What forgetting the counter would lose, in requests like the one that is charged, or corrected:
   whoever would have a counter pushed out has to make as many with each of those that push. The
   share of the capacity would not do, of which one request is much where the limit is small. */
CHECK_INLINE float check_loss(const rlp_charge_t *charge)
{
    return __builtin_expect(charge->cost == charge->limit->usual, 1)
               ? check_weigh(charge, charge->limit->requests)
               : check_loss_else(charge);
}

/* Asks the step of one charge what is written in op. */
CHECK_INLINE void check_ask_step(rlp_charge_t *charge, rlp_entry_t *entry, const rlp_op_t *op)
{
    charge->limit->algorithm->step(entry->state, charge->limit, op, &charge->decision);
    entry->dirty = charge->decision.changed;
    entry->expires = charge->decision.expires;
    entry->loss = entry->dirty ? check_loss(charge) : 0;
    entry->lasting = charge->limit->algorithm->lasting;
    entry->reach = charge->decision.reach;
    entry->held = charge->limit->algorithm->holds && charge->decision.loss > 0;
}

/* The same; op comes without what is the charge's own. */
CHECK_INLINE void check_step(rlp_charge_t *charge, rlp_entry_t *entry, rlp_op_t *op)
{
    op->units = charge->cost;
    op->max_wait = charge->max_wait;
    check_ask_step(charge, entry, op);
}

typedef struct {
    rlp_charge_t *charge;
    rlp_op_t op;
} check_one_t;

/* One limit decides for itself. */
static void check_update_one(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    check_one_t *one = baton;

    (void)n;
    one->op.now = now;
    check_ask_step(one->charge, entries[0], &one->op);
}

/* The same question, without charging anything. */
static rlp_op_t check_peek(const check_t *check)
{
    rlp_op_t peek = check->op;

    peek.kind = RLP_PEEK;
    return peek;
}

/* Which groups have a quota that lacks the units, a bit each. */
static uint64_t check_used_up(check_t *check)
{
    rlp_op_t peek = check_peek(check);
    uint64_t groups = 0;

    for (int i = 0; i < check->n; i++) {
        rlp_charge_t *charge = &check->charges[i];

        if (charge->branch == RLP_FIRST && charge->limit->algorithm->quota) {
            check_step(charge, charge->counter, &peek);
            check->damaged |= charge->decision.damaged;
            groups |= (uint64_t)(charge->decision.verdict > RLP_WAIT) << charge->group;
        }
    }
    return groups;
}

/* Chooses the branches that count; counters of others stay as they are. */
static void check_choose(check_t *check, rlp_entry_t *entries[], int n)
{
    const uint64_t used_up = check_used_up(check);

    for (int i = 0; i < check->n; i++) {
        rlp_charge_t *charge = &check->charges[i];
        const bool instead = used_up >> charge->group & 1;

        charge->spared = charge->branch != RLP_ALWAYS && instead == (charge->branch == RLP_FIRST);
    }
    for (int i = 0; i < n; i++) {
        entries[i]->dirty = false;
    }
}

/* A state is small enough to be kept aside while it is changed. */
static bool check_is_small(const rlp_charge_t *charge)
{
    return charge->entry.key.size <= CHECK_SMALL;
}

/* Charges one while nobody has refused. What may have to be put back is kept aside; the last one
   never has, since a refusal changes nothing. Large states are looked at first. */
CHECK_INLINE void check_ask_one(check_t *check, int i, uint64_t kept[])
{
    rlp_charge_t *charge = &check->charges[i];
    const bool last = i == check->n - 1;

    charge->taken = last || check_is_small(charge);
    if (!charge->taken) {
        rlp_op_t peek = check_peek(check);

        check_step(charge, charge->counter, &peek);
        return;
    }
    if (!last) {
        state_copy(kept, charge->counter->state, charge->entry.key.size);
    }
    check_step(charge, charge->counter, &check->op);
}

/* One refuses: what those before it were charged is as it was, and those behind it are only looked
   at. Who refuses is asked for good, since that may heal a state (rlp_algorithm.h). */
static void check_refuse(check_t *check, int refusing, uint64_t kept[][CHECK_SMALL / 8])
{
    rlp_op_t peek = check_peek(check);

    for (int i = 0; i < check->n; i++) {
        rlp_charge_t *charge = &check->charges[i];

        if (charge->spared || (i <= refusing && charge->taken == (i == refusing))) {
            continue;
        }
        if (i < refusing) {
            state_copy(charge->counter->state, kept[i], charge->entry.key.size);
        }
        check_step(charge, charge->counter, &peek);
        check->damaged |= charge->decision.damaged;
        if (charge->decision.verdict > RLP_WAIT) {
            check_step(charge, charge->counter, &check->op);
        }
    }
}

/* All admit: what has only been looked at is charged. */
static void check_admit(check_t *check)
{
    for (int i = 0; i < check->n; i++) {
        rlp_charge_t *charge = &check->charges[i];

        if (!charge->spared && !charge->taken) {
            check_step(charge, charge->counter, &check->op);
        }
    }
}

/* Several are charged all or none. */
static void check_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    check_t *check = baton;
    uint64_t kept[RLP_ENTRIES_MAX][CHECK_SMALL / 8];

    check->op.now = now;
    if (check->branches) {
        check_choose(check, entries, n);
    }
    for (int i = 0; i < check->n; i++) {
        rlp_charge_t *charge = &check->charges[i];

        if (charge->spared) {
            continue;
        }
        check_ask_one(check, i, kept[i]);
        check->damaged |= charge->decision.damaged;
        if (charge->decision.verdict > RLP_WAIT) {
            check_refuse(check, i, kept);
            return;
        }
    }
    if (check->large) {
        check_admit(check);
    }
}

/* Corrects charges that were made. */
static void check_update_settle(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    check_t *check = baton;
    const rlp_time_t charged_at = check->op.charged_at;

    (void)entries;
    (void)n;
    check->op.now = now;
    for (int i = 0; i < check->n; i++) {
        rlp_charge_t *charge = &check->charges[i];

        charge->spared = charge->limit->algorithm->holds != (check->op.kind == RLP_RELEASE);
        charge->entry.dirty = false;
        if (!charge->spared) {
            check->op.charged_at = charged_at + charge->waited;
            check_step(charge, charge->counter, &check->op);
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

/* What the charge adds to the sum; first is the tightest so far. */
CHECK_INLINE void check_answer_more(const rlp_charge_t *charge, const rlp_charge_t *first,
                                    rlp_answer_t *sum, int i)
{
    const rlp_decision_t *d = &charge->decision;

    if (first == NULL || rlp_decision_tighter(charge->limit, d, first->limit, &first->decision)) {
        sum->tightest = i;
    }
    sum->damaged |= d->damaged;
    sum->verdict = d->verdict > sum->verdict ? d->verdict : sum->verdict;
    sum->retry = d->retry > sum->retry ? d->retry : sum->retry;
    sum->wait = d->wait > sum->wait ? d->wait : sum->wait;
}

void check_answer(const rlp_charge_t charges[], int n, rlp_answer_t *answer)
{
    rlp_answer_t sum = { .verdict = RLP_ALLOW, .tightest = -1 };

    for (int i = 0; i < n; i++) {
        if (!charges[i].spared) {
            check_answer_more(&charges[i], sum.tightest < 0 ? NULL : &charges[sum.tightest], &sum,
                              i);
        }
    }
    if (sum.tightest < 0) { /* nothing to correct */
        sum.tightest = 0;
    }
    if (sum.verdict == RLP_NEVER) {
        sum.retry = 0;
    }
    if (sum.verdict > RLP_WAIT) {
        sum.wait = 0;
    }
    *answer = sum;
}

static bool check_same_counter(const rlp_key_t *a, const rlp_key_t *b)
{
    return a->signature == b->signature && a->identity_len == b->identity_len &&
           memcmp(a->identity, b->identity, a->identity_len) == 0;
}

/* The counter of a charge: its own, or that of the other branch, which is among the n listed. */
static rlp_entry_t *check_counter(rlp_charge_t *charge, rlp_entry_t *const entries[], int n)
{
    for (int i = 0; charge->branch == RLP_INSTEAD && i < n; i++) {
        if (check_same_counter(&entries[i]->key, &charge->entry.key)) {
            return entries[i];
        }
    }
    return &charge->entry;
}

/* Lists the counters; charges of two branches may share one. How many there are. */
static int check_counters(rlp_entry_t *entries[], check_t *check)
{
    rlp_charge_t *charges = check->charges;
    int counters = 0;

    for (int i = 0; i < check->n; i++) {
        charges[i].spared = false;
        check->branches |= charges[i].branch != RLP_ALWAYS;
        check->large |= !check_is_small(&charges[i]);
        charges[i].counter = check_counter(&charges[i], entries, counters);
        if (charges[i].counter == &charges[i].entry) {
            entries[counters++] = &charges[i].entry;
        }
    }
    return counters;
}

static apr_status_t check_run_many(rlp_store_t *store, check_t *check,
                                   const rlp_question_t *question, rlp_answer_t *answer)
{
    rlp_entry_t *entries[RLP_ENTRIES_MAX];
    const bool settles = check->op.kind == RLP_SETTLE || check->op.kind == RLP_RELEASE;

    if (check->n < 1 || check->n > RLP_ENTRIES_MAX) {
        return APR_EINVAL;
    }
    const int n = check_counters(entries, check);
    const apr_status_t rv =
        store->type->update(store, entries, n, question->now,
                            settles ? check_update_settle : check_update, check);

    if (rv == APR_SUCCESS) {
        check_answer(check->charges, check->n, answer);
        answer->damaged |= check->damaged;
    }
    return rv;
}

/* Most questions are about one limit. */
CHECK_INLINE apr_status_t check_run_one(rlp_store_t *store, rlp_charge_t *charge,
                                        const rlp_question_t *question, rlp_op_kind_t kind,
                                        rlp_answer_t *answer)
{
    check_one_t one = { .charge = charge,
                        .op = { .kind = kind,
                                .units = charge->cost,
                                .max_wait = charge->max_wait,
                                .wall = question->wall,
                                .owner = question->owner,
                                .owners = store->owners } };
    rlp_entry_t *entry = &charge->entry;

    charge->spared = false;
    const apr_status_t rv =
        store->type->update(store, &entry, 1, question->now, check_update_one, &one);

    if (__builtin_expect(rv != APR_SUCCESS, 0)) {
        *answer = (rlp_answer_t){ .verdict = RLP_ALLOW };
        return rv; /* nobody has written a decision */
    }
    *answer = (rlp_answer_t){ .verdict = charge->decision.verdict,
                              .wait = charge->decision.wait,
                              .retry = charge->decision.retry,
                              .damaged = charge->decision.damaged };
    return rv;
}

CHECK_INLINE apr_status_t check_run(rlp_store_t *store, rlp_charge_t charges[], int n,
                                    const rlp_question_t *question, rlp_op_kind_t kind,
                                    rlp_answer_t *answer)
{
    const bool near = store->type->decide == NULL;

    if (n == 1 && kind <= RLP_PEEK && __builtin_expect(near, 1)) {
        return check_run_one(store, charges, question, kind, answer);
    }
    answer->unasked = false;
    answer->told = false;
    answer->refuses = false;
    answer->retry = 0;
    if (!near) {
        return n < 1 || n > RLP_ENTRIES_MAX
                   ? APR_EINVAL
                   : store->type->decide(store, charges, n, question, kind, answer);
    }
    check_t check = { .charges = charges,
                      .n = n,
                      .op = { .kind = kind,
                              .wall = question->wall,
                              .charged_at = question->charged_at,
                              .owner = question->owner,
                              .owners = store->owners } };

    return check_run_many(store, &check, question, answer);
}

apr_status_t rlp_check(rlp_store_t *store, rlp_charge_t charges[], int n,
                       const rlp_question_t *question, rlp_answer_t *answer)
{
    return check_run(store, charges, n, question, RLP_TAKE, answer);
}

apr_status_t rlp_peek(rlp_store_t *store, rlp_charge_t charges[], int n,
                      const rlp_question_t *question, rlp_answer_t *answer)
{
    return check_run(store, charges, n, question, RLP_PEEK, answer);
}

apr_status_t rlp_settle(rlp_store_t *store, rlp_charge_t charges[], int n,
                        const rlp_question_t *question, rlp_answer_t *answer)
{
    for (int i = 0; i < n; i++) {
        if (charges[i].cost < -RLP_UNITS_MAX || charges[i].cost > RLP_UNITS_MAX) {
            return APR_EINVAL;
        }
    }
    return check_run(store, charges, n, question, RLP_SETTLE, answer);
}

apr_status_t rlp_release(rlp_store_t *store, rlp_charge_t charges[], int n,
                         const rlp_question_t *question, rlp_answer_t *answer)
{
    return check_run(store, charges, n, question, RLP_RELEASE, answer);
}

rlp_time_t rlp_store_time(const rlp_store_t *store, rlp_time_t now)
{
    return store->type->time(store, now);
}

uint64_t rlp_store_fingerprint(const rlp_store_t *store, const char *identity, size_t identity_len)
{
    return store->type->fingerprint(store, identity, identity_len);
}
