/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * An identity: RateLimitIdentity login=claimed:basic. The user whose name stands in the request,
 * before anybody has looked at the password. A client writes there what it likes, so a name counts
 * only when a plan map knows it.
 */

#include "mod_ratelimit_plans.h"

#include <ap_provider.h>
#include <http_protocol.h>

#include <apr_strings.h>

static const char *claimed_configure(void **settings, const char *name, const char *argument,
                                     cmd_parms *cmd)
{
    *settings = NULL;
    return ap_cstr_casecmp(argument, "basic") == 0
               ? NULL
               : apr_psprintf(cmd->pool, "expected %s=claimed:basic, got \"%s=claimed:%s\"", name,
                              name, argument);
}

static const char *claimed_value(void *settings, request_rec *r)
{
    const char *user = NULL;
    const char *password = NULL;

    (void)settings;
    return ap_get_basic_auth_components(r, &user, &password) == APR_SUCCESS ? user : NULL;
}

static const rlp_identity_provider_t claimed = { .argument = "basic",
                                                 .any_case = true,
                                                 .chosen = true,
                                                 .configure = claimed_configure,
                                                 .value = claimed_value };

static void claimed_hooks(apr_pool_t *pool)
{
    ap_register_provider(pool, RLP_IDENTITY_GROUP, "claimed", RLP_IDENTITY_VERSION, &claimed);
}

module AP_MODULE_DECLARE_DATA rlp_claimed_module = {
    STANDARD20_MODULE_STUFF,
    .register_hooks = claimed_hooks,
};
