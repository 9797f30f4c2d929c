/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The module: hooks and the life of the store.
 */

#include "admin.h"
#include "annex.h"
#include "provider.h"
#include "stats.h"
#include "status.h"

#include <ap_mpm.h>
#include <ap_provider.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mpm_common.h>

#include <apr_hooks.h>
#include <apr_strings.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

/* .htaccess may have rules wherever the engine is on. */
static bool plans_needs_store(void)
{
    return rlp_world->rules->nelts > 0 || rlp_world->store_name != NULL || rlp_world->engaged;
}

/* As many processes as can ever live at once may hold places. MPM worker lets children that are on
   their way out live beside those of its limit: the usual number has room for them. */
static void plans_set_owners(apr_pool_t *pool)
{
    int most = 0;

    if (ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &most) != APR_SUCCESS || most < RLP_OWNERS_USUAL) {
        most = RLP_OWNERS_USUAL;
    }
    rlp_world->owners = most < RLP_OWNERS_MAX ? most : RLP_OWNERS_MAX;
    for (int i = 0; i < rlp_world->plan_list->nelts; i++) {
        rlp_plan_owners(APR_ARRAY_IDX(rlp_world->plan_list, i, plan_t *)->limits,
                        rlp_world->owners);
    }
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, rule_t *);

        if (rule->own != NULL) {
            rlp_plan_owners(rule->own, rlp_world->owners);
        }
    }
    rule_size_all(pool);
}

static int plans_post_config(apr_pool_t *pool, apr_pool_t *log, apr_pool_t *temp,
                             server_rec *server)
{
    (void)log;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG || !plans_needs_store()) {
        return OK;
    }
    plans_set_owners(temp);
    rlp_world->clock = ap_lookup_provider(RLP_CLOCK_GROUP, RLP_CLOCK_NAME, RLP_CLOCK_VERSION);
    const char *error = stores_open(server, pool);

    if (error != NULL) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, 0, server, "RateLimitStore: %s",
                     error);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    rlp_world->annex = annex_open();
    if (rlp_world->annex == NULL) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, 0, server,
                     "RateLimitStore: cannot get memory for what is kept beside the counters");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    capacity_open(temp);
    ordered_open(pool);
    stats_open(server);
    const apr_status_t rv = plan_map_open(temp);

    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, rv, server,
                     "RateLimitPlanMap: cannot get memory for answers");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    return OK;
}

/* --- the children */

static void plans_child_init(apr_pool_t *pchild, server_rec *server)
{
    if (rlp_world->store == NULL) {
        return;
    }
    stores_child(pchild, server);
    turn_begin(pchild, server);
    denial_begin(pchild);
    plan_map_begin(pchild, server);
}

/* In the parent: what a dead child held comes back. One that has but lost its slot in the
   scoreboard goes on until its last request has ended. */
static void plans_child_status(server_rec *server, pid_t pid, ap_generation_t generation, int slot,
                               mpm_child_status status)
{
    (void)server;
    (void)generation;
    (void)slot;
    if (status == MPM_CHILD_EXITED && rlp_world->store != NULL) {
        stores_child_gone(pid);
    }
}

/* In the parent, every ten seconds or so. */
static int plans_monitor(apr_pool_t *pool, server_rec *server)
{
    (void)pool;
    (void)server;
    stats_tick();
    return DECLINED;
}

/* --- the configuration */

static int plans_pre_config(apr_pool_t *pool, apr_pool_t *log, apr_pool_t *temp)
{
    (void)log;
    (void)temp;
    config_begin(pool);
    return OK;
}

/* May a .htaccess in such a directory have directives of that kind (OR_LIMIT: rules)? */
static bool plans_may_have(ap_conf_vector_t *section, unsigned kind)
{
    const core_dir_config *core = ap_get_core_module_config(section);

    return (core->override & kind) != 0 ||
           (core->override_list != NULL && !apr_is_empty_table(core->override_list));
}

/* May one in any directory of this host? */
static bool plans_host_may_have(const server_rec *server, unsigned kind)
{
    const core_server_config *core = ap_get_core_module_config(server->module_config);

    for (int i = 0; i < core->sec_dir->nelts; i++) {
        if (plans_may_have(APR_ARRAY_IDX(core->sec_dir, i, ap_conf_vector_t *), kind)) {
            return true;
        }
    }
    return plans_may_have(server->lookup_defaults, kind);
}

static bool plans_any_may_have(const server_rec *server, unsigned kind)
{
    while (server != NULL && !plans_host_may_have(server, kind)) {
        server = server->next;
    }
    return server != NULL;
}

/* Adds the hooks that this configuration needs. What .htaccess will need is not known yet. */
static void plans_hook_needed(server_rec *server)
{
    const unsigned needs = plans_any_may_have(server, OR_LIMIT) ? ~0U : rlp_world->needs;

    if (needs & HOOK_EARLY) {
        ap_hook_header_parser(request_header_parser, NULL, NULL, APR_HOOK_LAST);
    }
    rlp_world->hears = needs & (HOOK_HEARS | HOOK_STATUS);
    if (rlp_world->hears) {
        ap_hook_insert_filter(after_insert_filter, NULL, NULL, APR_HOOK_LAST);
    }
    if (needs & HOOK_BANDWIDTH) {
        ap_hook_insert_filter(respond_insert_filter, NULL, NULL, APR_HOOK_LAST);
    }
    if (rlp_world->needs & HOOK_FIELDS &&
        (config_is_said("RequestHeader") || plans_any_may_have(server, OR_FILEINFO))) {
        ap_hook_fixups(source_keep_fields, NULL, NULL, APR_HOOK_MIDDLE); /* mod_headers' is last */
    }
    if (needs & HOOK_AFTER) {
        ap_hook_log_transaction(after_log, NULL, NULL, APR_HOOK_MIDDLE);
    }
    apr_hook_sort_all(); /* httpd has done so before it asks for checks */
}

static int plans_check_config(apr_pool_t *pool, apr_pool_t *log, apr_pool_t *temp,
                              server_rec *server)
{
    (void)log;
    (void)temp;
    const char *error = provider_clock_refused(pool);

    if (error != NULL) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, 0, server, "%s", error);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    if (plans_needs_store() && rlp_world->store_fault != NULL) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, 0, server,
                     "RateLimitStore: none is declared, and \"shm\" of another module cannot be "
                     "had without: %s",
                     rlp_world->store_fault);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    plans_hook_needed(server);
    return rule_check_all(server, pool) ? OK : HTTP_INTERNAL_SERVER_ERROR;
}

static void plans_test_config(apr_pool_t *pool, server_rec *server)
{
    if (ap_exists_config_define("DUMP_RATELIMIT")) {
        dump_print(server, pool);
    }
}

static void plans_register_hooks(apr_pool_t *pool)
{
    /* they answer, or change what the request is or has; a rule judges and speaks before them */
    static const char *const successors[] = { "mod_dir.c", "mod_headers.c", "mod_speling.c", NULL };
    /* says what is pushed */
    static const char *const predecessors[] = { "mod_http2.c", NULL };

    /* its handler is as early, and may answer with an index that no rule has judged yet */
    static const char *const answers[] = { "mod_cache.c", NULL };

    provider_register(pool);
    ap_hook_pre_config(plans_pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(plans_check_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_test_config(plans_test_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(plans_post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_fixups(request_fixups, predecessors, successors, APR_HOOK_LAST);
    ap_hook_child_init(plans_child_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_status(plans_child_status, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_monitor(plans_monitor, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_stopping(turn_stop, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_protocol_propose(request_propose, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_handler(request_handler, NULL, answers, APR_HOOK_REALLY_FIRST);
    ap_hook_insert_error_filter(place_error, NULL, NULL, APR_HOOK_REALLY_FIRST);
    status_register();
    place_register_filter();
    after_register_filter();
}

module AP_MODULE_DECLARE_DATA ratelimit_plans_module = {
    STANDARD20_MODULE_STUFF, config_create_dir, config_merge_dir,     config_create_server,
    config_merge_server,     rlp_commands,      plans_register_hooks,
#if defined(AP_MODULE_FLAG_NONE)
    AP_MODULE_FLAG_NONE,
#endif
};
