/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * No example: providers that are wrong, each in its own way, for t/extending.t.
 */

#include "mod_ratelimit_plans.h"

#include <ap_provider.h>
#include <http_core.h>

#define MISFIT_OTHER_VERSION "0"

/* Answers nonsense; the cost says of which kind. Its state has an odd size. */
static void misfit_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                        rlp_decision_t *d)
{
    static const rlp_decision_t nonsense[] = {
        { .verdict = RLP_NEVER + 41, .remaining = 1 },
        { .verdict = RLP_WAIT, .wait = RLP_TIME_NEVER, .remaining = -2 },
        { .verdict = RLP_DENY, .retry = -5, .reset = -5, .next = -5 },
        { .verdict = RLP_ALLOW, .remaining = INT64_MAX, .reset = -1 },
    };

    (void)state;
    (void)limit;
    *d = nonsense[(uint64_t)(op->units / RLP_UNIT) % 4];
}

/* Counts, and says each time that it has found its state damaged. */
static void misfit_broken(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                          rlp_decision_t *d)
{
    uint64_t *count = state;

    (void)limit;
    *count += op->kind == RLP_TAKE;
    *d = (rlp_decision_t){ .verdict = RLP_ALLOW,
                           .damaged = true,
                           .changed = op->kind == RLP_TAKE,
                           .expires = op->now + 3600 * RLP_SECOND,
                           .remaining = 100 - (int64_t)*count };
}

static uint32_t misfit_size(const rlp_limit_t *limit)
{
    return (uint32_t)limit->count;
}

static const rlp_algorithm_t wild = { .name = "wild", .state_size = 13, .step = misfit_step };
static const rlp_algorithm_t broken = { .name = "broken", .state_size = 8, .step = misfit_broken };
static const rlp_algorithm_t wide = { .name = "wide",
                                      .state_size_of = misfit_size,
                                      .step = misfit_step };
static const rlp_algorithm_t stepless = { .name = "stepless", .state_size = 8 };
static const rlp_algorithm_t unsized = { .name = "unsized", .step = misfit_step };
static const rlp_algorithm_t misnamed = { .name = "other", .state_size = 8, .step = misfit_step };
static const rlp_algorithm_t places = {
    .name = "places", .state_size = 8, .holds = true, .step = misfit_step
};
static const rlp_algorithm_t greedy = {
    .name = "greedy", .state_size = 8, .takes = 64, .step = misfit_step
};

static const char *misfit_open(rlp_store_t **store, void *settings, const rlp_clock_t *clock,
                               server_rec *server, apr_pool_t *pool)
{
    static const rlp_store_type_t type = { .name = "hollow" };

    (void)settings;
    (void)clock;
    (void)server;
    *store = apr_pcalloc(pool, sizeof(**store));
    (*store)->type = &type;
    return NULL;
}

/* Takes 400 ms for an answer. */
static apr_status_t misfit_find(const char **plan, void *settings, const char *value,
                                request_rec *r, apr_pool_t *pool)
{
    (void)settings;
    (void)pool;
    apr_sleep(r ? 0 : 400 * 1000);
    *plan = *value == 'x' ? "nonesuch" : "slow";
    return *value == 'f' ? APR_EGENERAL : APR_SUCCESS;
}

static const char *misfit_map_configure(void **settings, const char *argument, cmd_parms *cmd)
{
    (void)argument;
    (void)cmd;
    *settings = NULL;
    return NULL;
}

static const rlp_plan_map_provider_t drowsy = { .blocks = true,
                                                .configure = misfit_map_configure,
                                                .find = misfit_find };

static const char *misfit_configure(void **settings, const char *name, const char *const options[],
                                    int n, apr_pool_t *pool)
{
    (void)name;
    (void)options;
    (void)n;
    (void)pool;
    *settings = NULL;
    return NULL;
}

static const rlp_store_provider_t hollow = { .state_max = 64,
                                             .configure = misfit_configure,
                                             .open = misfit_open };

static const rlp_store_provider_t bare_store;
static const rlp_identity_provider_t bare_identity;
static const rlp_plan_map_provider_t bare_map;

static void misfits_hooks(apr_pool_t *pool)
{
    static const rlp_algorithm_t *const algorithms[] = { &wild,    &broken, &wide,  &stepless,
                                                         &unsized, &places, &greedy };

    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
        ap_register_provider(pool, RLP_ALGORITHM_GROUP, algorithms[i]->name, RLP_ALGORITHM_VERSION,
                             algorithms[i]);
    }
    ap_register_provider(pool, RLP_ALGORITHM_GROUP, "misnamed", RLP_ALGORITHM_VERSION, &misnamed);
    ap_register_provider(pool, RLP_ALGORITHM_GROUP, "dated", MISFIT_OTHER_VERSION, &wild);
    ap_register_provider(pool, RLP_STORE_GROUP, "hollow", RLP_STORE_VERSION, &hollow);
    ap_register_provider(pool, RLP_STORE_GROUP, "dated", MISFIT_OTHER_VERSION, &hollow);
    ap_register_provider(pool, RLP_STORE_GROUP, "bare", RLP_STORE_VERSION, &bare_store);
    ap_register_provider(pool, RLP_IDENTITY_GROUP, "bare", RLP_IDENTITY_VERSION, &bare_identity);
    ap_register_provider(pool, RLP_PLAN_MAP_GROUP, "bare", RLP_PLAN_MAP_VERSION, &bare_map);
    ap_register_provider(pool, RLP_PLAN_MAP_GROUP, "drowsy", RLP_PLAN_MAP_VERSION, &drowsy);
    ap_register_provider(pool, RLP_PLAN_MAP_GROUP, "dated", MISFIT_OTHER_VERSION, &drowsy);
    if (ap_exists_config_define("MISFIT_CLOCK")) {
        ap_register_provider(pool, RLP_CLOCK_GROUP, RLP_CLOCK_NAME, MISFIT_OTHER_VERSION, &wild);
    }
    ap_register_provider(pool, RLP_IDENTITY_GROUP, "dated", MISFIT_OTHER_VERSION, &wild);
}

module AP_MODULE_DECLARE_DATA rlp_misfits_module = {
    STANDARD20_MODULE_STUFF,
    .register_hooks = misfits_hooks,
};
