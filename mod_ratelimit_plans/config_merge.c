/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a configuration is kept in, and how sections and hosts merge.
 */

#include "provider.h"

#include <apr_strings.h>

#include <string.h>

world_t *rlp_world;

/* Tables the calendars that every .htaccess may use: there, none can be made. */
static void config_table_calendars(world_t *world)
{
    static const char *const words[] = { "quota=1/day", "quota=1/week", "quota=1/month",
                                         "quota=1/year" };
    rlp_plan_t *plan = NULL;
    rlp_clock_t clock;

    rlp_clock_read(&clock);
    (void)rlp_plan_parse(&plan,
                         &(rlp_plan_source_t){
                             .name = "calendars", .words = words, .n = 4, .wall = clock.wall },
                         world->pool);
}

/* Where no store is declared, what goes by the name of shm keeps the counters. Other modules may
   have put theirs in its place: what is wrong with it is said when it is needed. */
static void config_store_default(world_t *world)
{
    const rlp_store_provider_t *shm = provider_find(&provider_stores, "shm", world->pool);

    world->store_provider = shm;
    world->store_fault =
        shm->configure != NULL && shm->open != NULL
            ? shm->configure(&world->store_settings, "default", NULL, 0, world->pool)
            : "expected a store with configure and open";
    if (world->store_fault != NULL) {
        world->store_provider = &store_shm_provider;
        (void)store_shm_provider.configure(&world->store_settings, "default", NULL, 0, world->pool);
    }
    stores_begin(world);
}

void config_begin(apr_pool_t *pool)
{
    static const uint32_t none = 0;
    world_t *world = apr_pcalloc(pool, sizeof(*world));

    world->pool = pool;
    world->plans = apr_hash_make(pool);
    world->plan_list = apr_array_make(pool, 8, sizeof(plan_t *));
    world->rules = apr_array_make(pool, 16, sizeof(rule_t *));
    world->chains = apr_array_make(pool, 8, sizeof(chain_t *));
    world->maps = apr_array_make(pool, 4, sizeof(plan_map_t *));
    world->places = apr_array_make(pool, 16, sizeof(place_t *));
    world->placed = apr_hash_make(pool);
    world->scopes = apr_hash_make(pool);
    world->segments = apr_array_make(pool, 2, sizeof(int));
    world->kinds = apr_hash_make(pool);
    world->algorithms = algorithm_table(pool);
    config_store_default(world);
    config_table_calendars(world);
    identity_begin(world);
    world->ordered_count = &none;
    rlp_world = world;
}

/* --- records */

/* The verdict that requests share which pass here with nothing to tell. Behind a redirect there may
   be something: it starts from the room of this one. */
static verdict_t config_passed(const dir_conf_t *conf)
{
    return (verdict_t){
        .conf = conf, .judged = ~UINT64_C(0), .action = "pass", .room = RLP_NUMBERS_ROOM
    };
}

/* And of those that are exempt here. */
static verdict_t config_exempted(const dir_conf_t *conf)
{
    return (verdict_t){ .conf = conf, .action = "exempt" };
}

void *config_create_dir(apr_pool_t *pool, char *path)
{
    dir_conf_t *conf = apr_pcalloc(pool, sizeof(*conf));

    (void)path;
    conf->rules = apr_array_make(pool, 1, sizeof(rule_t *));
    conf->engine = RLP_UNSET;
    conf->fields = RLP_UNSET;
    conf->fields_epoch = RLP_UNSET;
    conf->fields_denied = RLP_UNSET;
    conf->deny_status = RLP_UNSET;
    conf->env_always = RLP_UNSET;
    conf->passed = config_passed(conf);
    conf->exempted = config_exempted(conf);
    return conf;
}

const char *config_section(const cmd_parms *cmd)
{
    const ap_directive_t *parent = cmd->path != NULL ? cmd->directive->parent : NULL;

    if (parent == NULL) {
        return NULL;
    }
    return apr_pstrcat(cmd->pool, parent->directive, *parent->args == '>' ? "" : " ", parent->args,
                       NULL);
}

const char *config_enter(cmd_parms *cmd, const dir_conf_t *conf, unsigned forbidden)
{
    const char *error = ap_check_cmd_context(cmd, forbidden);

    if (error != NULL || config_is_htaccess(cmd) ||
        apr_hash_get(rlp_world->placed, &conf, sizeof(uintptr_t)) != NULL) {
        return error;
    }
    place_t *place = apr_pcalloc(cmd->pool, sizeof(*place));

    place->conf = conf;
    place->server = cmd->server;
    place->section = config_section(cmd);
    place->file = cmd->directive->filename;
    place->line = place->section ? cmd->directive->parent->line_num : cmd->directive->line_num;
    APR_ARRAY_PUSH(rlp_world->places, const place_t *) = place;
    apr_hash_set(rlp_world->placed, &place->conf, sizeof(uintptr_t), place);
    return NULL;
}

int config_rule_index(const apr_array_header_t *rules, const char *name)
{
    for (int i = 0; i < rules->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(rules, i, const rule_t *)->name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static const char config_adds[] = "it can only add rules, and this name is used outside of it";

static bool config_same_file(const rule_t *a, const rule_t *b)
{
    return a->directory != NULL && b->directory != NULL && strcmp(a->directory, b->directory) == 0;
}

/* Rules of .htaccess add to what is there, and no more; but sections of one file merge as others
   do. */
static bool config_may_add(const apr_array_header_t *rules, const rule_t *known, const rule_t *rule)
{
    int local = 0;

    if (known != NULL) {
        const bool same = config_same_file(known, rule);

        if (!same) {
            denial_log_ignored(rule, config_adds);
        }
        return same;
    }
    for (int i = 0; i < rules->nelts; i++) {
        local += APR_ARRAY_IDX(rules, i, const rule_t *)->directory != NULL;
    }
    if (local >= RLP_RULES_MAX) {
        denial_log_ignored(rule, "at most 16 rules of such files count for one request");
        return false;
    }
    return true;
}

/* A rule of the same name replaces, others add. "Off" stays in the list: httpd also merges sections
   among themselves before it merges them into what is outside. */
static apr_array_header_t *config_merge_rules(apr_pool_t *pool, const apr_array_header_t *base,
                                              const apr_array_header_t *add)
{
    apr_array_header_t *rules = apr_array_copy(pool, base);

    for (int i = 0; i < add->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(add, i, const rule_t *);
        const int at = config_rule_index(rules, rule->name);
        const rule_t *known = at >= 0 ? APR_ARRAY_IDX(rules, at, const rule_t *) : NULL;

        if (rule->directory != NULL && !config_may_add(rules, known, rule)) {
            continue;
        }
        if (known == NULL) {
            APR_ARRAY_PUSH(rules, const rule_t *) = rule;
            continue;
        }
        if (known->directory != NULL && rule->directory == NULL) {
            denial_log_ignored(known, config_adds);
        }
        APR_ARRAY_IDX(rules, at, const rule_t *) = rule;
    }
    return rules;
}

static apr_array_header_t *config_merge_exempts(apr_pool_t *pool, apr_array_header_t *base,
                                                apr_array_header_t *add)
{
    if (base == NULL || add == NULL) {
        return base ? base : add;
    }
    return apr_array_append(pool, base, add);
}

/* Costs of .htaccess keep what is said outside. */
static const cost_t *config_merge_cost(apr_pool_t *pool, const cost_t *base, const cost_t *add)
{
    const cost_t *merged = NULL;
    const cost_t **end = &merged;

    for (; add != NULL && add->local; add = add->outer) {
        cost_t *cost = apr_pmemdup(pool, add, sizeof(*add));

        *end = cost;
        end = &cost->outer;
    }
    *end = add ? add : base;
    return merged;
}

static int config_set(int base, int add)
{
    return add == RLP_UNSET ? base : add;
}

void *config_merge_dir(apr_pool_t *pool, void *basev, void *addv)
{
    const dir_conf_t *base = basev;
    const dir_conf_t *add = addv;
    dir_conf_t *conf = apr_palloc(pool, sizeof(*conf));

    conf->rules =
        add->rules->nelts ? config_merge_rules(pool, base->rules, add->rules) : base->rules;
    conf->traits = base->traits | add->traits;
    conf->chain = add->chain ? add->chain : base->chain;
    conf->engine = config_set(base->engine, add->engine);
    conf->fields = config_set(base->fields, add->fields);
    conf->fields_epoch = config_set(base->fields_epoch, add->fields_epoch);
    conf->fields_denied = config_set(base->fields_denied, add->fields_denied);
    conf->deny_status = config_set(base->deny_status, add->deny_status);
    conf->env_always = config_set(base->env_always, add->env_always);
    conf->cost = config_merge_cost(pool, base->cost, add->cost);
    conf->refund = add->refund ? add->refund : base->refund;
    conf->exempts = config_merge_exempts(pool, base->exempts, add->exempts);
    conf->passed = config_passed(conf);
    conf->exempted = config_exempted(conf);
    return conf;
}

void *config_create_server(apr_pool_t *pool, server_rec *server)
{
    server_conf_t *conf = apr_pcalloc(pool, sizeof(*conf));

    (void)server;
    conf->maps = apr_array_make(pool, 2, sizeof(plan_map_t *));
    conf->plan_reset = RLP_UNSET;
    conf->delay_max = RLP_UNSET;
    conf->delay_budget = RLP_UNSET;
    conf->key_plain = RLP_UNSET;
    conf->key_repeat = RLP_UNSET;
    return conf;
}

void *config_merge_server(apr_pool_t *pool, void *basev, void *addv)
{
    const server_conf_t *base = basev;
    const server_conf_t *add = addv;
    server_conf_t *conf = apr_pcalloc(pool, sizeof(*conf));
    const server_conf_t *named = add->default_name ? add : base;

    conf->maps = apr_array_append(pool, base->maps, add->maps); /* the last of a type counts */
    conf->default_name = named->default_name;
    conf->default_line = named->default_line;
    conf->default_file = named->default_file;
    conf->plan_default = named->plan_default;
    conf->plan_reset = config_set(base->plan_reset, add->plan_reset);
    conf->delay_max = add->delay_max == RLP_UNSET ? base->delay_max : add->delay_max;
    conf->delay_budget = config_set(base->delay_budget, add->delay_budget);
    conf->key_plain = config_set(base->key_plain, add->key_plain);
    conf->key_repeat = add->key_repeat == RLP_UNSET ? base->key_repeat : add->key_repeat;
    return conf;
}
