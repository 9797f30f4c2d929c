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
/* Beyond timeout=, for nobody waits but people; a look must not outlast the end of its thread. */
#define ORDERS_PATIENCE RLP_SECOND
#define ORDERS_PATIENCE_LOOK (RLP_SECOND / 2)

static override_brought_t orders_item(const redis_order_t *order, const char *shown)
{
    const rlp_time_t now = ordered_now();

    return (override_brought_t){ .key = ordered_key(order->identity, strlen(order->identity)),
                                 .wanted = { .ban = order->ban ? now + order->ban : 0,
                                             .until = order->until ? now + order->until : 0,
                                             .plan = order->until ? override_plan_hash(order->plan)
                                                                  : 0 },
                                 .shown = shown };
}

static void orders_exchange(const far_orders_t *orders, redis_orders_call_t *ask,
                            rlp_time_t patience)
{
    redis_endpoint_exchange(orders->endpoint, &ask->call, 1,
                            rlp_clock_monotonic() + orders->settings->timeout + patience);
}

/* --- somebody orders something */

/* The first store's. */
static const far_orders_t *orders_first(void)
{
    return far_orders(APR_ARRAY_IDX(rlp_world->depots, 0, depot_t).store);
}

const char *store_redis_where(apr_pool_t *pool)
{
    const far_settings_t *settings = orders_first()->settings;

    return apr_pstrcat(pool, redis_url_print(&settings->url, pool), " ", settings->prefix, NULL);
}

/* Puts in force here what is in force there; other processes of this host see it at once. */
static override_result_t orders_apply(const order_t *order, const redis_order_t *there,
                                      bool changed)
{
    const override_brought_t item = orders_item(there, order->shown);
    override_t before;
    /* what was in force here alone ends, too */
    const bool was = override_find(ordered_table(), &item.key, ordered_now(), &before) &&
                     (order->is_plan ? before.until : before.ban) != 0;
    const override_result_t result = override_set_brought(ordered_table(), &item, ordered_now());

    if (result == OVERRIDE_BUSY || result == OVERRIDE_FULL) {
        return OVERRIDE_LATE;
    }
    return was || changed ? OVERRIDE_DONE : OVERRIDE_NONE;
}

static override_result_t orders_result(const order_t *order, redis_ordered_t ordered,
                                       redis_order_t *there)
{
    switch (ordered) {
    case REDIS_ORDERED_FULL:
        return OVERRIDE_FULL;
    case REDIS_ORDERED_UNCLEAR:
        return OVERRIDE_LOST;
    default:
        there->identity = order->text;
        return orders_apply(order, there, ordered == REDIS_ORDERED);
    }
}

/* Could it be that Redis has done it? */
static override_result_t orders_fault(redis_fault_t fault)
{
    return fault == REDIS_FAULT_CLOSED || fault == REDIS_FAULT_PROTOCOL ||
                   fault == REDIS_FAULT_TIMEOUT
               ? OVERRIDE_LOST
               : OVERRIDE_AWAY;
}

override_result_t store_redis_order(const order_t *order, apr_pool_t *pool)
{
    const far_orders_t *orders = orders_first();
    const char *name = order->plan ? order->plan->limits->name : "";
    redis_orders_call_t ask;
    redis_order_t there;

    redis_orders_change(&ask, orders->settings->prefix, order->text, order->is_plan ? name : NULL,
                        order->until ? order->until - ordered_now() : 0, pool);
    orders_exchange(orders, &ask, ORDERS_PATIENCE);
    if (ask.call.fault != REDIS_FAULT_NONE) {
        freeReplyObject(ask.call.reply);
        return orders_fault(ask.call.fault);
    }
    const redis_ordered_t ordered = redis_orders_changed(&there, ask.call.reply, pool);
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
    const server_conf_t *server = server_conf(orders->server);
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

/* Is nothing to be said of what was brought, or was it said? What was too late is read again. */
static bool orders_is_told(far_orders_shared_t *shared, uint64_t version, override_result_t result)
{
    const uint64_t this = (version + 1) << 1 | (result == OVERRIDE_FULL);

    return result == OVERRIDE_BUSY ||
           __atomic_exchange_n(&shared->told, this, __ATOMIC_RELAXED) == this;
}

static void orders_bring(const far_orders_t *orders, const redis_orders_t *list,
                         const override_mark_t *mark, apr_pool_t *pool)
{
    override_brought_t *items = apr_palloc(pool, sizeof(*items) * (size_t)(list->n + 1));

    for (int i = 0; i < list->n; i++) {
        items[i] =
            orders_item(&list->orders[i], orders_shown(orders, list->orders[i].identity, pool));
    }
    const override_result_t result =
        override_bring(ordered_table(), mark, list->version + 1, items, list->n, ordered_now());

    if (orders_is_told(orders->shared, list->version, result)) {
        return;
    }
    if (result == OVERRIDE_FULL || list->bad > 0) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, orders->server,
                     "RLP034: bans and plans in Redis: %d in force, %d not understood%s", list->n,
                     list->bad, result == OVERRIDE_FULL ? ", and no room here for all" : "");
    }
}

static apr_status_t orders_free(void *reply)
{
    freeReplyObject(reply);
    return APR_SUCCESS;
}

/* NULL: there is no answer. */
static const redis_orders_t *orders_see(const far_orders_t *orders, bool whole, rlp_time_t patience,
                                        apr_pool_t *pool)
{
    redis_orders_call_t ask;

    redis_orders_look(&ask, orders->settings->prefix, whole, pool);
    orders_exchange(orders, &ask, patience);
    apr_pool_cleanup_register(pool, ask.call.reply, orders_free, apr_pool_cleanup_null);
    return ask.call.fault == REDIS_FAULT_NONE ? redis_orders_read(ask.call.reply, pool) : NULL;
}

void far_orders_look(const far_orders_t *orders)
{
    apr_pool_t *pool;
    override_mark_t mark;

    if (ordered_table() == NULL || !orders_claim(orders->shared, rlp_clock_monotonic()) ||
        !override_mark(ordered_table(), ordered_source(), &mark) ||
        apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return;
    }
    /* the short question first: requests wait behind the long one while it has no answer */
    const redis_orders_t *list = orders_see(orders, false, 0, pool);

    if (list != NULL && list->version + 1 != mark.version) {
        list = orders_see(orders, true, ORDERS_PATIENCE_LOOK, pool);
        if (list != NULL && list->whole) {
            orders_bring(orders, list, &mark, pool);
        }
    }
    apr_pool_destroy(pool);
}
