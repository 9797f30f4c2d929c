/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * After the decision: the response may change what the request cost, and what it holds comes back
 * with its end.
 */

#include "private.h"

#include <util_filter.h>

#include <apr_strings.h>

#include <string.h>

static rlp_question_t after_question(rlp_time_t charged_at)
{
    const rlp_clock_provider_t *clock = rlp_world->clock;

    return (rlp_question_t){ .now = clock->monotonic(),
                             .wall = clock->wall(),
                             .owner = rlp_world->owner,
                             .charged_at = charged_at };
}

#define AFTER_FILTER "RATELIMIT_RESPONSE"

/* Remembers with what status the response began; and what fields it has, before mod_headers takes
   those out that are not for clients: what a request costs is none of their business. */
static apr_status_t after_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    request_rec *r = filter->r;
    after_t *after = filter->ctx;

    if (after->status == 0) {
        after->status = r->status;
    }
    if (rlp_world->hears & HOOK_HEARS) {
        after->answered = r;
        after->fields = apr_table_overlay(r->pool, r->headers_out, r->err_headers_out);
    }
    ap_remove_output_filter(filter);
    return ap_pass_brigade(filter->next, brigade);
}

void after_register_filter(void)
{
    /* before mod_headers, whenever it is added */
    ap_register_output_filter(AFTER_FILTER, after_filter, NULL, AP_FTYPE_RESOURCE);
}

void after_insert_filter(request_rec *r)
{
    const bool may = rlp_world->hears && rlp_world->corrects && r->main == NULL;
    const verdict_t *verdict = may ? request_verdict_so_far(r) : NULL;

    if (verdict != NULL && verdict->after != NULL) {
        ap_add_output_filter(AFTER_FILTER, verdict->after, r, r->connection);
    }
}

void after_error(const request_rec *r, const verdict_t *verdict)
{
    for (after_t *after = verdict->after; after != NULL; after = after->next) {
        after->gone |= r->connection->aborted;
    }
}

/* Runs when the request's pool goes, whichever way the request ended: its places come back. A child
   that a signal ends may have the store locked at that moment: then they come back with its
   death. */
static apr_status_t after_end(void *data)
{
    after_t *after = data;
    const rlp_question_t question = after_question(0);
    rlp_answer_t answer;

    if (rlp_world->cut_off) {
        return APR_SUCCESS;
    }
    return rlp_release(rlp_world->store, after->charges, after->n, &question, &answer);
}

void after_undo(rlp_charge_t charges[], int n, rlp_time_t now)
{
    const rlp_question_t question = after_question(rlp_store_time(rlp_world->store, now));
    rlp_answer_t answer;

    for (int i = 0; i < n; i++) {
        rlp_charge_t *charge = &charges[i];

        charge->waited = rlp_waited(charge);
        if (charge->spared || charge->cost == 0) {
            continue;
        }
        charge->cost = -charge->cost;
        if (charge->limit->algorithm->holds) {
            (void)rlp_release(rlp_world->store, charge, 1, &question, &answer);
        } else {
            (void)rlp_settle(rlp_world->store, charge, 1, &question, &answer);
        }
        charge->cost = -charge->cost;
    }
}

static bool after_is_due(const rlp_charge_t *charge, const rule_t *rule, const dir_conf_t *conf)
{
    if (charge->spared) {
        return false;
    }
    if (charge->limit->algorithm->holds) {
        return charge->cost > 0;
    }
    return rule->counts != NULL || conf->refund != NULL || cost_is_late(cost_of(rule, conf));
}

/* A charge that outlives the decision: with an identity and room of its own. */
static void after_copy(rlp_charge_t *copy, const rlp_charge_t *charge, apr_pool_t *pool)
{
    const rlp_key_t *key = &charge->entry.key;

    *copy = *charge;
    copy->entry.key.identity = apr_pmemdup(pool, key->identity, key->identity_len);
    copy->entry.state = key->size > sizeof(copy->room) ? apr_palloc(pool, key->size) : copy->room;
    copy->waited = rlp_waited(charge);
    copy->branch = RLP_ALWAYS;
}

void after_remember(verdict_t *verdict, request_rec *r, const rlp_charge_t charges[],
                    const rule_t *const rules[], int n, rlp_time_t now)
{
    after_t *after = NULL;
    bool holds = false;

    for (int i = 0; i < n; i++) {
        if (!after_is_due(&charges[i], rules[i], verdict->conf)) {
            continue;
        }
        if (after == NULL) {
            after = apr_pcalloc(r->pool, sizeof(*after));
            after->conf = verdict->conf;
            after->charged_at = rlp_store_time(rlp_world->store, now);
            after->charges = apr_palloc(r->pool, sizeof(*after->charges) * (apr_size_t)n);
            after->rules = apr_palloc(r->pool, sizeof(rule_t *) * (apr_size_t)n);
            after->next = verdict->after;
        }
        after_copy(&after->charges[after->n], &charges[i], r->pool);
        after->rules[after->n++] = rules[i];
        holds |= charges[i].limit->algorithm->holds;
    }
    if (after == NULL) {
        return;
    }
    verdict->after = after;
    rlp_world->corrects = true;
    if (holds) {
        apr_pool_cleanup_register(r->pool, after, after_end, apr_pool_cleanup_null);
    }
}

static bool after_met(const ap_expr_info_t *expr, request_rec *r, const char *what,
                      const rule_t *rule)
{
    const char *error = NULL;
    const int met = ap_expr_exec(r, expr, &error);

    if (error != NULL) {
        denial_log_expression(r, what, rule->name, error);
    }
    return met > 0;
}

/* Is the charge to be given back? An error that came when the client had hung up is its own doing:
   mod_proxy_http2 says 502. */
static bool after_is_refunded(const after_t *after, request_rec *last, const rule_t *rule)
{
    return after->conf->refund != NULL && !after->gone &&
           after_met(after->conf->refund, last, "RateLimitRefund for rule ", rule);
}

/* What the charge comes to by the response. */
static rlp_units_t after_total(const after_t *after, int i, request_rec *last)
{
    const rule_t *rule = after->rules[i];
    const cost_t *cost = cost_of(rule, after->conf);

    if (rule->counts != NULL && !after_met(rule->counts, last, "count= of rule ", rule)) {
        return 0;
    }
    if (after_is_refunded(after, last, rule)) {
        return 0;
    }
    if (cost_is_late(cost)) {
        return cost_after(cost, last, after->charges[i].cost);
    }
    return after->charges[i].cost;
}

/* Corrects the charges of one decision. */
static void after_correct(const after_t *after, request_rec *last)
{
    const rlp_question_t question = after_question(after->charged_at);
    rlp_answer_t answer;

    for (int i = 0; i < after->n; i++) {
        rlp_charge_t charge = after->charges[i];

        if (charge.limit->algorithm->holds) {
            continue;
        }
        charge.cost = after_total(after, i, last) - charge.cost;
        charge.entry.state =
            charge.entry.key.size > sizeof(charge.room) ? charge.entry.state : charge.room;
        if (charge.cost != 0) {
            (void)rlp_settle(rlp_world->store, &charge, 1, &question, &answer);
        }
    }
}

/* The one that has sent the response: the last, unless an ErrorDocument could not be had, and httpd
   went back to the error before it. */
static request_rec *after_answered(request_rec *last)
{
    request_rec *r = last;

    while (r != NULL && !r->eos_sent) {
        r = r->prev;
    }
    return r ? r : last;
}

/* The response with what it had before mod_headers; the fields that were sent come first. Who hangs
   up in the midst of it has seen the status that it began with: mod_proxy_http2 puts 502 in its
   place. */
static void after_restore(request_rec *last, const after_t *after)
{
    for (; after != NULL; after = after->next) {
        if (after->status != 0 && after->gone) {
            last->status = after->status;
        }
        if (after->answered == last) {
            last->headers_out = apr_table_overlay(last->pool,
                                                  apr_table_overlay(last->pool, last->headers_out,
                                                                    last->err_headers_out),
                                                  after->fields);
        }
    }
}

int after_log(request_rec *r)
{
    const verdict_t *verdict = NULL;
    request_rec *last = r;

    if (!rlp_world->corrects || rlp_world->cut_off) {
        return DECLINED;
    }
    while (last->next != NULL) {
        last = last->next;
    }
    for (const request_rec *at = last; verdict == NULL && at != NULL; at = at->prev) {
        verdict = ap_get_module_config(at->request_config, &ratelimit_plans_module);
    }
    if (verdict == NULL || verdict->after == NULL) {
        return DECLINED;
    }
    last = after_answered(last);
    apr_table_t *const sent = last->headers_out;
    const int status = last->status;

    after_restore(last, verdict->after);
    for (const after_t *after = verdict->after; after != NULL; after = after->next) {
        after_correct(after, last);
    }
    last->headers_out = sent;
    last->status = status;
    return DECLINED;
}
