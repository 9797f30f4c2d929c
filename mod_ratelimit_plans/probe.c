/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What the configuration would do with a request: it is mapped and its sections are merged, its
 * rules are asked, and nothing is charged. Who asks is not authenticated for it: that would be a
 * way to try passwords uncounted.
 */

#include "admin.h"
#include "decide.h"

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

#include <apr_network_io.h>
#include <apr_strings.h>

#include <arpa/inet.h>

/* --- the request */

/* Another request on the same connection, as a subrequest is one. */
static request_rec *probe_bare(request_rec *r, const server_rec *host)
{
    request_rec *made = apr_pcalloc(r->pool, sizeof(*made));

    made->pool = r->pool;
    made->hostname = r->hostname;
    made->request_time = r->request_time;
    made->connection = r->connection;
    made->server = (server_rec *)(uintptr_t)host;
    made->log = r->log;
    made->request_config = ap_create_request_config(r->pool);
    made->per_dir_config = host->lookup_defaults;
    made->allowed_methods = ap_make_method_list(r->pool, 2);
    made->output_filters = r->connection->output_filters;
    made->proto_output_filters = r->connection->output_filters;
    made->useragent_addr = r->useragent_addr;
    made->useragent_ip = r->useragent_ip;
    made->used_path_info = AP_REQ_DEFAULT_PATH_INFO;
    ap_set_sub_req_protocol(made, r);
    ap_run_create_request(made);
    return made;
}

/* Sets another address. False: it is none. */
static bool probe_address(request_rec *made, const char *ip)
{
    unsigned char bytes[sizeof(struct in6_addr)];
    apr_sockaddr_t *address = NULL;

    if (inet_pton(AF_INET, ip, bytes) != 1 && inet_pton(AF_INET6, ip, bytes) != 1) {
        return false;
    }
    if (apr_sockaddr_info_get(&address, ip, APR_UNSPEC, 0, 0, made->pool) != APR_SUCCESS) {
        return false;
    }
    made->useragent_addr = address;
    made->useragent_ip = apr_pstrdup(made->pool, ip);
    return true;
}

/* Runs what finds the sections, as httpd does before it asks who may. */
static int probe_map(request_rec *made)
{
    int status = ap_unescape_url(made->uri);

    if (status != OK) {
        return status;
    }
    ap_no2slash(made->uri);
    ap_getparents(made->uri);
    made->parsed_uri.path = made->uri;
    status = ap_location_walk(made);
    status = status == OK ? ap_if_walk(made) : status;
    if (status == OK) {
        status = ap_run_translate_name(made);
        status = status == DONE || status == DECLINED ? OK : status;
    }
    made->per_dir_config = made->server->lookup_defaults;
    if (status == OK) {
        status = ap_run_map_to_storage(made);
        status = status == DONE || status == DECLINED ? OK : status;
    }
    status = status == OK ? ap_location_walk(made) : status;
    return status == OK ? ap_if_walk(made) : status;
}

request_rec *probe_request(int *status, request_rec *r, const probe_t *probe)
{
    request_rec *made = probe_bare(r, probe->host);

    made->method = probe->method;
    made->method_number = ap_method_number_of(probe->method);
    made->header_only = strcmp(probe->method, "HEAD") == 0;
    if (made->header_only) {
        made->method_number = M_GET;
    }
    made->headers_in = probe->headers;
    made->subprocess_env = probe->env;
    made->user = apr_pstrdup(r->pool, probe->user);
    made->hostname = probe->host->server_hostname;
    ap_parse_uri(made, apr_pstrdup(r->pool, probe->path));
    made->the_request =
        apr_pstrcat(r->pool, probe->method, " ", made->unparsed_uri, " HTTP/1.1", NULL);
    if (probe->ip != NULL && !probe_address(made, probe->ip)) {
        return NULL;
    }
    *status = probe_map(made);
    return made;
}

/* --- its rules */

static void probe_begin(decide_t *d, request_rec *made, const dir_conf_t *conf)
{
    decide_begin(d, made, conf);
    d->phases = PHASE_BOTH;
}

uint64_t probe_rules(request_rec *made, const dir_conf_t *conf)
{
    decide_t d;

    if (rlp_world->store == NULL || conf->engine <= ENGINE_OFF || request_will_be_own(made)) {
        return 0;
    }
    probe_begin(&d, made, conf);
    return choose_rules(&d);
}

/* Why no rule speaks of it, in a word; NULL: some may. */
static const char *probe_because_all(request_rec *made, const dir_conf_t *conf)
{
    if (conf->engine <= ENGINE_OFF) {
        return "engine";
    }
    return request_will_be_own(made) ? "handler" : NULL;
}

const char *probe_because(const rule_t *rule, request_rec *made, const dir_conf_t *conf)
{
    const char *because = probe_because_all(made, conf);
    rule_t only = *rule;

    if (rule->off || because != NULL) {
        return rule->off ? "off" : because;
    }
    only.path = NULL;
    only.condition = NULL;
    if (!rule_matches(&only, made)) {
        return "method";
    }
    only.path = rule->path;
    if (!rule_matches_closely(&only, made)) {
        return "path";
    }
    if (!rule_matches_closely(rule, made)) {
        return "if";
    }
    return "another of higher priority";
}

/* Asks about what was collected; the decisions are in the charges. */
static apr_status_t probe_peek(decide_t *d, rlp_answer_t *answer)
{
    const rlp_question_t question = { .now = rlp_world->clock->monotonic(),
                                      .wall = rlp_world->clock->wall(),
                                      .owner = rlp_world->owner };

    answer->retry = 0;
    return rlp_peek(rlp_world->store, d->charges, d->n, &question, answer);
}

static void probe_seconds(json_out_t *out, const char *name, rlp_time_t span)
{
    if (span == RLP_TIME_NEVER) {
        json_string(out, name, NULL);
    } else {
        json_number(out, name, span > 0 ? rlp_seconds(span) : 0);
    }
}

void probe_limit(json_out_t *out, const rule_t *rule, const variant_t *variant, int limit,
                 const rlp_decision_t *decision)
{
    const rlp_limit_t *of = &variant->plan->limits[limit];
    const int64_t quota = rlp_limit_quota(of);
    const int64_t window = of->algorithm->holds ? 0 : rlp_limit_window(of);
    const int64_t used = quota > decision->remaining ? quota - decision->remaining : 0;
    /* what is never renewed says "never" even then */
    const bool full = used == 0 && decision->remaining > 0 && decision->reset == RLP_TIME_NEVER;

    json_open(out, NULL, '{');
    json_string(out, "rule", rule->name);
    json_string(out, "plan", variant->plan_name);
    json_string(out, "limit", variant->labels[0][limit].name);
    json_number(out, "quota", quota);
    if (window > 0) {
        json_number(out, "window", window);
    } else {
        json_string(out, "window", NULL);
    }
    json_number(out, "used", used);
    json_number(out, "remaining", decision->remaining);
    probe_seconds(out, "reset", full ? 0 : decision->reset);
    json_close(out, '}');
}

probe_rule_t probe_limits(json_out_t *out, request_rec *made, const dir_conf_t *conf, int rule)
{
    probe_rule_t told = { .identity = NULL };
    rlp_answer_t answer;
    decide_t d;

    probe_begin(&d, made, conf);
    if (!decide_collect(&d, UINT64_C(1) << rule) || d.who == NULL || !d.who->found) {
        return told;
    }
    told.identity = apr_pstrmemdup(made->pool, d.who->text, d.who->len);
    if (d.n == 0 || probe_peek(&d, &answer) != APR_SUCCESS) {
        return told;
    }
    for (int i = 0; i < d.n; i++) {
        if (!d.charges[i].spared) {
            told.plan = d.owners[i].variant->plan_name;
            probe_limit(out, d.rules[i], d.owners[i].variant, d.owners[i].limit,
                        &d.charges[i].decision);
        }
    }
    return told;
}

/* What the header fields would be. */
static void probe_fields(const decide_t *d, request_rec *made, const dir_conf_t *conf,
                         const probe_answer_t *told)
{
    verdict_t *verdict = decide_verdict(made, conf, NULL, d->n, d->room);

    verdict->at = told->at;
    verdict->denied = told->status != 0;
    for (int i = 0; i < d->n; i++) {
        if (!d->charges[i].spared) {
            verdict->outcomes[verdict->n++] = (outcome_t){ .rule = d->rules[i],
                                                           .variant = d->owners[i].variant,
                                                           .limit = d->owners[i].limit,
                                                           .decision = d->charges[i].decision };
        }
    }
    respond_sort(verdict);
    if (conf->fields != FIELDS_OFF) {
        respond_fields(made, verdict, conf);
    }
}

static int probe_deny_status(const dir_conf_t *conf)
{
    return conf->deny_status == RLP_UNSET ? HTTP_TOO_MANY_REQUESTS : conf->deny_status;
}

/* What those that refuse would answer together. */
static void probe_enforce(probe_answer_t *told, decide_t *d, request_rec *made,
                          const dir_conf_t *conf)
{
    rlp_answer_t answer;

    told->action = "pass";
    told->at = rlp_world->clock->monotonic();
    if (probe_peek(d, &answer) != APR_SUCCESS) {
        told->failed = true;
        told->action = "error";
        if (answer.refuses) {
            told->status = HTTP_SERVICE_UNAVAILABLE;
            refuse_retry(made, answer.retry);
        }
        return;
    }
    if (answer.unasked) {
        told->action = "error";
    }
    if (answer.verdict == RLP_WAIT) {
        told->action = "delay";
    } else if (answer.verdict > RLP_WAIT) {
        told->action = "deny";
        told->status = probe_deny_status(conf);
        told->retry = answer.retry;
    }
    probe_fields(d, made, conf, told);
}

probe_answer_t probe_ask(request_rec *made, const dir_conf_t *conf)
{
    probe_answer_t told = { .action = NULL };
    const uint64_t rules = probe_rules(made, conf);
    decide_t d;

    if (rules == 0) {
        return told;
    }
    probe_begin(&d, made, conf);
    if (!decide_collect(&d, rules & ~choose_apart(conf, rules))) {
        told.failed = true;
    } else if (d.banned != NULL) {
        told.action = "deny";
        told.banned = d.banned->banned;
        told.retry = told.banned;
        told.status = probe_deny_status(conf);
    } else if (d.refuse != 0) {
        told.action = "deny";
        told.status = d.refuse;
    } else if (d.n > 0) {
        probe_enforce(&told, &d, made, conf);
    }
    if (told.retry > 0) {
        refuse_retry(made, told.retry);
    }
    return told;
}
