/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A request: which rules speak of it, whom they count, what the store says.
 */

#include "private.h"

#include <http_core.h>
#include <http_log.h>
#include <http_request.h>

#include <apr_atomic.h>
#include <apr_strings.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

/* What one decision gathers. On the stack, and no more of it written than is used. */
typedef struct {
    request_rec *r;
    const dir_conf_t *conf;
    const server_conf_t *server;
    verdict_t *verdict;
    who_t *who; /* the last one looked for */
    int refuse; /* status by which a map refuses an unknown value */
    int n;
    struct {
        const rule_t *rule;
        const variant_t *variant;
        int limit;
    } owners[RLP_ENTRIES_MAX];
    rlp_charge_t charges[RLP_ENTRIES_MAX];
} decide_t;

static bool request_is_error_document(const request_rec *r)
{
    return r->prev != NULL && r->prev->status >= HTTP_BAD_REQUEST;
}

/* mod_http2 pushes what no client has asked for. */
static bool request_is_pushed(const request_rec *r)
{
    return r->connection->master != NULL && apr_table_get(r->subprocess_env, "H2_PUSHED") != NULL &&
           strcasecmp(apr_table_get(r->subprocess_env, "H2_PUSHED"), "on") == 0;
}

/* The verdict of this client request, begun before an internal redirect or here. */
static verdict_t *request_verdict(request_rec *r, bool make)
{
    verdict_t *verdict = NULL;

    for (request_rec *i = r; i != NULL && verdict == NULL; i = i->prev) {
        verdict = ap_get_module_config(i->request_config, &ratelimit_plans_module);
    }
    if (verdict == NULL && make) {
        verdict = apr_palloc(r->pool, sizeof(*verdict));
        verdict->outcomes = NULL;
        verdict->n_rules = 0;
        verdict->action = "pass";
        verdict->identity = NULL;
        verdict->denied = false;
        verdict->retry = 0;
        memset(verdict->fields, 0, sizeof(verdict->fields));
    }
    if (verdict != NULL) {
        ap_set_module_config(r->request_config, &ratelimit_plans_module, verdict);
    }
    return verdict;
}

static bool request_judged(const verdict_t *verdict, const rule_t *rule)
{
    for (int i = 0; i < verdict->n_rules; i++) {
        if (verdict->scopes[i] == rule->scope) {
            return true;
        }
    }
    return false;
}

static const who_t *request_who(decide_t *d, const rule_t *rule)
{
    const chain_t *chain = rule->key ? rule->key : d->conf->chain;

    if (chain == NULL) {
        chain = rlp_world->default_chain;
    }
    if (d->who == NULL || d->who->chain != chain) {
        d->who = apr_palloc(d->r->pool, sizeof(*d->who));
        identity_find(d->who, chain, d->r);
    }
    return d->who;
}

/* Adds the rule's limits to what will be asked. False: there is no room for more. */
static bool request_add(decide_t *d, const rule_t *rule, const who_t *who, const variant_t *variant)
{
    const bool dry = d->conf->engine == ENGINE_LOG_ONLY;

    if (d->n + variant->plan->n > RLP_ENTRIES_MAX || d->verdict->n_rules == RLP_VERDICT_RULES) {
        return false;
    }
    d->verdict->scopes[d->verdict->n_rules++] = rule->scope;
    for (int i = 0; i < variant->plan->n; i++, d->n++) {
        d->owners[d->n].rule = rule;
        d->owners[d->n].variant = variant;
        d->owners[d->n].limit = i;
        rlp_charge_init(&d->charges[d->n], who->text, who->len, variant->signatures[dry][i],
                        &variant->plan->limits[i]);
    }
    return true;
}

/* Finds the rules that speak of the request and have not been judged for it. */
static bool request_collect(decide_t *d)
{
    for (int i = 0; i < d->conf->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(d->conf->rules, i, const rule_t *);

        if (request_judged(d->verdict, rule) || !rule_matches(rule, d->r)) {
            continue;
        }
        const who_t *who = request_who(d, rule);
        const variant_t *variant = who->found ? rule_variant(rule, who, d->server) : NULL;

        if (who->refuse) {
            d->refuse = who->refuse;
        }
        if (variant != NULL && !request_add(d, rule, who, variant)) {
            return false;
        }
    }
    return true;
}

static void request_log_damage(const request_rec *r)
{
    static apr_uint32_t logged;

    if (apr_atomic_inc32(&logged) == 0) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      "RLP002: a counter in the store was damaged and began anew (said once a "
                      "process)");
    }
}

/* Keeps what header fields and variables will tell. */
static void request_remember(decide_t *d, int first, int n)
{
    verdict_t *verdict = d->verdict;

    if (verdict->outcomes == NULL) {
        verdict->outcomes = apr_array_make(d->r->pool, n, sizeof(outcome_t));
    }
    for (int i = first; i < first + n; i++) {
        APR_ARRAY_PUSH(verdict->outcomes, outcome_t) =
            (outcome_t){ .rule = d->owners[i].rule,
                         .variant = d->owners[i].variant,
                         .limit = d->owners[i].limit,
                         .decision = d->charges[i].decision };
    }
}

/* Asks the store about n charges from the first on. The status is that of the store. */
static apr_status_t request_ask(decide_t *d, int first, int n, rlp_time_t now)
{
    const rlp_question_t question = { .cost = RLP_UNIT, .now = now };
    const bool dry = d->conf->engine == ENGINE_LOG_ONLY;
    rlp_answer_t answer;
    const apr_status_t rv = rlp_check(rlp_world->store, d->charges + first, n, &question, &answer);

    if (rv != APR_SUCCESS) {
        d->verdict->action = "error";
        ap_log_rerror(APLOG_MARK, APLOG_ERR, rv, d->r,
                      "RLP004: the store failed, the request passes uncounted");
        return rv;
    }
    if (answer.damaged) {
        request_log_damage(d->r);
    }
    const bool refused = answer.verdict != RLP_ALLOW;

    if (refused) {
        d->verdict->action = dry ? "would-deny" : "deny";
        d->verdict->denied = !dry;
        d->verdict->retry = answer.retry;
    }
    if (refused || d->conf->fields != FIELDS_OFF || d->conf->env_always == 1) {
        d->verdict->identity = d->who->text;
        request_remember(d, first, n);
    }
    return rv;
}

/* A dry run judges each rule by itself, so that none holds another back. */
static apr_status_t request_ask_dry(decide_t *d, rlp_time_t now)
{
    int n;

    for (int i = 0; i < d->n; i += n) {
        n = d->owners[i].variant->plan->n;
        const apr_status_t rv = request_ask(d, i, n, now);

        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    return APR_SUCCESS;
}

static void request_log_refusal(const decide_t *d)
{
    const outcome_t *outcome = respond_tightest(d->verdict);
    const source_t source = d->who->identity->parts[0].type->source;
    const bool plain = d->who->identity->n == 1 && source != SOURCE_USER && source != SOURCE_ENV;

    /* the names of users stay out of the log, their digest tells them apart */
    char digest[33] = "";

    if (!plain) {
        rlp_shm_digest(rlp_world->store, d->who->text, d->who->len, digest);
    }
    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, d->r, "RLP001: rule %s, plan %s refuses %s%s%s",
                  outcome->rule->name, outcome->variant->plan_name,
                  plain ? d->who->text : d->who->identity->label, plain ? "" : ":", digest);
}

/* Judges the rules of this section that have not been judged for the client's request. */
static int request_decide(request_rec *r, const dir_conf_t *conf, bool in_handler)
{
    decide_t d;

    d.r = r;
    d.conf = conf;
    d.server = ap_get_module_config(r->server->module_config, &ratelimit_plans_module);
    d.verdict = request_verdict(r, true);
    d.who = NULL;
    d.refuse = 0;
    d.n = 0;
    d.verdict->dir_config = r->per_dir_config;
    if (!request_collect(&d)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "RLP005: more than %d limits apply to one request: use fewer rules in one "
                      "place",
                      RLP_ENTRIES_MAX);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    if (d.refuse && conf->engine == ENGINE_ON) {
        d.verdict->action = "deny";
        d.verdict->denied = true;
        respond_env(r, d.verdict);
        return respond_refuse(r, d.refuse);
    }
    if (d.n > 0) {
        const rlp_time_t now = rlp_world->clock->monotonic();

        (void)(conf->engine == ENGINE_ON ? request_ask(&d, 0, d.n, now) : request_ask_dry(&d, now));
    }
    if (conf->fields != FIELDS_OFF && conf->engine == ENGINE_ON) {
        respond_fields(r, d.verdict, conf);
    }
    if (conf->env_always == 1 || d.verdict->action[0] != 'p') {
        respond_env(r, d.verdict);
    }
    if (!d.verdict->denied) {
        return DECLINED;
    }
    request_log_refusal(&d);
    return respond_deny(r, d.verdict, conf, in_handler);
}

static bool request_concerned(const request_rec *r, const dir_conf_t *conf)
{
    return r->main == NULL && conf != NULL && conf->engine > ENGINE_OFF && conf->rules->nelts > 0 &&
           rlp_world->store != NULL;
}

int request_fixups(request_rec *r)
{
    const dir_conf_t *conf = ap_get_module_config(r->per_dir_config, &ratelimit_plans_module);

    if (r->main == NULL && r->prev != NULL) {
        const verdict_t *verdict = request_verdict(r, false);

        if (verdict != NULL && verdict->action[0] != 'p') {
            respond_env(r, verdict); /* the redirect has renamed what was set before */
        }
        if (request_is_error_document(r)) {
            return DECLINED;
        }
    }
    if (!request_concerned(r, conf) || request_is_pushed(r)) {
        return DECLINED;
    }
    return request_decide(r, conf, false);
}

/* mod_dir and mod_negotiation put another resource in the place of the one judged in fixups; its
   rules are judged here, or a directory's index would go round them. */
int request_handler(request_rec *r)
{
    const dir_conf_t *conf = ap_get_module_config(r->per_dir_config, &ratelimit_plans_module);

    if (!request_concerned(r, conf) || request_is_error_document(r)) {
        return DECLINED;
    }
    const verdict_t *verdict = ap_get_module_config(r->request_config, &ratelimit_plans_module);

    if ((verdict != NULL && (verdict->denied || verdict->dir_config == r->per_dir_config)) ||
        request_is_pushed(r)) {
        return DECLINED;
    }
    return request_decide(r, conf, true);
}

void request_insert_filter(request_rec *r)
{
    const verdict_t *verdict = ap_get_module_config(r->request_config, &ratelimit_plans_module);

    if (verdict != NULL && !verdict->denied && r->main == NULL) {
        respond_insert_filter(r, verdict);
    }
}
