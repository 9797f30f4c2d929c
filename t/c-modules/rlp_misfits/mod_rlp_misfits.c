/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * No example: providers that are wrong, each in its own way, for t/extending.t.
 */

#include "mod_ratelimit_plans.h"

#include <ap_provider.h>
#include <http_core.h>

#include <apr_atomic.h>

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
static const char *misfit_find(const char **plan, void *settings, const char *value, request_rec *r,
                               apr_pool_t *pool)
{
    (void)settings;
    (void)pool;
    apr_sleep(r ? 0 : 400 * 1000);
    *plan = *value == 'x' ? "nonesuch" : "slow";
    return *value == 'f' ? "it is too drowsy" : NULL;
}

static const char *misfit_map_configure(void **settings, const rlp_plan_map_words_t *words,
                                        cmd_parms *cmd)
{
    (void)words;
    (void)cmd;
    *settings = NULL;
    return NULL;
}

/* Knows nothing before it is told to look for changes. Then each process is told a value's plan
   only the first time that it asks: who is told it more often is told what was kept. */
static volatile apr_uint32_t misfit_looks;

static void misfit_refresh(void *settings, volatile apr_uint32_t *stop)
{
    (void)settings;
    (void)stop;
    apr_atomic_inc32(&misfit_looks);
}

static uint64_t misfit_version(void *settings, apr_pool_t *pool)
{
    (void)settings;
    (void)pool;
    return apr_atomic_read32(&misfit_looks) > 0;
}

static apr_uint32_t misfit_asked; /* how often, in this process */

static const char *misfit_moody_find(const char **plan, void *settings, const char *value,
                                     request_rec *r, apr_pool_t *pool)
{
    const bool known = misfit_version(settings, pool) != 0;

    (void)r;
    if (*value == 'f') {
        return "it is in a mood";
    }
    *plan = known && apr_atomic_inc32(&misfit_asked) == 0 ? "slow" : NULL;
    return NULL;
}

static void misfit_count(void *settings, rlp_plan_map_count_fn *count, void *baton,
                         apr_pool_t *pool)
{
    (void)settings;
    (void)pool;
    count(baton, "slow", UINT64_C(1) << 40);
    count(baton, "nonesuch", 1);
}

/* Has a plan for everybody, and tells the client how often it was asked in the request. */
static const char *misfit_counted_find(const char **plan, void *settings, const char *value,
                                       request_rec *r, apr_pool_t *pool)
{
    (void)settings;
    (void)pool;
    apr_table_addn(r->err_headers_out, "X-Asked", value);
    *plan = *value == 'x' ? NULL : "slow";
    return NULL;
}

static const rlp_plan_map_provider_t counted = { .configure = misfit_map_configure,
                                                 .find = misfit_counted_find };

static const rlp_plan_map_provider_t moody = { .variant = "MOOD",
                                               .kept = true,
                                               .configure = misfit_map_configure,
                                               .count = misfit_count,
                                               .refresh = misfit_refresh,
                                               .version = misfit_version,
                                               .find = misfit_moody_find };

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

/* Wants to be told something. */
static const char *misfit_configure_nothing(void **settings, const char *name,
                                            const char *const options[], int n, apr_pool_t *pool)
{
    (void)settings;
    (void)name;
    (void)options;
    (void)pool;
    return n == 0 ? "expected slots=N" : NULL;
}

static const rlp_store_provider_t demanding = { .state_max = 64,
                                                .configure = misfit_configure_nothing,
                                                .open = misfit_open };
static const rlp_store_provider_t bare_store;
static const rlp_identity_provider_t bare_identity;
static const rlp_plan_map_provider_t bare_map;

/* Takes the places of others, where the test says so. */
static void misfits_on_demand(apr_pool_t *pool)
{
    if (ap_exists_config_define("MISFIT_CLOCK")) {
        ap_register_provider(pool, RLP_CLOCK_GROUP, RLP_CLOCK_NAME, MISFIT_OTHER_VERSION, &wild);
    }
    if (ap_exists_config_define("MISFIT_SHM")) {
        ap_register_provider(pool, RLP_STORE_GROUP, "shm", RLP_STORE_VERSION, &demanding);
    }
    if (ap_exists_config_define("MISFIT_BARE_SHM")) {
        ap_register_provider(pool, RLP_STORE_GROUP, "shm", RLP_STORE_VERSION, &bare_store);
    }
    if (ap_exists_config_define("MISFIT_TXT")) {
        ap_register_provider(pool, RLP_PLAN_MAP_GROUP, "txt", RLP_PLAN_MAP_VERSION, &drowsy);
    }
}

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
    ap_register_provider(pool, RLP_PLAN_MAP_GROUP, "moody", RLP_PLAN_MAP_VERSION, &moody);
    ap_register_provider(pool, RLP_PLAN_MAP_GROUP, "counted", RLP_PLAN_MAP_VERSION, &counted);
    ap_register_provider(pool, RLP_PLAN_MAP_GROUP, "drowsy", RLP_PLAN_MAP_VERSION, &drowsy);
    ap_register_provider(pool, RLP_PLAN_MAP_GROUP, "dated", MISFIT_OTHER_VERSION, &drowsy);
    ap_register_provider(pool, RLP_IDENTITY_GROUP, "dated", MISFIT_OTHER_VERSION, &wild);
    misfits_on_demand(pool);
}

module AP_MODULE_DECLARE_DATA rlp_misfits_module = {
    STANDARD20_MODULE_STUFF,
    .register_hooks = misfits_hooks,
};
