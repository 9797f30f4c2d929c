/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Bans, and plans given for a time, for all hosts whose first store is in the same Redis: one
 * process of a host looks every two seconds whether they have changed, and puts them into the
 * host's table, where requests meet them.
 */

#include "admin.h"
#include "store_redis.h"

#include "redis/orders.h"

#include <http_log.h>

#include <apr_strings.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

#define ORDERS_EVERY (2 * RLP_SECOND)
#define ORDERS_PATIENCE RLP_SECOND /* beyond timeout=: nobody waits for it but people */

static override_brought_t orders_item(const redis_order_t *order, const char *shown)
{
    const rlp_time_t now = ordered_now();

    return (override_brought_t){
        .key = override_key(rlp_world->store, order->identity, strlen(order->identity)),
        .wanted = { .ban = order->ban ? now + order->ban : 0,
                    .until = order->until ? now + order->until : 0,
                    .plan = order->until ? override_plan_hash(order->plan) : 0 },
        .shown = shown
    };
}

static void orders_exchange(const far_orders_t *orders, redis_orders_call_t *ask)
{
    redis_endpoint_exchange(orders->endpoint, &ask->call, 1,
                            rlp_clock_monotonic() + orders->settings->timeout + ORDERS_PATIENCE);
}

/* --- somebody orders something */

/* The first store's. */
static const far_orders_t *orders_first(void)
{
    return far_orders(APR_ARRAY_IDX(rlp_world->depots, 0, depot_t).store);
}

/* Puts in force here what is in force there; other processes of this host see it at once. False:
   it was so already, as far as it is of the kind that was ordered. */
static bool orders_apply(const order_t *order, const redis_order_t *there)
{
    const override_brought_t item = orders_item(there, order->shown);
    override_t before;
    const bool was = override_find(ordered_table(), &item.key, ordered_now(), &before) &&
                     (order->is_plan ? before.until : before.ban) != 0;

    (void)override_set_brought(ordered_table(), &item, ordered_now());
    return was;
}

static override_result_t orders_result(const order_t *order, redis_ordered_t ordered,
                                       redis_order_t *there)
{
    switch (ordered) {
    case REDIS_ORDERED_FULL:
        return OVERRIDE_FULL;
    case REDIS_ORDERED_UNCLEAR:
        return OVERRIDE_AWAY;
    default:
        there->identity = order->text;
        /* what was in force here alone ends, too */
        return orders_apply(order, there) || ordered == REDIS_ORDERED ? OVERRIDE_DONE
                                                                      : OVERRIDE_NONE;
    }
}

override_result_t store_redis_order(const order_t *order, apr_pool_t *pool)
{
    const far_orders_t *orders = orders_first();
    const char *name = order->plan ? order->plan->limits->name : "";
    redis_orders_call_t ask;
    redis_order_t there;

    redis_orders_change(&ask, orders->settings->prefix, order->text, order->is_plan ? name : NULL,
                        order->until ? order->until - ordered_now() : 0, pool);
    orders_exchange(orders, &ask);
    const redis_ordered_t ordered = ask.call.fault == REDIS_FAULT_NONE
                                        ? redis_orders_changed(&there, ask.call.reply, pool)
                                        : REDIS_ORDERED_UNCLEAR;
    const override_result_t result = orders_result(order, ordered, &there);

    freeReplyObject(ask.call.reply);
    return result;
}

/* --- a look now and then */

static int orders_parts(const char *value)
{
    int n = 1;

    for (const char *at = value; *at != '\0'; at++) {
        n += *at == '+';
    }
    return n;
}

/* Whom it is about, as the log may have it; of nobody who is counted here it may have nothing. */
static const char *orders_shown(const far_orders_t *orders, const char *text, apr_pool_t *pool)
{
    const server_conf_t *server =
        ap_get_module_config(orders->server->module_config, &ratelimit_plans_module);
    const char *colon = strchr(text, ':');
    const identity_t *identity = colon ? admin_identity(text, (size_t)(colon - text) + 1) : NULL;

    return identity != NULL && orders_parts(colon) == identity->n
               ? identity_logged(text, server->key_plain == 1, pool)
               : "?";
}

/* One process of the host looks. */
static bool orders_claim(far_orders_shared_t *shared, rlp_time_t now)
{
    rlp_time_t due = __atomic_load_n(&shared->due, __ATOMIC_RELAXED);

    /* a moment too far away is no time of this clock */
    return (now >= due || due - now > ORDERS_EVERY) &&
           __atomic_compare_exchange_n(&shared->due, &due, now + ORDERS_EVERY, false,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static void orders_bring(const far_orders_t *orders, const redis_orders_t *list, uint32_t changes,
                         apr_pool_t *pool)
{
    override_brought_t *items = apr_palloc(pool, sizeof(*items) * (size_t)(list->n + 1));

    for (int i = 0; i < list->n; i++) {
        items[i] =
            orders_item(&list->orders[i], orders_shown(orders, list->orders[i].identity, pool));
    }
    const override_result_t result =
        override_bring(ordered_table(), items, list->n, changes, ordered_now());

    if (result == OVERRIDE_BUSY) { /* what was ordered here meanwhile may not be among them */
        return;
    }
    __atomic_store_n(&orders->shared->known, list->version + 1, __ATOMIC_RELAXED);
    if (list->bad > 0 || result == OVERRIDE_FULL) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, orders->server,
                     "RLP034: bans and plans in Redis: %d in force, %d not understood%s", list->n,
                     list->bad, result == OVERRIDE_FULL ? ", and no room here for all" : "");
    }
}

void far_orders_look(const far_orders_t *orders)
{
    apr_pool_t *pool;
    redis_orders_call_t ask;

    if (ordered_table() == NULL || !orders_claim(orders->shared, rlp_clock_monotonic()) ||
        apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return;
    }
    const uint32_t changes = override_changes(ordered_table());

    redis_orders_look(&ask, orders->settings->prefix,
                      __atomic_load_n(&orders->shared->known, __ATOMIC_RELAXED) - 1, pool);
    orders_exchange(orders, &ask);
    const redis_orders_t *list =
        ask.call.fault == REDIS_FAULT_NONE ? redis_orders_read(ask.call.reply, pool) : NULL;

    if (list != NULL && list->changed) {
        orders_bring(orders, list, changes, pool);
    }
    freeReplyObject(ask.call.reply);
    apr_pool_destroy(pool);
}
