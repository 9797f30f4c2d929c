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

static const char *rule_if(rule_t *rule, cmd_parms *cmd, const char *value)
{
    const char *error = NULL;

    if (*value == '"') {
        return apr_psprintf(cmd->pool,
                            "expected the quotes around the whole word: write \"if=%s...\", got "
                            "if=%s",
                            value + 1, value);
    }
    rule->condition = ap_expr_parse_cmd(cmd, value, 0, &error, NULL);
    return error ? apr_psprintf(cmd->pool, "expected an expression behind if=, got \"%s\": %s",
                                value, error)
                 : NULL;
}

static const struct rule_option {
    const char *name; /* with its "=" */
    const char *(*parse)(rule_t *rule, cmd_parms *cmd, const char *value);
} rule_options[] = {
    { "plan=", rule_plan },
    { "key=", rule_key },
    { "method=", rule_method },
    { "if=", rule_if },
};

#define RULE_OPTIONS ((int)(sizeof(rule_options) / sizeof(rule_options[0])))

static const char *rule_unknown(const char *word, apr_pool_t *pool)
{
    static const char *const names[] = { "plan=",      "key=",   "method=", "if=",
                                         "rate=",      "quota=", "burst=",  "initial=",
                                         "algorithm=", "start=", NULL };
    const char *nearest = rlp_nearest(apr_pstrmemdup(pool, word, strcspn(word, "=") + 1), names);

    return apr_psprintf(pool, "expected a limit, plan=, key=, method= or \"if=EXPR\", got \"%s\"%s",
                        word, nearest ? apr_psprintf(pool, " (%s?)", nearest) : "");
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
        return rule_options[i].parse(rule, cmd, word + len);
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
    return NULL;
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
    if (error == NULL && limits->nelts > 0) {
        rlp_plan_t *own = NULL;
        rlp_clock_t clock;

        rlp_clock_read(&clock);
        error = rlp_plan_parse(&own,
                               &(rlp_plan_source_t){ .name = rule->name,
                                                     .words = (const char *const *)limits->elts,
                                                     .n = limits->nelts,
                                                     .wall = clock.wall },
                               cmd->pool);
        rule->own = own;
    }
    return error ? error : rule_contradiction(rule, cmd->pool);
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

/* What tells the further limits of a plan apart: "-day", "-10s", "-quota". */
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
    const int64_t window = rlp_limit_window(limit);
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
        const char *name = i ? apr_pstrcat(pool, shown, rule_suffix(limit, pool), NULL) : shown;

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

static void rule_compile(rule_t *rule, apr_pool_t *pool)
{
    const int n = rlp_world->plan_list->nelts;

    rule->scope = rule_scope(rule, pool);
    rule->conditional = rule->off || rule->methods != NULL || rule->condition != NULL;
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
    for (server_rec *s = server; s; s = s->next) {
        sound &= rule_check_default(s, pool);
    }
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, rule_t *);

        sound &= rule_check_plan(rule, pool);
        rule_compile(rule, pool);
    }
    rule_warn_all(server, pool);
    return sound;
}

/* --- at request time */

static bool rule_method_matches(const rule_t *rule, const request_rec *r)
{
    for (int i = 0; i < rule->methods->nelts; i++) {
        const char *method = APR_ARRAY_IDX(rule->methods, i, const char *);

        if (strcmp(method, r->method) == 0 || (r->header_only && strcmp(method, "GET") == 0)) {
            return !rule->methods_negated;
        }
    }
    return rule->methods_negated;
}

bool rule_matches(const rule_t *rule, request_rec *r)
{
    if (!rule->conditional) {
        return true;
    }
    if (rule->off || (rule->methods != NULL && !rule_method_matches(rule, r))) {
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
    return rule->condition ? apr_pstrcat(pool, text, ", under a condition", NULL) : text;
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

        apr_file_printf(out, "  %s%s%s: %s%s (%s:%d)\n", rule->scope, rule->section ? " in " : "",
                        rule->section ? rule->section : "", rule_dump_limits(rule, pool),
                        rule->off ? "" : rule_dump_chain(rule, pool), rule->file, rule->line);
    }
}
