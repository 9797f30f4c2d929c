/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a sound configuration says but hardly means: a warning each.
 */

#include "private.h"

#include <http_log.h>

#include <apr_strings.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

static void doubt_tell(server_rec *server, const char *file, int line, const char *warning)
{
    ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_WARNING, 0, server, "line %d of %s: %s", line,
                 file, warning);
}

/* --- rules */

/* Can a request wait under this rule? Those of the server itself are for all hosts. */
static bool doubt_may_wait(const rule_t *rule)
{
    return (rule->server->is_virtual ? server_conf(rule->server)->delay_max
                                     : rlp_world->longest_wait) > 0;
}

/* Are there limits by which the rule can count anybody? Maps and the default may be those of any
   host whose requests it judges. */
static bool doubt_has_limits(const rule_t *rule)
{
    const server_conf_t *server = server_conf(rule->server);

    return rule->off || rule->own != NULL || rule->choice == CHOICE_NAMED ||
           (rule->server->is_virtual ? server->maps->nelts > 0 || server->default_name != NULL
                                     : rlp_world->maps->nelts > 0 || rlp_world->defaults);
}

/* What the store has to say of the rule's own limits. */
static void doubt_store(const rule_t *rule)
{
    const depot_t *depot = stores_of(rule);
    const char *doubt = rule->own != NULL && depot->provider->doubt != NULL
                            ? depot->provider->doubt(depot->settings, rule->own->limits,
                                                     rule->own->n, rule->delays, rule->terms)
                            : NULL;

    if (doubt != NULL) {
        doubt_tell(rule->server, rule->file, rule->line, doubt);
    }
}

/* The section's cost may be another one in all that lie deeper: so this is no error. Where none is
   said, another section that the request is in may say one. */
static void doubt_cost(const rule_t *rule, apr_pool_t *pool)
{
    static const cost_t one = { .units = RLP_UNIT };
    const cost_t *cost = rule->beside->cost;
    const char *error = rule->cost == NULL ? rule_check_cost(rule, cost ? cost : &one, pool) : NULL;

    if (error != NULL && (cost != NULL || !config_is_said("RateLimitCost"))) {
        doubt_tell(rule->server, rule->file, rule->line,
                   apr_pstrcat(pool, cost ? "RateLimitCost of this section: " : "without cost=: ",
                               error, ": each request is refused", NULL));
    }
}

static void doubt_rule(const rule_t *rule, apr_pool_t *pool)
{
    if (rule->delays && !doubt_may_wait(rule)) {
        doubt_tell(rule->server, rule->file, rule->line,
                   "no request may wait: RateLimitDelay max=DURATION allows it");
    }
    if (rule->path != NULL && strchr(glob_text(rule->path), '?') != NULL) {
        doubt_tell(rule->server, rule->file, rule->line,
                   "path= is compared with the path alone, which has no query: "
                   "\"if=%{QUERY_STRING} =~ /REGEX/\" asks for that");
    }
    if (!doubt_has_limits(rule)) {
        doubt_tell(rule->server, rule->file, rule->line,
                   "the rule counts nobody: it has no limits, and there is neither a "
                   "RateLimitPlanDefault nor a RateLimitPlanMap");
    }
    doubt_store(rule);
    doubt_cost(rule, pool);
}

static void doubt_engine(void)
{
    const rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, 0, const rule_t *);

    if (!rlp_world->engaged) {
        doubt_tell(rule->server, rule->file, rule->line,
                   "this rule judges no request, nor does any other: RateLimitEngine On turns "
                   "rules on, and stands nowhere");
    }
}

/* The limits under which the rule counts everybody, or who has no plan; NULL: there are none. */
static const variant_t *doubt_limits(const rule_t *rule)
{
    const plan_t *plan = rule->own ? NULL : server_conf(rule->server)->plan_default;

    if (rule->choice == CHOICE_NAMED) {
        plan = apr_hash_get(rlp_world->plans, rule->plan_name, APR_HASH_KEY_STRING);
    }
    return rule->variants[plan ? plan->index : 0];
}

/* Is who counts here another one with each page, say? Then sections need not share him. */
static bool doubt_varies(const rule_t *rule)
{
    bool varies = false;

    for (int i = 0; rule->key != NULL && i < rule->key->n; i++) {
        for (int part = 0; part < rule->key->items[i].n; part++) {
            const char *provider = rule->key->items[i].parts[part].type->provider_name;

            varies |= provider != NULL && ap_cstr_casecmp(provider, "expr") == 0;
        }
    }
    return varies;
}

#define DOUBT_LIMITS 2 /* that a bucket is kept under (algorithm/second.h) */

/* Who counts in a bucket, each under a limit of its own. */
typedef struct {
    int n;
    const rule_t *rules[DOUBT_LIMITS];
    const rlp_limit_t *limits[DOUBT_LIMITS];
} bucket_t;

static bool doubt_knows(const bucket_t *bucket, const rlp_limit_t *limit)
{
    bool knows = false;

    for (int i = 0; i < bucket->n; i++) {
        knows |=
            bucket->limits[i]->count == limit->count && bucket->limits[i]->burst == limit->burst;
    }
    return knows;
}

/* A limit of a bucket that rules of one name count in. Where it is one too many: the bucket; else
   NULL. */
static const bucket_t *doubt_crowded(const rule_t *rule, const rlp_limit_t *limit,
                                     const char *counter, apr_hash_t *buckets)
{
    apr_pool_t *pool = apr_hash_pool_get(buckets);
    bucket_t *bucket = apr_hash_get(buckets, counter, APR_HASH_KEY_STRING);

    if (bucket == NULL) {
        bucket = apr_pcalloc(pool, sizeof(*bucket));
        apr_hash_set(buckets, counter, APR_HASH_KEY_STRING, bucket);
    }
    if (doubt_knows(bucket, limit)) {
        return NULL;
    }
    if (bucket->n == DOUBT_LIMITS) {
        return bucket;
    }
    bucket->rules[bucket->n] = rule;
    bucket->limits[bucket->n++] = limit;
    return NULL;
}

/* Where the rules stand that a bucket has its limits from: of the same file the lines alone, and
   once where both limits are of one rule. */
static const char *doubt_lines(const bucket_t *bucket, const rule_t *rule, apr_pool_t *pool)
{
    const rule_t *a = bucket->rules[0], *b = bucket->rules[1];
    const bool here = strcmp(a->file, rule->file) == 0 && strcmp(b->file, rule->file) == 0;

    if (a == b) {
        return here ? apr_psprintf(pool, "line %d", a->line)
                    : apr_psprintf(pool, "line %d of %s", a->line, a->file);
    }
    return here ? apr_psprintf(pool, "lines %d and %d", a->line, b->line)
                : apr_psprintf(pool, "line %d of %s and line %d of %s", a->line, a->file, b->line,
                               b->file);
}

/* A bucket that rules of one name count in, each with its own rate or burst (P-07). Plans change
   seldom; but of sections clients choose which they ask. Whom a rule counts that says nothing of it
   is taken for whom all such rules do. */
static void doubt_bucket(const rule_t *rule, const rlp_limit_t *limit, uint64_t signature,
                         apr_hash_t *buckets, apr_pool_t *pool)
{
    const chain_t *chain = rule->key ? rule->key : rlp_world->default_chain;
    const bucket_t *crowded = NULL;

    for (int i = 0; i < chain->n; i++) {
        const char *counter = apr_psprintf(pool, "%" APR_UINT64_T_HEX_FMT "@%pp %.*s", signature,
                                           (const void *)stores_of(rule),
                                           (int)chain->items[i].label_len, chain->items[i].label);
        const bucket_t *bucket = doubt_crowded(rule, limit, counter, buckets);

        crowded = bucket ? bucket : crowded;
    }
    if (crowded != NULL) {
        doubt_tell(rule->server, rule->file, rule->line,
                   apr_psprintf(pool,
                                "the rule \"%s\" has the bucket of %s under a third limit: it is "
                                "kept under two, and who asks for all in turn has more than they "
                                "allow; under a name of its own it counts apart",
                                rule->name, doubt_lines(crowded, rule, pool)));
    }
}

static void doubt_variant(const rule_t *rule, const variant_t *variant, apr_hash_t *buckets,
                          apr_pool_t *pool)
{
    for (int i = 0; i < variant->plan->n; i++) {
        const rlp_limit_t *limit = &variant->plan->limits[i];

        if (limit->algorithm->takes & RLP_TAKES_BURST) {
            doubt_bucket(rule, limit, variant->signatures[rule_is_dry(rule)][i], buckets, pool);
        }
    }
}

static void doubt_buckets(const rule_t *rule, apr_hash_t *buckets, apr_pool_t *pool)
{
    const variant_t *variant = rule->off || doubt_varies(rule) ? NULL : doubt_limits(rule);

    for (; variant != NULL; variant = variant->then) {
        doubt_variant(rule, variant, buckets, pool);
    }
}

/* What is taken out and stands nowhere is a slip: the rule that was meant goes on. */
static void doubt_off(apr_pool_t *pool)
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
            doubt_tell(rule->server, rule->file, rule->line,
                       apr_psprintf(pool, "there is no rule \"%s\" to be taken out%s", rule->name,
                                    config_near_key(rule->name, rules, pool)));
        }
    }
}

/* --- identities */

static bool doubt_has_map(const char *type)
{
    for (int i = 0; i < rlp_world->maps->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(rlp_world->maps, i, const plan_map_t *)->type, type) == 0) {
            return true;
        }
    }
    return false;
}

/* The field by which proxies say for whom they ask, if it is that; NULL: it is not. */
static const char *doubt_forwarding(const identity_type_t *type)
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

/* Of an identity type. */
static const char *doubt_of_type(const identity_type_t *type, apr_pool_t *pool)
{
    const char *forwarding = type->argument ? doubt_forwarding(type) : NULL;

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
    if (type->chosen && !doubt_has_map(type->name)) {
        return apr_psprintf(pool,
                            "the identity \"%s\" is never used: clients choose its value, and no "
                            "RateLimitPlanMap says which are known",
                            type->name);
    }
    return NULL;
}

/* Does a map pass values of that type over that it does not know? */
static bool doubt_passes_over(const char *type)
{
    bool over = false;

    for (int i = 0; i < rlp_world->maps->nelts; i++) {
        const plan_map_t *map = APR_ARRAY_IDX(rlp_world->maps, i, const plan_map_t *);

        over |= map->unknown == UNKNOWN_NEXT && strcmp(map->type, type) == 0;
    }
    return over;
}

/* What stands behind an identity that every request has. */
static void doubt_chain(server_rec *server, const chain_t *chain, apr_pool_t *pool)
{
    for (int i = 0; i + 1 < chain->n; i++) {
        const identity_t *identity = &chain->items[i];
        bool always = true;

        for (int part = 0; part < identity->n; part++) {
            const identity_type_t *type = identity->parts[part].type;

            always &= type->always && !doubt_passes_over(type->name);
        }
        if (always) {
            doubt_tell(server, chain->file, chain->line,
                       apr_psprintf(pool,
                                    "RateLimitIdentity: nothing behind \"%.*s\" is ever used: "
                                    "every "
                                    "request has that identity, so it comes last",
                                    (int)(identity->label_len - 1), identity->label));
            return;
        }
    }
}

static void doubt_types(server_rec *server, apr_pool_t *pool)
{
    for (apr_hash_index_t *i = apr_hash_first(pool, rlp_world->identity_types); i;
         i = apr_hash_next(i)) {
        const identity_type_t *type = apr_hash_this_val(i);
        const char *doubt = type->file ? doubt_of_type(type, pool) : NULL;

        if (doubt != NULL) {
            doubt_tell(server, type->file, type->line, doubt);
        }
    }
}

/* --- plans */

/* Without a map, only what the configuration names gives anybody a plan. */
static void doubt_plans(server_rec *server, apr_pool_t *pool)
{
    for (int i = 0; i < rlp_world->plan_list->nelts; i++) {
        const plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *);

        if (!plan->used) {
            doubt_tell(server, plan->file, plan->line,
                       apr_psprintf(pool,
                                    "nobody has the plan \"%s\", unless a .htaccess or rlpctl "
                                    "set-plan names it: no rule, default or other plan does, and "
                                    "there is no RateLimitPlanMap",
                                    plan->limits->name));
        }
    }
}

/* Each store that is too small. */
static void doubt_room(server_rec *server, apr_pool_t *pool)
{
    apr_hash_t *counts = apr_hash_make(pool);
    const plan_map_t *map = NULL;
    const char *doubt;

    for (int next = 0; (doubt = room_doubt(&next, &map, counts, pool)) != NULL;) {
        doubt_tell(server, map->file, map->line, doubt);
    }
}

void rule_doubt_all(server_rec *server, apr_pool_t *pool)
{
    apr_hash_t *buckets = apr_hash_make(pool);

    if (rlp_world->rules->nelts > 0) {
        doubt_engine();
    }
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *);

        doubt_rule(rule, pool);
        doubt_buckets(rule, buckets, pool);
    }
    doubt_off(pool);
    for (int i = 0; i < rlp_world->chains->nelts; i++) {
        doubt_chain(server, APR_ARRAY_IDX(rlp_world->chains, i, const chain_t *), pool);
    }
    doubt_types(server, pool);
    if (rlp_world->rules->nelts > 0 && rlp_world->maps->nelts == 0) {
        doubt_plans(server, pool);
    }
    doubt_room(server, pool);
}
