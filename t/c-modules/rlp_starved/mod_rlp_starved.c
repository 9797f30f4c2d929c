/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * No example: children that begin without files or threads to be had, and providers that are not
 * ready in a child, for t/told.t. Define STARVE_FILES or STARVE_THREADS says which.
 */

#include "mod_ratelimit_plans.h"

#include <ap_provider.h>
#include <http_config.h>
#include <http_core.h>

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static struct rlimit starved_files;
static struct rlimit starved_threads;

/* glibc has a type of its own for which limit it is. */
static int starved_get(bool files, struct rlimit *limit)
{
    return files ? getrlimit(RLIMIT_NOFILE, limit) : getrlimit(RLIMIT_NPROC, limit);
}

static void starved_set(bool files, const struct rlimit *limit)
{
    (void)(files ? setrlimit(RLIMIT_NOFILE, limit) : setrlimit(RLIMIT_NPROC, limit));
}

/* The soft limit alone, so that it can be taken back. */
static void starved_limit(const char *define, bool files, struct rlimit *usual)
{
    if (ap_exists_config_define(define) && starved_get(files, usual) == 0) {
        const struct rlimit none = { .rlim_cur = 0, .rlim_max = usual->rlim_max };

        starved_set(files, &none);
    }
}

static void starved_feed(const char *define, bool files, const struct rlimit *usual)
{
    if (ap_exists_config_define(define)) {
        starved_set(files, usual);
    }
}

/* Before all others make ready for the child, and after them: httpd itself misses nothing. */
static void starved_begin(apr_pool_t *pchild, server_rec *server)
{
    (void)pchild;
    (void)server;
    starved_limit("STARVE_FILES", true, &starved_files);
    starved_limit("STARVE_THREADS", false, &starved_threads);
}

static void starved_end(apr_pool_t *pchild, server_rec *server)
{
    (void)pchild;
    (void)server;
    starved_feed("STARVE_FILES", true, &starved_files);
    starved_feed("STARVE_THREADS", false, &starved_threads);
}

/* --- stores that keep nothing */

static apr_status_t starved_update(rlp_store_t *store, rlp_entry_t *entries[], int n,
                                   rlp_time_t now, rlp_update_fn *fn, void *baton)
{
    (void)store;
    for (int i = 0; i < n; i++) {
        memset(entries[i]->state, 0, entries[i]->key.size);
    }
    fn(entries, n, now, baton);
    return APR_SUCCESS;
}

static rlp_time_t starved_time(const rlp_store_t *store, rlp_time_t now)
{
    (void)store;
    return now;
}

static uint64_t starved_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    (void)store;
    (void)identity;
    (void)len;
    return 0;
}

static const char *starved_configure(void **settings, const char *name, const char *const options[],
                                     int n, apr_pool_t *pool)
{
    (void)name;
    (void)options;
    (void)n;
    (void)pool;
    *settings = NULL;
    return NULL;
}

static const char *starved_open(rlp_store_t **store, void *settings, const rlp_clock_t *clock,
                                server_rec *server, apr_pool_t *pool)
{
    static const rlp_store_type_t type = { .name = "starved",
                                           .update = starved_update,
                                           .time = starved_time,
                                           .fingerprint = starved_fingerprint };
    static const unsigned char secret[RLP_STORE_SECRET] = "starved";

    (void)settings;
    (void)clock;
    (void)server;
    *store = apr_pcalloc(pool, sizeof(**store));
    (*store)->type = &type;
    (*store)->owners = apr_pcalloc(pool, sizeof(*(*store)->owners));
    (*store)->secret = secret;
    return NULL;
}

/* One whose numbers are all taken, by the process that opens it. */
static const char *starved_open_crowded(rlp_store_t **store, void *settings,
                                        const rlp_clock_t *clock, server_rec *server,
                                        apr_pool_t *pool)
{
    const char *error = starved_open(store, settings, clock, server, pool);

    for (int i = 0; i < RLP_OWNERS_MAX; i++) {
        (*store)->owners->owner[i] = (uint64_t)getpid() << 32 | 1;
    }
    return error;
}

static apr_status_t starved_child(rlp_store_t *store, apr_pool_t *pchild)
{
    (void)store;
    (void)pchild;
    return APR_ENOENT;
}

static const rlp_store_provider_t absent = {
    .state_max = 64, .configure = starved_configure, .open = starved_open, .child = starved_child
};
static const rlp_store_provider_t crowded = { .state_max = 65536,
                                              .configure = starved_configure,
                                              .open = starved_open_crowded };

/* --- a source of plans */

static const char *starved_map_configure(void **settings, const rlp_plan_map_words_t *words,
                                         cmd_parms *cmd)
{
    (void)words;
    (void)cmd;
    *settings = NULL;
    return NULL;
}

static apr_status_t starved_map_child(void *settings, apr_pool_t *pchild)
{
    (void)settings;
    (void)pchild;
    return APR_ENOENT;
}

static const char *starved_find(const char **plan, void *settings, const char *value,
                                request_rec *r, apr_pool_t *pool)
{
    (void)plan;
    (void)settings;
    (void)value;
    (void)r;
    (void)pool;
    return "it was never opened";
}

static const rlp_plan_map_provider_t unready = { .configure = starved_map_configure,
                                                 .child = starved_map_child,
                                                 .find = starved_find };

static void starved_hooks(apr_pool_t *pool)
{
    ap_hook_child_init(starved_begin, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_child_init(starved_end, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_register_provider(pool, RLP_STORE_GROUP, "absent", RLP_STORE_VERSION, &absent);
    ap_register_provider(pool, RLP_STORE_GROUP, "crowded", RLP_STORE_VERSION, &crowded);
    ap_register_provider(pool, RLP_PLAN_MAP_GROUP, "unready", RLP_PLAN_MAP_VERSION, &unready);
}

module AP_MODULE_DECLARE_DATA rlp_starved_module = {
    STANDARD20_MODULE_STUFF,
    .register_hooks = starved_hooks,
};
