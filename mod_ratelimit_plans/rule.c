/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Rules: what they say, which of them speak of a request.
 */

#include "provider.h"

#include <http_protocol.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

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
    uint64_t bits = 0;
    char *rest = NULL;

    rule->methods_negated = *value == '!';
    for (char *name = apr_strtok(apr_pstrdup(cmd->pool, value + rule->methods_negated), ",", &rest);
         name; name = apr_strtok(NULL, ",", &rest)) {
        for (char *c = name; *c; c++) {
            *c = (char)apr_toupper(*c);
        }
        const int number = ap_method_number_of(name);

        if (number == M_INVALID) {
            return apr_psprintf(cmd->pool,
                                "expected methods that httpd knows, such as method=GET,POST or "
                                "method=!OPTIONS, got \"method=%s\"",
                                value);
        }
        APR_ARRAY_PUSH(methods, const char *) = name;
        bits |= METHOD_BIT(strcmp(name, "HEAD") == 0 ? METHOD_HEAD : number);
        bits |= number == M_GET ? METHOD_BIT(METHOD_HEAD) : 0;
    }
    if (methods->nelts == 0) {
        return apr_psprintf(cmd->pool,
                            "expected method=GET,POST or method=!OPTIONS, got \"method=%s\"",
                            value);
    }
    rule->methods = methods;
    rule->method_bits = rule->methods_negated ? ~bits : bits;
    rule->traits |= TRAIT_CHOOSY;
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
    rule->traits |= TRAIT_CHOOSY;
    return config_expression(&rule->condition, cmd, "if=", value, 0);
}

static const char *rule_count(rule_t *rule, cmd_parms *cmd, const char *value)
{
    static const char *const names[] = { "request", "response:", NULL };

    if (ap_cstr_casecmp(value, "request") == 0) {
        return NULL;
    }
    if (ap_cstr_casecmpn(value, "response:", 9) == 0) {
        config_needs(cmd, HOOK_AFTER | HOOK_STATUS | config_hears(value));
        return config_expression(&rule->counts, cmd, "count=response:", value + 9, 0);
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
        config_needs(cmd, HOOK_EARLY);
        return NULL;
    }
    return apr_psprintf(cmd->pool, "expected phase=early or phase=fixups, got \"phase=%s\"%s",
                        value, config_near(value, names, cmd->pool));
}

static const struct rule_option {
    const char *name;                                                      /* with its "=" */
    const char *(*parse)(rule_t *rule, cmd_parms *cmd, const char *value); /* NULL: rule_cost() */
} rule_options[] = {
    { "plan=", rule_plan },
    { "key=", rule_key },
    { "method=", rule_method },
    { "path=", rule_path },
    { "if=", rule_if },
    { "priority=", rule_priority },
    { "cost=", NULL },
    { "reserve=", NULL },
    { "count=", rule_count },
    { "action=", rule_action },
    { "mode=", rule_mode },
    { "phase=", rule_phase },
    { "store=", stores_rule_store },
    { "failure=", stores_rule_failure },
    { "sync=", stores_rule_sync },
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
    cost_t *parsed = NULL;
    const char *error = cost_parse(&parsed, cmd, cost, reserve);

    rule->cost = parsed;
    return error;
}

static const char *rule_unknown(const char *word, apr_pool_t *pool)
{
    static const char *const names[] = {
        "plan=",      "key=",     "method=",     "path=",      "if=",    "priority=",
        "cost=",      "reserve=", "count=",      "action=",    "mode=",  "phase=",
        "rate=",      "quota=",   "concurrent=", "bandwidth=", "burst=", "initial=",
        "algorithm=", "start=",   "store=",      "failure=",   "sync=",  NULL
    };

    const char *option = apr_pstrcat(pool, word, "=", NULL);
    const char *near = strchr(word, '=') != NULL         ? config_near(word, names, pool)
                       : config_word(option, names) >= 0 ? apr_psprintf(pool, " (%s?)", option)
                                                         : "";

    return apr_psprintf(pool,
                        "expected a limit, plan=, key=, method=, path=, priority=, cost=, "
                        "reserve=, count=, action=, mode=, phase=, store=, failure=, sync= or "
                        "\"if=EXPR\", got \"%s\"%s",
                        word, near);
}

/* A word without a value, such as those of "plan none", is told of when the limits have been read:
   in "rate=10 per minute" it is the rate that is wrong. */
static bool rule_is_stray(const char *word)
{
    return apr_isalpha(*word) && strpbrk(word, "=/") == NULL;
}

static const char *rule_stray(int argc, char *const argv[], apr_pool_t *pool)
{
    for (int i = 1; i < argc; i++) {
        if (rule_is_stray(argv[i])) {
            return rule_unknown(argv[i], pool);
        }
    }
    return NULL;
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
    if (ap_cstr_casecmpn(word, "then=", 5) == 0) {
        return apr_psprintf(cmd->pool, "expected then= in a RateLimitPlan alone, got \"%s\"", word);
    }
    if (!rlp_limit_word(word) && strchr(word, '=') != NULL &&
        ap_strcasestr(word, "limit=") == NULL && ap_strcasestr(word, "window=") == NULL) {
        return rule_unknown(word, cmd->pool);
    }
    if (!rule_is_stray(word)) {
        APR_ARRAY_PUSH(limits, const char *) = word;
    }
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
    return NULL;
}

/* The rule's own limits. */
static const char *rule_limits(rule_t *rule, const apr_array_header_t *words, apr_pool_t *pool)
{
    const char *error = algorithm_refused((const char *const *)words->elts, words->nelts, pool);
    const bool local = rule->directory != NULL; /* other threads run: no zone can be read */
    rlp_clock_t clock;

    if (error != NULL) {
        return error;
    }
    rlp_clock_read(&clock);
    return rlp_plan_parse(&rule->own,
                          &(rlp_plan_source_t){ .name = rule->name,
                                                .words = (const char *const *)words->elts,
                                                .n = words->nelts,
                                                .algorithms = rlp_world->algorithms,
                                                .wall = clock.wall,
                                                .tables = local ? rlp_world->pool : NULL },
                          pool);
}

const char *rule_parse(rule_t **made, cmd_parms *cmd, int argc, char *const argv[])
{
    rule_t *rule = apr_pcalloc(cmd->pool, sizeof(*rule));
    apr_array_header_t *limits = apr_array_make(cmd->pool, argc, sizeof(char *));
    const char *error = rlp_name_check(argv[0], cmd->pool);

    *made = rule;
    rule->method_bits = ~UINT64_C(0);
    rule->name = argv[0];
    rule->server = cmd->server;
    if (config_is_htaccess(cmd)) {
        rule->directory = ap_make_dirstr_parent(cmd->pool, cmd->directive->filename);
        rule->traits |= TRAIT_LOCAL;
    }
    rule->section = config_section(cmd);
    rule->file = cmd->directive->filename;
    rule->line = cmd->directive->line_num;
    if (argc == 1 && ap_cstr_casecmp(argv[0], "Off") == 0) {
        return apr_psprintf(cmd->pool, "expected NAME Off, with the name of a rule, got \"%s\"",
                            argv[0]);
    }
    if (error == NULL && argc == 2 && ap_cstr_casecmp(argv[1], "Off") == 0) {
        rule->off = true;
        rule->traits |= TRAIT_CHOOSY;
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
    if (error == NULL) {
        error = rule_stray(argc, argv, cmd->pool);
    }
    if (error == NULL && rule->own != NULL && rule->own->bandwidth > 0) {
        config_needs(cmd, HOOK_BANDWIDTH);
    }
    return error ? error : rule_contradiction(rule, cmd->pool);
}
/* --- at request time */

/* The path that sections go by. A forward proxy has made a whole URL of it. */
static bool rule_path_matches(const rule_t *rule, const request_rec *r)
{
    const char *asked = r->parsed_uri.path ? r->parsed_uri.path : "/";

    return r->proxyreq == PROXYREQ_PROXY
               ? glob_matches(rule->path, asked)
               : !glob_excludes(rule->path, r->uri) && glob_matches(rule->path, r->uri);
}

int rule_odd_method(const request_rec *r)
{
    char *name = apr_pstrdup(r->pool, r->method);

    ap_str_toupper(name);
    return strcmp(name, "HEAD") == 0 ? METHOD_HEAD : ap_method_number_of(name);
}

bool rule_matches_closely(const rule_t *rule, request_rec *r)
{
    if (rule->path != NULL && !rule_path_matches(rule, r)) {
        return false;
    }
    if (rule->condition != NULL) {
        const char *error = NULL;
        const int met = ap_expr_exec(r, rule->condition, &error);

        if (error != NULL) {
            denial_log_expression(r, "if= of rule ", rule->name, error);
        }
        return met > 0;
    }
    return true;
}

/* The plan by which the rule counts; NULL: by its own limits, if any. */
static const plan_t *rule_chosen_plan(const rule_t *rule, const who_t *who,
                                      const server_conf_t *server)
{
    if (rule->choice == CHOICE_AUTO && who->plan != NULL) {
        return who->plan;
    }
    if (rule->choice == CHOICE_NAMED) {
        return apr_hash_get(rlp_world->plans, rule->plan_name, APR_HASH_KEY_STRING);
    }
    return rule->own == NULL ? server->plan_default : NULL;
}

bool rule_is_dry(const rule_t *rule)
{
    const dir_conf_t *outer =
        ap_get_module_config(rule->server->lookup_defaults, &ratelimit_plans_module);
    const int engine = rule->beside->engine == RLP_UNSET ? outer->engine : rule->beside->engine;

    return engine == ENGINE_LOG_ONLY || rule->dry;
}

const variant_t *rule_variant(const rule_t *rule, const who_t *who, const server_conf_t *server,
                              apr_pool_t *pool)
{
    const plan_t *plan = rule_chosen_plan(rule, who, server);

    if (plan == NULL) {
        return rule->variants[0];
    }
    return rule->variants[plan->index] == NULL && rule->directory != NULL
               ? rule_compile_late(rule, plan, pool)
               : rule->variants[plan->index];
}

bool rule_same_scope(const rule_t *a, const rule_t *b)
{
    return a->scope == b->scope ||
           (a->directory != NULL && b->directory != NULL && strcmp(a->scope, b->scope) == 0);
}
