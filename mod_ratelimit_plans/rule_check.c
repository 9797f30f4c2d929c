/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Checks of the whole configuration: everything is read, names can be found. Errors, and warnings
 * of what is hardly meant.
 */

#include "private.h"

#include <http_log.h>
#include <util_filter.h>

#include <apr_strings.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

/* An error of the configuration that was found after it was read. */
static bool rule_error(server_rec *server, const char *file, int line, const char *error)
{
    ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_ERR, 0, server,
                 "Syntax error on line %d of %s: %s", line, file, error);
    return false;
}

static void rule_warn(server_rec *server, const char *file, int line, const char *warning)
{
    ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_WARNING, 0, server, "line %d of %s: %s", line,
                 file, warning);
}

const char *rule_near_plan(const char *name, apr_pool_t *pool)
{
    const int n = rlp_world->plan_list->nelts;
    const char **names = apr_pcalloc(pool, sizeof(char *) * ((apr_size_t)n + 1));

    for (int i = 0; i < n; i++) {
        names[i] = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *)->limits->name;
    }
    const char *nearest = rlp_nearest(name, names);

    return nearest ? apr_psprintf(pool, " (%s?)", nearest) : "";
}

static const char *rule_unknown_plan(const char *name, apr_pool_t *pool)
{
    return apr_psprintf(pool, "expected the name of a plan, got \"%s\"%s", name,
                        rule_near_plan(name, pool));
}

/* The plan of that name, which is used from now on; NULL with the error logged. */
static plan_t *rule_use_plan(server_rec *server, const char *directive, const char *name,
                             const char *file, int line, apr_pool_t *pool)
{
    plan_t *plan = apr_hash_get(rlp_world->plans, name, APR_HASH_KEY_STRING);

    if (plan == NULL) {
        (void)rule_error(server, file, line,
                         apr_pstrcat(pool, directive, ": ", rule_unknown_plan(name, pool), NULL));
    } else {
        plan->used = true;
    }
    return plan;
}

/* The plan that it names: NULL, or what was expected. */
static const char *rule_check_plan(const rule_t *rule, apr_pool_t *pool)
{
    return rule->choice != CHOICE_NAMED ||
                   apr_hash_get(rlp_world->plans, rule->plan_name, APR_HASH_KEY_STRING) != NULL
               ? NULL
               : rule_unknown_plan(rule->plan_name, pool);
}

/* What a limit needs of the store: NULL, or what was expected. */
static const char *rule_misfit_store(const depot_t *depot, const rlp_limit_t *limit,
                                     apr_pool_t *pool)
{
    if (depot->provider->limit != NULL) {
        return depot->provider->limit(depot->settings, limit, rlp_world->longest_wait, pool);
    }
    return limit->lease == 0 ? NULL
                             : "expected no lease= with a store of this host: a child's death "
                               "frees what it held";
}

/* What the limits need of this server and a store: NULL, or what was expected. */
static const char *rule_misfit(const depot_t *depot, const rlp_plan_t *plan, apr_pool_t *pool)
{
    if (plan->bandwidth > 0 && ap_get_output_filter_handle("RATE_LIMIT") == NULL) {
        return "expected mod_ratelimit to be loaded for bandwidth=";
    }
    for (int i = 0; i < plan->n; i++) {
        const char *error = rule_misfit_store(depot, &plan->limits[i], pool);

        if (error != NULL) {
            return error;
        }
        if (plan->limits[i].state_size > depot->provider->state_max) {
            return apr_psprintf(pool,
                                "expected a limit with a state of at most %u bytes, which is what "
                                "the store keeps of one key, got algorithm=%s with %u",
                                depot->provider->state_max, plan->limits[i].algorithm->name,
                                plan->limits[i].state_size);
        }
    }
    return NULL;
}

/* Does the rule count, perhaps by that plan? */
static bool rule_may_count(const rule_t *rule, const plan_t *plan)
{
    return !rule->off && rule->choice != CHOICE_NONE &&
           (rule->choice == CHOICE_AUTO || strcmp(rule->plan_name, plan->limits->name) == 0);
}

/* Is anything counted in that store by that plan? In the first one, if in none. */
static bool rule_any_counts(const depot_t *depot, bool first, const plan_t *plan)
{
    bool anywhere = false;

    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *);

        if (rule_may_count(rule, plan) && stores_of(rule) == depot) {
            return true;
        }
        anywhere |= rule_may_count(rule, plan);
    }
    return first && !anywhere;
}

static bool rule_check_limits(server_rec *server, const plan_t *plan, apr_pool_t *pool)
{
    const char *error = NULL;

    for (int i = 0; i < rlp_world->depots->nelts && error == NULL; i++) {
        const depot_t *depot = &APR_ARRAY_IDX(rlp_world->depots, i, const depot_t);

        error =
            rule_any_counts(depot, i == 0, plan) ? rule_misfit(depot, plan->limits, pool) : NULL;
    }
    return error == NULL || rule_error(server, plan->file, plan->line,
                                       apr_pstrcat(pool, "RateLimitPlan: ", error, NULL));
}

/* Finds the plan that takes over. */
static bool rule_check_then(server_rec *server, plan_t *plan, apr_pool_t *pool)
{
    const char *name = plan->limits->then;

    if (name == NULL) {
        return true;
    }
    plan->then = rule_use_plan(server, "RateLimitPlan: then=", name, plan->file, plan->line, pool);
    if (plan->then == NULL) {
        return false;
    }
    if (plan->then == plan || plan->then->limits->then != NULL) {
        plan->then = NULL;
        return rule_error(server, plan->file, plan->line,
                          apr_psprintf(pool,
                                       "RateLimitPlan: expected another plan, which has no then= "
                                       "of its own (no chains), got \"then=%s\"",
                                       name));
    }
    return true;
}

/* What a request may cost under a limit. Of a leaky bucket one unit passes at once; the burst is
   for those that may wait. */
static rlp_units_t rule_most(const rlp_limit_t *limit, bool delays)
{
    return strcmp(limit->algorithm->name, "leaky-bucket") != 0 ? limit->burst
           : delays                                            ? RLP_UNIT + limit->burst
                                                               : RLP_UNIT;
}

/* The smallest capacity among the limits that count units, and above 0: 0 blocks on purpose. */
static rlp_units_t rule_capacity(const rlp_plan_t *plan, bool delays)
{
    rlp_units_t least = RLP_UNITS_MAX;

    for (int i = 0; i < plan->n; i++) {
        const rlp_limit_t *limit = &plan->limits[i];
        const rlp_units_t most = rule_most(limit, delays);

        if (!limit->algorithm->holds && limit->burst > 0 && most < least) {
            least = most;
        }
    }
    return least;
}

/* The plan of the rule of which no request could ever pay the cost; NULL: there is none. */
static const rlp_plan_t *rule_overpriced(const rule_t *rule, const cost_t *cost)
{
    const plan_t *named = rule->choice == CHOICE_NAMED
                              ? apr_hash_get(rlp_world->plans, rule->plan_name, APR_HASH_KEY_STRING)
                              : NULL;
    const rlp_plan_t *plan = named ? named->limits : rule->own;
    const bool known = cost != NULL && cost->expr == NULL && plan != NULL;

    return known && cost->units > rule_capacity(plan, rule->delays) ? plan : NULL;
}

/* NULL, or what was expected. */
static const char *rule_check_cost(const rule_t *rule, apr_pool_t *pool)
{
    const rlp_plan_t *plan = rule_overpriced(rule, rule->cost);

    if (plan == NULL) {
        return NULL;
    }
    return apr_psprintf(pool,
                        "expected a cost of at most %s, which is all that \"%s\" ever has at "
                        "once, got %s",
                        cost_text(rule_capacity(plan, rule->delays), pool), plan->name,
                        cost_text(rule->cost->units, pool));
}

static const server_conf_t *rule_server(const server_rec *server)
{
    return ap_get_module_config(server->module_config, &ratelimit_plans_module);
}

/* Gathers what some host says: with thousands of them, not each rule can ask each host. */
static void rule_gather(const server_rec *servers)
{
    for (const server_rec *s = servers; s != NULL; s = s->next) {
        const server_conf_t *conf = rule_server(s);

        rlp_world->defaults |= conf->default_name != NULL;
        if (conf->delay_max > rlp_world->longest_wait) {
            rlp_world->longest_wait = conf->delay_max;
        }
    }
}

/* Can a request wait under this rule? Those of the server itself are for all hosts. */
static bool rule_may_wait(const rule_t *rule)
{
    return (rule->server->is_virtual ? rule_server(rule->server)->delay_max
                                     : rlp_world->longest_wait) > 0;
}

/* Are there limits by which the rule can count anybody? The default may be that of any host whose
   requests it judges. */
static bool rule_has_limits(const rule_t *rule)
{
    return rule->off || rule->own != NULL || rule->choice == CHOICE_NAMED ||
           rlp_world->maps->nelts > 0 ||
           (rule->server->is_virtual ? rule_server(rule->server)->default_name != NULL
                                     : rlp_world->defaults);
}

static bool rule_is_of_users(const identity_t *identity)
{
    bool users = false;

    for (int i = 0; i < identity->n; i++) {
        users |= identity->parts[i].type->authenticated;
    }
    return users;
}

static bool rule_counts_users(const chain_t *chain)
{
    bool users = false;

    for (int i = 0; i < chain->n; i++) {
        users |= rule_is_of_users(&chain->items[i]);
    }
    return users;
}

/* Before authentication nobody has a name; a chain that begins with user is not to turn into
   another one silently. */
static const char *rule_check_phase(const rule_t *rule)
{
    if (!(rule->traits & TRAIT_EARLY)) {
        return NULL;
    }
    if (rule->key == NULL) {
        return "expected key= with phase=early, such as key=ip: it says whom to count before "
               "authentication, got none";
    }
    return rule_counts_users(rule->key) ? "expected a key= without user with phase=early, which is "
                                          "before authentication, got \"user\""
                                        : NULL;
}

const char *rule_fault(const rule_t *rule, apr_pool_t *pool)
{
    const char *error = rule->own ? rule_misfit(stores_of(rule), rule->own, pool) : NULL;

    if (error == NULL) {
        error = rule_check_phase(rule);
    }
    if (error == NULL) {
        error = rule_check_plan(rule, pool);
    }
    return error ? error : rule_check_cost(rule, pool);
}

/* What the store has to say of the rule's own limits. */
static void rule_warn_store(const rule_t *rule)
{
    const depot_t *depot = stores_of(rule);
    const char *doubt = rule->own != NULL && depot->provider->doubt != NULL
                            ? depot->provider->doubt(depot->settings, rule->own->limits,
                                                     rule->own->n, rule->delays, rule->terms)
                            : NULL;

    if (doubt != NULL) {
        rule_warn(rule->server, rule->file, rule->line, doubt);
    }
}

/* The section's cost may be another one in all that lie deeper: so this is no error. */
static void rule_warn_cost(const rule_t *rule, apr_pool_t *pool)
{
    const cost_t *cost = rule->cost ? NULL : *rule->outer;
    const rlp_plan_t *plan = rule_overpriced(rule, cost);

    if (cost != NULL && plan != NULL) {
        rule_warn(rule->server, rule->file, rule->line,
                  apr_psprintf(pool,
                               "by the RateLimitCost of this section a request costs %s, and "
                               "\"%s\" "
                               "never has more than %s at once: it is always refused",
                               cost_text(cost->units, pool), plan->name,
                               cost_text(rule_capacity(plan, rule->delays), pool)));
    }
}

static bool rule_check(rule_t *rule, apr_pool_t *pool)
{
    const char *error = rule_fault(rule, pool);

    if (error != NULL) {
        return rule_error(rule->server, rule->file, rule->line,
                          apr_pstrcat(pool, "RateLimitRule: ", error, NULL));
    }
    if (rule->delays && !rule_may_wait(rule)) {
        rule_warn(rule->server, rule->file, rule->line,
                  "no request may wait: RateLimitDelay max=DURATION allows it");
    }
    if (!rule_has_limits(rule)) {
        rule_warn(rule->server, rule->file, rule->line,
                  "the rule counts nobody: it has no limits, and there is neither a "
                  "RateLimitPlanDefault nor a RateLimitPlanMap");
    }
    rule_warn_store(rule);
    rule_warn_cost(rule, pool);
    if (rule->choice == CHOICE_NAMED) {
        plan_t *plan = apr_hash_get(rlp_world->plans, rule->plan_name, APR_HASH_KEY_STRING);

        plan->used = true;
    }
    return true;
}

static bool rule_check_default(server_rec *server, apr_pool_t *pool)
{
    server_conf_t *conf = ap_get_module_config(server->module_config, &ratelimit_plans_module);

    if (conf->default_name == NULL) {
        return true;
    }
    conf->plan_default = rule_use_plan(server, "RateLimitPlanDefault", conf->default_name,
                                       conf->default_file, conf->default_line, pool);
    return conf->plan_default != NULL;
}

static bool rule_check_map(server_rec *server, plan_map_t *map, apr_pool_t *pool)
{
    const identity_type_t *type =
        apr_hash_get(rlp_world->identity_types, map->type, APR_HASH_KEY_STRING);
    const char *error = NULL;

    if (type == NULL) {
        error = apr_psprintf(pool, "expected a type of RateLimitIdentity or key=, got \"%s\"%s",
                             map->type, identity_near(map->type, pool));
    } else if (map->unknown_given && map->unknown == UNKNOWN_DEFAULT && type->chosen) {
        error = apr_psprintf(pool,
                             "expected unknown=next or unknown=deny for \"%s\": clients choose its "
                             "value, "
                             "and each new one would have a fresh limit",
                             map->type);
    } else {
        if (!map->unknown_given) {
            map->unknown = type->chosen ? UNKNOWN_NEXT : UNKNOWN_DEFAULT;
        }
        error = plan_map_load(map, pool);
    }
    return error == NULL || rule_error(server, map->file, map->line,
                                       apr_psprintf(pool, "RateLimitPlanMap: %s", error));
}

static bool rule_has_map(const char *type)
{
    for (int i = 0; i < rlp_world->maps->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(rlp_world->maps, i, const plan_map_t *)->type, type) == 0) {
            return true;
        }
    }
    return false;
}

/* The field by which proxies say for whom they ask, if it is that; NULL: it is not. */
static const char *rule_forwarding(const identity_type_t *type)
{
    static const char *const fields[] = { "X-Forwarded-For",
                                          "X-Real-IP",
                                          "X-Client-IP",
                                          "X-Cluster-Client-IP",
                                          "X-Original-Forwarded-For",
                                          "True-Client-IP",
                                          "CF-Connecting-IP",
                                          "CF-Connecting-IPv6",
                                          "Fastly-Client-IP",
                                          "Fly-Client-IP",
                                          "X-Forwarded",
                                          "Forwarded-For",
                                          "Client-IP",
                                          "Forwarded" };

    const bool header = ap_cstr_casecmp(type->provider_name, "header") == 0;
    const bool expr = ap_cstr_casecmp(type->provider_name, "expr") == 0;

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if ((header && ap_cstr_casecmp(type->argument, fields[i]) == 0) ||
            (expr && ap_strcasestr(type->argument, fields[i]) != NULL)) {
            return fields[i];
        }
    }
    return NULL;
}

/* What is allowed but hardly meant. */
static const char *rule_doubt(const identity_type_t *type, apr_pool_t *pool)
{
    const char *forwarding = type->argument ? rule_forwarding(type) : NULL;

    if (forwarding != NULL) {
        return apr_psprintf(pool,
                            "the identity \"%s\" is what any client writes into %s: use ip, and "
                            "mod_remoteip for trusted proxies",
                            type->name, forwarding);
    }
    if (!type->chosen && stores_digest_error() != NULL) {
        return apr_psprintf(
            pool,
            "a value of the identity \"%s\" that is too long for a key has a digest "
            "in Redis that anybody can work out: secret= of RateLimitStore makes it "
            "a keyed one",
            type->name);
    }
    if (type->chosen && !rule_has_map(type->name)) {
        return apr_psprintf(pool,
                            "the identity \"%s\" is never used: clients choose its value, and no "
                            "RateLimitPlanMap says which are known",
                            type->name);
    }
    return NULL;
}

/* Without a map, only what the configuration names gives anybody a plan. */
static void rule_warn_plans(server_rec *server, apr_pool_t *pool)
{
    for (int i = 0; i < rlp_world->plan_list->nelts; i++) {
        const plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *);

        if (!plan->used) {
            rule_warn(server, plan->file, plan->line,
                      apr_psprintf(pool,
                                   "nobody has the plan \"%s\", unless a .htaccess or rlpctl "
                                   "set-plan names it: no rule, default or other plan does, and "
                                   "there is no RateLimitPlanMap",
                                   plan->limits->name));
        }
    }
}

/* What stands behind an identity that every request has. */
static void rule_warn_chain(server_rec *server, const chain_t *chain, apr_pool_t *pool)
{
    for (int i = 0; i + 1 < chain->n; i++) {
        const identity_t *identity = &chain->items[i];
        bool always = true;

        for (int part = 0; part < identity->n; part++) {
            always &= identity->parts[part].type->always;
        }
        if (always) {
            rule_warn(server, chain->file, chain->line,
                      apr_psprintf(pool,
                                   "RateLimitIdentity: nothing behind \"%.*s\" is ever used: every "
                                   "request has that identity, so it comes last",
                                   (int)(identity->label_len - 1), identity->label));
            return;
        }
    }
}

/* The names of all rules that count, with an end. */
static const char **rule_names(apr_hash_t *rules, apr_pool_t *pool)
{
    const char **names = apr_pcalloc(pool, (apr_hash_count(rules) + 1) * sizeof(char *));
    int n = 0;

    for (apr_hash_index_t *i = apr_hash_first(pool, rules); i; i = apr_hash_next(i)) {
        names[n++] = apr_hash_this_key(i);
    }
    return names;
}

/* What is taken out and stands nowhere is a slip: the rule that was meant goes on. */
static void rule_warn_off(apr_pool_t *pool)
{
    apr_hash_t *rules = apr_hash_make(pool);

    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *);

        if (!rule->off) {
            apr_hash_set(rules, rule->name, APR_HASH_KEY_STRING, rule);
        }
    }
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *);

        if (rule->off && apr_hash_get(rules, rule->name, APR_HASH_KEY_STRING) == NULL) {
            rule_warn(rule->server, rule->file, rule->line,
                      apr_psprintf(pool, "there is no rule \"%s\" to be taken out%s", rule->name,
                                   config_near_whole(rule->name, rule_names(rules, pool), pool)));
        }
    }
}

static void rule_warn_all(server_rec *server, apr_pool_t *pool)
{
    for (int i = 0; i < rlp_world->chains->nelts; i++) {
        rule_warn_chain(server, APR_ARRAY_IDX(rlp_world->chains, i, const chain_t *), pool);
    }
    rule_warn_off(pool);
    for (apr_hash_index_t *i = apr_hash_first(pool, rlp_world->identity_types); i;
         i = apr_hash_next(i)) {
        const identity_type_t *type = apr_hash_this_val(i);
        const char *doubt = type->file ? rule_doubt(type, pool) : NULL;

        if (doubt != NULL) {
            rule_warn(server, type->file, type->line, doubt);
        }
    }
    if (rlp_world->rules->nelts > 0 && rlp_world->maps->nelts == 0) {
        rule_warn_plans(server, pool);
    }
    const plan_map_t *map = NULL;
    const char *doubt = room_doubt(&map, pool);

    if (doubt != NULL) {
        rule_warn(server, map->file, map->line, doubt);
    }
}

/* Identities whose values are secrets need digests that the store can have. */
static bool rule_check_digests(server_rec *server, apr_pool_t *pool)
{
    const char *error = stores_digest_error();
    bool sound = true;

    for (apr_hash_index_t *i = apr_hash_first(pool, rlp_world->identity_types);
         i != NULL && error != NULL; i = apr_hash_next(i)) {
        const identity_type_t *type = apr_hash_this_val(i);

        if (type->chosen) {
            sound &= rule_error(server, type->file, type->line,
                                apr_psprintf(pool, "RateLimitIdentity: the identity \"%s\": %s",
                                             type->name, error));
        }
    }
    return sound;
}

static bool rule_check_stores(server_rec *server, apr_pool_t *pool)
{
    const depot_t *depot = NULL;
    bool sound = true;

    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, rule_t *);
        const char *error = stores_rule_check(rule, pool);

        if (error != NULL) {
            sound = rule_error(rule->server, rule->file, rule->line,
                               apr_pstrcat(pool, "RateLimitRule: ", error, NULL));
        }
    }
    const char *shared = stores_check(&depot, pool); /* rules have a say in which have files */

    if (shared != NULL) {
        sound = rule_error(server, depot->file, depot->line,
                           apr_pstrcat(pool, "RateLimitStore: ", shared, NULL));
    }
    return sound;
}

bool rule_check_all(server_rec *server, apr_pool_t *pool)
{
    const chain_t *chain = NULL;
    const char *error = identity_resolve(&chain, pool);
    bool sound = true;

    if (error != NULL) {
        return rule_error(server, chain->file, chain->line, error);
    }
    rule_gather(server);
    sound &= rule_check_digests(server, pool);
    sound &= rule_check_stores(server, pool);
    for (int i = 0; i < rlp_world->maps->nelts; i++) {
        sound &= rule_check_map(server, APR_ARRAY_IDX(rlp_world->maps, i, plan_map_t *), pool);
    }
    for (int i = 0; i < rlp_world->plan_list->nelts; i++) {
        plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i, plan_t *);

        sound &= rule_check_limits(server, plan, pool);
        sound &= rule_check_then(server, plan, pool);
    }
    for (server_rec *s = server; s; s = s->next) {
        sound &= rule_check_default(s, pool);
    }
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, rule_t *);

        sound &= rule_check(rule, pool);
        rule_compile(rule, pool);
    }
    rule_size_all(pool);
    rule_warn_all(server, pool);
    return sound;
}
