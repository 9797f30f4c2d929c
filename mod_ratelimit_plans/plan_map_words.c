/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The words behind RateLimitPlanMap: which source, and how long its answers are taken.
 */

#include "plan_map.h"
#include "provider.h"

#include <apr_strings.h>

#include <string.h>

#define PLAN_MAP_TTL (60 * RLP_SECOND)
#define PLAN_MAP_TTL_MAX (INT64_C(24) * 3600 * RLP_SECOND)
#define PLAN_MAP_TIMEOUT (RLP_SECOND / 10)
#define PLAN_MAP_TIMEOUT_MAX (10 * RLP_SECOND)

/* What may stand behind TYPE: "txt:FILE, ... or "members:VALUE=PLAN..."", in quotes where there may
   be blanks. */
static const char *plan_map_forms(apr_pool_t *pool)
{
    const char *const *names = provider_names(&provider_plan_maps, pool);
    apr_array_header_t *forms = apr_array_make(pool, 8, sizeof(const char *));

    for (int i = 0; names[i] != NULL; i++) {
        const rlp_plan_map_provider_t *provider =
            provider_find(&provider_plan_maps, names[i], pool);
        const char *argument = provider->argument ? provider->argument : "ARGUMENT";
        const char *quote = strcmp(argument, "FILE") == 0 ? "" : "\"";

        APR_ARRAY_PUSH(forms, const char *) =
            apr_pstrcat(pool, quote, names[i], ":", argument, quote, NULL);
        if (provider->variant != NULL) {
            APR_ARRAY_PUSH(forms, const char *) =
                apr_pstrcat(pool, quote, names[i], "=", provider->variant, ":", argument, quote,
                            NULL);
        }
    }
    APR_ARRAY_PUSH(forms, const char *) = NULL;
    return provider_list((const char *const *)forms->elts, pool);
}

/* What to say of a source that nobody has. */
static const char *plan_map_unknown(const char *word, const char *name, apr_pool_t *pool)
{
    const char *const *names = provider_names(&provider_plan_maps, pool);
    const char *other = provider_other_version(&provider_plan_maps, name, pool);
    apr_array_header_t *begins = apr_array_make(pool, 8, sizeof(const char *));

    if (other != NULL) {
        return other;
    }
    for (int i = 0; names[i] != NULL; i++) {
        const rlp_plan_map_provider_t *provider =
            provider_find(&provider_plan_maps, names[i], pool);

        APR_ARRAY_PUSH(begins, const char *) = apr_pstrcat(pool, names[i], ":", NULL);
        if (provider->variant != NULL) {
            APR_ARRAY_PUSH(begins, const char *) = apr_pstrcat(pool, names[i], "=", NULL);
        }
    }
    APR_ARRAY_PUSH(begins, const char *) = NULL;
    return apr_psprintf(pool, "expected %s, got \"%s\"%s", plan_map_forms(pool),
                        config_shown(word, pool),
                        config_near(word, (const char *const *)begins->elts, pool));
}

/* What stands behind the provider's name, and the sign there. */
static rlp_plan_map_words_t plan_map_words(const plan_map_t *map, const char *rest,
                                           apr_pool_t *pool)
{
    const char *colon = strchr(rest, ':');
    rlp_plan_map_words_t words = { .type = map->type, .argument = colon ? colon + 1 : "" };

    if (*rest == '=') {
        words.variant = colon ? apr_pstrmemdup(pool, rest + 1, (apr_size_t)(colon - rest - 1)) : "";
    }
    return words;
}

const char *plan_map_source(plan_map_t *map, cmd_parms *cmd, const char *word)
{
    const char *rest = word + strcspn(word, ":=");
    const char *name = apr_pstrmemdup(cmd->pool, word, (apr_size_t)(rest - word));
    const rlp_plan_map_provider_t *provider =
        *rest ? provider_find(&provider_plan_maps, name, cmd->pool) : NULL;

    if (provider == NULL || (*rest == '=' && provider->variant == NULL)) {
        return plan_map_unknown(word, name, cmd->pool);
    }
    if (provider->configure == NULL || provider->find == NULL) {
        return apr_psprintf(cmd->pool, "expected a plan source with configure and find, got \"%s\"",
                            word);
    }
    const rlp_plan_map_words_t words = plan_map_words(map, rest, cmd->pool);

    map->server = cmd->server;
    map->words = word;
    map->name = name;
    map->provider = provider;
    map->ttl = plan_map_keeps(map) ? PLAN_MAP_TTL : 0;
    map->timeout = provider->blocks ? PLAN_MAP_TIMEOUT : 0;
    return provider->configure(&map->settings, &words, cmd);
}

/* Why ttl= or timeout= cannot be said; NULL: it can. */
static const char *plan_map_no_span(const plan_map_t *map, bool ttl)
{
    const char *why = ttl ? map->provider->no_ttl : map->provider->no_timeout;

    if (map->provider->blocks || (ttl && map->provider->kept)) {
        return NULL;
    }
    return why ? why : "it is asked for each request";
}

const char *plan_map_option(plan_map_t *map, cmd_parms *cmd, const char *word, bool *known)
{
    const bool ttl = ap_cstr_casecmpn(word, "ttl=", 4) == 0;
    const char *why = plan_map_no_span(map, ttl);
    rlp_time_t *span = ttl ? &map->ttl : &map->timeout;

    *known = ttl || ap_cstr_casecmpn(word, "timeout=", 8) == 0;
    if (!*known) {
        return NULL;
    }
    if (why != NULL) {
        return apr_psprintf(cmd->pool,
                            "expected no %s with %s:, since %s; leave it out, got \"%s\"",
                            ttl ? "ttl=" : "timeout=", map->name, why, word);
    }
    if (rlp_duration_parse(span, strchr(word, '=') + 1, cmd->pool) != NULL ||
        (ttl && (*span < RLP_SECOND || *span > PLAN_MAP_TTL_MAX)) ||
        (!ttl && *span > PLAN_MAP_TIMEOUT_MAX)) {
        return apr_psprintf(cmd->pool, "expected %s, got \"%s\"",
                            ttl ? "ttl=DURATION from 1s to 1day"
                                : "timeout=DURATION from 1ms to 10s",
                            word);
    }
    return NULL;
}
