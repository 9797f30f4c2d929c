/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Rules made ready: under each plan that can apply, the signatures of counters, the sizes of their
 * states, and what header fields call them.
 */

#include "private.h"

#include <apr_strings.h>

#include <string.h>

#define RULE_DIGEST 16 /* bytes of a directory's digest that tell it apart */

static const char *rule_digest(const char *text, apr_pool_t *pool)
{
    uint8_t digest[RLP_DIGEST_SIZE];
    char *hex = apr_palloc(pool, 2 * RULE_DIGEST + 1);

    rlp_digest(digest, text, strlen(text));
    ap_bin2hex(digest, RULE_DIGEST, hex);
    return hex;
}

/* Rules of the server itself count for all of it; those of a virtual host for that alone, and those
   of .htaccess for its directory. */
static const char *rule_scope(const rule_t *rule, apr_pool_t *pool)
{
    const char *host = rule->server->server_hostname ? rule->server->server_hostname : "";
    const char *scope =
        rule->server->is_virtual ? apr_pstrcat(pool, rule->name, "@", host, NULL) : rule->name;
    if (rule->directory != NULL) {
        return apr_pstrcat(pool, rule->name, "@", host, "/", rule_digest(rule->directory, pool),
                           NULL);
    }
    const char *known = apr_hash_get(rlp_world->scopes, scope, APR_HASH_KEY_STRING);

    if (known == NULL) {
        apr_hash_set(rlp_world->scopes, scope, APR_HASH_KEY_STRING, scope);
        known = scope;
    }
    return known;
}

/* Of a calendar period, by its usual length. */
static const char *rule_suffix_calendar(rlp_time_t period)
{
    static const struct {
        int64_t days; /* at most */
        const char *text;
    } periods[] = { { 1, "-day" }, { 7, "-week" }, { 31, "-month" } };

    for (size_t i = 0; i < sizeof(periods) / sizeof(periods[0]); i++) {
        if (period <= periods[i].days * 86400 * RLP_SECOND) {
            return periods[i].text;
        }
    }
    return "-year";
}

/* What tells the further limits of a plan apart: "-day", "-10s", "-quota", "-concurrent". */
static const char *rule_suffix(const rlp_limit_t *limit, apr_pool_t *pool)
{
    static const struct {
        rlp_time_t span;
        const char *text;
    } spans[] = { { 604800 * RLP_SECOND, "-week" },
                  { 86400 * RLP_SECOND, "-day" },
                  { 3600 * RLP_SECOND, "-hour" },
                  { 60 * RLP_SECOND, "-minute" },
                  { RLP_SECOND, "-second" } };
    const char *ordinal = limit->ordinal ? apr_psprintf(pool, "-%u", limit->ordinal + 1) : "";

    if (limit->algorithm->holds) {
        return apr_pstrcat(pool, "-concurrent", ordinal, NULL);
    }
    if (limit->calendar != NULL) {
        return apr_pstrcat(pool, rule_suffix_calendar(limit->period), ordinal, NULL);
    }
    if (limit->period == 0) {
        return apr_pstrcat(pool, "-quota", ordinal, NULL);
    }
    for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
        if (limit->period == spans[i].span) {
            return apr_pstrcat(pool, spans[i].text, ordinal, NULL);
        }
    }
    const bool whole = limit->period % RLP_SECOND == 0;

    return apr_psprintf(pool, "-%" APR_INT64_T_FMT "%s%s",
                        limit->period / (whole ? RLP_SECOND : 1000), whole ? "s" : "ms", ordinal);
}

static label_t rule_label(const char *name, const rlp_limit_t *limit, apr_pool_t *pool)
{
    const int64_t window = limit->algorithm->holds ? 0 : rlp_limit_window(limit);
    const char *w = window ? apr_psprintf(pool, ";w=%" APR_INT64_T_FMT, window) : "";
    label_t label = {
        .name = name,
        .policy =
            apr_psprintf(pool, "\"%s\";q=%" APR_INT64_T_FMT "%s", name, rlp_limit_quota(limit), w),
        .left = apr_psprintf(pool, "\"%s\";r=%*s", name, RLP_LABEL_WORD, ""),
    };

    label.policy_len = strlen(label.policy);
    label.left_len = strlen(label.left) - RLP_LABEL_WORD;
    return label;
}

static bool rule_has_label(const variant_t *variant, int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(variant->labels[0][i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* What limit i of a plan is called: as the plan if it is the first, else by its period; by a number
   where a limit before it is called so. */
static const char *rule_limit_name(const variant_t *variant, int i, const char *shown,
                                   apr_pool_t *pool)
{
    const char *plain =
        i ? apr_pstrcat(pool, shown, rule_suffix(&variant->plan->limits[i], pool), NULL) : shown;
    const char *name = plain;

    for (int number = 2; rule_has_label(variant, i, name); number++) {
        name = apr_psprintf(pool, "%s-%d", plain, number);
    }
    return name;
}

/* The rule under some limits, which answers call so and variables by the name of their plan. */
static variant_t *rule_compile_variant(const rule_t *rule, const rlp_plan_t *limits,
                                       const char *shown, const char *plan_name, apr_pool_t *pool)
{
    const server_conf_t *server = server_conf(rule->server);
    variant_t *variant = apr_pcalloc(pool, sizeof(*variant));
    const char *dry = apr_pstrcat(pool, rule->scope, "!dry", NULL);
    const char *part = server->plan_reset == 1 ? plan_name : NULL;

    variant->plan = limits;
    variant->plan_name = plan_name;
    variant->scope = part ? apr_pstrcat(pool, rule->scope, ":", part, NULL) : rule->scope;
    for (int i = 0; i < limits->n; i++) {
        const rlp_limit_t *limit = &limits->limits[i];
        const char *name = rule_limit_name(variant, i, shown, pool);

        variant->signatures[0][i] = rlp_signature(rule->scope, part, limit);
        variant->signatures[1][i] = rlp_signature(dry, part, limit);
        variant->labels[0][i] = rule_label(name, limit, pool);
        variant->labels[1][i] =
            rule_label(apr_pstrcat(pool, name, "@", rule->name, NULL), limit, pool);
        variant->room +=
            variant->labels[1][i].left_len + RLP_LABEL_WORD + (size_t)2 * RLP_NUMBER_MAX + 8;
    }
    return variant;
}

static variant_t *rule_compile_plan(const rule_t *rule, const plan_t *plan, apr_pool_t *pool)
{
    const rlp_plan_t *limits = plan->limits;

    return rule_compile_variant(rule, limits, limits->name, limits->name, pool);
}

/* The variants of the plans that take over. A rule for one plan has none of the other yet. */
static void rule_compile_then(rule_t *rule, apr_pool_t *pool)
{
    for (int i = 1; i <= rlp_world->plan_list->nelts; i++) {
        const plan_t *then = APR_ARRAY_IDX(rlp_world->plan_list, i - 1, const plan_t *)->then;

        if (rule->variants[i] == NULL || then == NULL) {
            continue;
        }
        if (rule->variants[then->index] == NULL) {
            rule->variants[then->index] = rule_compile_plan(rule, then, pool);
        }
        rule->variants[i]->then = rule->variants[then->index];
    }
}

/* What does not depend on a plan. */
static void rule_compile_begin(rule_t *rule, apr_pool_t *pool)
{
    rule->scope = rule_scope(rule, pool);
    rule->method_bits = rule->off ? 0 : rule->method_bits;
    rule->plain = rule->cost == NULL && rule->counts == NULL && !rule->delays &&
                  rule->terms == NULL && !(rule->traits & TRAIT_APART);
    rule->variants =
        apr_pcalloc(pool, sizeof(variant_t *) * ((apr_size_t)rlp_world->plan_list->nelts + 1));
}

void rule_compile(rule_t *rule, apr_pool_t *pool)
{
    const int n = rlp_world->plan_list->nelts;

    rule_compile_begin(rule, pool);
    if (rule->own != NULL) {
        rule->variants[0] = rule_compile_variant(rule, rule->own, rule->name, "default", pool);
    }
    for (int i = 1; i <= n && rule->choice != CHOICE_NONE; i++) {
        const plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i - 1, const plan_t *);

        if (rule->choice == CHOICE_AUTO || strcmp(plan->limits->name, rule->plan_name) == 0) {
            rule->variants[i] = rule_compile_plan(rule, plan, pool);
        }
    }
    rule_compile_then(rule, pool);
}

/* What is done for each variant there is. */
typedef void rule_visit_fn(variant_t *variant, apr_hash_t *sizes);

/* Remembers the largest state of each signature: rules of one name in several sections share
   counters, as the plans of one rule do. */
static void rule_size_gather(variant_t *variant, apr_hash_t *sizes)
{
    for (int i = 0; i < variant->plan->n; i++) {
        const uint64_t *signature = &variant->signatures[0][i];
        const uint32_t *known = apr_hash_get(sizes, signature, sizeof(*signature));

        variant->sizes[i] = variant->plan->limits[i].state_size;
        if (known == NULL || *known < variant->sizes[i]) {
            apr_hash_set(sizes, signature, sizeof(*signature), &variant->sizes[i]);
        }
    }
}

/* Is there nothing to do for it but to ask? */
static bool rule_is_plain(const variant_t *variant)
{
    bool plain = variant->then == NULL && variant->plan->bandwidth == 0;

    for (int i = 0; i < variant->plan->n; i++) {
        plain = plain && variant->sizes[i] <= RLP_STATE_MAX &&
                variant->plan->limits[i].calendar == NULL &&
                !variant->plan->limits[i].algorithm->holds;
    }
    return plain;
}

static void rule_size_set(variant_t *variant, apr_hash_t *sizes)
{
    for (int i = 0; i < variant->plan->n; i++) {
        const uint64_t *signature = &variant->signatures[0][i];

        variant->sizes[i] = *(const uint32_t *)apr_hash_get(sizes, signature, sizeof(*signature));
    }
    variant->plain = rule_is_plain(variant);
}

static void rule_visit(const rule_t *rule, rule_visit_fn *visit, apr_hash_t *sizes)
{
    for (int i = 0; i <= rlp_world->plan_list->nelts; i++) {
        if (rule->variants[i] != NULL) {
            visit(rule->variants[i], sizes);
        }
    }
}

static void rule_visit_all(rule_visit_fn *visit, apr_hash_t *sizes)
{
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        rule_visit(APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *), visit, sizes);
    }
}

/* What judges requests of an address without a plan of its own. */
static const variant_t *rule_usual(const rule_t *rule)
{
    const variant_t *variant = rule->variants[0];

    if (rule->choice == CHOICE_NAMED) {
        const plan_t *plan = apr_hash_get(rlp_world->plans, rule->plan_name, APR_HASH_KEY_STRING);

        variant = plan ? rule->variants[plan->index] : NULL;
    }
    return rule->plain && variant != NULL && variant->plain ? variant : NULL;
}

/* A limit's kind: what its signature is made of besides the rule. */
static uint64_t rule_kind(const rlp_limit_t *limit)
{
    return rlp_signature("", NULL, limit);
}

static void rule_size_kind(const rlp_limit_t *limit)
{
    uint64_t *kind = apr_palloc(rlp_world->pool, sizeof(*kind));

    *kind = rule_kind(limit);
    const uint32_t *known = apr_hash_get(rlp_world->kinds, kind, sizeof(*kind));

    if (known == NULL || *known < limit->state_size) {
        apr_hash_set(rlp_world->kinds, kind, sizeof(*kind), &limit->state_size);
    }
}

/* Remembers the largest state of each kind in any plan, for rules of .htaccess. */
static void rule_size_kinds(void)
{
    for (int i = 0; i < rlp_world->plan_list->nelts; i++) {
        const rlp_plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *)->limits;

        for (int j = 0; j < plan->n; j++) {
            rule_size_kind(&plan->limits[j]);
        }
    }
}

/* The largest state that a counter of the rule can have. */
static uint32_t rule_size_local(const rule_t *rule, const rlp_limit_t *limit)
{
    const uint64_t kind = rule_kind(limit);
    const uint32_t *known = apr_hash_get(rlp_world->kinds, &kind, sizeof(kind));
    uint32_t size = known != NULL && *known > limit->state_size ? *known : limit->state_size;

    for (int i = 0; rule->own != NULL && i < rule->own->n; i++) {
        const rlp_limit_t *own = &rule->own->limits[i];

        size = own->state_size > size && rule_kind(own) == kind ? own->state_size : size;
    }
    return size;
}

/* By a plan; NULL: by its own limits. */
static variant_t *rule_compile_variant_local(const rule_t *rule, const plan_t *plan,
                                             apr_pool_t *pool)
{
    variant_t *variant = plan ? rule_compile_plan(rule, plan, pool)
                              : rule_compile_variant(rule, rule->own, rule->name, "default", pool);

    for (int i = 0; i < variant->plan->n; i++) {
        variant->sizes[i] = rule_size_local(rule, &variant->plan->limits[i]);
    }
    variant->plain = rule_is_plain(variant);
    rule->variants[plan ? plan->index : 0] = variant;
    return variant;
}

variant_t *rule_compile_late(const rule_t *rule, const plan_t *plan, apr_pool_t *pool)
{
    variant_t *variant = rule_compile_variant_local(rule, plan, pool);

    if (plan->then != NULL) {
        variant->then = rule->variants[plan->then->index];
        if (variant->then == NULL) {
            variant->then = rule_compile_variant_local(rule, plan->then, pool);
        }
        variant->plain = false;
    }
    return variant;
}

void rule_compile_local(rule_t *rule, apr_pool_t *pool)
{
    rule_compile_begin(rule, pool);
    if (rule->own != NULL) {
        rlp_plan_owners(rule->own, rlp_world->owners);
        (void)rule_compile_variant_local(rule, NULL, pool);
    }
}

void rule_size_all(apr_pool_t *pool)
{
    apr_hash_t *sizes = apr_hash_make(pool);

    rule_size_kinds();

    rule_visit_all(rule_size_gather, sizes);
    rule_visit_all(rule_size_set, sizes);
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, rule_t *);

        rule->usual = rule_usual(rule);
    }
}
