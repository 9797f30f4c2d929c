/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A lease is charged in Redis before any of it is spent, so hosts may spend at will. `units` is
 * what this host may still spend, `spent` what it has spent since the lease began; units come from
 * grants only, so Redis can tell from both which grants have not arrived (script/lease.lua).
 */

#include "redis/lease_draw.h"

#include "algorithm/algorithms.h"
#include "latch.h"

#include <apr_general.h>

#include <errno.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide_t;

#define LEASE_WAYS 8
#define LEASE_SHARDS 64

#define LEASE_NUDGE (RLP_SECOND / 50)      /* between two requests for a renewal */
#define LEASE_LOOK (RLP_SECOND / 4)        /* between two looks at all leases */
#define LEASE_LAST RLP_SECOND              /* of a lease: what is unspent by then is given back */
#define LEASE_DRAIN_MAX (INT64_C(1) << 50) /* longer ones are counted one by one */
#define LEASE_SPENT_MAX (INT64_C(1) << 52) /* Redis' doubles are exact up to twice that */

typedef struct {
    _Alignas(64) latch_t latch;
} shard_t;

struct lease_table_t {
    unsigned char secret[16];
    uint64_t next_id;
    rlp_time_t patience;
    rlp_time_t looked;
    uint32_t leases; /* a multiple of LEASE_TABLE_STEP */
    shard_t shards[LEASE_SHARDS];
    lease_t lease[];
};

_Static_assert(LEASE_TABLE_STEP == LEASE_WAYS * LEASE_SHARDS, "each shard has whole sets");

/* --- the table */

size_t lease_table_size(uint32_t leases)
{
    return sizeof(lease_table_t) + leases * sizeof(lease_t);
}

lease_table_t *lease_table_make(void *memory, uint32_t leases, rlp_time_t patience)
{
    lease_table_t *table = memory;

    table->leases = leases;
    table->patience = patience;
    (void)apr_generate_random_bytes(table->secret, sizeof(table->secret));
    (void)apr_generate_random_bytes((unsigned char *)&table->next_id, sizeof(table->next_id));
    table->next_id |= 1; /* odd for good: no lease has the id 0 */
    for (int i = 0; i < LEASE_SHARDS; i++) {
        table->shards[i].latch = 0;
    }
    return table;
}

uint32_t lease_table_room(const lease_table_t *table)
{
    return table->leases;
}

const unsigned char *lease_table_secret(const lease_table_t *table)
{
    return table->secret;
}

bool lease_table_turn(lease_table_t *table, rlp_time_t now)
{
    rlp_time_t looked = __atomic_load_n(&table->looked, __ATOMIC_RELAXED);

    return (now < looked || now - looked >= LEASE_LOOK) &&
           __atomic_compare_exchange_n(&table->looked, &looked, now, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED);
}

/* The shard of a lease: sets of one shard lie apart. */
static uint32_t table_shard(uint32_t index)
{
    return index / LEASE_WAYS % LEASE_SHARDS;
}

/* What a process may have left half done when it was killed is forgotten; Redis has charged it. */
static void table_forget(lease_table_t *table, uint32_t shard)
{
    for (uint32_t i = 0; i < table->leases; i++) {
        if (table_shard(i) == shard) {
            memset(&table->lease[i], 0, sizeof(table->lease[i]));
        }
    }
}

static bool table_lock(lease_table_t *table, uint32_t shard)
{
    const int rv = latch_take(&table->shards[shard].latch);

    if (rv == EOWNERDEAD) {
        table_forget(table, shard);
    }
    return rv == 0 || rv == EOWNERDEAD;
}

static void table_unlock(lease_table_t *table, uint32_t shard)
{
    latch_free(&table->shards[shard].latch);
}

static uint32_t table_set(const lease_table_t *table, const lease_charge_t *charge)
{
    const uint64_t mixed = charge->identity ^ charge->signature * UINT64_C(0x9E3779B97F4A7C15);

    return (uint32_t)(mixed % (table->leases / LEASE_WAYS)) * LEASE_WAYS;
}

static lease_t *table_find(lease_table_t *table, uint32_t set, const lease_charge_t *charge)
{
    for (uint32_t i = set; i < set + LEASE_WAYS; i++) {
        lease_t *lease = &table->lease[i];

        if (lease->identity == charge->identity && lease->signature == charge->signature) {
            return lease;
        }
    }
    return NULL;
}

static uint64_t table_id(lease_table_t *table)
{
    return __atomic_add_fetch(&table->next_id, 2, __ATOMIC_RELAXED);
}

/* Nothing is lost with it but what it remembers. */
static bool table_is_free(const lease_t *lease, rlp_time_t now)
{
    return lease->id == 0 || (lease->claim <= now && now - lease->used > LEASE_IDLE &&
                              (lease->units == 0 || lease->ends + LEASE_SPAN <= now));
}

static lease_t *table_make(lease_table_t *table, uint32_t set, const lease_charge_t *charge,
                           rlp_time_t now)
{
    for (uint32_t i = set; i < set + LEASE_WAYS; i++) {
        lease_t *lease = &table->lease[i];

        if (table_is_free(lease, now)) {
            *lease = (lease_t){ .identity = charge->identity,
                                .signature = charge->signature,
                                .id = table_id(table),
                                .used = now,
                                .gauged = now,
                                .full_at = now };
            return lease;
        }
    }
    return NULL;
}

/* --- which charges */

bool lease_fits_limit(const rlp_limit_t *limit)
{
    const rlp_algorithm_t *algorithm = limit->algorithm;

    if (limit->count == 0 || limit->drain >= LEASE_DRAIN_MAX) {
        return false;
    }
    /* of a smaller bucket a host would draw what a request needs and no more; and while that
       request waits for it, nothing drains below */
    if (algorithm == &rlp_token_bucket) {
        return limit->burst >= LEASE_PER_BURST * RLP_UNIT;
    }
    return algorithm == &rlp_fixed_window || algorithm == &rlp_sliding_window ||
           algorithm == &rlp_quota;
}

bool lease_fits(const rlp_charge_t *charge)
{
    return lease_fits_limit(charge->limit) && charge->branch == RLP_ALWAYS &&
           charge->max_wait == 0 && charge->cost > 0 && charge->cost <= charge->limit->burst;
}

/* --- one lease */

static terms_t lease_terms(const rlp_limit_t *limit)
{
    const bool bucket = limit->algorithm == &rlp_token_bucket;
    const bool slides = limit->algorithm == &rlp_sliding_window;

    return (terms_t){ .count = limit->count,
                      .period = limit->period,
                      .burst = limit->burst,
                      .drain = bucket ? limit->drain : 0,
                      .earns = bucket || slides ? limit->drain : 0,
                      .keeps = limit->drain / (bucket ? 8 : 64) };
}

/* What is left at the end of a lease is void; a debt is not. */
static void lease_age(lease_t *lease, rlp_time_t now)
{
    if (now >= lease->ends && lease->units > 0) {
        lease->units = 0;
    }
}

static bool lease_is_of(const lease_t *lease, const rlp_limit_t *limit)
{
    return limit->count == lease->terms.count && limit->burst == lease->terms.burst;
}

/* A plan with another limit begins anew, without what was drawn under the one before, or is just
   being drawn: Redis has it back with the next question. */
static void lease_suit(lease_t *lease, const rlp_limit_t *limit)
{
    if (lease_is_of(lease, limit)) {
        return;
    }
    lease->units = lease_min(lease->units, 0);
    lease->terms = lease_terms(limit);
    lease->claim = 0;
    lease->refused_until = 0;
    lease->ask_after = 0;
    lease->key_len = 0;
}

/* The view of this host: what it has, and what it last heard of the rest. */
static void lease_tell(const lease_t *lease, rlp_time_t now, rlp_decision_t *decision)
{
    const rlp_units_t held = lease_max(lease->units, 0);
    const rlp_units_t all = lease_min(held + lease->central, lease->terms.burst);
    rlp_time_t full = lease->full_at;

    *decision = (rlp_decision_t){ .verdict = RLP_ALLOW, .remaining = all / RLP_UNIT };
    if (all < RLP_UNIT) {
        decision->next =
            lease->next_at == RLP_TIME_NEVER ? RLP_TIME_NEVER : lease_max(lease->next_at - now, 1);
    }
    if (full == RLP_TIME_NEVER) {
        decision->reset = RLP_TIME_NEVER;
        return;
    }
    if (lease->terms.drain > 0) {
        full -= (rlp_time_t)((wide_t)(uint64_t)held * (uint64_t)lease->terms.drain /
                             (uint64_t)lease->terms.burst);
    }
    decision->reset = full > now ? full - now : 0;
}

/* When there would be enough for this cost, by what Redis has said: exactly for a bucket. */
static rlp_time_t lease_enough_at(const lease_t *lease, rlp_units_t cost)
{
    const terms_t *terms = &lease->terms;
    const rlp_units_t rest = terms->burst - cost + lease_max(lease->units, 0);

    if (terms->drain == 0) {
        return lease->next_at;
    }
    return lease->full_at -
           (rlp_time_t)((wide_t)(uint64_t)rest * (uint64_t)terms->drain / (uint64_t)terms->burst);
}

/* Until when there is nothing for this cost; 0: it has to be asked. */
static rlp_time_t lease_refuses(const lease_t *lease, rlp_units_t cost, rlp_time_t now)
{
    const bool refused = cost >= lease->refused && now < lease->refused_until;
    const rlp_time_t until = refused ? lease->retry_at : 0;

    if (now >= lease->ask_after) {
        return until;
    }
    return lease_max(until, lease_max(lease->ask_after, lease_enough_at(lease, cost)));
}

static void lease_tell_refusal(const lease_t *lease, rlp_time_t until, rlp_time_t now,
                               rlp_decision_t *decision)
{
    lease_tell(lease, now, decision);
    decision->verdict = until == RLP_TIME_NEVER ? RLP_NEVER : RLP_DENY;
    decision->retry = until == RLP_TIME_NEVER ? 0 : lease_max(until - now, 1);
    if (lease->refused <= RLP_UNIT || now < lease->ask_after) {
        decision->remaining = lease_max(lease->units, 0) / RLP_UNIT;
    }
    if (decision->remaining == 0 && until != RLP_TIME_NEVER) {
        decision->next =
            lease->refused <= RLP_UNIT || decision->next == 0 ? decision->retry : decision->next;
    }
}

static void lease_pay(lease_t *lease, rlp_units_t cost, rlp_time_t now, lease_result_t *result)
{
    lease->units -= cost;
    lease->spent += cost;
    lease->used = now;
    result->outcome = LEASE_SPENT;
    result->id = lease->id;
    result->charged_at = now + lease->ahead;
    result->renew = lease->units < lease->half && lease->claim <= now && now >= lease->ask_after &&
                    now - lease->nudged >= LEASE_NUDGE;
    if (result->renew) {
        lease->nudged = now;
    }
    lease_tell(lease, now, &result->decision);
}

/* Before it asks: one that has spent so much that Redis could soon not tell more of it from less
   goes on as another, with its debt alone. */
static void lease_begin_anew(lease_table_t *table, lease_t *lease)
{
    if (lease->spent >= LEASE_SPENT_MAX) {
        lease->id = table_id(table);
        lease->units = lease_min(lease->units, 0);
        lease->spent = 0;
        lease->reported = 0;
    }
}

static void lease_decide(lease_table_t *table, lease_t *lease, const lease_charge_t *charge,
                         rlp_time_t now, lease_result_t *result, lease_question_t *question)
{
    const rlp_units_t cost = charge->cost;

    lease_age(lease, now);
    lease_suit(lease, charge->limit);
    lease->demand = lease_min(lease->demand + cost, RLP_UNITS_MAX);
    if (lease->units >= cost) {
        lease_pay(lease, cost, now, result);
        return;
    }
    const rlp_time_t until = lease_refuses(lease, cost, now);

    if (until != 0) {
        result->outcome = LEASE_REFUSED;
        lease_tell_refusal(lease, until, now, &result->decision);
    } else if (lease->claim > now) {
        result->outcome = LEASE_WAIT;
    } else {
        result->outcome = LEASE_ASK;
        lease_begin_anew(table, lease);
        lease_ask(lease, cost, now, question);
        question->key_len = 0;
    }
}

void lease_spend(lease_table_t *table, const lease_charge_t *charge, rlp_time_t now,
                 lease_result_t *result, lease_question_t *question)
{
    const uint32_t set = table_set(table, charge);

    *result = (lease_result_t){ .outcome = LEASE_NONE };
    if (!table_lock(table, table_shard(set))) {
        return;
    }
    lease_t *lease = table_find(table, set, charge);

    lease = lease ? lease : table_make(table, set, charge, now);
    if (lease != NULL) {
        result->index = question->index = (uint32_t)(lease - table->lease);
        question->patience = table->patience;
        lease_decide(table, lease, charge, now, result, question);
    }
    table_unlock(table, table_shard(set));
}

bool lease_peek(lease_table_t *table, const lease_charge_t *charge, rlp_time_t now,
                rlp_decision_t *decision)
{
    const uint32_t set = table_set(table, charge);
    bool known = false;

    if (!table_lock(table, table_shard(set))) {
        return false;
    }
    lease_t *lease = table_find(table, set, charge);

    if (lease != NULL && lease_is_of(lease, charge->limit)) {
        lease_age(lease, now);
        const rlp_time_t until =
            lease->units >= charge->cost ? 0 : lease_refuses(lease, charge->cost, now);

        known = lease->units >= charge->cost || until != 0;
        if (until != 0) {
            lease_tell_refusal(lease, until, now, decision);
        } else if (known) {
            lease_tell(lease, now, decision);
        }
    }
    table_unlock(table, table_shard(set));
    return known;
}

/* --- what comes back */

static void lease_receive(lease_t *lease, const lease_question_t *question,
                          const lease_answer_t *answer, rlp_time_t now, lease_result_t *result)
{
    if (lease->id != question->id || lease->sequence != question->sequence || lease->claim == 0) {
        return; /* too late: another has asked since */
    }
    lease->claim = 0;
    if (answer == NULL || answer->lasts == 0) {
        return;
    }
    lease_age(lease, now);
    lease_take_over(lease, question, answer, now);
    lease_age(lease, now);
    if (question->cost == 0) {
        return;
    }
    if (lease->units >= question->cost) {
        lease_pay(lease, question->cost, now, result);
        return;
    }
    const rlp_time_t until = lease_refuses(lease, question->cost, now);

    if (until != 0) {
        result->outcome = LEASE_REFUSED;
        lease_tell_refusal(lease, until, now, &result->decision);
    }
}

void lease_granted(lease_table_t *table, const lease_question_t *question,
                   const lease_answer_t *answer, rlp_time_t now, lease_result_t *result)
{
    const uint32_t shard = table_shard(question->index);

    *result = (lease_result_t){ .outcome = LEASE_WAIT, .index = question->index };
    if (table_lock(table, shard)) {
        lease_receive(&table->lease[question->index], question, answer, now, result);
        table_unlock(table, shard);
    }
}

/* --- corrections */

/* Units that were spent come back into the lease. What Redis has been told may have drained there
   already: it has to know, as it has to where the lease is over. */
static bool lease_give_back(lease_t *lease, rlp_units_t units, rlp_time_t charged_at,
                            rlp_time_t now)
{
    if (lease->terms.drain == 0 && charged_at < lease->turned) {
        return true; /* that window is over */
    }
    const rlp_units_t most = lease->spent - (lease->terms.drain > 0 ? lease->reported : 0);

    if (now >= lease->ends || units > most || lease->units + units > lease->terms.burst) {
        return false;
    }
    lease->units += units;
    lease->spent -= units;
    lease->refused_until = 0;
    return true;
}

bool lease_settle(lease_table_t *table, const lease_charge_t *charge, uint64_t id,
                  rlp_time_t charged_at, rlp_time_t now)
{
    const uint32_t set = table_set(table, charge);
    bool done = false;

    if (id == 0 || !table_lock(table, table_shard(set))) {
        return false;
    }
    lease_t *lease = table_find(table, set, charge);

    if (lease != NULL && lease->id == id) {
        lease_age(lease, now);
        lease->used = now;
        if (charge->cost < 0) {
            done = lease_give_back(lease, -charge->cost, charged_at, now);
        } else {
            lease->units = lease_max(lease->units - charge->cost, -RLP_UNITS_MAX);
            lease->spent = lease_min(lease->spent + charge->cost, RLP_UNITS_MAX);
            done = true;
        }
    }
    table_unlock(table, table_shard(set));
    return done;
}

void lease_reconsider(lease_table_t *table, const lease_charge_t *charge)
{
    const uint32_t set = table_set(table, charge);

    if (!table_lock(table, table_shard(set))) {
        return;
    }
    lease_t *lease = table_find(table, set, charge);

    if (lease != NULL) {
        lease->refused_until = 0;
        lease->ask_after = 0;
    }
    table_unlock(table, table_shard(set));
}

/* --- what nobody waits for */

static bool lease_is_idle(const lease_t *lease, bool all, rlp_time_t now)
{
    return lease->units != 0 && (all || now - lease->used >= LEASE_IDLE);
}

/* Its end is near, and its window's is not: what is void then would stay charged. So it is with
   units that are spent and come back all the time, since another limit refuses. */
static bool lease_fades(const lease_t *lease, rlp_time_t now)
{
    return lease->units > 0 && lease->ends - now <= LEASE_LAST &&
           lease->turns - LEASE_LAST > lease->ends + lease->ahead;
}

static bool lease_is_low(const lease_t *lease, rlp_time_t now)
{
    return lease->units > 0 && lease->units < lease->half && now >= lease->ask_after;
}

bool lease_due(lease_table_t *table, uint32_t index, bool all, rlp_time_t now,
               lease_question_t *question)
{
    lease_t *lease = &table->lease[index];
    bool due = false;

    if (!table_lock(table, table_shard(index))) {
        return false;
    }
    if (lease->id != 0 && lease->claim <= now && lease->key_len > 0) {
        lease_age(lease, now);
        question->index = index;
        question->patience = table->patience;
        due = true;
        if (lease_is_idle(lease, all, now) || lease_fades(lease, now)) {
            lease->units = lease_min(lease->units, 0);
            lease_claim(lease, now, question);
        } else if (lease_is_low(lease, now)) {
            lease_begin_anew(table, lease);
            lease_ask(lease, 0, now, question);
        } else {
            due = false;
        }
    }
    table_unlock(table, table_shard(index));
    return due;
}
