/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Checks of the whole configuration: everything is read, names can be found. What is allowed but
 * hardly meant is in rule_doubt.c.
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

/* The nearest plan that may be named; behind the then= of a plan, no plan that has one. */
static const char *rule_near(const char *name, bool behind_then, apr_pool_t *pool)
{
    const int n = rlp_world->plan_list->nelts;
    const char **names = apr_pcalloc(pool, sizeof(char *) * ((apr_size_t)n + 1));
    int named = 0;

    for (int i = 0; i < n; i++) {
        const rlp_plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *)->limits;

        if (!behind_then || plan->then == NULL) {
            names[named++] = plan->name;
        }
    }
    const char *nearest = rlp_nearest(name, names);

    return nearest ? apr_psprintf(pool, " (%s?)", nearest) : "";
}

const char *rule_near_plan(const char *name, apr_pool_t *pool)
{
    return rule_near(name, false, pool);
}

static const char *rule_unknown_plan(const char *name, bool behind_then, apr_pool_t *pool)
{
    return apr_psprintf(pool, "expected the name of a plan, got \"%s\"%s", name,
                        rule_near(name, behind_then, pool));
}

static const char rule_then[] = "RateLimitPlan: then=";

/* The plan of that name, which is used from now on; NULL with the error logged. */
static plan_t *rule_use_plan(server_rec *server, const char *directive, const char *name,
                             const char *file, int line, apr_pool_t *pool)
{
    plan_t *plan = apr_hash_get(rlp_world->plans, name, APR_HASH_KEY_STRING);

    if (plan == NULL) {
        const char *error = rule_unknown_plan(name, directive == rule_then, pool);

        (void)rule_error(server, file, line, apr_pstrcat(pool, directive, ": ", error, NULL));
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
               : rule_unknown_plan(rule->plan_name, false, pool);
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

/* Does the rule count, perhaps by that plan, or by it once a quota is used up? */
static bool rule_may_count(const rule_t *rule, const plan_t *plan)
{
    if (rule->off || rule->choice != CHOICE_NAMED) {
        return !rule->off && rule->choice == CHOICE_AUTO;
    }
    const plan_t *named = apr_hash_get(rlp_world->plans, rule->plan_name, APR_HASH_KEY_STRING);
    const char *then = named ? named->limits->then : NULL;

    return strcmp(rule->plan_name, plan->limits->name) == 0 ||
           (then != NULL && strcmp(then, plan->limits->name) == 0);
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
    plan->then = rule_use_plan(server, rule_then, name, plan->file, plan->line, pool);
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

const char *rule_check_cost(const rule_t *rule, const cost_t *cost, apr_pool_t *pool)
{
    const plan_t *named = rule->choice == CHOICE_NAMED
                              ? apr_hash_get(rlp_world->plans, rule->plan_name, APR_HASH_KEY_STRING)
                              : NULL;
    const rlp_plan_t *plan = named ? named->limits : rule->own;

    if (cost == NULL || cost->expr != NULL || plan == NULL ||
        cost->units <= rule_capacity(plan, rule->delays)) {
        return NULL;
    }
    return apr_psprintf(pool,
                        "expected a cost of at most %s, which is all that \"%s\" ever has at "
                        "once, got %s",
                        cost_text(rule_capacity(plan, rule->delays), pool), plan->name,
                        cost_text(cost->units, pool));
}

/* Gathers what some host says: with thousands of them, not each rule can ask each host. */
static void rule_gather(const server_rec *servers)
{
    for (const server_rec *s = servers; s != NULL; s = s->next) {
        const server_conf_t *conf = server_conf(s);

        rlp_world->defaults |= conf->default_name != NULL;
        if (conf->delay_max > rlp_world->longest_wait) {
            rlp_world->longest_wait = conf->delay_max;
        }
    }
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
    return error ? error : rule_check_cost(rule, rule->cost, pool);
}

static bool rule_check(rule_t *rule, apr_pool_t *pool)
{
    const char *error = rule_fault(rule, pool);

    if (error != NULL) {
        return rule_error(rule->server, rule->file, rule->line,
                          apr_pstrcat(pool, "RateLimitRule: ", error, NULL));
    }
    if (rule->choice == CHOICE_NAMED) {
        plan_t *plan = apr_hash_get(rlp_world->plans, rule->plan_name, APR_HASH_KEY_STRING);

        plan->used = true;
    }
    return true;
}

/* What hosts have from the server is told of once. */
static bool rule_check_default(server_rec *server, const server_rec *first, apr_pool_t *pool)
{
    const server_conf_t *outer = server_conf(first);
    server_conf_t *conf = server_conf(server);

    if (conf->default_name == NULL ||
        (server != first && conf->default_name == outer->default_name)) {
        conf->plan_default = outer->plan_default;
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
        sound &= rule_check_default(s, server, pool);
    }
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, rule_t *);

        sound &= rule_check(rule, pool);
        rule_compile(rule, pool);
    }
    rule_size_all(pool);
    rule_doubt_all(server, pool);
    return sound;
}
