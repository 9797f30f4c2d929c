/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A plan source: RateLimitPlanMap user "members:alice=pro bob=free". A map so short that it stands
 * in the configuration itself.
 */

#include "mod_ratelimit_plans.h"

#include <ap_provider.h>

#include <apr_hash.h>
#include <apr_strings.h>

static const char *members_configure(void **settings, const rlp_plan_map_words_t *words,
                                     cmd_parms *cmd)
{
    apr_hash_t *plans = apr_hash_make(cmd->pool);
    const char *rest = words->argument;

    while (*rest != '\0') {
        char *member = ap_getword_white(cmd->pool, &rest);
        char *equals = strrchr(member, '=');

        if (equals == NULL || equals == member || equals[1] == '\0') {
            return apr_psprintf(cmd->pool, "expected members:VALUE=PLAN..., got \"members:%s\"",
                                words->argument);
        }
        *equals = '\0';
        apr_hash_set(plans, member, APR_HASH_KEY_STRING, equals + 1);
    }
    *settings = plans;
    return NULL;
}

static const char *members_find(const char **plan, void *settings, const char *value,
                                request_rec *r, apr_pool_t *pool)
{
    (void)r;
    (void)pool;
    *plan = apr_hash_get(settings, value, APR_HASH_KEY_STRING);
    return NULL;
}

static const rlp_plan_map_provider_t members = { .argument = "VALUE=PLAN...",
                                                 .configure = members_configure,
                                                 .find = members_find };

static void members_hooks(apr_pool_t *pool)
{
    ap_register_provider(pool, RLP_PLAN_MAP_GROUP, "members", RLP_PLAN_MAP_VERSION, &members);
}

module AP_MODULE_DECLARE_DATA rlp_members_module = {
    STANDARD20_MODULE_STUFF,
    .register_hooks = members_hooks,
};
