/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "hosts_redis.h"

#include "algorithm/algorithms.h"
#include "hosts_parts.h"

#include <stdlib.h>
#include <string.h>

#define SIM_LEASES_MAX 256 /* script/lease.lua */

__extension__ typedef unsigned __int128 wide_t;

/* One host's lease of one key. */
typedef struct {
    uint64_t id;
    int64_t sequence;
    rlp_units_t spent;
    rlp_units_t units;
    rlp_time_t ends;
} record_t;

/* Those of one key, in the order of their ends. */
typedef struct {
    int n;
    int room;
    record_t record[];
} records_t;

/* How the state of a bucket begins (lib/algorithm/token_bucket.c). */
typedef struct {
    uint64_t used; /* credit: a unit's thousandth is the limit's price, a microsecond its count */
    rlp_time_t at;
    uint64_t mark; /* 0: a new one */
} bucket_t;

struct redis_sim_t {
    rlp_store_t head;
    const rlp_limit_t *limit;
    uint32_t keys;
    unsigned char *states;
    rlp_time_t *expires;
    records_t **leases;
    rlp_owners_t owners;
    unsigned char secret[RLP_STORE_SECRET];
};

/* --- the store */

static void *sim_state(const redis_sim_t *redis, uint32_t key)
{
    return redis->states + (size_t)key * redis->limit->state_size;
}

/* A key has no TTL beyond its state's: what has expired is gone. */
static void sim_expire(redis_sim_t *redis, uint32_t key, rlp_time_t now)
{
    if (redis->expires[key] <= now) {
        memset(sim_state(redis, key), 0, redis->limit->state_size);
    }
}

static apr_status_t sim_update(rlp_store_t *head, rlp_entry_t *entries[], int n, rlp_time_t now,
                               rlp_update_fn *fn, void *baton)
{
    redis_sim_t *redis = (redis_sim_t *)head;
    uint32_t key;

    if (n != 1) {
        return APR_EINVAL;
    }
    memcpy(&key, entries[0]->key.identity, sizeof(key));
    sim_expire(redis, key, now);
    memcpy(entries[0]->state, sim_state(redis, key), redis->limit->state_size);
    fn(entries, n, now, baton);
    if (entries[0]->dirty) {
        memcpy(sim_state(redis, key), entries[0]->state, redis->limit->state_size);
        redis->expires[key] = entries[0]->expires;
    }
    return APR_SUCCESS;
}

static rlp_time_t sim_time(const rlp_store_t *store, rlp_time_t now)
{
    (void)store;
    return now;
}

static uint64_t sim_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    (void)store;
    (void)identity;
    (void)len;
    return 0;
}

static const rlp_store_type_t sim_type = {
    .name = "simulated", .update = sim_update, .time = sim_time, .fingerprint = sim_fingerprint
};

redis_sim_t *redis_sim_create(const rlp_limit_t *limit, uint32_t keys, apr_pool_t *pool)
{
    redis_sim_t *redis = apr_pcalloc(pool, sizeof(*redis));

    redis->head =
        (rlp_store_t){ .type = &sim_type, .owners = &redis->owners, .secret = redis->secret };
    redis->limit = limit;
    redis->keys = keys;
    redis->states = parts_memory(keys, limit->state_size);
    redis->expires = parts_memory(keys, sizeof(*redis->expires));
    redis->leases = parts_memory(keys, sizeof(records_t *));
    return redis;
}

static void sim_free_leases(redis_sim_t *redis)
{
    for (uint32_t key = 0; key < redis->keys; key++) {
        free(redis->leases[key]);
        redis->leases[key] = NULL;
    }
}

void redis_sim_destroy(redis_sim_t *redis)
{
    sim_free_leases(redis);
    free(redis->leases);
    free(redis->expires);
    free(redis->states);
}

void redis_sim_forget(redis_sim_t *redis)
{
    sim_free_leases(redis);
    memset(redis->expires, 0, redis->keys * sizeof(*redis->expires));
    memset(redis->states, 0, (size_t)redis->keys * redis->limit->state_size);
}

uint32_t redis_sim_living(const redis_sim_t *redis, rlp_time_t now)
{
    uint32_t living = 0;

    for (uint32_t key = 0; key < redis->keys; key++) {
        living += redis->expires[key] > now;
    }
    return living;
}

rlp_decision_t redis_sim_check(redis_sim_t *redis, uint32_t key, rlp_units_t cost, rlp_time_t now)
{
    const rlp_question_t question = { .now = now, .wall = now };
    rlp_charge_t charge;
    rlp_answer_t answer;

    rlp_charge_init(&charge, (const char *)&key, sizeof(key), 1, redis->limit);
    charge.cost = cost;
    if (rlp_check(&redis->head, &charge, 1, &question, &answer) != APR_SUCCESS) {
        abort();
    }
    return charge.decision;
}

/* --- leases */

static bool sim_drains(const rlp_limit_t *limit)
{
    return limit->algorithm == &rlp_token_bucket;
}

/* One step on a key's state. */
static rlp_decision_t sim_step(redis_sim_t *redis, uint32_t key, rlp_op_kind_t kind,
                               rlp_units_t units, rlp_time_t now)
{
    const rlp_op_t op = {
        .kind = kind, .units = units, .now = now, .wall = now, .charged_at = now
    };
    rlp_decision_t d;

    redis->limit->algorithm->step(sim_state(redis, key), redis->limit, &op, &d);
    return d;
}

/* At that instant no fewer units are in use than are leased: to the last bit, as the script has it,
   so the state is looked into. */
static void sim_hold(redis_sim_t *redis, uint32_t key, rlp_units_t held, rlp_time_t now)
{
    const rlp_limit_t *limit = redis->limit;
    bucket_t *bucket = sim_state(redis, key);
    const rlp_units_t missing = held - (limit->burst - limit->initial);
    const wide_t drained = (wide_t)(uint64_t)(now - bucket->at) * (uint64_t)limit->count;
    const wide_t least = (wide_t)(uint64_t)held * (uint64_t)limit->price;

    if (bucket->mark == 0 && missing > 0) {
        (void)sim_step(redis, key, RLP_SETTLE, missing, now);
    } else if (bucket->mark != 0 && bucket->used < least + drained) {
        bucket->used = (uint64_t)least;
        bucket->at = now;
    }
}

/* Units of a bucket drain from the end of their lease. */
static void sim_drain(redis_sim_t *redis, uint32_t key, const records_t *leases, rlp_time_t now)
{
    rlp_units_t held = 0;

    for (int i = 0; sim_drains(redis->limit) && i < leases->n; i++) {
        held += leases->record[i].units;
    }
    for (int i = 0; i < leases->n && held > 0 && leases->record[i].ends <= now; i++) {
        sim_hold(redis, key, held, leases->record[i].ends);
        held -= leases->record[i].units;
    }
    if (held > 0) {
        sim_hold(redis, key, held, now);
    }
}

/* The same step as the script's: above what is leased. */
static rlp_decision_t sim_run(redis_sim_t *redis, uint32_t key, rlp_op_kind_t kind,
                              rlp_units_t units, rlp_time_t now)
{
    sim_drain(redis, key, redis->leases[key], now);
    const rlp_decision_t d = sim_step(redis, key, kind, units, now);

    redis->expires[key] = d.expires > now ? d.expires : now + 1;
    return d;
}

/* Room for one more. */
static records_t *sim_leases(redis_sim_t *redis, uint32_t key)
{
    records_t *leases = redis->leases[key];

    if (leases == NULL || leases->n == leases->room) {
        const int n = leases ? leases->n : 0;
        const int room = n ? 2 * n : 2;

        leases = realloc(leases, sizeof(*leases) + (size_t)room * sizeof(record_t));
        if (leases == NULL) {
            abort();
        }
        leases->n = n;
        leases->room = room;
        redis->leases[key] = leases;
    }
    return leases;
}

static void sim_add(records_t *leases, const record_t *record)
{
    int at = leases->n++;

    for (; at > 0 && leases->record[at - 1].ends > record->ends; at--) {
        leases->record[at] = leases->record[at - 1];
    }
    leases->record[at] = *record;
}

/* Takes out those that are over, and the host's own, which is told; the units of the others. */
static rlp_units_t sim_others(records_t *leases, uint64_t id, rlp_time_t now, record_t *own)
{
    rlp_units_t others = 0;
    int n = 0;

    for (int i = 0; i < leases->n; i++) {
        if (leases->record[i].id == id) {
            *own = leases->record[i];
        } else if (leases->record[i].ends > now) {
            others += leases->record[i].units;
            leases->record[n++] = leases->record[i];
        }
    }
    leases->n = n;
    return others;
}

/* Until when a lease may be spent at most. */
static rlp_time_t sim_turn(const rlp_limit_t *limit, const rlp_decision_t *d, rlp_time_t now)
{
    if (sim_drains(limit)) {
        return RLP_TIME_NEVER;
    }
    return limit->algorithm == &rlp_quota ? d->reset
                                          : limit->period - (now - limit->start) % limit->period;
}

static rlp_units_t sim_grant(redis_sim_t *redis, uint32_t key, const lease_question_t *question,
                             rlp_time_t now, rlp_decision_t *d)
{
    const int n = redis->leases[key]->n - 1; /* of others */
    const rlp_units_t share = n < SIM_LEASES_MAX ? d->remaining / (n + 2) * RLP_UNIT : 0;
    rlp_units_t granted = question->want < share ? question->want : share;

    granted = granted > question->need ? granted : question->need;
    if (granted > d->remaining * RLP_UNIT) {
        *d = sim_run(redis, key, RLP_PEEK, question->need, now);
        granted = d->verdict == RLP_ALLOW ? question->need : 0;
    }
    if (granted > 0) {
        *d = sim_run(redis, key, RLP_TAKE, granted, now);
    }
    return granted;
}

lease_answer_t redis_sim_lease(redis_sim_t *redis, uint32_t key, const lease_question_t *question,
                               rlp_time_t now)
{
    records_t *leases = sim_leases(redis, key);
    const rlp_units_t held = question->has > 0 ? question->has : 0;
    const rlp_units_t debt = held - question->has;
    record_t own = { .id = 0 };

    sim_expire(redis, key, now);
    sim_drain(redis, key, leases, now);
    const rlp_units_t others = sim_others(leases, question->id, now, &own);

    if (own.id != 0 && question->sequence <= own.sequence) { /* was overtaken: changes nothing */
        sim_add(leases, &own);
        return (lease_answer_t){ .now = now,
                                 .decision = sim_run(redis, key, RLP_PEEK, 0, now),
                                 .turns = RLP_TIME_NEVER,
                                 .others = others };
    }
    const bool lives = own.id != 0 && own.ends > now;
    const rlp_units_t known = lives ? own.units - (question->spent - own.spent) : -debt;
    record_t mine = { .id = question->id,
                      .sequence = question->sequence,
                      .spent = question->spent,
                      .units = held,
                      .ends = now + LEASE_SPAN };

    (void)sim_step(redis, key, RLP_SETTLE, question->has - known + debt, now);
    sim_add(leases, &mine);
    rlp_decision_t d = sim_run(redis, key, RLP_PEEK, 0, now);
    const rlp_units_t granted = sim_grant(redis, key, question, now, &d);
    const rlp_time_t turn = sim_turn(redis->limit, &d, now);

    (void)sim_others(leases, question->id, now, &own);
    mine.units = held + granted;
    const bool spends = question->need > 0 && granted == question->need && sim_drains(redis->limit);
    const rlp_time_t most =
        spends && question->patience < LEASE_SPAN ? question->patience : LEASE_SPAN;

    mine.ends = now + (turn < most ? turn : most);
    sim_add(leases, &mine);
    if (redis->expires[key] < mine.ends) {
        redis->expires[key] = mine.ends;
    }
    return (lease_answer_t){ .now = now,
                             .decision = d,
                             .granted = granted + debt,
                             .lasts = mine.ends - now,
                             .turns = turn,
                             .others = others };
}

/* --- what would have been */

oracle_t oracle_create(const rlp_limit_t *limit, uint32_t keys)
{
    return (oracle_t){ .limit = limit, .states = parts_memory(keys, limit->state_size) };
}

void oracle_destroy(oracle_t *oracle)
{
    free(oracle->states);
}

bool oracle_take(oracle_t *oracle, uint32_t key, rlp_units_t units, rlp_time_t now)
{
    const rlp_op_t op = { .kind = RLP_TAKE, .units = units, .now = now, .wall = now };
    rlp_decision_t d;

    oracle->limit->algorithm->step(oracle->states + (size_t)key * oracle->limit->state_size,
                                   oracle->limit, &op, &d);
    return d.verdict == RLP_ALLOW;
}
