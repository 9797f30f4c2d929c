/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Bans, and plans given for a time: the table of them, and who changes it.
 */

#include "admin.h"
#include "provider.h"

#include <apr_strings.h>

#include <string.h>

rlp_time_t ordered_now(void)
{
    return annex_now();
}

override_key_t ordered_key(const char *text, size_t len)
{
    return override_key(annex_store(), text, len);
}

bool ordered_is_shared(void)
{
#ifdef RLP_REDIS
    return APR_ARRAY_IDX(rlp_world->depots, 0, depot_t).provider == &store_redis_provider;
#else
    return false;
#endif
}

struct ordered_t {
    override_table_t table;
    uint64_t *plans; /* override_plan_hash() of each, by plan_t.index - 1 */
    uint64_t source; /* of what holds on all hosts; 0: nothing does */
};

/* Where that is, and by which secrets the table has it. */
static uint64_t ordered_origin(apr_pool_t *pool)
{
#ifdef RLP_REDIS
    if (ordered_is_shared()) {
        const char *where = store_redis_where(pool);
        const override_key_t key = ordered_key(where, strlen(where));

        return key.fingerprint != key.digest ? key.fingerprint ^ key.digest : 1;
    }
#endif
    (void)pool;
    return 0;
}

void ordered_open(apr_pool_t *pool)
{
    const int n = rlp_world->plan_list->nelts;
    ordered_t *ordered = apr_pcalloc(pool, sizeof(*ordered));

    if (!override_attach(&ordered->table, rlp_world->annex)) {
        return;
    }
    ordered->plans = apr_palloc(pool, sizeof(*ordered->plans) * (apr_size_t)(n ? n : 1));
    for (int i = 0; i < n; i++) {
        const plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *);

        ordered->plans[i] = override_plan_hash(plan->limits->name);
    }
    rlp_world->ordered = ordered;
    rlp_world->ordered_count = &ordered->table.head->count;
    ordered->source = ordered_origin(pool);
    override_adopt(&ordered->table, ordered->source, ordered_now());
}

uint64_t ordered_source(void)
{
    return rlp_world->ordered->source;
}

const override_table_t *ordered_table(void)
{
    return rlp_world->ordered ? &rlp_world->ordered->table : NULL;
}

const plan_t *ordered_plan(uint64_t hash)
{
    for (int i = 0; i < rlp_world->plan_list->nelts; i++) {
        if (rlp_world->ordered->plans[i] == hash) {
            return APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *);
        }
    }
    return NULL; /* no longer configured */
}

/* Puts it in force on this host alone. */
static override_result_t ordered_put_here(const order_t *order)
{
    const override_table_t *table = ordered_table();
    const override_key_t key = ordered_key(order->text, strlen(order->text));
    const rlp_time_t now = ordered_now();
    override_t wanted;

    if (!override_find(table, &key, now, &wanted)) {
        wanted = (override_t){ .ban = 0 };
    }
    if (order->until == 0 && (order->is_plan ? wanted.until : wanted.ban) == 0) {
        return OVERRIDE_NONE;
    }
    if (order->is_plan) {
        wanted.until = order->until;
        wanted.plan = order->plan ? override_plan_hash(order->plan->limits->name) : 0;
    } else {
        wanted.ban = order->until;
    }
    return override_set(table, &key, &wanted, order->shown, now);
}

override_result_t ordered_put(const order_t *order, apr_pool_t *pool)
{
#ifdef RLP_REDIS
    if (ordered_is_shared()) {
        return store_redis_order(order, pool);
    }
#endif
    (void)pool;
    return ordered_put_here(order);
}
