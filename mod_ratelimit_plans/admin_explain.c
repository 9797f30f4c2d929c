/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * ratelimit-admin about the configuration: what is in force, and what would become of a request.
 */

#include "admin.h"
#include "decide.h"
#include "stats.h"

#include <http_config.h>
#include <http_core.h>
#include <http_main.h>

#include <apr_strings.h>
#include <apr_uri.h>

#include <string.h>

/* --- plans */

static void plans_rule(json_out_t *out, const rule_t *rule)
{
    json_open(out, NULL, '{');
    json_string(out, "rule", rule->name);
    json_string(out, "scope", rule->scope);
    json_string(out, "section", rule->section);
    json_bool(out, "off", rule->off);
    json_string(out, "plan",
                rule->choice == CHOICE_AUTO   ? "auto"
                : rule->choice == CHOICE_NONE ? "none"
                                              : rule->plan_name);
    json_string(out, "limits", rule->own ? rlp_plan_describe(rule->own, out->pool) : NULL);
    json_string(out, "file", rule->file);
    json_number(out, "line", rule->line);
    json_close(out, '}');
}

const char *admin_plans(admin_t *admin)
{
    json_out_t *out = &admin->out;

    json_open(out, "plans", '[');
    for (int i = 0; i < rlp_world->plan_list->nelts; i++) {
        const rlp_plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *)->limits;

        json_open(out, NULL, '{');
        json_string(out, "plan", plan->name);
        json_string(out, "limits", rlp_plan_describe(plan, out->pool));
        json_close(out, '}');
    }
    json_close(out, ']');
    json_open(out, "rules", '[');
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        plans_rule(out, APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *));
    }
    json_close(out, ']');
    return NULL;
}

/* --- who is refused most */

const char *admin_top(admin_t *admin)
{
    const stats_t *stats = stats_read(admin->r->pool);
    json_out_t *out = &admin->out;

    json_open(out, "most_refused", '[');
    for (int i = 0; i < stats->n_top; i++) {
        const stats_top_t *top = &stats->top[i];

        json_open(out, NULL, '{');
        json_number(out, "refused", (int64_t)top->refused);
        json_number(out, "error", (int64_t)top->error);
        json_string(out, "rule", top->rule);
        json_string(out, "identity", top->identity);
        json_close(out, '}');
    }
    json_close(out, ']');
    return NULL;
}

/* --- explain */

static bool explain_named(const apr_array_header_t *names, const char *host, bool wild)
{
    bool named = false;

    for (int i = 0; names != NULL && i < names->nelts; i++) {
        const char *name = APR_ARRAY_IDX(names, i, const char *);

        named |= name != NULL &&
                 (wild ? ap_strcasecmp_match(host, name) == 0 : ap_cstr_casecmp(host, name) == 0);
    }
    return named;
}

static bool explain_is_called(const server_rec *server, const char *host)
{
    return (server->server_hostname != NULL &&
            ap_cstr_casecmp(host, server->server_hostname) == 0) ||
           explain_named(server->names, host, false) ||
           explain_named(server->wild_names, host, true);
}

/* port: 0 for any. */
static bool explain_is_on(const server_rec *server, apr_port_t port)
{
    bool on = port == 0;

    for (const server_addr_rec *at = server->addrs; at != NULL && !on; at = at->next) {
        on = at->host_port == 0 || at->host_port == port;
    }
    return on;
}

/* The virtual host of that name that is configured first: httpd's list has the last one first. */
static const server_rec *explain_virtual(const char *host, apr_port_t port)
{
    const server_rec *found = NULL;

    for (const server_rec *server = ap_server_conf->next; server != NULL; server = server->next) {
        if (explain_is_on(server, port) && explain_is_called(server, host)) {
            found = server;
        }
    }
    return found;
}

/* The virtual host that has the name on that port; else whoever has the name, he who is asked
   before others; else he who is asked. */
static const server_rec *explain_host(const server_rec *asked, const apr_uri_t *uri)
{
    const apr_port_t port = uri->port_str ? uri->port : apr_uri_port_of_scheme(uri->scheme);
    const char *host = uri->hostname;
    const server_rec *found = host ? explain_virtual(host, port) : NULL;

    if (host == NULL || (found == NULL && explain_is_called(asked, host))) {
        return asked;
    }
    if (found == NULL) {
        found = explain_is_called(ap_server_conf, host) ? ap_server_conf : explain_virtual(host, 0);
    }
    return found ? found : asked;
}

/* The members of an object of strings. NULL, or what was expected. */
static const char *explain_table(apr_table_t **table, const admin_t *admin, const char *name)
{
    const json_t *object = json_member(admin->ask, name);

    *table = apr_table_make(admin->r->pool, 8);
    if (object != NULL && object->kind != JSON_OBJECT) {
        return apr_psprintf(admin->r->pool, "expected an object of strings as \"%s\"", name);
    }
    for (int i = 0; object != NULL && i < object->items->nelts; i++) {
        const json_t *item = &APR_ARRAY_IDX(object->items, i, const json_t);

        if (item->kind != JSON_STRING) {
            return apr_psprintf(admin->r->pool, "expected an object of strings as \"%s\"", name);
        }
        apr_table_setn(*table, item->name, item->text);
    }
    return NULL;
}

/* A word that can be a method, in a request that httpd would read. But TRACE is answered when its
   path is mapped: that would stand before our answer. */
static bool explain_is_method(const char *method)
{
    return *method != '\0' && strlen(method) <= 32 && strcmp(method, "TRACE") != 0 &&
           strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_") ==
               strlen(method);
}

static const char *explain_url(probe_t *probe, const admin_t *admin, const char *url)
{
    apr_uri_t uri;

    while (url != NULL && url[0] == '/' && url[1] == '/') {
        url++; /* as httpd does with a request: no host stands there */
    }
    if (url == NULL || apr_uri_parse(admin->r->pool, url, &uri) != APR_SUCCESS ||
        (url[0] != '/' && uri.hostname == NULL) || (uri.path != NULL && uri.path[0] != '/')) {
        return "expected \"url\": a path such as \"/api/items?q=1\", or the same with "
               "http://HOST before it";
    }
    probe->path = apr_pstrcat(admin->r->pool, uri.path ? uri.path : "/", uri.query ? "?" : "",
                              uri.query ? uri.query : "", NULL);
    probe->host = explain_host(admin->r->server, &uri);
    return NULL;
}

static const char *explain_read(probe_t *probe, const admin_t *admin)
{
    const char *error = NULL;
    const char *url = admin_text(admin, "url", &error);
    const char *method = admin_text(admin, "method", &error);

    *probe = (probe_t){ .method = method ? method : "GET" };
    probe->ip = admin_text(admin, "ip", &error);
    probe->user = admin_text(admin, "user", &error);
    if (error == NULL && !explain_is_method(probe->method)) {
        error = "expected \"method\": a word such as GET, and not TRACE, which httpd answers "
                "before any rule is judged";
    }
    error = error ? error : explain_url(probe, admin, url);
    error = error ? error : explain_table(&probe->headers, admin, "headers");
    return error ? error : explain_table(&probe->env, admin, "env");
}

static void explain_rule(json_out_t *out, request_rec *made, const dir_conf_t *conf, int i,
                         uint64_t rules)
{
    const rule_t *rule = APR_ARRAY_IDX(conf->rules, i, const rule_t *);
    const bool applies = rules >> i & 1;
    probe_rule_t told = { .identity = NULL };

    json_open(out, NULL, '{');
    json_string(out, "rule", rule->name);
    json_string(out, "scope", rule->scope);
    json_string(out, "section", rule->section);
    json_string(out, "file", rule->file);
    json_number(out, "line", rule->line);
    json_bool(out, "applies", applies);
    json_string(out, "because", applies ? NULL : probe_because(rule, made, conf));
    json_bool(out, "refuses", !decide_is_apart(conf, rule));
    json_open(out, "limits", '[');
    if (applies) {
        told = probe_limits(out, made, conf, i);
    }
    json_close(out, ']');
    json_string(out, "identity", told.identity);
    json_string(out, "plan", told.plan);
    json_close(out, '}');
}

static void explain_rules(json_out_t *out, request_rec *made, const dir_conf_t *conf)
{
    const uint64_t rules = probe_rules(made, conf);

    json_open(out, "rules", '[');
    for (int i = 0; i < conf->rules->nelts && i < DECIDE_RULES_MAX; i++) {
        explain_rule(out, made, conf, i, rules);
    }
    json_close(out, ']');
}

static void explain_fields(json_out_t *out, const request_rec *made)
{
    const apr_array_header_t *fields = apr_table_elts(made->err_headers_out);

    json_open(out, "headers", '{');
    for (int i = 0; i < fields->nelts; i++) {
        const apr_table_entry_t *field = &APR_ARRAY_IDX(fields, i, const apr_table_entry_t);

        if (ap_cstr_casecmpn(field->key, "RateLimit", 9) == 0 ||
            ap_cstr_casecmpn(field->key, "X-RateLimit", 11) == 0 ||
            ap_cstr_casecmp(field->key, "Retry-After") == 0) {
            json_string(out, field->key, field->val);
        }
    }
    json_close(out, '}');
}

static void explain_answer(json_out_t *out, request_rec *made, const dir_conf_t *conf)
{
    const bool exempt =
        conf->engine > ENGINE_OFF && conf->exempts != NULL && exempt_matches(conf->exempts, made);
    probe_answer_t told = { .action = "exempt" };

    if (!exempt) {
        told = probe_ask(made, conf);
    }
    json_string(out, "verdict", told.failed ? "error" : told.action);
    if (told.status != 0) {
        json_number(out, "status", told.status);
    } else {
        json_string(out, "status", NULL);
    }
    explain_fields(out, made);
    explain_rules(out, made, conf);
}

static const char *explain_tell(json_out_t *out, request_rec *made, int status)
{
    static const char *const engines[] = { "off", "on", "log-only" };
    const dir_conf_t *conf = ap_get_module_config(made->per_dir_config, &ratelimit_plans_module);

    json_string(out, "host", made->server->server_hostname);
    json_string(out, "path", made->uri);
    json_string(out, "method", made->method);
    json_string(out, "engine", engines[conf->engine > ENGINE_OFF ? conf->engine : ENGINE_OFF]);
    if (status != OK) { /* no rule is met */
        json_string(out, "verdict", NULL);
        json_number(out, "status", status);
        json_open(out, "headers", '{');
        json_close(out, '}');
        json_open(out, "rules", '[');
        json_close(out, ']');
    } else {
        explain_answer(out, made, conf);
    }
    return NULL;
}

const char *admin_explain(admin_t *admin)
{
    probe_t probe;
    int status = OK;
    const char *error = explain_read(&probe, admin);

    if (error != NULL) {
        return error;
    }
    request_rec *made = probe_request(&status, admin->r, &probe);

    return made ? explain_tell(&admin->out, made, status)
                : "expected \"ip\": an address such as \"192.0.2.1\"";
}
