/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The status as JSON. docs/monitoring.md has the members; those that are there keep their meaning.
 */

#include "status.h"

#include <http_protocol.h>

#include <apr_strings.h>

#define JSON_VERSION 1

static const char *json_text(const char *text, apr_pool_t *pool)
{
    const char *plain = status_plain(text, pool);
    char *made = apr_palloc(pool, 2 * strlen(plain) + 3);
    char *to = made;

    *to++ = '"';
    for (; *plain != '\0'; plain++) {
        if (*plain == '"' || *plain == '\\') {
            *to++ = '\\';
        }
        *to++ = *plain;
    }
    *to++ = '"';
    *to = '\0';
    return made;
}

/* "NAME":"TEXT" with what stands before it. */
static void json_put(request_rec *r, const char *before, const char *name, const char *text)
{
    ap_rprintf(r, "%s\"%s\":%s", before, name, json_text(text, r->pool));
}

static void json_store(const status_t *status)
{
    request_rec *r = status->r;

    json_put(r, ",\"store\":{", "description", dump_store_words(r->pool));
    ap_rprintf(r,
               ",\"slots\":%" APR_UINT64_T_FMT ",\"used\":%" APR_UINT64_T_FMT
               ",\"evictions\":%" APR_UINT64_T_FMT ",\"servers\":[",
               status->look.slots, status->look.used, status->look.evicted);
    for (int i = 0; i < status->n_servers; i++) {
        const store_server_t *server = &status->servers[i];

        json_put(r, i ? ",{" : "{", "name", server->name);
        json_put(r, ",", "breaker", server->breaker);
        ap_rprintf(r, ",\"failures\":%d,\"asked_again_ms\":%" APR_INT64_T_FMT, server->failures,
                   server->wait / 1000);
        json_put(r, ",", "last_error", server->why);
        ap_rputs("}", r);
    }
    ap_rputs("]}", r);
}

static void json_maps(const status_t *status)
{
    request_rec *r = status->r;

    ap_rputs(",\"maps\":[", r);
    for (int i = 0; i < status->stats->n_maps; i++) {
        const stats_map_t *map = &status->stats->maps[i];

        json_put(r, i ? ",{" : "{", "identity", map->type);
        json_put(r, ",", "file", map->path);
        ap_rprintf(r,
                   ",\"reloads\":%" APR_UINT64_T_FMT ",\"failed_reloads\":%" APR_UINT64_T_FMT "}",
                   map->reloads, map->failures);
    }
    ap_rputs("]", r);
}

static void json_plans(request_rec *r)
{
    ap_rputs(",\"plans\":[", r);
    for (int i = 0; i < rlp_world->plan_list->nelts; i++) {
        const rlp_plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *)->limits;

        json_put(r, i ? ",{" : "{", "name", plan->name);
        json_put(r, ",", "limits", rlp_plan_describe(plan, r->pool));
        ap_rputs("}", r);
    }
    ap_rputs("]", r);
}

static void json_rules(request_rec *r)
{
    ap_rputs(",\"rules\":[", r);
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *);

        json_put(r, i ? ",{" : "{", "name", rule->scope);
        json_put(r, ",", "section", rule->section ? rule->section : "");
        json_put(r, ",", "words", dump_rule_words(rule, r->pool));
        json_put(r, ",", "file", rule->file);
        ap_rprintf(r, ",\"line\":%d}", rule->line);
    }
    ap_rputs("]", r);
}

static void json_minutes(request_rec *r, const char *before, const char *name,
                         const uint32_t minutes[STATS_MINUTES])
{
    ap_rprintf(r, "%s\"%s\":[", before, name);
    for (int i = 0; i < STATS_MINUTES; i++) {
        ap_rprintf(r, "%s%u", i ? "," : "", minutes[i]);
    }
    ap_rputs("]", r);
}

static void json_counts(const status_t *status)
{
    request_rec *r = status->r;

    ap_rputs(",\"counts\":[", r);
    for (int i = 0; i < status->stats->n; i++) {
        const stats_row_t *row = &status->stats->rows[i];

        json_put(r, i ? ",\n{" : "\n{", "rule", row->rule);
        json_put(r, ",", "plan", row->plan);
        for (int k = 0; k < STATS_KINDS; k++) {
            ap_rprintf(r, ",\"%s\":%" APR_UINT64_T_FMT, status_kinds[k].member, row->counts[k]);
        }
        json_minutes(r, ",\"minutes\":{", "admitted", row->minutes[0]);
        json_minutes(r, ",", "refused", row->minutes[1]);
        json_minutes(r, ",", "would_refuse", row->minutes[2]);
        ap_rputs("}}", r);
    }
    ap_rprintf(r, "],\"crowded\":%" APR_UINT64_T_FMT, status->stats->crowded);
}

static void json_top(const status_t *status)
{
    request_rec *r = status->r;

    ap_rputs(",\"most_refused\":[", r);
    for (int i = 0; i < status->stats->n_top; i++) {
        const stats_top_t *top = &status->stats->top[i];

        json_put(r, i ? ",\n{" : "\n{", "identity", top->identity);
        json_put(r, ",", "rule", top->rule);
        ap_rprintf(r, ",\"refused\":%" APR_UINT64_T_FMT ",\"error\":%" APR_UINT64_T_FMT "}",
                   top->refused, top->error);
    }
    ap_rputs("]", r);
}

void status_json(const status_t *status)
{
    request_rec *r = status->r;

    ap_rprintf(r, "{\"version\":%d", JSON_VERSION);
    json_put(r, ",", "host", r->server->server_hostname ? r->server->server_hostname : "");
    json_put(r, ",", "time", status_time(status->now, r->pool));
    json_put(r, ",", "since", status_time(status->stats->begun, r->pool));
    if (rlp_world->store != NULL) {
        json_store(status);
    }
    json_maps(status);
    json_plans(r);
    json_rules(r);
    json_counts(status);
    json_top(status);
    ap_rputs("}\n", r);
}
