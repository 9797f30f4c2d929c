/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The module: hooks and the life of the store.
 */

#include "private.h"

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
#include <unistd.h>

APLOG_USE_MODULE(ratelimit_plans);

#define PLANS_RETAINED "mod_ratelimit_plans segment 1"

/* What outlives a restart in this process: plain data, since this file is unloaded in between. */
typedef struct {
    rlp_segment_t segment;
    char path[4096];
} retained_t;

/* --- the clock */

static const rlp_clock_provider_t plans_clock = { .monotonic = rlp_clock_monotonic,
                                                  .wall = rlp_clock_wall };

/* --- the store */

static const char *plans_store_path(apr_pool_t *pool)
{
    const char *name = rlp_world->store_name ? rlp_world->store_name : "default";

    if (rlp_world->store_path != NULL) {
        return rlp_world->store_path;
    }
    return ap_runtime_dir_relative(pool, apr_psprintf(pool, "ratelimit-%s.shm", name));
}

static apr_status_t plans_open_segment(retained_t *retained, const char *path, server_rec *server,
                                       apr_pool_t *pool)
{
    const char *message = NULL;
    rlp_clock_t clock;

    rlp_clock_read(&clock);
    clock.monotonic = rlp_world->clock->monotonic();
    clock.wall = rlp_world->clock->wall();
    const apr_status_t rv =
        rlp_segment_open(&retained->segment, path, rlp_world->store_size, &clock, &message, pool);

    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, 0, server, "RateLimitStore: %s",
                     message);
        return rv;
    }
    if (message != NULL) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server, "RLP010: %s", message);
    }
    apr_cpystrn(retained->path, path, sizeof(retained->path));
    return rv;
}

/* The segment of this server process: opened once, at the full start. */
static retained_t *plans_segment(const char *path, server_rec *server, apr_pool_t *pool)
{
    retained_t *retained = ap_retained_data_get(PLANS_RETAINED);

    if (retained == NULL) {
        retained = ap_retained_data_create(PLANS_RETAINED, sizeof(*retained));
        retained->segment.fd = -1;
    }
    if (retained->segment.memory == NULL) {
        return plans_open_segment(retained, path, server, pool) == APR_SUCCESS ? retained : NULL;
    }
    if (strcmp(retained->path, path) != 0 || retained->segment.size != rlp_world->store_size) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, server,
                     "RLP011: the store stays %s with %" APR_SIZE_T_FMT
                     " bytes until the next stop and start; a graceful restart does not change it",
                     retained->path, retained->segment.size);
    }
    return retained;
}

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
    rlp_world->clock = ap_lookup_provider(RLP_CLOCK_GROUP, RLP_CLOCK_NAME, RLP_PROVIDER_VERSION);
    const retained_t *retained = plans_segment(plans_store_path(pool), server, pool);

    if (retained == NULL) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    if (rlp_shm_create(&rlp_world->store, &retained->segment, pool) != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_STARTUP | APLOG_EMERG, 0, server,
                     "RateLimitStore: the store in memory is damaged; stop and start the server");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
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
    rlp_world->owner = rlp_owner_open(rlp_world->store, getpid());
    if (rlp_world->owner == 0 && rlp_owner_sweep(rlp_world->store)) {
        rlp_world->owner = rlp_owner_open(rlp_world->store, getpid());
    }
    if (rlp_world->owner == 0) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, server,
                     "RLP008: more than %d processes: concurrent= refuses the requests of this one",
                     RLP_OWNERS_MAX);
    }
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
        rlp_owner_close(rlp_world->store, pid);
    }
}

/* --- the configuration */

static int plans_pre_config(apr_pool_t *pool, apr_pool_t *log, apr_pool_t *temp)
{
    (void)log;
    (void)temp;
    config_begin(pool);
    return OK;
}

/* May a .htaccess in such a directory have rules? */
static bool plans_may_have_rules(const ap_conf_vector_t *section)
{
    const core_dir_config *core = ap_get_core_module_config(section);

    return (core->override & OR_LIMIT) != 0 ||
           (core->override_list != NULL && !apr_is_empty_table(core->override_list));
}

static bool plans_any_may_have_rules(server_rec *server)
{
    for (; server != NULL; server = server->next) {
        const core_server_config *core = ap_get_core_module_config(server->module_config);

        if (plans_may_have_rules(server->lookup_defaults)) {
            return true;
        }
        for (int i = 0; i < core->sec_dir->nelts; i++) {
            if (plans_may_have_rules(APR_ARRAY_IDX(core->sec_dir, i, const ap_conf_vector_t *))) {
                return true;
            }
        }
    }
    return false;
}

/* Adds the hooks that this configuration needs. What .htaccess will need is not known yet. */
static void plans_hook_needed(server_rec *server)
{
    const unsigned needs = plans_any_may_have_rules(server) ? ~0U : rlp_world->needs;

    if (needs & HOOK_EARLY) {
        ap_hook_header_parser(request_header_parser, NULL, NULL, APR_HOOK_LAST);
    }
    if (needs & HOOK_BANDWIDTH) {
        ap_hook_insert_filter(respond_insert_filter, NULL, NULL, APR_HOOK_LAST);
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
    plans_hook_needed(server);
    return rule_check_all(server, pool) ? OK : HTTP_INTERNAL_SERVER_ERROR;
}

static void plans_test_config(apr_pool_t *pool, server_rec *server)
{
    (void)server;
    if (ap_exists_config_define("DUMP_RATELIMIT")) {
        dump_print(pool);
    }
}

static void plans_register_hooks(apr_pool_t *pool)
{
    /* both change what the request is or has; a rule judges and speaks before them */
    static const char *const successors[] = { "mod_dir.c", "mod_headers.c", NULL };
    /* says what is pushed */
    static const char *const predecessors[] = { "mod_http2.c", NULL };

    ap_register_provider(pool, RLP_CLOCK_GROUP, RLP_CLOCK_NAME, RLP_PROVIDER_VERSION, &plans_clock);
    ap_hook_pre_config(plans_pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(plans_check_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_test_config(plans_test_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(plans_post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_fixups(request_fixups, predecessors, successors, APR_HOOK_LAST);
    ap_hook_child_init(plans_child_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_status(plans_child_status, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_stopping(turn_stop, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(request_handler, NULL, NULL, APR_HOOK_REALLY_FIRST);
    respond_register_filter();
}

module AP_MODULE_DECLARE_DATA ratelimit_plans_module = {
    STANDARD20_MODULE_STUFF, config_create_dir, config_merge_dir,     config_create_server,
    config_merge_server,     rlp_commands,      plans_register_hooks,
#if defined(AP_MODULE_FLAG_NONE)
    AP_MODULE_FLAG_NONE,
#endif
};
