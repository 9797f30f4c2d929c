/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Directives of the server, and of its hosts: stores, plans, plan maps, waiting, the log.
 */

#include "config_server.h"

#include "provider.h"

#include <http_core.h>
#include <http_protocol.h>

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define CONFIG_DELAY_MAX (600 * RLP_SECOND)
#define CONFIG_REPEAT_MAX (INT64_C(24) * 3600 * RLP_SECOND)
#define CONFIG_BUDGET_MAX 90 /* percent: the others answer those who need not wait */

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

const char *config_store(cmd_parms *cmd, void *dir, int argc, char *const argv[])
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
    error = config_store_type(&provider, config_shown(argv[1], cmd->pool), cmd->pool);
    if (error == NULL) {
        error = rlp_name_check(config_shown(argv[0], cmd->pool), cmd->pool);
    }
    for (int i = 2; i < argc && error == NULL; i++) {
        error = config_secret_quotes(argv[i], cmd->pool);
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

const char *config_plan(cmd_parms *cmd, void *dir, int argc, char *const argv[])
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

const char *config_plan_default(cmd_parms *cmd, void *dir, const char *name)
{
    server_conf_t *conf = server_conf(cmd->server);
    const char *error = ap_check_cmd_context(cmd, NOT_IN_DIR_LOC_FILE);

    (void)dir;
    conf->default_name = name;
    conf->default_line = cmd->directive->line_num;
    conf->default_file = cmd->directive->filename;
    return error;
}

const char *config_plan_change(cmd_parms *cmd, void *dir, const char *word)
{
    static const char *const words[] = { "carry", "reset", NULL };
    const char *error = ap_check_cmd_context(cmd, NOT_IN_DIR_LOC_FILE);
    const int reset = config_word(word, words);

    (void)dir;
    server_conf(cmd->server)->plan_reset = reset;
    if (error == NULL && reset < 0) {
        return config_unknown_word(cmd, "carry or reset", word, words);
    }
    return error;
}

/* The longest wait. NULL, or what was expected. */
static const char *config_delay_max(cmd_parms *cmd, const char *word, const char *value)
{
    rlp_time_t *max = &server_conf(cmd->server)->delay_max;
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

    server_conf(cmd->server)->delay_budget = budget;
    return budget >= 1 && budget <= CONFIG_BUDGET_MAX
               ? NULL
               : config_expected(cmd, "budget=N% from 1% to 90%", word);
}

const char *config_delay(cmd_parms *cmd, void *dir, int argc, char *const argv[])
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
    rlp_time_t *repeat = &server_conf(cmd->server)->key_repeat;
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

const char *config_key_log(cmd_parms *cmd, void *dir, const char *how, const char *repeat)
{
    static const char *const words[] = { "hash", "plain", NULL };
    static const char *const names[] = { "repeat=", NULL };
    const char *error = ap_check_cmd_context(cmd, NOT_IN_DIR_LOC_FILE);
    const int plain = config_word(how, words);

    (void)dir;
    server_conf(cmd->server)->key_plain = plain;
    server_conf(cmd->server)->key_repeat = RLP_KEY_REPEAT;
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

const char *config_plan_map(cmd_parms *cmd, void *dir, int argc, char *const argv[])
{
    server_conf_t *conf = server_conf(cmd->server);
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
