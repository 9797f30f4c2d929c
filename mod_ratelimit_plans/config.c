/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Directives of sections, and the table of all.
 */

#include "config_server.h"

#include <http_core.h>
#include <http_protocol.h>

#include <apr_strings.h>

#include <stdlib.h>

/* where a directive of sections may not stand, even if AllowOverrideList names it */
#define CONFIG_SECTION (NOT_IN_LIMIT | NOT_IN_HTACCESS)

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
    rule->beside = conf;
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
        config_needs(cmd, HOOK_AFTER | config_hears(argv[0]));
        error = config_expression(&conf->refund, cmd, "expr=", argv[0] + 5, 0);
    }
    return config_prefix(cmd, error);
}

static const char *config_exempt(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    dir_conf_t *conf = dir;
    const exempt_t *exempt = NULL;
    char **words = NULL;
    const int n = config_all_words(&words, cmd);

    (void)argv;
    if (argc < 1) {
        return "RateLimitExempt: expected ip CIDR..., file:PATH or \"expr=EXPR\"";
    }
    const char *error = config_enter(cmd, dir, CONFIG_SECTION);

    if (error != NULL) {
        return error;
    }
    error = exempt_parse(&exempt, cmd, n, words);
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
