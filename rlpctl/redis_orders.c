/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis_orders.h"

#include "instant.h"
#include "offline.h"
#include "redis/orders.h"
#include "redis_ctl.h"

#include <apr_strings.h>

#include <string.h>
#include <sysexits.h>

typedef struct {
    const orders_t *job;
    json_out_t *out;
    redis_ctl_t *ctl;
    redisReply *reply;
    int status;
} there_t;

static bool orders_is(const orders_t *job, const char *command)
{
    return strcmp(job->command, command) == 0;
}

/* The moment after a span, or NULL for 0. */
static const char *orders_time(const orders_t *job, rlp_time_t left)
{
    return left == 0 ? NULL : instant_write(rlp_clock_wall() + left, job->pool);
}

static void orders_tell(const there_t *there, const redis_order_t *order)
{
    json_string(there->out, "identity", order->identity);
    json_string(there->out, "banned_until", orders_time(there->job, order->ban));
    json_string(there->out, "set_plan", order->until ? order->plan : NULL);
    json_string(there->out, "set_plan_until", orders_time(there->job, order->until));
}

static const char *orders_ask(there_t *there, redis_orders_call_t *made)
{
    const char *error = redis_ctl_ask(there->ctl, &made->call, 1, there->job->pool);

    there->reply = made->call.reply;
    error = error ? error : redis_ctl_error(there->reply, there->job->pool);
    there->status = error ? EX_UNAVAILABLE : EX_DATAERR;
    return error;
}

/* An answer, but not of a Redis that has carried it out. */
static const char *orders_unclear(there_t *there)
{
    there->status = EX_UNAVAILABLE;
    return "expected an answer of Redis about bans and plans";
}

static const char *orders_list(there_t *there)
{
    redis_orders_call_t look;

    redis_orders_look(&look, there->ctl->prefix, true, there->job->pool);
    const char *error = orders_ask(there, &look);
    const redis_orders_t *list = error ? NULL : redis_orders_read(there->reply, there->job->pool);

    if (list == NULL) {
        return error ? error : orders_unclear(there);
    }
    json_number(there->out, "room", REDIS_ORDERS_MAX);
    json_number(there->out, "damaged", list->bad);
    json_open(there->out, "overrides", '[');
    for (int i = 0; i < list->n; i++) {
        json_open(there->out, NULL, '{');
        orders_tell(there, &list->orders[i]);
        json_close(there->out, '}');
    }
    json_close(there->out, ']');
    return NULL;
}

/* What is wanted, and for how long. NULL, or what was expected. */
static const char *orders_wanted(const orders_t *job, const char **plan, rlp_time_t *span)
{
    const bool ends = job->plan != NULL && strcmp(job->plan, "none") == 0;

    *span = 0;
    *plan = orders_is(job, "set-plan") ? (ends ? "" : job->plan) : NULL;
    if (option_identity_odd(job->identity) != NULL) {
        return option_identity_odd(job->identity);
    }
    if (strlen(job->identity) > REDIS_ORDERS_IDENTITY_MAX) {
        return apr_psprintf(job->pool, "expected an identity of %d bytes at most",
                            REDIS_ORDERS_IDENTITY_MAX);
    }
    const char *error = job->plan && !ends ? rlp_name_check(job->plan, job->pool) : NULL;

    if (error != NULL || ends || orders_is(job, "unban")) {
        return error;
    }
    return offline_span(span, job->when, rlp_clock_wall(), job->pool);
}

static const char *orders_change(there_t *there)
{
    const orders_t *job = there->job;
    redis_orders_call_t change;
    redis_order_t now;
    const char *plan = NULL;
    rlp_time_t span = 0;
    const char *error = orders_wanted(job, &plan, &span);

    if (error != NULL) {
        return error;
    }
    redis_orders_change(&change, there->ctl->prefix, job->identity, plan, span, job->pool);
    error = orders_ask(there, &change);
    if (error != NULL) {
        return error;
    }
    const redis_ordered_t ordered = redis_orders_changed(&now, there->reply, job->pool);

    now.identity = job->identity;
    json_bool(there->out, "changed", ordered == REDIS_ORDERED);
    orders_tell(there, &now);
    return ordered == REDIS_ORDERED_FULL      ? "expected fewer than 4096 bans and plans in force"
           : ordered == REDIS_ORDERED_UNCLEAR ? orders_unclear(there)
                                              : NULL;
}

const char *orders_run(const orders_t *job, json_out_t *out, int *status)
{
    there_t there = { .job = job, .out = out, .status = EX_DATAERR };
    const char *error = redis_ctl_open(&there.ctl, job->place, job->pool);

    if (error != NULL) {
        *status = EX_USAGE;
        return error;
    }
    json_open(out, NULL, '{');
    json_string(out, "action", job->command);
    error = orders_is(job, "overrides") ? orders_list(&there) : orders_change(&there);
    json_close(out, '}');
    if (there.reply != NULL) {
        freeReplyObject(there.reply);
    }
    *status = there.status;
    return error;
}
