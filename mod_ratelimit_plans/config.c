/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Directives.
 */

#include "provider.h"

#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

/* where a directive of sections may not stand, even if AllowOverrideList names it */
#define CONFIG_SECTION (NOT_IN_LIMIT | NOT_IN_HTACCESS)

#ifdef RLP_REDIS
#define CONFIG_MAPS "txt:FILE|dbm:FILE|\"dbd:SQL\"|\"expr:EXPR\"|\"redis:KEY\""
#else
#define CONFIG_MAPS "txt:FILE|dbm:FILE|\"dbd:SQL\"|\"expr:EXPR\""
#endif

#define CONFIG_DELAY_MAX (600 * RLP_SECOND)
#define CONFIG_REPEAT_MAX (INT64_C(24) * 3600 * RLP_SECOND)
#define CONFIG_BUDGET_MAX 90 /* percent: the others answer those who need not wait */

static const char *config_engine(cmd_parms *cmd, void *dir, const char *word)
{
    static const char *const words[] = { "Off", "On", "LogOnly", NULL };
    const int engine = config_word(word, words);
    const char *error = config_enter(cmd, dir, CONFIG_SECTION);

    if (error != NULL) {
        return error;
    }
    ((dir_conf_t *)dir)->engine = engine;
    rlp_world->engaged |= engine > ENGINE_OFF;
    return engine < 0 ? config_unknown_word(cmd, "On, Off or LogOnly", word, words) : NULL;
}

/* What may stand behind NAME, for each provider: "shm [size=SIZE] [file=PATH]". */
static const char *config_store_usage(apr_pool_t *pool)
{
    const char *const *names = provider_names(&provider_stores, pool);
    const char *usage = "";

    for (int i = 0; names[i] != NULL; i++) {
        const rlp_store_provider_t *provider = provider_find(&provider_stores, names[i], pool);
        const bool bare = provider->options == NULL || provider->options[0] == '\0';

        usage = apr_pstrcat(pool, usage, i ? ", or NAME " : "NAME ", names[i], bare ? "" : " ",
                            bare ? "" : provider->options, NULL);
    }
    return usage;
}

/* Finds what keeps the counters. NULL, or what was expected. */
static const char *config_store_type(const rlp_store_provider_t **provider, const char *type,
                                     apr_pool_t *pool)
{
    const char *const *names = provider_names(&provider_stores, pool);

    *provider = provider_find(&provider_stores, type, pool);
    if (*provider != NULL) {
        return (*provider)->configure && (*provider)->open
                   ? NULL
                   : apr_psprintf(pool, "expected a store with configure and open, got \"%s\"",
                                  type);
    }
    const char *other = provider_other_version(&provider_stores, type, pool);

    if (other != NULL) {
        return other;
    }
    if (ap_cstr_casecmp(type, "redis") == 0) {
        return apr_psprintf(pool, "expected shm: this module was built without Redis, got \"%s\"",
                            type);
    }
    return apr_psprintf(pool, "expected a store of the type %s, got \"%s\"%s",
                        provider_list(names, pool), type, provider_near(type, names, "", pool));
}

static const char *config_store(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    const char *error = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    const rlp_store_provider_t *provider = NULL;
    void *settings = NULL;

    (void)dir;
    if (error != NULL) {
        return error;
    }
    if (argc < 2) {
        return apr_pstrcat(cmd->pool, "RateLimitStore: expected ", config_store_usage(cmd->pool),
                           NULL);
    }
    error = config_store_type(&provider, argv[1], cmd->pool);
    if (error == NULL) {
        error = rlp_name_check(argv[0], cmd->pool);
    }
    if (error == NULL) {
        error = provider->configure(&settings, argv[0], (const char *const *)argv + 2, argc - 2,
                                    cmd->pool);
    }
    if (error == NULL && config_repeated(argc, argv, 2) != NULL) {
        return config_expected(cmd, "each option once", config_repeated(argc, argv, 2));
    }
    if (error == NULL) {
        error = stores_add(cmd, argv[0], provider, settings);
    }
    return config_prefix(cmd, error);
}

/* Words that stand for something else where a plan is named. */
static bool config_reserved(const char *name)
{
    static const char *const words[] = { "auto", "none", "default", NULL };

    return config_word(name, words) >= 0;
}

/* Takes like=OTHER out of the words. NULL, or what was expected. */
static const char *config_like(plan_t **base, const char *words[], int *n, apr_pool_t *pool)
{
    int kept = 0;

    for (int i = 0; i < *n; i++) {
        if (ap_cstr_casecmpn(words[i], "like=", 5) != 0) {
            words[kept++] = words[i];
            continue;
        }
        if (*base != NULL) {
            return apr_psprintf(pool, "expected like= once, got \"%s\"", words[i]);
        }
        *base = apr_hash_get(rlp_world->plans, words[i] + 5, APR_HASH_KEY_STRING);
        if (*base == NULL) {
            return apr_psprintf(pool,
                                "expected like=PLAN with a plan declared before, got \"%s\"%s",
                                words[i], rule_near_plan(words[i] + 5, pool));
        }
        (*base)->used = true;
    }
    *n = kept;
    return NULL;
}

/* Remembers a plan under its name. */
static void config_add_plan(cmd_parms *cmd, rlp_plan_t *limits)
{
    plan_t *plan = apr_pcalloc(cmd->pool, sizeof(*plan));

    APR_ARRAY_PUSH(rlp_world->plan_list, const plan_t *) = plan;
    plan->limits = limits;
    plan->index = rlp_world->plan_list->nelts;
    plan->file = cmd->directive->filename;
    plan->line = cmd->directive->line_num;
    apr_hash_set(rlp_world->plans, limits->name, APR_HASH_KEY_STRING, plan);
}

static const char *config_plan(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    const char *error = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    plan_t *base = NULL;
    rlp_plan_t *limits = NULL;
    rlp_clock_t clock;

    (void)dir;
    if (error != NULL) {
        return error;
    }
    if (argc < 2) {
        return "RateLimitPlan: expected NAME LIMIT..., such as RateLimitPlan free rate=10/min";
    }
    error = rlp_name_check(argv[0], cmd->pool);
    if (error == NULL && config_reserved(argv[0])) {
        return config_expected(cmd, "a name other than auto, none and default", argv[0]);
    }
    if (error == NULL && apr_hash_get(rlp_world->plans, argv[0], APR_HASH_KEY_STRING) != NULL) {
        return config_expected(cmd, "a name that no plan has yet", argv[0]);
    }
    const char **words = apr_pmemdup(cmd->pool, argv + 1, sizeof(*words) * (apr_size_t)(argc - 1));
    int n = argc - 1;

    if (error == NULL) {
        error = config_like(&base, words, &n, cmd->pool);
    }
    if (error == NULL) {
        error = algorithm_refused(words, n, cmd->pool);
    }
    if (error == NULL) {
        rlp_clock_read(&clock);
        error = rlp_plan_parse(&limits,
                               &(rlp_plan_source_t){ .name = argv[0],
                                                     .words = words,
                                                     .n = n,
                                                     .algorithms = rlp_world->algorithms,
                                                     .base = base ? base->limits : NULL,
                                                     .wall = clock.wall },
                               cmd->pool);
    }
    if (error == NULL) {
        config_add_plan(cmd, limits);
        config_needs(cmd, limits->bandwidth > 0 ? HOOK_BANDWIDTH : 0);
    }
    return config_prefix(cmd, error);
}

static server_conf_t *config_server(cmd_parms *cmd)
{
    return ap_get_module_config(cmd->server->module_config, &ratelimit_plans_module);
}

static const char *config_plan_default(cmd_parms *cmd, void *dir, const char *name)
{
    server_conf_t *conf = config_server(cmd);
    const char *error = ap_check_cmd_context(cmd, NOT_IN_DIR_LOC_FILE);

    (void)dir;
    conf->default_name = name;
    conf->default_line = cmd->directive->line_num;
    conf->default_file = cmd->directive->filename;
    return error;
}

static const char *config_plan_change(cmd_parms *cmd, void *dir, const char *word)
{
    static const char *const words[] = { "carry", "reset", NULL };
    const char *error = ap_check_cmd_context(cmd, NOT_IN_DIR_LOC_FILE);
    const int reset = config_word(word, words);

    (void)dir;
    config_server(cmd)->plan_reset = reset;
    if (error == NULL && reset < 0) {
        return config_unknown_word(cmd, "carry or reset", word, words);
    }
    return error;
}

/* The longest wait. NULL, or what was expected. */
static const char *config_delay_max(cmd_parms *cmd, const char *word, const char *value)
{
    rlp_time_t *max = &config_server(cmd)->delay_max;
    const bool none = strcmp(value, "0") == 0;
    const char *error = none ? NULL : rlp_duration_parse(max, value, cmd->pool);

    if (none) {
        *max = 0;
    }
    if (error != NULL) {
        return config_expected(cmd, "max=DURATION, such as max=2s, or max=0", word);
    }
    return *max <= CONFIG_DELAY_MAX
               ? NULL
               : config_expected(cmd,
                                 "max=DURATION of at most 10 minutes (a request that waits holds a "
                                 "worker)",
                                 word);
}

/* How many may wait at once. NULL, or what was expected. */
static const char *config_delay_budget(cmd_parms *cmd, const char *word, const char *value)
{
    const size_t digits = strspn(value, "0123456789");
    const int budget =
        digits > 0 && digits <= 2 && strcmp(value + digits, "%") == 0 ? atoi(value) : 0;

    config_server(cmd)->delay_budget = budget;
    return budget >= 1 && budget <= CONFIG_BUDGET_MAX
               ? NULL
               : config_expected(cmd, "budget=N% from 1% to 90%", word);
}

static const char *config_delay(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    static const char *const names[] = { "max=", "budget=", NULL };
    const char *error = ap_check_cmd_context(cmd, NOT_IN_DIR_LOC_FILE);
    const char *repeated = config_repeated(argc, argv, 0);
    bool max = false;

    (void)dir;
    if (error == NULL && repeated != NULL) {
        error = config_expected(cmd, "each option once", repeated);
    }
    for (int i = 0; error == NULL && i < argc; i++) {
        if (ap_cstr_casecmpn(argv[i], "max=", 4) == 0) {
            max = true;
            error = config_delay_max(cmd, argv[i], argv[i] + 4);
        } else if (ap_cstr_casecmpn(argv[i], "budget=", 7) == 0) {
            error = config_delay_budget(cmd, argv[i], argv[i] + 7);
        } else {
            error =
                apr_pstrcat(cmd->pool, config_expected(cmd, "max=DURATION [budget=N%]", argv[i]),
                            config_near(argv[i], names, cmd->pool), NULL);
        }
    }
    if (error == NULL && !max) {
        return "RateLimitDelay: expected max=DURATION [budget=N%]";
    }
    return error;
}

/* How long a refusal is not told again. NULL, or what was expected. */
static const char *config_repeat(cmd_parms *cmd, const char *word)
{
    rlp_time_t *repeat = &config_server(cmd)->key_repeat;
    const char *value = word + strlen("repeat=");
    const bool none = strcmp(value, "0") == 0;

    if (none) {
        *repeat = 0;
    }
    if ((!none && rlp_duration_parse(repeat, value, cmd->pool) != NULL) ||
        *repeat > CONFIG_REPEAT_MAX || (*repeat > 0 && *repeat < RLP_SECOND)) {
        return config_expected(cmd, "repeat=DURATION from 1s to 1day, or repeat=0", word);
    }
    return NULL;
}

static const char *config_key_log(cmd_parms *cmd, void *dir, const char *how, const char *repeat)
{
    static const char *const words[] = { "hash", "plain", NULL };
    static const char *const names[] = { "repeat=", NULL };
    const char *error = ap_check_cmd_context(cmd, NOT_IN_DIR_LOC_FILE);
    const int plain = config_word(how, words);

    (void)dir;
    config_server(cmd)->key_plain = plain;
    config_server(cmd)->key_repeat = RLP_KEY_REPEAT;
    if (error == NULL && plain < 0) {
        return config_unknown_word(cmd, "hash or plain first", how, words);
    }
    if (error != NULL || repeat == NULL) {
        return error;
    }
    if (ap_cstr_casecmpn(repeat, "repeat=", 7) != 0) {
        return apr_pstrcat(cmd->pool, config_expected(cmd, "repeat=DURATION", repeat),
                           config_near(repeat, names, cmd->pool), NULL);
    }
    return config_repeat(cmd, repeat);
}

/* A status from 400 to 599; else 0. */
static int config_status(const char *text)
{
    const int status = strspn(text, "0123456789") == 3 && text[3] == '\0' ? atoi(text) : 0;

    return status >= 400 && status <= 599 ? status : 0;
}

static const char *config_unknown(cmd_parms *cmd, plan_map_t *map, const char *word)
{
    static const char *const words[] = { "next", "default", "deny", "deny:", NULL };
    const char *value = word + strlen("unknown=");

    map->unknown_given = true;
    if (ap_cstr_casecmp(value, "next") == 0) {
        map->unknown = UNKNOWN_NEXT;
    } else if (ap_cstr_casecmp(value, "default") == 0) {
        map->unknown = UNKNOWN_DEFAULT;
    } else if (ap_cstr_casecmp(value, "deny") == 0) {
        map->unknown = UNKNOWN_DENY;
        map->status = HTTP_FORBIDDEN;
    } else if (ap_cstr_casecmpn(value, "deny:", 5) == 0) {
        map->unknown = UNKNOWN_DENY;
        map->status = config_status(value + 5);
        if (map->status == 0 || atoi(ap_get_status_line(map->status)) != map->status) {
            return config_expected(cmd,
                                   "unknown=deny:STATUS with a status from 400 to 599 that httpd "
                                   "knows",
                                   word);
        }
    } else {
        return apr_pstrcat(cmd->pool,
                           config_expected(cmd,
                                           "unknown=next, unknown=default, unknown=deny or "
                                           "unknown=deny:STATUS",
                                           word),
                           config_near(value, words, cmd->pool), NULL);
    }
    return NULL;
}

static const char *config_plan_map_option(cmd_parms *cmd, plan_map_t *map, const char *word)
{
    static const char *const names[] = { "unknown=", "ttl=", "timeout=", NULL };
    bool known = false;

    if (ap_cstr_casecmpn(word, "unknown=", 8) == 0) {
        return config_unknown(cmd, map, word);
    }
    const char *error = plan_map_option(map, cmd, word, &known);

    if (known) {
        return config_prefix(cmd, error);
    }
    return config_unknown_word(
        cmd, "unknown=next|default|deny[:STATUS], ttl=DURATION or timeout=DURATION", word, names);
}

static const char *config_plan_map(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    server_conf_t *conf = config_server(cmd);
    const char *error = ap_check_cmd_context(cmd, NOT_IN_DIR_LOC_FILE);
    plan_map_t *map = apr_pcalloc(cmd->pool, sizeof(*map));

    (void)dir;
    if (error != NULL) {
        return error;
    }
    if (argc < 2) {
        return "RateLimitPlanMap: expected TYPE " CONFIG_MAPS
               " [ttl=DURATION] [timeout=DURATION] [unknown=next|default|deny[:STATUS]]";
    }
    for (int i = 0; i < conf->maps->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(conf->maps, i, plan_map_t *)->type, argv[0]) == 0) {
            return config_expected(cmd, "one map for each type of identity", argv[0]);
        }
    }
    error = config_quotes(argv[1], cmd->pool);
    if (error == NULL) {
        map->type = argv[0];
        error = plan_map_source(map, cmd, argv[1]);
    }
    if (error != NULL) {
        return config_prefix(cmd, error);
    }
    map->file = cmd->directive->filename;
    map->line = cmd->directive->line_num;
    if (config_repeated(argc, argv, 2) != NULL) {
        return config_expected(cmd, "each option once", config_repeated(argc, argv, 2));
    }
    for (int i = 2; error == NULL && i < argc; i++) {
        error = config_plan_map_option(cmd, map, argv[i]);
    }
    if (error != NULL) {
        return error;
    }
    APR_ARRAY_PUSH(conf->maps, plan_map_t *) = map;
    APR_ARRAY_PUSH(rlp_world->maps, plan_map_t *) = map;
    return NULL;
}

static const char *config_identity(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    dir_conf_t *conf = dir;
    const char *error = config_enter(cmd, dir, CONFIG_SECTION);

    if (error != NULL) {
        return error;
    }
    if (argc < 1) {
        return "RateLimitIdentity: expected TYPE..., such as RateLimitIdentity user ip";
    }
    return config_prefix(cmd,
                         identity_parse_chain(&conf->chain, cmd, argc, (const char *const *)argv));
}

static const char *config_rule(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    dir_conf_t *conf = dir;
    rule_t *rule = NULL;
    const char *error = config_enter(cmd, dir, NOT_IN_LIMIT);

    if (error != NULL) {
        return error;
    }
    if (argc < 1) {
        return "RateLimitRule: expected NAME [LIMIT...] [option=...]..., or NAME Off";
    }
    error = rule_parse(&rule, cmd, argc, argv);
    if (error == NULL && rule->directory != NULL) {
        error = rule_fault(rule, cmd->pool);
    }
    if (error != NULL) {
        return config_prefix(cmd, error);
    }
    if (rule->off && rule->directory != NULL) {
        denial_log_ignored(rule, "it can only add rules");
        return NULL;
    }
    if (config_rule_index(conf->rules, rule->name) >= 0) {
        return config_expected(cmd, "each name once in a section", rule->name);
    }
    if (conf->rules->nelts == RLP_RULES_MAX) {
        return config_expected(cmd, "at most 16 rules in one section", rule->name);
    }
    conf->traits |= rule->traits;
    APR_ARRAY_PUSH(conf->rules, const rule_t *) = rule;
    if (rule->directory != NULL) {
        rule_compile_local(rule, cmd->pool);
    } else {
        APR_ARRAY_PUSH(rlp_world->rules, rule_t *) = rule;
    }
    return NULL;
}

static const char *config_cost(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    static const char *const names[] = { "reserve=", NULL };
    dir_conf_t *conf = dir;
    cost_t *cost = NULL;

    if (argc < 1) {
        return "RateLimitCost: expected N, \"expr=EXPR\" or response-header:NAME [reserve=N]";
    }
    const bool reserve = argc > 1 && ap_cstr_casecmpn(argv[1], "reserve=", 8) == 0;
    const int known = reserve ? 2 : 1;
    const char *error = config_enter(cmd, dir, NOT_IN_LIMIT);

    if (error != NULL) {
        return error;
    }
    error = config_quotes(argv[0], cmd->pool);
    if (error == NULL && config_repeated(argc, argv, 1) != NULL) {
        return config_expected(cmd, "each option once", config_repeated(argc, argv, 1));
    }
    if (error == NULL && argc > known) {
        error = apr_psprintf(cmd->pool,
                             "expected one word (with quotes around an expression), or "
                             "response-header:NAME and reserve=N, got \"%s\"%s",
                             argv[known], config_near(argv[known], names, cmd->pool));
    }
    if (error == NULL) {
        error = cost_parse(&cost, cmd, argv[0], reserve ? argv[1] + 8 : NULL);
        cost->local = config_is_htaccess(cmd);
        conf->cost = cost;
        conf->traits |= TRAIT_MORE;
    }
    return config_prefix(cmd, error);
}

static const char *config_refund(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    dir_conf_t *conf = dir;

    if (argc < 1) {
        return "RateLimitRefund: expected \"expr=EXPR\"";
    }
    const char *error = config_enter(cmd, dir, CONFIG_SECTION);

    if (error != NULL) {
        return error;
    }
    error = config_quotes(argv[0], cmd->pool);
    if (error == NULL && (argc > 1 || ap_cstr_casecmpn(argv[0], "expr=", 5) != 0)) {
        return config_expected(cmd, "\"expr=EXPR\" as one word in quotes", argv[argc > 1]);
    }
    if (error == NULL) {
        conf->traits |= TRAIT_MORE;
        config_needs(cmd, HOOK_AFTER);
        error = config_expression(&conf->refund, cmd, "expr=", argv[0] + 5, AP_EXPR_FLAG_DONT_VARY);
    }
    return config_prefix(cmd, error);
}

static const char *config_exempt(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    dir_conf_t *conf = dir;
    const exempt_t *exempt = NULL;

    if (argc < 1) {
        return "RateLimitExempt: expected ip CIDR..., file:PATH or \"expr=EXPR\"";
    }
    const char *error = config_enter(cmd, dir, CONFIG_SECTION);

    if (error != NULL) {
        return error;
    }
    error = exempt_parse(&exempt, cmd, argc, argv);
    if (conf->exempts == NULL) {
        conf->exempts = apr_array_make(cmd->pool, 1, sizeof(exempt_t *));
    }
    APR_ARRAY_PUSH(conf->exempts, const exempt_t *) = exempt;
    conf->traits |= TRAIT_MORE;
    return config_prefix(cmd, error);
}

static const char *config_headers(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    static const char *const sets[] = { "Off", "IETF", "Legacy", "Both", NULL };
    dir_conf_t *conf = dir;
    const char *error = config_enter(cmd, dir, CONFIG_SECTION);

    if (error != NULL) {
        return error;
    }
    conf->fields = argc > 0 ? config_word(argv[0], sets) : -1;
    conf->fields_epoch = 0;
    conf->fields_denied = 0;
    if (conf->fields < 0) {
        return config_unknown_word(cmd, "Off, IETF, Legacy or Both first", argc > 0 ? argv[0] : "",
                                   sets);
    }
    unsigned seen = 0; /* a bit for reset=, a bit for always or denied */

    for (int i = 1; i < argc; i++) {
        static const char *const words[] = { "reset=delta", "reset=epoch", "always", "denied",
                                             NULL };
        const int word = config_word(argv[i], words);

        if (word < 0) {
            return apr_pstrcat(cmd->pool,
                               config_expected(cmd, "reset=delta, reset=epoch, always or denied",
                                               argv[i]),
                               config_near_whole(argv[i], words, cmd->pool), NULL);
        }
        if (seen & 1U << word / 2) {
            return config_expected(cmd, "reset= once, and either always or denied", argv[i]);
        }
        seen |= 1U << word / 2;
        if (word < 2) {
            conf->fields_epoch = word;
        } else {
            conf->fields_denied = word - 2;
        }
    }
    return NULL;
}

static const char *config_deny_status(cmd_parms *cmd, void *dir, const char *text)
{
    const int status = config_status(text);
    const char *error = config_enter(cmd, dir, CONFIG_SECTION);

    if (error != NULL) {
        return error;
    }
    if (status == 0) {
        return config_expected(cmd, "a status from 400 to 599", text);
    }
    if (atoi(ap_get_status_line(status)) != status) {
        return config_expected(cmd, "a status that httpd knows (it would answer 500)", text);
    }
    ((dir_conf_t *)dir)->deny_status = status;
    return NULL;
}

static const char *config_env(cmd_parms *cmd, void *dir, const char *word)
{
    static const char *const words[] = { "auto", "always", NULL };
    const int always = config_word(word, words);
    const char *error = config_enter(cmd, dir, CONFIG_SECTION);

    if (error != NULL) {
        return error;
    }
    ((dir_conf_t *)dir)->env_always = always;
    ((dir_conf_t *)dir)->traits |= TRAIT_MORE;
    return always < 0 ? config_unknown_word(cmd, "auto or always", word, words) : NULL;
}

#define CONFIG_ANYWHERE (RSRC_CONF | ACCESS_CONF)
#define CONFIG_HTACCESS (CONFIG_ANYWHERE | OR_LIMIT) /* .htaccess too, by AllowOverride Limit */

const command_rec rlp_commands[] = {
    AP_INIT_TAKE1("RateLimitEngine", config_engine, NULL, CONFIG_ANYWHERE, "On, Off or LogOnly"),
    AP_INIT_TAKE_ARGV("RateLimitStore", config_store, NULL, RSRC_CONF,
                      "NAME shm or redis, with their options"),
    AP_INIT_TAKE_ARGV("RateLimitPlan", config_plan, NULL, RSRC_CONF, "NAME LIMIT... [like=PLAN]"),
    AP_INIT_TAKE1("RateLimitPlanDefault", config_plan_default, NULL, RSRC_CONF, "a plan"),
    AP_INIT_TAKE1("RateLimitPlanChange", config_plan_change, NULL, RSRC_CONF, "carry or reset"),
    AP_INIT_TAKE_ARGV("RateLimitPlanMap", config_plan_map, NULL, RSRC_CONF,
                      "TYPE " CONFIG_MAPS " [ttl=DURATION] "
                      "[timeout=DURATION] [unknown=next|default|deny[:STATUS]]"),
    AP_INIT_TAKE_ARGV("RateLimitIdentity", config_identity, NULL, CONFIG_ANYWHERE,
                      "TYPE[=SOURCE]... in order of preference"),
    AP_INIT_TAKE_ARGV("RateLimitRule", config_rule, NULL, CONFIG_HTACCESS,
                      "NAME [LIMIT...] [option=...]..., or NAME Off"),
    AP_INIT_TAKE_ARGV("RateLimitCost", config_cost, NULL, CONFIG_HTACCESS,
                      "N, \"expr=EXPR\" or response-header:NAME [reserve=N]"),
    AP_INIT_TAKE_ARGV("RateLimitRefund", config_refund, NULL, CONFIG_ANYWHERE, "\"expr=EXPR\""),
    AP_INIT_TAKE_ARGV("RateLimitExempt", config_exempt, NULL, CONFIG_ANYWHERE,
                      "ip CIDR..., file:PATH or \"expr=EXPR\""),
    AP_INIT_TAKE_ARGV("RateLimitDelay", config_delay, NULL, RSRC_CONF,
                      "max=DURATION|0 [budget=N%]"),
    AP_INIT_TAKE12("RateLimitKeyLog", config_key_log, NULL, RSRC_CONF,
                   "hash|plain [repeat=DURATION]"),
    AP_INIT_TAKE_ARGV("RateLimitHeaders", config_headers, NULL, CONFIG_ANYWHERE,
                      "Off|IETF|Legacy|Both [reset=delta|epoch] [always|denied]"),
    AP_INIT_TAKE1("RateLimitDenyStatus", config_deny_status, NULL, CONFIG_ANYWHERE,
                  "a status from 400 to 599"),
    AP_INIT_TAKE1("RateLimitEnv", config_env, NULL, CONFIG_ANYWHERE, "auto or always"),
    { .name = NULL },
};
