/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Providers: what other modules may add, and what this one registers by the same call.
 */

#include "provider.h"

#include <ap_provider.h>

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

static const char *const provider_no_names[] = { NULL };
static const char *const provider_store_names[] = { "shm",
#ifdef RLP_REDIS
                                                    "redis",
#endif
                                                    NULL };
static const char *const provider_identity_names[] = { "header", "cookie", "env", "expr", NULL };
static const char *const provider_plan_map_names[] = { "txt",   "dbm", "dbd", "expr",
#ifdef RLP_REDIS
                                                       "redis",
#endif
                                                       NULL };

const provider_kind_t provider_algorithms = { .group = RLP_ALGORITHM_GROUP,
                                              .version = RLP_ALGORITHM_VERSION,
                                              .noun = "algorithm",
                                              .built_in = provider_no_names };
const provider_kind_t provider_stores = { .group = RLP_STORE_GROUP,
                                          .version = RLP_STORE_VERSION,
                                          .noun = "store",
                                          .built_in = provider_store_names };
const provider_kind_t provider_identities = { .group = RLP_IDENTITY_GROUP,
                                              .version = RLP_IDENTITY_VERSION,
                                              .noun = "identity",
                                              .built_in = provider_identity_names };
const provider_kind_t provider_plan_maps = { .group = RLP_PLAN_MAP_GROUP,
                                             .version = RLP_PLAN_MAP_VERSION,
                                             .noun = "plan source",
                                             .built_in = provider_plan_map_names };
static const provider_kind_t provider_clocks = { .group = RLP_CLOCK_GROUP,
                                                 .version = RLP_CLOCK_VERSION,
                                                 .noun = "clock",
                                                 .built_in = provider_no_names };

static const rlp_clock_provider_t provider_clock = { .monotonic = rlp_clock_monotonic,
                                                     .wall = rlp_clock_wall };

static void provider_add(apr_pool_t *pool, const provider_kind_t *kind, const char *name,
                         const void *provider)
{
    ap_register_provider(pool, kind->group, name, kind->version, provider);
}

void provider_register(apr_pool_t *pool)
{
    provider_add(pool, &provider_clocks, RLP_CLOCK_NAME, &provider_clock);
    provider_add(pool, &provider_stores, "shm", &store_shm_provider);
#ifdef RLP_REDIS
    provider_add(pool, &provider_stores, "redis", &store_redis_provider);
#endif
    for (int i = 0; rlp_algorithms[i] != NULL; i++) {
        provider_add(pool, &provider_algorithms, rlp_algorithms[i]->name, rlp_algorithms[i]);
    }
    for (int i = 0; provider_identity_names[i] != NULL; i++) {
        provider_add(pool, &provider_identities, provider_identity_names[i], identity_providers[i]);
    }
    for (int i = 0; provider_plan_map_names[i] != NULL; i++) {
        provider_add(pool, &provider_plan_maps, provider_plan_map_names[i], plan_map_providers[i]);
    }
}

static int provider_compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool provider_is_among(const char *name, const char *const names[])
{
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

const char *const *provider_names(const provider_kind_t *kind, apr_pool_t *pool)
{
    const apr_array_header_t *all = ap_list_provider_names(pool, kind->group, kind->version);
    int n = 0;

    while (kind->built_in[n] != NULL) {
        n++;
    }
    const char **names = apr_pcalloc(pool, ((apr_size_t)(n + all->nelts) + 1) * sizeof(*names));
    const int own = n;

    memcpy(names, kind->built_in, (apr_size_t)own * sizeof(*names));
    for (int i = 0; i < all->nelts; i++) {
        const char *name = APR_ARRAY_IDX(all, i, ap_list_provider_names_t).provider_name;

        if (!provider_is_among(name, kind->built_in)) {
            names[n++] = name;
        }
    }
    qsort(names + own, (size_t)(n - own), sizeof(*names), provider_compare);
    return names;
}

const char *provider_list(const char *const names[], apr_pool_t *pool)
{
    const char *list = "";

    for (int i = 0; names[i] != NULL; i++) {
        list = apr_pstrcat(pool, list, i ? (names[i + 1] ? ", " : " or ") : "", names[i], NULL);
    }
    return list;
}

const char *provider_near(const char *word, const char *const names[], const char *sign,
                          apr_pool_t *pool)
{
    const char *nearest = rlp_nearest(word, names);

    return nearest ? apr_psprintf(pool, " (%s%s?)", nearest, sign) : "";
}

const void *provider_find(const provider_kind_t *kind, const char *name, apr_pool_t *pool)
{
    const char *const *names = provider_names(kind, pool);

    for (int i = 0; names[i] != NULL; i++) {
        if (ap_cstr_casecmp(names[i], name) == 0) {
            return ap_lookup_provider(kind->group, names[i], kind->version);
        }
    }
    return NULL;
}

const char *provider_other_version(const provider_kind_t *kind, const char *name, apr_pool_t *pool)
{
    const apr_array_header_t *groups = ap_list_provider_groups(pool);

    for (int i = 0; i < groups->nelts; i++) {
        const ap_list_provider_groups_t *group =
            &APR_ARRAY_IDX(groups, i, ap_list_provider_groups_t);
        const provider_kind_t other = { .group = kind->group,
                                        .version = group->provider_version,
                                        .built_in = provider_no_names };

        if (strcmp(group->provider_group, kind->group) == 0 &&
            strcmp(other.version, kind->version) != 0 && provider_find(&other, name, pool)) {
            return apr_psprintf(pool,
                                "expected the %s \"%s\" for version %s of this interface, got one "
                                "for version %s: its module is to be built with the headers of "
                                "this "
                                "mod_ratelimit_plans",
                                kind->noun, name, kind->version, other.version);
        }
    }
    return NULL;
}

const char *provider_clock_refused(apr_pool_t *pool)
{
    return provider_other_version(&provider_clocks, RLP_CLOCK_NAME, pool);
}
