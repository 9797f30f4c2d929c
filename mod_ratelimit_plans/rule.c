/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Rules: what they say, what they refer to, which of them speak of a request.
 */

#include "private.h"

#include <http_log.h>
#include <http_protocol.h>

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

/* --- parsing */

static const char *rule_plan(rule_t *rule, cmd_parms *cmd, const char *value)
{
    rule->choice = CHOICE_NAMED;
    if (ap_cstr_casecmp(value, "auto") == 0) {
        rule->choice = CHOICE_AUTO;
    } else if (ap_cstr_casecmp(value, "none") == 0) {
        rule->choice = CHOICE_NONE;
    }
    rule->plan_name = value;
    return rule->choice == CHOICE_NAMED ? rlp_name_check(value, cmd->pool) : NULL;
}

static const char *rule_key(rule_t *rule, cmd_parms *cmd, const char *value)
{
    const char *const argv[] = { value };

    return identity_parse_chain(&rule->key, cmd, 1, argv);
}

static const char *rule_method(rule_t *rule, cmd_parms *cmd, const char *value)
{
    apr_array_header_t *methods = apr_array_make(cmd->pool, 4, sizeof(char *));
    char *rest = NULL;

    rule->methods_negated = *value == '!';
    for (char *name = apr_strtok(apr_pstrdup(cmd->pool, value + rule->methods_negated), ",", &rest);
         name; name = apr_strtok(NULL, ",", &rest)) {
        for (char *c = name; *c; c++) {
            *c = (char)apr_toupper(*c);
        }
        if (ap_method_number_of(name) == M_INVALID) {
            return apr_psprintf(cmd->pool,
                                "expected methods that httpd knows, such as method=GET,POST or "
                                "method=!OPTIONS, got \"method=%s\"",
                                value);
        }
        APR_ARRAY_PUSH(methods, const char *) = name;
    }
    if (methods->nelts == 0) {
        return apr_psprintf(cmd->pool,
                            "expected method=GET,POST or method=!OPTIONS, got \"method=%s\"",
                            value);
    }
    rule->methods = methods;
    return NULL;
}

static const char *rule_path(rule_t *rule, cmd_parms *cmd, const char *value)
{
    path_glob_t *path = NULL;
    const char *error = glob_compile(&path, value, cmd->pool);

    rule->path = path;
    rule->traits |= TRAIT_PATH;
    return error ? apr_psprintf(cmd->pool, "expected path= with %s, got \"path=%s\"", error, value)
                 : NULL;
}

#define RULE_PRIORITY_DIGITS 6

static const char *rule_priority(rule_t *rule, cmd_parms *cmd, const char *value)
{
    const size_t len = strlen(value);

    if (len == 0 || len > RULE_PRIORITY_DIGITS || strspn(value, "0123456789") != len) {
        return apr_psprintf(cmd->pool,
                            "expected priority=N with a whole number from 0 to 999999, got "
                            "\"priority=%s\"",
                            value);
    }
    rule->priority = atoi(value);
    rule->traits |= TRAIT_PRIORITY;
    return NULL;
}

static const char *rule_if(rule_t *rule, cmd_parms *cmd, const char *value)
{
    return config_expression(&rule->condition, cmd, "if=", value, 0);
}

static const char *rule_count(rule_t *rule, cmd_parms *cmd, const char *value)
{
    static const char *const names[] = { "request", "response:", NULL };

    if (ap_cstr_casecmp(value, "request") == 0) {
        return NULL;
    }
    if (ap_cstr_casecmpn(value, "response:", 9) == 0) {
        return config_expression(&rule->counts, cmd, "count=response:", value + 9,
                                 AP_EXPR_FLAG_DONT_VARY);
    }
    return apr_psprintf(cmd->pool,
                        "expected count=request or \"count=response:EXPR\", got \"count=%s\"%s",
                        value, config_near(value, names, cmd->pool));
}

static const char *rule_action(rule_t *rule, cmd_parms *cmd, const char *value)
{
    static const char *const names[] = { "delay", "delay:", "deny", "mark", NULL };
    const char *error = NULL;

    if (ap_cstr_casecmp(value, "deny") == 0) {
        return NULL;
    }
    if (ap_cstr_casecmp(value, "mark") == 0) {
        rule->marks = true;
        rule->traits |= TRAIT_APART;
        return NULL;
    }
    rule->delays = true;
    rule->max_wait = RLP_TIME_NEVER;
    if (ap_cstr_casecmp(value, "delay") == 0) {
        return NULL;
    }
    if (ap_cstr_casecmpn(value, "delay:", 6) == 0) {
        error = rlp_duration_parse(&rule->max_wait, value + 6, cmd->pool);
        return error ? apr_psprintf(cmd->pool, "%s in \"action=%s\"", error, value) : NULL;
    }
    return apr_psprintf(cmd->pool,
                        "expected action=deny, action=delay, action=delay:DURATION or "
                        "action=mark, got \"action=%s\"%s",
                        value, config_near(value, names, cmd->pool));
}

static const char *rule_mode(rule_t *rule, cmd_parms *cmd, const char *value)
{
    static const char *const names[] = { "enforce", "log", NULL };

    if (ap_cstr_casecmp(value, "enforce") == 0) {
        return NULL;
    }
    if (ap_cstr_casecmp(value, "log") == 0) {
        rule->dry = true;
        rule->traits |= TRAIT_APART;
        return NULL;
    }
    return apr_psprintf(cmd->pool, "expected mode=enforce or mode=log, got \"mode=%s\"%s", value,
                        config_near(value, names, cmd->pool));
}

static const char *rule_phase(rule_t *rule, cmd_parms *cmd, const char *value)
{
    static const char *const names[] = { "early", "fixups", NULL };

    if (ap_cstr_casecmp(value, "fixups") == 0) {
        return NULL;
    }
    if (ap_cstr_casecmp(value, "early") == 0) {
        rule->traits |= TRAIT_EARLY;
        return NULL;
    }
    return apr_psprintf(cmd->pool, "expected phase=early or phase=fixups, got \"phase=%s\"%s",
                        value, config_near(value, names, cmd->pool));
}

static const struct rule_option {
    const char *name;                                                      /* with its "=" */
    const char *(*parse)(rule_t *rule, cmd_parms *cmd, const char *value); /* NULL: rule_cost() */
} rule_options[] = {
    { "plan=", rule_plan },     { "key=", rule_key },   { "method=", rule_method },
    { "path=", rule_path },     { "if=", rule_if },     { "priority=", rule_priority },
    { "cost=", NULL },          { "reserve=", NULL },   { "count=", rule_count },
    { "action=", rule_action }, { "mode=", rule_mode }, { "phase=", rule_phase },
};

#define RULE_OPTIONS ((int)(sizeof(rule_options) / sizeof(rule_options[0])))

/* The value behind NAME= among the words, or NULL. */
static const char *rule_value(int argc, char *const argv[], const char *name)
{
    for (int i = 1; i < argc; i++) {
        if (ap_cstr_casecmpn(argv[i], name, strlen(name)) == 0) {
            return argv[i] + strlen(name);
        }
    }
    return NULL;
}

/* cost= and reserve=, which belong together wherever they stand. */
static const char *rule_cost(rule_t *rule, cmd_parms *cmd, int argc, char *const argv[])
{
    const char *cost = rule_value(argc, argv, "cost=");
    const char *reserve = rule_value(argc, argv, "reserve=");

    if (cost == NULL) {
        return reserve ? apr_psprintf(cmd->pool,
                                      "expected reserve= with cost=response-header:NAME, got "
                                      "\"reserve=%s\"",
                                      reserve)
                       : NULL;
    }
    return cost_parse(&rule->cost, cmd, cost, reserve);
}

static const char *rule_unknown(const char *word, apr_pool_t *pool)
{
    static const char *const names[] = {
        "plan=",       "key=",       "method=", "path=",    "if=",        "priority=", "cost=",
        "reserve=",    "count=",     "action=", "mode=",    "phase=",     "rate=",     "quota=",
        "concurrent=", "bandwidth=", "burst=",  "initial=", "algorithm=", "start=",    NULL
    };

    return apr_psprintf(pool,
                        "expected a limit, plan=, key=, method=, path=, priority=, cost=, "
                        "reserve=, count=, action=, mode=, phase= or \"if=EXPR\", got \"%s\"%s",
                        word, config_near(word, names, pool));
}

static const char *rule_parse_word(rule_t *rule, cmd_parms *cmd, const char *word,
                                   apr_array_header_t *limits)
{
    for (int i = 0; i < RULE_OPTIONS; i++) {
        const size_t len = strlen(rule_options[i].name);

        if (ap_cstr_casecmpn(word, rule_options[i].name, len) != 0) {
            continue;
        }
        if (rule->options & 1U << i) {
            return apr_psprintf(cmd->pool, "expected %s once, got \"%s\"", rule_options[i].name,
                                word);
        }
        rule->options |= 1U << i;
        const char *error = config_quotes(word, cmd->pool);

        return error != NULL || rule_options[i].parse == NULL
                   ? error
                   : rule_options[i].parse(rule, cmd, word + len);
    }
    if (!rlp_limit_word(word) && strchr(word, '=') != NULL && strstr(word, "limit=") == NULL &&
        strstr(word, "window=") == NULL) {
        return rule_unknown(word, cmd->pool);
    }
    APR_ARRAY_PUSH(limits, const char *) = word;
    return NULL;
}

static const char *rule_contradiction(const rule_t *rule, apr_pool_t *pool)
{
    if (rule->choice == CHOICE_NONE && rule->own == NULL) {
        return "expected a limit with plan=none, such as rate=10/min, got none";
    }
    if (rule->choice == CHOICE_NAMED && rule->own != NULL) {
        return apr_psprintf(pool,
                            "expected no limits with plan=%s, which is for everybody: they would "
                            "never "
                            "apply",
                            rule->plan_name);
    }
    if (rule->dry && rule->marks) {
        return "expected no action=mark with mode=log, which refuses nobody either";
    }
    if (rule->own != NULL && rule->own->then != NULL) {
        return apr_psprintf(pool, "expected then= in a RateLimitPlan alone, got \"then=%s\"",
                            rule->own->then);
    }
    return NULL;
}

/* The rule's own limits. */
static const char *rule_limits(rule_t *rule, const apr_array_header_t *words, apr_pool_t *pool)
{
    rlp_clock_t clock;

    rlp_clock_read(&clock);
    return rlp_plan_parse(&rule->own,
                          &(rlp_plan_source_t){ .name = rule->name,
                                                .words = (const char *const *)words->elts,
                                                .n = words->nelts,
                                                .wall = clock.wall },
                          pool);
}

const char *rule_parse(rule_t **made, cmd_parms *cmd, int argc, char *const argv[])
{
    rule_t *rule = apr_pcalloc(cmd->pool, sizeof(*rule));
    apr_array_header_t *limits = apr_array_make(cmd->pool, argc, sizeof(char *));
    const char *error = rlp_name_check(argv[0], cmd->pool);

    *made = rule;
    rule->name = argv[0];
    rule->server = cmd->server;
    if (cmd->path != NULL && cmd->directive->parent != NULL) {
        rule->section = apr_pstrcat(cmd->pool, cmd->directive->parent->directive, " ",
                                    cmd->directive->parent->args, NULL);
    }
    rule->file = cmd->directive->filename;
    rule->line = cmd->directive->line_num;
    if (error == NULL && argc == 2 && ap_cstr_casecmp(argv[1], "Off") == 0) {
        rule->off = true;
        return NULL;
    }
    for (int i = 1; error == NULL && i < argc; i++) {
        error = rule_parse_word(rule, cmd, argv[i], limits);
    }
    if (error == NULL) {
        error = rule_cost(rule, cmd, argc, argv);
    }
    if (error == NULL && limits->nelts > 0) {
        error = rule_limits(rule, limits, cmd->pool);
    }
    return error ? error : rule_contradiction(rule, cmd->pool);
}

/* --- numbers in words */

static const char *rule_units(rlp_units_t units, apr_pool_t *pool)
{
    const char *whole = apr_psprintf(pool, "%" APR_INT64_T_FMT, units / RLP_UNIT);

    return units % RLP_UNIT ? apr_psprintf(pool, "%s.%03d", whole, (int)(units % RLP_UNIT)) : whole;
}

static const char *rule_span(rlp_time_t span, apr_pool_t *pool)
{
    const bool whole = span % RLP_SECOND == 0;

    return apr_psprintf(pool, "%" APR_INT64_T_FMT "%s", span / (whole ? RLP_SECOND : 1000),
                        whole ? " s" : " ms");
}

/* --- checking: everything is read, names can be found */

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

static const char *rule_unknown_plan(const char *directive, const char *name, apr_pool_t *pool)
{
    const int n = rlp_world->plan_list->nelts;
    const char **names = apr_pcalloc(pool, sizeof(char *) * ((apr_size_t)n + 1));

    for (int i = 0; i < n; i++) {
        names[i] = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *)->limits->name;
    }
    const char *nearest = rlp_nearest(name, names);

    return apr_psprintf(pool, "%s: expected the name of a plan, got \"%s\"%s", directive, name,
                        nearest ? apr_psprintf(pool, " (%s?)", nearest) : "");
}

/* Rules of the server itself count for all of it; those of a virtual host for that alone. */
static const char *rule_scope(const rule_t *rule, apr_pool_t *pool)
{
    const char *host = rule->server->server_hostname ? rule->server->server_hostname : "";
    const char *scope =
        rule->server->is_virtual ? apr_pstrcat(pool, rule->name, "@", host, NULL) : rule->name;
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

/* The rule under one plan: plan is NULL for its own limits. */
static variant_t *rule_compile_variant(const rule_t *rule, const plan_t *plan, apr_pool_t *pool)
{
    const server_conf_t *server =
        ap_get_module_config(rule->server->module_config, &ratelimit_plans_module);
    variant_t *variant = apr_pcalloc(pool, sizeof(*variant));
    const char *shown = plan ? plan->limits->name : rule->name;
    const char *dry = apr_pstrcat(pool, rule->scope, "!dry", NULL);

    variant->plan = plan ? plan->limits : rule->own;
    variant->plan_name = plan ? plan->limits->name : "default";
    const char *part = server->plan_reset == 1 ? variant->plan_name : NULL;

    for (int i = 0; i < variant->plan->n; i++) {
        const rlp_limit_t *limit = &variant->plan->limits[i];
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

/* The variants of the plans that take over. A rule for one plan has none of the other yet. */
static void rule_compile_then(rule_t *rule, apr_pool_t *pool)
{
    for (int i = 1; i <= rlp_world->plan_list->nelts; i++) {
        const plan_t *then = APR_ARRAY_IDX(rlp_world->plan_list, i - 1, const plan_t *)->then;

        if (rule->variants[i] == NULL || then == NULL) {
            continue;
        }
        if (rule->variants[then->index] == NULL) {
            rule->variants[then->index] = rule_compile_variant(rule, then, pool);
        }
        rule->variants[i]->then = rule->variants[then->index];
    }
}

static void rule_compile(rule_t *rule, apr_pool_t *pool)
{
    const int n = rlp_world->plan_list->nelts;

    rule->scope = rule_scope(rule, pool);
    rule->conditional =
        rule->off || rule->methods != NULL || rule->condition != NULL || rule->traits != 0;
    rule->plain = rule->cost == NULL && rule->counts == NULL && !rule->delays &&
                  !(rule->traits & TRAIT_APART);
    rule->variants = apr_pcalloc(pool, sizeof(variant_t *) * ((apr_size_t)n + 1));
    if (rule->own != NULL) {
        rule->variants[0] = rule_compile_variant(rule, NULL, pool);
    }
    for (int i = 1; i <= n && rule->choice != CHOICE_NONE; i++) {
        const plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i - 1, const plan_t *);

        if (rule->choice == CHOICE_AUTO || strcmp(plan->limits->name, rule->plan_name) == 0) {
            rule->variants[i] = rule_compile_variant(rule, plan, pool);
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

static void rule_size_set(variant_t *variant, apr_hash_t *sizes)
{
    variant->plain = variant->then == NULL && variant->plan->bandwidth == 0;
    for (int i = 0; i < variant->plan->n; i++) {
        const uint64_t *signature = &variant->signatures[0][i];

        variant->sizes[i] = *(const uint32_t *)apr_hash_get(sizes, signature, sizeof(*signature));
        variant->plain = variant->plain && variant->sizes[i] <= RLP_STATE_MAX &&
                         variant->plan->limits[i].calendar == NULL &&
                         !variant->plan->limits[i].algorithm->holds;
    }
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

/* What judges every request of an address without a plan of its own. */
static const variant_t *rule_quiet(const rule_t *rule)
{
    const variant_t *variant = rule->variants[0];
    const bool closer = rule->conditional || rule->choice == CHOICE_NAMED || !rule->plain;

    return !closer && variant != NULL && variant->plain ? variant : NULL;
}

void rule_size_all(apr_pool_t *pool)
{
    apr_hash_t *sizes = apr_hash_make(pool);

    rule_visit_all(rule_size_gather, sizes);
    rule_visit_all(rule_size_set, sizes);
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, rule_t *);

        rule->quiet = rule_quiet(rule);
    }
}

/* The plan of that name, which is used from now on; NULL with the error logged. */
static plan_t *rule_use_plan(server_rec *server, const char *directive, const char *name,
                             const char *file, int line, apr_pool_t *pool)
{
    plan_t *plan = apr_hash_get(rlp_world->plans, name, APR_HASH_KEY_STRING);

    if (plan == NULL) {
        (void)rule_error(server, file, line, rule_unknown_plan(directive, name, pool));
    } else {
        plan->used = true;
    }
    return plan;
}

static bool rule_check_plan(const rule_t *rule, apr_pool_t *pool)
{
    return rule->choice != CHOICE_NAMED ||
           rule_use_plan(rule->server, "RateLimitRule", rule->plan_name, rule->file, rule->line,
                         pool) != NULL;
}

/* What the limits need of this server: NULL, or what was expected. */
static const char *rule_misfit(const rlp_plan_t *plan)
{
    if (plan->bandwidth > 0 && ap_get_output_filter_handle("RATE_LIMIT") == NULL) {
        return "expected mod_ratelimit to be loaded for bandwidth=";
    }
    for (int i = 0; i < plan->n; i++) {
        if (plan->limits[i].lease > 0) {
            return "expected no lease= with a store of this host: a child's death frees what it "
                   "held";
        }
    }
    return NULL;
}

static bool rule_check_limits(server_rec *server, const plan_t *plan, apr_pool_t *pool)
{
    const char *error = rule_misfit(plan->limits);

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

/* The smallest capacity among the limits that count units, and above 0: 0 blocks on purpose. */
static rlp_units_t rule_capacity(const rlp_plan_t *plan)
{
    rlp_units_t least = RLP_UNITS_MAX;

    for (int i = 0; i < plan->n; i++) {
        const rlp_limit_t *limit = &plan->limits[i];

        if (!limit->algorithm->holds && limit->burst > 0 && limit->burst < least) {
            least = limit->burst;
        }
    }
    return least;
}

/* A cost that no request could ever pay. */
static bool rule_check_cost(const rule_t *rule, apr_pool_t *pool)
{
    const plan_t *named = rule->choice == CHOICE_NAMED
                              ? apr_hash_get(rlp_world->plans, rule->plan_name, APR_HASH_KEY_STRING)
                              : NULL;
    const rlp_plan_t *plan = named ? named->limits : rule->own;

    if (rule->cost == NULL || rule->cost->expr != NULL || plan == NULL ||
        rule->cost->units <= rule_capacity(plan)) {
        return true;
    }
    return rule_error(rule->server, rule->file, rule->line,
                      apr_psprintf(pool,
                                   "RateLimitRule: expected a cost of at most %s, which is all "
                                   "that \"%s\" ever has at once, got %s",
                                   rule_units(rule_capacity(plan), pool), plan->name,
                                   rule_units(rule->cost->units, pool)));
}

/* Can a request wait under this rule? Those of the server itself are for all hosts. */
static bool rule_may_wait(const rule_t *rule, server_rec *servers)
{
    for (server_rec *s = servers; s; s = s->next) {
        const server_conf_t *conf = ap_get_module_config(s->module_config, &ratelimit_plans_module);

        if (conf->delay_max > 0 && (s == rule->server || !rule->server->is_virtual)) {
            return true;
        }
    }
    return false;
}

static bool rule_is_of_users(const identity_t *identity)
{
    bool users = false;

    for (int i = 0; i < identity->n; i++) {
        users |= identity->parts[i].type->source == SOURCE_USER;
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

static bool rule_check(rule_t *rule, server_rec *servers, apr_pool_t *pool)
{
    const char *error = rule->own ? rule_misfit(rule->own) : NULL;

    if (error == NULL) {
        error = rule_check_phase(rule);
    }
    if (error != NULL) {
        return rule_error(rule->server, rule->file, rule->line,
                          apr_pstrcat(pool, "RateLimitRule: ", error, NULL));
    }
    if (rule->delays && !rule_may_wait(rule, servers)) {
        rule_warn(rule->server, rule->file, rule->line,
                  "no request may wait: RateLimitDelay max=DURATION allows it");
    }
    return rule_check_plan(rule, pool) && rule_check_cost(rule, pool);
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
        error = apr_psprintf(pool, "expected a type of RateLimitIdentity or key=, got \"%s\"",
                             map->type);
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

/* What is allowed but hardly meant. */
static const char *rule_doubt(const identity_type_t *type, apr_pool_t *pool)
{
    static const char *const forwarding[] = { "X-Forwarded-For", "Forwarded", "X-Real-IP",
                                              "X-Client-IP",     "Client-IP", "True-Client-IP",
                                              "CF-Connecting-IP" };

    for (size_t i = 0; type->chosen && i < sizeof(forwarding) / sizeof(forwarding[0]); i++) {
        if (ap_cstr_casecmp(type->argument, forwarding[i]) == 0) {
            return apr_psprintf(pool,
                                "the identity \"%s\" is what any client writes into %s: use ip, "
                                "and "
                                "mod_remoteip for trusted proxies",
                                type->name, type->argument);
        }
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
                                   "nobody can have the plan \"%s\": no rule, default or other "
                                   "plan "
                                   "names it, and there is no RateLimitPlanMap",
                                   plan->limits->name));
        }
    }
}

static void rule_warn_all(server_rec *server, apr_pool_t *pool)
{
    for (apr_hash_index_t *i = apr_hash_first(pool, rlp_world->identity_types); i;
         i = apr_hash_next(i)) {
        const identity_type_t *type = apr_hash_this_val(i);
        const char *doubt = rule_doubt(type, pool);

        if (doubt != NULL) {
            rule_warn(server, type->file, type->line, doubt);
        }
    }
    if (rlp_world->rules->nelts > 0 && rlp_world->maps->nelts == 0) {
        rule_warn_plans(server, pool);
    }
}

bool rule_check_all(server_rec *server, apr_pool_t *pool)
{
    const chain_t *chain = NULL;
    const char *error = identity_resolve(&chain, pool);
    bool sound = true;

    if (error != NULL) {
        return rule_error(server, chain->file, chain->line, error);
    }
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

        sound &= rule_check(rule, server, pool);
        rule_compile(rule, pool);
    }
    rule_size_all(pool);
    rule_warn_all(server, pool);
    return sound;
}

/* --- at request time */

/* To httpd "post" is no POST, but to many an application. */
static bool rule_method_matches(const rule_t *rule, const request_rec *r)
{
    for (int i = 0; i < rule->methods->nelts; i++) {
        const char *method = APR_ARRAY_IDX(rule->methods, i, const char *);

        if (ap_cstr_casecmp(method, r->method) == 0 ||
            (r->header_only && strcmp(method, "GET") == 0)) {
            return !rule->methods_negated;
        }
    }
    return rule->methods_negated;
}

/* The path that sections go by. A forward proxy has made a whole URL of it. */
static bool rule_path_matches(const rule_t *rule, const request_rec *r)
{
    const char *asked = r->parsed_uri.path ? r->parsed_uri.path : "/";

    return glob_matches(rule->path, r->proxyreq == PROXYREQ_PROXY ? asked : r->uri);
}

bool rule_matches(const rule_t *rule, request_rec *r)
{
    if (!rule->conditional) {
        return true;
    }
    if (rule->off || (rule->methods != NULL && !rule_method_matches(rule, r)) ||
        (rule->path != NULL && !rule_path_matches(rule, r))) {
        return false;
    }
    if (rule->condition != NULL) {
        const char *error = NULL;
        const int met = ap_expr_exec(r, rule->condition, &error);

        if (error != NULL) {
            ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "RLP003: rule %s: if=: %s", rule->name,
                          error);
        }
        return met > 0;
    }
    return true;
}

const variant_t *rule_variant(const rule_t *rule, const who_t *who, const server_conf_t *server)
{
    if (rule->choice == CHOICE_AUTO && who->plan != NULL) {
        return rule->variants[who->plan->index];
    }
    if (rule->choice == CHOICE_NAMED) {
        const plan_t *plan = apr_hash_get(rlp_world->plans, rule->plan_name, APR_HASH_KEY_STRING);

        return rule->variants[plan->index];
    }
    if (rule->own == NULL && server->plan_default != NULL) {
        return rule->variants[server->plan_default->index];
    }
    return rule->variants[0];
}

/* --- in words */

static const char *rule_dump_chain(const rule_t *rule, apr_pool_t *pool)
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
static const char *rule_dump_effects(const rule_t *rule, apr_pool_t *pool)
{
    const cost_t *cost = rule->cost;
    const char *text = "";

    if (cost != NULL && cost->header != NULL) {
        text = apr_psprintf(pool, ", costs what %s of the response says (%s until then)",
                            cost->header, rule_units(cost->units, pool));
    } else if (cost != NULL) {
        text = cost->expr ? ", costs what an expression says"
                          : apr_pstrcat(pool, ", costs ", rule_units(cost->units, pool), NULL);
    }
    if (rule->counts != NULL) {
        text = apr_pstrcat(pool, text, ", counted by the response", NULL);
    }
    if (rule->delays && rule->max_wait == RLP_TIME_NEVER) {
        text = apr_pstrcat(pool, text, ", waits as long as RateLimitDelay allows", NULL);
    } else if (rule->delays) {
        text = apr_pstrcat(pool, text, ", waits up to ", rule_span(rule->max_wait, pool), NULL);
    }
    if (rule->traits & TRAIT_EARLY) {
        text = apr_pstrcat(pool, text, ", before authentication", NULL);
    }
    if (rule->dry) {
        return apr_pstrcat(pool, text, ", a dry run", NULL);
    }
    return rule->marks ? apr_pstrcat(pool, text, ", marks and refuses nobody", NULL) : text;
}

static const char *rule_dump_limits(const rule_t *rule, apr_pool_t *pool)
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

void rule_dump(apr_pool_t *pool)
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
                        rule->section ? rule->section : "", rule_dump_limits(rule, pool),
                        rule->off ? "" : rule_dump_chain(rule, pool), rule_dump_effects(rule, pool),
                        rule->file, rule->line);
    }
}
