/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which plan: maps from the values of identities to plans, by their sources, which are providers.
 * One thread of each child sees to what changes later.
 */

#include "plan_map.h"
#include "provider.h"
#include "thread.h"

#include <ap_mpm.h>
#include <http_log.h>

#include <apr_strings.h>

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

APLOG_USE_MODULE(ratelimit_plans);

#define PLAN_MAP_REPEAT 60 /* seconds between lines about one map */
#define WATCH_PRIORITY 19  /* the lowest: requests go first */

const rlp_plan_map_provider_t *const plan_map_providers[] = { &versions_provider, &dbm_provider,
                                                              &dbd_provider, &expr_provider,
#ifdef RLP_REDIS
                                                              &redis_map_provider
#endif
};

/* What a map has in memory. */
struct plan_map_state_t {
    bool open;
    uint64_t source;     /* what stands for it in the cache */
    uint64_t version;    /* of the source, as this process saw it last; */
    uint64_t before;     /* and the one before that; 0: none */
    uint32_t complained; /* the second of the latest line in the log; 0: none */
};

/* --- what kinds of sources share */

file_mark_t plan_map_mark(const char *path, apr_pool_t *pool)
{
    apr_finfo_t info;

    return apr_stat(&info, path, FILE_MARK_WANTED, pool) == APR_SUCCESS
               ? file_mark(&info)
               : (file_mark_t){ .size = 0 };
}

bool plan_map_same(const file_mark_t *a, const file_mark_t *b)
{
    return a->changed == b->changed && a->modified == b->modified && a->size == b->size &&
           a->inode == b->inode;
}

bool plan_map_settled(const file_mark_t *mark)
{
    rlp_clock_t clock;

    rlp_clock_read(&clock);
    return clock.wall - mark->changed >= RLP_SECOND || clock.wall < mark->changed;
}

/* --- asking */

/* Is it time for a line in the log about the map? */
static bool plan_map_tells(const plan_map_t *map)
{
    uint32_t *complained = &map->state->complained;
    const uint32_t now = (uint32_t)(rlp_clock_monotonic() / RLP_SECOND) | 1;
    uint32_t before = __atomic_load_n(complained, __ATOMIC_RELAXED);

    return (before == 0 || now - before >= PLAN_MAP_REPEAT) &&
           __atomic_compare_exchange_n(complained, &before, now, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED);
}

void plan_map_failed(const plan_map_t *map, const char *text)
{
    if (plan_map_tells(map)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, map->server,
                     "RLP017: plan map of %s: %s; values that were known stay known, others are "
                     "unknown",
                     map->type, text);
    }
}

const plan_t *plan_map_named(const plan_map_t *map, const char *name)
{
    const plan_t *plan = apr_hash_get(rlp_world->plans, name, APR_HASH_KEY_STRING);

    if (plan == NULL && *name != '\0' && plan_map_tells(map)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, map->server,
                     "RLP018: plan map of %s: a value has a plan that RateLimitPlan does not "
                     "declare; the value is unknown",
                     map->type);
    }
    return plan;
}

bool plan_map_ask(const plan_t **plan, const plan_map_t *map, const char *value, request_rec *r,
                  apr_pool_t *pool)
{
    const char *name = NULL;
    const char *error = map->provider->find(&name, map->settings, value, r, pool);

    *plan = NULL;
    if (error != NULL) {
        plan_map_failed(map, error);
        return false;
    }
    if (name != NULL) {
        *plan = plan_map_named(map, name);
    }
    return true;
}

/* Asks for one value, whatever the cache has. */
static bool plan_map_ask_anew(const plan_t **plan, const plan_map_t *map, const char *value,
                              request_rec *r, const cache_key_t *key)
{
    if (map->provider->blocks) {
        return ask_find(plan, map, value, key);
    }
    if (!plan_map_ask(plan, map, value, r, r->pool)) {
        return false;
    }
    cache_put(rlp_world->cache, key, *plan, map->ttl);
    return true;
}

/* The version of the source; 0: it has none. */
static uint64_t plan_map_version(const plan_map_t *map, apr_pool_t *pool)
{
    plan_map_state_t *state = map->state;
    const uint64_t version =
        map->provider->version ? map->provider->version(map->settings, pool) : UINT64_C(0);
    const uint64_t last = __atomic_load_n(&state->version, __ATOMIC_RELAXED);

    if (last != version) {
        __atomic_store_n(&state->before, last, __ATOMIC_RELAXED);
        __atomic_store_n(&state->version, version, __ATOMIC_RELAXED);
    }
    return version;
}

/* May the client ask for a value of which nothing is remembered? Nobody has invented what was known
   until the source changed. */
static bool plan_map_may_ask(const plan_map_t *map, const char *value, const request_rec *r)
{
    const uint64_t before = __atomic_load_n(&map->state->before, __ATOMIC_RELAXED);
    const cache_key_t key = cache_key(rlp_world->cache, map->state->source ^ before, value);
    const plan_t *plan = NULL;

    if (before != 0 && cache_get(rlp_world->cache, &key, &plan) != CACHE_NONE && plan != NULL) {
        return true;
    }
    return cache_may_ask(rlp_world->cache, r);
}

static const plan_t *plan_map_kept_find(const plan_map_t *map, const char *value, request_rec *r)
{
    cache_t *cache = rlp_world->cache;
    const uint64_t version = plan_map_version(map, r->pool);
    const cache_key_t key = cache_key(cache, map->state->source ^ version, value);
    const plan_t *known = NULL;
    const plan_t *plan = NULL;
    const cache_found_t found = cache_get(cache, &key, &known);

    if (found == CACHE_FRESH || (found == CACHE_NONE && !plan_map_may_ask(map, value, r))) {
        return known;
    }
    if (found == CACHE_OLD) {
        cache_hold(cache, &key, known);
    }
    if (plan_map_ask_anew(&plan, map, value, r, &key)) {
        return plan;
    }
    if (found == CACHE_NONE) {
        cache_put_failed(cache, &key);
    }
    return known;
}

/* An answer that a client request has had; redirects stay in its pool. */
typedef struct answer_t answer_t;

struct answer_t {
    const plan_map_t *map;
    const char *value;
    const plan_t *plan;
    const answer_t *next;
};

static const plan_t *plan_map_find_once(const plan_map_t *map, const char *value, request_rec *r)
{
    static const char name[] = "mod_ratelimit_plans answers";
    void *answers = NULL;

    (void)apr_pool_userdata_get(&answers, name, r->pool);
    for (const answer_t *i = answers; i != NULL; i = i->next) {
        if (i->map == map && strcmp(i->value, value) == 0) {
            return i->plan;
        }
    }
    answer_t *answer = apr_palloc(r->pool, sizeof(*answer));

    *answer = (answer_t){ .map = map, .value = apr_pstrdup(r->pool, value), .next = answers };
    (void)plan_map_ask(&answer->plan, map, value, r, r->pool);
    (void)apr_pool_userdata_setn(answer, name, NULL, r->pool);
    return answer->plan;
}

const plan_t *plan_map_find(const plan_map_t *map, const char *value, request_rec *r)
{
    const plan_t *plan = NULL;

    if (plan_map_keeps(map)) {
        return plan_map_kept_find(map, value, r);
    }
    if (!map->provider->anew) {
        return plan_map_find_once(map, value, r);
    }
    (void)plan_map_ask(&plan, map, value, r, r->pool);
    return plan;
}

/* --- what is declared */

const char *plan_map_load(plan_map_t *map, apr_pool_t *pool)
{
    map->state = apr_pcalloc(pool, sizeof(*map->state));
    const char *error = map->provider->open ? map->provider->open(map->settings, pool) : NULL;

    map->state->open = error == NULL;
    return error;
}

const char *plan_map_describe(const plan_map_t *map)
{
    return map->provider->describe ? map->provider->describe(map->settings) : map->name;
}

const plan_map_t *plan_map_of(const server_conf_t *server, const char *type)
{
    for (int i = server->maps->nelts - 1; i >= 0; i--) {
        const plan_map_t *map = APR_ARRAY_IDX(server->maps, i, const plan_map_t *);

        if (strcmp(map->type, type) == 0) {
            return map;
        }
    }
    return NULL;
}

/* What it is known by in the cache: the same in each generation. Hosts of one name have databases
   of their own where their addresses differ. */
static const char *plan_map_identity(const plan_map_t *map, apr_pool_t *pool)
{
    const server_rec *server = map->server;

    if (map->provider->common) {
        return map->words;
    }
    const char *text = apr_psprintf(pool, "%s:%d", server->server_hostname, server->port);

    for (const server_addr_rec *at = server->addrs; at != NULL; at = at->next) {
        text = apr_psprintf(pool, "%s %s:%d", text, at->virthost, at->host_port);
    }
    return apr_psprintf(pool, "%s %s %s", text, map->type, map->words);
}

apr_status_t plan_map_open(apr_pool_t *pool)
{
    for (int i = 0; i < rlp_world->maps->nelts; i++) {
        const plan_map_t *map = APR_ARRAY_IDX(rlp_world->maps, i, const plan_map_t *);

        if (!plan_map_keeps(map)) {
            continue;
        }
        rlp_world->cache = cache_open();
        if (rlp_world->cache == NULL) {
            return APR_ENOMEM;
        }
        map->state->source = cache_source(rlp_world->cache, plan_map_identity(map, pool));
    }
    return APR_SUCCESS;
}

/* --- the thread of a child that looks for new versions of files */

static void watch_look(thread_t *thread)
{
    for (int i = 0; i < rlp_world->maps->nelts; i++) {
        const plan_map_t *map = APR_ARRAY_IDX(rlp_world->maps, i, const plan_map_t *);

        if (map->provider->refresh != NULL && !thread_is_stopped(thread)) {
            map->provider->refresh(map->settings, &thread->stop);
        }
    }
}

static void watch_run(thread_t *thread, void *data)
{
    (void)data;
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), WATCH_PRIORITY);
    do {
        watch_look(thread);
    } while (thread_sleep(thread, APR_USEC_PER_SEC));
}

static void watch_begin(apr_pool_t *pchild, server_rec *server)
{
    thread_t *thread;
    const apr_status_t rv = thread_begin(&thread, watch_run, NULL, 0);

    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, server,
                     "RLP015: this process does not read plan maps again when they change");
        return;
    }
    thread_end_with(pchild, thread, thread_end);
}

/* The first source that blocks starts the threads for all. */
static void plan_map_begin_one(const plan_map_t *map, apr_pool_t *pchild, server_rec *server)
{
    const apr_status_t rv =
        map->provider->child ? map->provider->child(map->settings, pchild) : APR_SUCCESS;

    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, server,
                     "RLP022: plan map of %s: its provider is not ready in this process",
                     map->type);
    }
    if (map->provider->blocks && rlp_world->askers == NULL) {
        ask_begin(pchild, server);
    }
}

void plan_map_begin(apr_pool_t *pchild, server_rec *server)
{
    bool watched = false;

    for (int i = 0; i < rlp_world->maps->nelts; i++) {
        const plan_map_t *map = APR_ARRAY_IDX(rlp_world->maps, i, const plan_map_t *);

        plan_map_begin_one(map, pchild, server);
        watched |= map->provider->refresh != NULL;
    }
    if (watched) {
        watch_begin(pchild, server);
    }
}

/* The baton is counts, by plan_t.index. */
static void plan_map_count_plan(void *baton, const char *name, uint64_t values)
{
    uint32_t *counts = baton;
    const plan_t *plan = apr_hash_get(rlp_world->plans, name, APR_HASH_KEY_STRING);

    if (plan != NULL) {
        const uint64_t sum = counts[plan->index] + values;

        counts[plan->index] = sum < values || sum > UINT32_MAX ? UINT32_MAX : (uint32_t)sum;
    }
}

void plan_map_count(const plan_map_t *map, uint32_t counts[], apr_pool_t *pool)
{
    if (map->provider->count != NULL && map->state->open) {
        map->provider->count(map->settings, plan_map_count_plan, counts, pool);
    }
}
