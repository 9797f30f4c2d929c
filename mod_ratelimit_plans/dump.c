/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The configuration in words: -t -D DUMP_RATELIMIT.
 */

#include "private.h"

#include <apr_file_io.h>
#include <apr_strings.h>

static const char *dump_span(rlp_time_t span, apr_pool_t *pool)
{
    const bool whole = span % RLP_SECOND == 0;

    return apr_psprintf(pool, "%" APR_INT64_T_FMT "%s", span / (whole ? RLP_SECOND : 1000),
                        whole ? " s" : " ms");
}

static const char *dump_chain(const rule_t *rule, apr_pool_t *pool)
{
    const char *text = "";

    for (int i = 0; rule->key != NULL && i < rule->key->n; i++) {
        text = apr_pstrcat(pool, text, ", counted by ",
                           apr_pstrmemdup(pool, rule->key->items[i].label,
                                          rule->key->items[i].label_len - 1),
                           NULL);
    }
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
    const cost_t *cost = rule->cost;
    const char *text = "";

    if (cost != NULL && cost->header != NULL) {
        text = apr_psprintf(pool, ", costs what %s of the response says (%s until then)",
                            cost->header, cost_text(cost->units, pool));
    } else if (cost != NULL) {
        text = cost->expr ? ", costs what an expression says"
                          : apr_pstrcat(pool, ", costs ", cost_text(cost->units, pool), NULL);
    }
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
    if (rule->dry) {
        return apr_pstrcat(pool, text, ", a dry run", NULL);
    }
    return rule->marks ? apr_pstrcat(pool, text, ", marks and refuses nobody", NULL) : text;
}

static const char *dump_limits(const rule_t *rule, apr_pool_t *pool)
{
    const server_conf_t *server =
        ap_get_module_config(rule->server->module_config, &ratelimit_plans_module);
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

void dump_print(apr_pool_t *pool)
{
    apr_file_t *out = NULL;

    apr_file_open_stdout(&out, pool);
    apr_file_printf(out, "Rate limit plans:\n");
    for (int i = 0; i < rlp_world->plan_list->nelts; i++) {
        const rlp_plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *)->limits;

        apr_file_printf(out, "  %s: %s\n", plan->name, rlp_plan_describe(plan, pool));
    }
    apr_file_printf(out, "Rate limit rules:\n");
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *);

        apr_file_printf(out, "  %s%s%s: %s%s%s (%s:%d)\n", rule->scope, rule->section ? " in " : "",
                        rule->section ? rule->section : "", dump_limits(rule, pool),
                        rule->off ? "" : dump_chain(rule, pool), dump_effects(rule, pool),
                        rule->file, rule->line);
    }
}
