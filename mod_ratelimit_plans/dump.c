/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The configuration in words: -t -D DUMP_RATELIMIT.
 */

#include "private.h"
#include "provider.h"

#include <http_config.h>

#include <apr_file_io.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

static const char *dump_span(rlp_time_t span, apr_pool_t *pool)
{
    const bool whole = span % RLP_SECOND == 0;

    return apr_psprintf(pool, "%" APR_INT64_T_FMT "%s", span / (whole ? RLP_SECOND : 1000),
                        whole ? " s" : " ms");
}

/* "user, else ip" */
static const char *dump_identities(const chain_t *chain, apr_pool_t *pool)
{
    const char *text = "";

    for (int i = 0; i < chain->n; i++) {
        const identity_t *identity = &chain->items[i];

        text = apr_pstrcat(pool, text, i ? ", else " : "",
                           apr_pstrmemdup(pool, identity->label, identity->label_len - 1), NULL);
    }
    return text;
}

static const char *dump_cost(const cost_t *cost, apr_pool_t *pool)
{
    if (cost->header != NULL) {
        return apr_psprintf(pool, "costs what %s of the response says (%s until then)",
                            cost->header, cost_text(cost->units, pool));
    }
    return cost->expr ? "costs what an expression says"
                      : apr_pstrcat(pool, "costs ", cost_text(cost->units, pool), NULL);
}

/* --- rules */

/* Whom and what the rule speaks of. */
static const char *dump_choice(const rule_t *rule, apr_pool_t *pool)
{
    const char *text =
        rule->key ? apr_pstrcat(pool, ", counted by ", dump_identities(rule->key, pool), NULL) : "";

    if (rule->methods != NULL) {
        text = apr_pstrcat(pool, text, rule->methods_negated ? ", not for " : ", for ",
                           apr_array_pstrcat(pool, rule->methods, ','), NULL);
    }
    if (rule->path != NULL) {
        text = apr_pstrcat(pool, text, ", for the path ", glob_text(rule->path), NULL);
    }
    if (rule->condition != NULL) {
        text = apr_pstrcat(pool, text, ", under a condition", NULL);
    }
    return rule->traits & TRAIT_PRIORITY
               ? apr_psprintf(pool, "%s, an alternative of priority %d", text, rule->priority)
               : text;
}

/* What comes of a request besides being counted once and at once. */
static const char *dump_effects(const rule_t *rule, apr_pool_t *pool)
{
    const char *text = rule->cost ? apr_pstrcat(pool, ", ", dump_cost(rule->cost, pool), NULL) : "";

    if (rule->counts != NULL) {
        text = apr_pstrcat(pool, text, ", counted by the response", NULL);
    }
    if (rule->delays && rule->max_wait == RLP_TIME_NEVER) {
        text = apr_pstrcat(pool, text, ", waits as long as RateLimitDelay allows", NULL);
    } else if (rule->delays) {
        text = apr_pstrcat(pool, text, ", waits up to ", dump_span(rule->max_wait, pool), NULL);
    }
    if (rule->traits & TRAIT_EARLY) {
        text = apr_pstrcat(pool, text, ", before authentication", NULL);
    }
    text = apr_pstrcat(pool, text, stores_rule_describe(rule, pool), NULL);
    if (rule->dry) {
        return apr_pstrcat(pool, text, ", a dry run", NULL);
    }
    return rule->marks ? apr_pstrcat(pool, text, ", marks and refuses nobody", NULL) : text;
}

static const char *dump_limits(const rule_t *rule, apr_pool_t *pool)
{
    const server_conf_t *server = server_conf(rule->server);
    const char *plans = rule->choice == CHOICE_AUTO ? "the plan of whom is counted" : "";

    if (rule->off) {
        return "off";
    }
    if (rule->choice == CHOICE_NAMED) {
        return apr_psprintf(pool, "plan %s for everybody", rule->plan_name);
    }
    if (rule->own != NULL) {
        return apr_pstrcat(pool, plans, *plans ? "; without one: " : "for everybody: ",
                           rlp_plan_describe(rule->own, pool), NULL);
    }
    return server->default_name
               ? apr_pstrcat(pool, plans, "; without one: plan ", server->default_name, NULL)
               : apr_pstrcat(pool, plans, "; without one: unlimited", NULL);
}

const char *dump_rule_words(const rule_t *rule, apr_pool_t *pool)
{
    return apr_pstrcat(pool, dump_limits(rule, pool), rule->off ? "" : dump_choice(rule, pool),
                       dump_effects(rule, pool), NULL);
}

static void dump_rule(apr_file_t *out, const rule_t *rule, apr_pool_t *pool)
{
    apr_file_printf(out, "  %s%s%s: %s (%s:%d)\n", rule->scope, rule->section ? " in " : "",
                    rule->section ? rule->section : "", dump_rule_words(rule, pool), rule->file,
                    rule->line);
}

/* --- what is declared for the whole server */

static const char *dump_store(const depot_t *depot, apr_pool_t *pool)
{
    if (depot->provider->describe != NULL) {
        return depot->provider->describe(depot->settings, pool);
    }
    return depot->provider == &store_shm_provider
               ? store_shm_describe(depot->settings, pool)
               : apr_pstrcat(pool, depot->name, ", of another module", NULL);
}

/* The first is that of rules that name none. */
const char *dump_store_words(apr_pool_t *pool)
{
    const char *words = "";

    for (int i = 0; i < rlp_world->depots->nelts; i++) {
        const depot_t *depot = &APR_ARRAY_IDX(rlp_world->depots, i, const depot_t);

        words = apr_pstrcat(pool, words, i ? "; " : "", i ? depot->name : "", i ? ": " : "",
                            dump_store(depot, pool), NULL);
    }
    return words;
}

static void dump_stores(apr_file_t *out, apr_pool_t *pool)
{
    for (int i = 0; i < rlp_world->depots->nelts; i++) {
        const depot_t *depot = &APR_ARRAY_IDX(rlp_world->depots, i, const depot_t);

        apr_file_printf(out, "Rate limit store%s%s: %s\n", i ? " " : "", i ? depot->name : "",
                        dump_store(depot, pool));
    }
}

static void dump_plans(apr_file_t *out, apr_pool_t *pool)
{
    apr_file_printf(out, "Rate limit plans:\n");
    for (int i = 0; i < rlp_world->plan_list->nelts; i++) {
        const rlp_plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *)->limits;

        apr_file_printf(out, "  %s: %s\n", plan->name, rlp_plan_describe(plan, pool));
    }
}

static const char *dump_source(const identity_type_t *type, apr_pool_t *pool)
{
    static const struct {
        const char *provider;
        const char *words;
    } known[] = { { "header", "the header field " },
                  { "cookie", "the cookie " },
                  { "env", "the variable " },
                  { "expr", "the expression " } };
    const char *words = apr_pstrcat(pool, type->provider_name, ":", NULL);

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        words = strcmp(known[i].provider, type->provider_name) == 0 ? known[i].words : words;
    }
    return apr_pstrcat(pool, words, type->argument, type->chosen ? ", if a plan map knows it" : "",
                       NULL);
}

static int dump_compare(const void *a, const void *b)
{
    return strcmp((*(const identity_type_t *const *)a)->name,
                  (*(const identity_type_t *const *)b)->name);
}

/* Those that are not built in, in the order of their names. */
static void dump_types(apr_file_t *out, apr_pool_t *pool)
{
    apr_array_header_t *types = apr_array_make(pool, 4, sizeof(identity_type_t *));

    for (apr_hash_index_t *i = apr_hash_first(pool, rlp_world->identity_types); i;
         i = apr_hash_next(i)) {
        const identity_type_t *type = apr_hash_this_val(i);

        if (type->file != NULL) {
            APR_ARRAY_PUSH(types, const identity_type_t *) = type;
        }
    }
    if (types->nelts == 0) {
        return;
    }
    qsort(types->elts, (size_t)types->nelts, sizeof(identity_type_t *), dump_compare);
    apr_file_printf(out, "Rate limit identities:\n");
    for (int i = 0; i < types->nelts; i++) {
        const identity_type_t *type = APR_ARRAY_IDX(types, i, const identity_type_t *);

        apr_file_printf(out, "  %s: %s (%s:%d)\n", type->name, dump_source(type, pool), type->file,
                        type->line);
    }
}

/* --- settings; those that are not given are left out */

static const char *dump_fields(const dir_conf_t *conf, apr_pool_t *pool)
{
    static const char *const sets[] = { [FIELDS_OFF] = "no header fields",
                                        [FIELDS_IETF] = "header fields IETF",
                                        [FIELDS_LEGACY] = "header fields Legacy",
                                        [FIELDS_BOTH] = "header fields IETF and Legacy" };

    if (conf->fields == FIELDS_OFF) {
        return sets[FIELDS_OFF];
    }
    return apr_pstrcat(pool, sets[conf->fields],
                       conf->fields_epoch == 1 ? ", reset as an instant" : "",
                       conf->fields_denied == 1 ? ", on refusals alone" : "", NULL);
}

static const char *dump_exempts(const apr_array_header_t *exempts, apr_pool_t *pool)
{
    const char *text = "";

    for (int i = 0; i < exempts->nelts; i++) {
        text =
            apr_pstrcat(pool, text, i ? ", " : "exempt: ",
                        exempt_describe(APR_ARRAY_IDX(exempts, i, const exempt_t *), pool), NULL);
    }
    return text;
}

/* What a section sets besides its rules; words of char *. */
static apr_array_header_t *dump_section(const dir_conf_t *conf, apr_pool_t *pool)
{
    static const char *const engines[] = { "engine off", "engine on", "engine on as a dry run" };
    apr_array_header_t *words = apr_array_make(pool, 8, sizeof(char *));

    if (conf->engine != RLP_UNSET) {
        APR_ARRAY_PUSH(words, const char *) = engines[conf->engine];
    }
    if (conf->chain != NULL) {
        APR_ARRAY_PUSH(words, const char *) =
            apr_pstrcat(pool, "counts ", dump_identities(conf->chain, pool), NULL);
    }
    if (conf->cost != NULL) {
        APR_ARRAY_PUSH(words, const char *) =
            apr_pstrcat(pool, "a request ", dump_cost(conf->cost, pool), NULL);
    }
    if (conf->refund != NULL) {
        APR_ARRAY_PUSH(words, const char *) = "given back under a condition";
    }
    if (conf->exempts != NULL) {
        APR_ARRAY_PUSH(words, const char *) = dump_exempts(conf->exempts, pool);
    }
    if (conf->fields != RLP_UNSET) {
        APR_ARRAY_PUSH(words, const char *) = dump_fields(conf, pool);
    }
    if (conf->deny_status != RLP_UNSET) {
        APR_ARRAY_PUSH(words, const char *) =
            apr_psprintf(pool, "refuses with %d", conf->deny_status);
    }
    if (conf->env_always != RLP_UNSET) {
        APR_ARRAY_PUSH(words, const char *) =
            conf->env_always ? "variables always" : "variables where something happens";
    }
    return words;
}

static const char *dump_unknown(const plan_map_t *map, apr_pool_t *pool)
{
    if (map->unknown == UNKNOWN_DENY) {
        return apr_psprintf(pool, "else refused with %d", map->status);
    }
    return map->unknown == UNKNOWN_NEXT ? "else the next identity" : "else none";
}

static const char *dump_maps(const server_conf_t *conf, apr_pool_t *pool)
{
    const char *text = "";

    for (int i = 0; i < conf->maps->nelts; i++) {
        const plan_map_t *map = APR_ARRAY_IDX(conf->maps, i, const plan_map_t *);

        if (plan_map_of(conf, map->type) == map) {
            text = apr_psprintf(pool, "%s; plans of %s by %s, %s", text, map->type,
                                plan_map_describe(map), dump_unknown(map, pool));
        }
    }
    return text;
}

/* What is for a whole host. */
static const char *dump_host(const server_conf_t *conf, apr_pool_t *pool)
{
    const char *text = dump_maps(conf, pool);

    if (conf->default_name != NULL) {
        text = apr_pstrcat(pool, text, "; without a plan: ", conf->default_name, NULL);
    }
    if (conf->plan_reset != RLP_UNSET) {
        text = apr_pstrcat(pool, text,
                           conf->plan_reset ? "; a new plan starts full"
                                            : "; a new plan keeps what is used",
                           NULL);
    }
    if (conf->delay_max > 0) {
        text =
            apr_psprintf(pool, "%s; waits up to %s in %d%% of the threads", text,
                         dump_span(conf->delay_max, pool),
                         conf->delay_budget == RLP_UNSET ? RLP_DELAY_BUDGET : conf->delay_budget);
    }
    if (conf->key_plain != RLP_UNSET) {
        text = apr_pstrcat(pool, text, "; refusals are told ",
                           conf->key_plain ? "plainly, " : "with digests, ",
                           conf->key_repeat ? "again after " : "each time",
                           conf->key_repeat ? dump_span(conf->key_repeat, pool) : "", NULL);
    }
    return text;
}

/* The names of the rules that are in force all over a host. */
static const char *dump_in_force(const dir_conf_t *conf, apr_pool_t *pool)
{
    const char *text = "";

    for (int i = 0; i < conf->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(conf->rules, i, const rule_t *);

        if (!rule->off) {
            text = apr_pstrcat(pool, text, *text ? ", " : "; rules ", rule->scope, NULL);
        }
    }
    return text;
}

/* One host, with what it has from the server. */
static void dump_server(apr_file_t *out, const server_rec *server, apr_pool_t *pool)
{
    const dir_conf_t *conf = ap_get_module_config(server->lookup_defaults, &ratelimit_plans_module);
    apr_array_header_t *words = dump_section(conf, pool);
    const char *host = dump_host(server_conf(server), pool);

    if (conf->engine == RLP_UNSET) {
        APR_ARRAY_PUSH(words, const char *) = "engine off";
    }
    apr_file_printf(out, "  %s%s: ", server->is_virtual ? "host " : "server",
                    server->is_virtual ? server->server_hostname : "");
    for (int i = 0; i < words->nelts; i++) {
        apr_file_printf(out, "%s%s", i ? "; " : "", APR_ARRAY_IDX(words, i, const char *));
    }
    apr_file_printf(out, "%s%s", host, dump_in_force(conf, pool));
    if (server->is_virtual) {
        apr_file_printf(out, " (%s:%u)", server->defn_name, server->defn_line_number);
    }
    apr_file_printf(out, "\n");
}

/* Sections that set something besides rules, as they are written: they merge as httpd does. */
static void dump_place(apr_file_t *out, const place_t *place, apr_pool_t *pool)
{
    const apr_array_header_t *words = dump_section(place->conf, pool);

    if (place->section == NULL || words->nelts == 0) {
        return;
    }
    apr_file_printf(out, "  %s%s%s: ", place->section, place->server->is_virtual ? " of host " : "",
                    place->server->is_virtual ? place->server->server_hostname : "");
    for (int i = 0; i < words->nelts; i++) {
        apr_file_printf(out, "%s%s", i ? "; " : "", APR_ARRAY_IDX(words, i, const char *));
    }
    apr_file_printf(out, " (%s:%d)\n", place->file, place->line);
}

void dump_print(const server_rec *servers, apr_pool_t *pool)
{
    apr_file_t *out = NULL;

    apr_file_open_stdout(&out, pool);
    dump_stores(out, pool);
    dump_plans(out, pool);
    dump_types(out, pool);
    apr_file_printf(out, "Rate limit rules:\n");
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        dump_rule(out, APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *), pool);
    }
    apr_file_printf(out, "Rate limit settings:\n");
    for (const server_rec *server = servers; server; server = server->next) {
        dump_server(out, server, pool);
    }
    for (int i = 0; i < rlp_world->places->nelts; i++) {
        dump_place(out, APR_ARRAY_IDX(rlp_world->places, i, const place_t *), pool);
    }
}
