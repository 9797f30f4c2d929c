/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which plan: maps from the values of identities to plans, by their kinds of sources. The parent
 * reads files and shares them with the children; one thread of each child sees to what changes
 * later.
 */

#include "plan_map.h"
#include "provider.h"

#include <ap_mpm.h>
#include <http_log.h>

#include <apr_atomic.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

APLOG_USE_MODULE(ratelimit_plans);

#define PLAN_MAP_TTL (60 * RLP_SECOND)
#define PLAN_MAP_TTL_MAX (INT64_C(24) * 3600 * RLP_SECOND)
#define PLAN_MAP_TIMEOUT (RLP_SECOND / 10)
#define PLAN_MAP_TIMEOUT_MAX (10 * RLP_SECOND)
#define PLAN_MAP_REPEAT 60              /* seconds between lines about one map */
#define WATCH_PRIORITY 19               /* the lowest: requests go first */
#define WATCH_PATIENCE APR_USEC_PER_SEC /* for the end of the thread */

/* What a map has in memory, by its kind. */
struct plan_map_state_t {
    versions_t *versions; /* txt: */
    dbm_state_t *dbm;     /* dbm: */
    uint64_t source;      /* of slow ones, in the cache */
    uint32_t complained;  /* the second of the latest line in the log; 0: none */
};

/* The thread of a child that looks for new versions of files. */
typedef struct {
    apr_thread_t *thread;
    apr_thread_mutex_t *mutex; /* of done */
    apr_thread_cond_t *cond;
    volatile apr_uint32_t stop;
    bool done;
} watch_t;

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

apr_status_t plan_map_thread(apr_thread_t **thread, apr_thread_start_t run, void *data,
                             apr_pool_t *pool)
{
    sigset_t all;
    sigset_t before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const apr_status_t rv = apr_thread_create(thread, NULL, run, data, pool);

    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rv;
}

/* --- txt: */

static const char *plan_map_txt_parse(plan_map_t *map, cmd_parms *cmd, const char *argument)
{
    map->path = *argument ? ap_server_root_relative(cmd->pool, argument) : NULL;
    return map->path
               ? NULL
               : apr_psprintf(cmd->pool, "expected txt:FILE with a path, got \"txt:%s\"", argument);
}

static const char *plan_map_txt_load(plan_map_t *map, apr_pool_t *pool)
{
    return versions_load(&map->state->versions, map->path, pool);
}

static void plan_map_txt_begin(const plan_map_t *map, apr_pool_t *pchild, server_rec *server)
{
    (void)pchild;
    versions_begin(map->state->versions, server);
}

static const plan_t *plan_map_txt_find(const plan_map_t *map, const char *value, request_rec *r)
{
    (void)r;
    return versions_find(map->state->versions, value);
}

/* --- expr: */

static const char *plan_map_expr_parse(plan_map_t *map, cmd_parms *cmd, const char *argument)
{
    return config_expression(&map->expr, cmd, "expr:", argument, AP_EXPR_FLAG_STRING_RESULT);
}

/* The plan that the map's expression names for the request. */
static const plan_t *plan_map_expr_find(const plan_map_t *map, const char *value, request_rec *r)
{
    const char *error = NULL;
    const char *name = ap_expr_str_exec(r, map->expr, &error);
    const plan_t *plan =
        error == NULL ? apr_hash_get(rlp_world->plans, name, APR_HASH_KEY_STRING) : NULL;

    (void)value;
    if (error != NULL) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "RLP014: plan map of %s: %s", map->type, error);
    } else if (plan == NULL && *name != '\0') { /* the word may come from the client */
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      "RLP014: plan map of %s: the expression names no plan", map->type);
    }
    return plan;
}

/* --- slow sources, which are asked for what the cache does not have */

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

/* Asks for one value, whatever the cache has. */
static bool plan_map_ask(const plan_t **plan, const plan_map_t *map, const char *value,
                         request_rec *r, const cache_key_t *key)
{
    const char *name = "";

    if (map->state->dbm == NULL) {
        return dbd_find(plan, map, value, key);
    }
    if (dbm_find(&name, map->state->dbm, value, r->pool) != APR_SUCCESS) {
        plan_map_failed(map, "the file cannot be read");
        return false;
    }
    *plan = plan_map_named(map, name);
    cache_put(rlp_world->cache, key, *plan, map->ttl);
    return true;
}

static const plan_t *plan_map_slow_find(const plan_map_t *map, const char *value, request_rec *r)
{
    cache_t *cache = rlp_world->cache;
    const uint64_t version =
        map->state->dbm ? dbm_version(map->state->dbm, map, r->pool) : UINT64_C(0);
    const cache_key_t key = cache_key(cache, map->state->source ^ version, value);
    const plan_t *known = NULL;
    const plan_t *plan = NULL;
    const cache_found_t found = cache_get(cache, &key, &known);

    if (found == CACHE_FRESH || (found == CACHE_NONE && !cache_may_ask(cache, r))) {
        return known;
    }
    if (found == CACHE_OLD) {
        cache_hold(cache, &key, known);
    }
    if (plan_map_ask(&plan, map, value, r, &key)) {
        return plan;
    }
    if (found == CACHE_NONE) {
        cache_put_failed(cache, &key);
    }
    return known;
}

/* --- dbm: */

static const char *plan_map_dbm_parse(plan_map_t *map, cmd_parms *cmd, const char *argument)
{
    const char *colon = strchr(argument, ':');

    map->dbm = "default";
    if (argument[-1] == '=') { /* dbm=TYPE:FILE */
        map->dbm = colon ? apr_pstrmemdup(cmd->pool, argument, (apr_size_t)(colon - argument)) : "";
        argument = colon ? colon + 1 : "";
    }
    map->path = *argument ? ap_server_root_relative(cmd->pool, argument) : NULL;
    return map->path && *map->dbm ? NULL : "expected dbm:FILE or dbm=TYPE:FILE with a path";
}

static const char *plan_map_dbm_load(plan_map_t *map, apr_pool_t *pool)
{
    return dbm_load(&map->state->dbm, map->dbm, map->path, pool);
}

static void plan_map_dbm_begin(const plan_map_t *map, apr_pool_t *pchild, server_rec *server)
{
    (void)server;
    dbm_begin(map->state->dbm, map, pchild);
}

/* --- dbd: */

static const char *plan_map_dbd_load(plan_map_t *map, apr_pool_t *pool)
{
    return dbd_load(map, pool);
}

/* The first of them starts the threads for all. */
static void plan_map_dbd_begin(const plan_map_t *map, apr_pool_t *pchild, server_rec *server)
{
    (void)map;
    if (rlp_world->askers == NULL) {
        dbd_begin(pchild, server);
    }
}

/* --- providers of other modules */

const char *plan_map_ask_provider(const plan_map_t *map, const char *value, request_rec *r,
                                  apr_pool_t *pool)
{
    const char *name = "";

    if (map->provider->find(&name, map->settings, value, r, pool) != APR_SUCCESS) {
        plan_map_failed(map, "its provider has no answer");
        return NULL;
    }
    return name ? name : "";
}

static const plan_t *plan_map_provided_find(const plan_map_t *map, const char *value,
                                            request_rec *r)
{
    const char *name = plan_map_ask_provider(map, value, r, r->pool);

    return name ? plan_map_named(map, name) : NULL;
}

static const char *plan_map_provided_parse(plan_map_t *map, cmd_parms *cmd, const char *argument)
{
    return map->provider->configure(&map->settings, argument, cmd);
}

static const char *plan_map_provided_load(plan_map_t *map, apr_pool_t *pool)
{
    return map->provider->open ? map->provider->open(map->settings, pool) : NULL;
}

static void plan_map_provided_begin(const plan_map_t *map, apr_pool_t *pchild, server_rec *server)
{
    const apr_status_t rv =
        map->provider->child ? map->provider->child(map->settings, pchild) : APR_SUCCESS;

    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, server,
                     "RLP022: plan map of %s: its provider is not ready in this process",
                     map->type);
    }
    if (map->provider->blocks) {
        plan_map_dbd_begin(map, pchild, server);
    }
}

/* --- the kinds */

struct plan_source_t {
    const char *prefix; /* what stands before its colon */
    const char *(*parse)(plan_map_t *map, cmd_parms *cmd, const char *argument);
    const char *(*load)(plan_map_t *map, apr_pool_t *pool);                       /* or NULL */
    void (*begin)(const plan_map_t *map, apr_pool_t *pchild, server_rec *server); /* or NULL */
    const plan_t *(*find)(const plan_map_t *map, const char *value, request_rec *r);
    const char *no_ttl;     /* why it has none; NULL: it has one */
    const char *no_timeout; /* the same */
};

static const plan_source_t plan_map_sources[] = {
    { .prefix = "txt",
      .parse = plan_map_txt_parse,
      .load = plan_map_txt_load,
      .begin = plan_map_txt_begin,
      .find = plan_map_txt_find,
      .no_ttl = "the file is in memory, and is read again when it changes",
      .no_timeout = "the file is in memory" },
    { .prefix = "dbm",
      .parse = plan_map_dbm_parse,
      .load = plan_map_dbm_load,
      .begin = plan_map_dbm_begin,
      .find = plan_map_slow_find,
      .no_timeout = "nobody waits for a file" },
    { .prefix = "dbd",
      .parse = dbd_parse,
      .load = plan_map_dbd_load,
      .begin = plan_map_dbd_begin,
      .find = plan_map_slow_find },
    { .prefix = "expr",
      .parse = plan_map_expr_parse,
      .find = plan_map_expr_find,
      .no_ttl = "the expression is evaluated for each request",
      .no_timeout = "the expression is evaluated for each request" },
};

static const plan_source_t plan_map_provided = {
    .prefix = "a provider that does not block",
    .parse = plan_map_provided_parse,
    .load = plan_map_provided_load,
    .begin = plan_map_provided_begin,
    .find = plan_map_provided_find,
    .no_ttl = "it is asked for each request",
    .no_timeout = "it is asked for each request",
};
static const plan_source_t plan_map_provided_slow = {
    .prefix = "a provider",
    .parse = plan_map_provided_parse,
    .load = plan_map_provided_load,
    .begin = plan_map_provided_begin,
    .find = plan_map_slow_find,
};

#define PLAN_MAP_SOURCES (sizeof(plan_map_sources) / sizeof(plan_map_sources[0]))

static const char *plan_map_use(plan_map_t *map, const plan_source_t *source, cmd_parms *cmd,
                                const char *argument)
{
    map->source = source;
    map->ttl = source->no_ttl ? 0 : PLAN_MAP_TTL;
    map->timeout = source->no_timeout ? 0 : PLAN_MAP_TIMEOUT;
    return source->parse(map, cmd, argument);
}

/* What to say of a source that nobody has. */
static const char *plan_map_unknown(const char *word, const char *prefix, apr_pool_t *pool)
{
    static const char *const names[] = { "txt:", "dbm:", "dbm=", "dbd:", "expr:", NULL };
    const char *const *others = provider_names(&provider_plan_maps, pool);
    const char *other = provider_other_version(&provider_plan_maps, prefix, pool);
    const char *list = "txt:FILE, dbm:FILE, dbm=TYPE:FILE, \"dbd:SQL\" or \"expr:EXPR\"";
    const char *near = config_near(word, names, pool);

    if (other != NULL) {
        return other;
    }
    for (int i = 0; others[i] != NULL; i++) {
        const rlp_plan_map_provider_t *provider =
            provider_find(&provider_plan_maps, others[i], pool);

        list = apr_pstrcat(pool, list, " or \"", others[i], ":",
                           provider->argument ? provider->argument : "ARGUMENT", "\"", NULL);
    }
    return apr_psprintf(pool, "expected %s, got \"%s\"%s", list, word,
                        *near ? near : provider_near(prefix, others, ":", pool));
}

const char *plan_map_source(plan_map_t *map, cmd_parms *cmd, const char *word)
{
    const size_t len = strcspn(word, ":=");
    const char *prefix = apr_pstrmemdup(cmd->pool, word, len);

    map->server = cmd->server;
    for (size_t i = 0; i < PLAN_MAP_SOURCES && word[len] != '\0'; i++) {
        const plan_source_t *source = &plan_map_sources[i];
        const bool typed = word[len] == '=' && source->parse == plan_map_dbm_parse;

        if (strlen(source->prefix) == len && strncmp(word, source->prefix, len) == 0 &&
            (word[len] == ':' || typed)) {
            return plan_map_use(map, source, cmd, word + len + 1);
        }
    }
    map->provider = word[len] == ':' ? provider_find(&provider_plan_maps, prefix, cmd->pool) : NULL;
    if (map->provider == NULL) {
        return plan_map_unknown(word, prefix, cmd->pool);
    }
    if (map->provider->configure == NULL || map->provider->find == NULL) {
        return apr_psprintf(cmd->pool, "expected a plan source with configure and find, got \"%s\"",
                            word);
    }
    map->statement = word; /* tells its answers in the cache from those of others */
    return plan_map_use(map, map->provider->blocks ? &plan_map_provided_slow : &plan_map_provided,
                        cmd, word + len + 1);
}

const char *plan_map_option(plan_map_t *map, cmd_parms *cmd, const char *word, bool *known)
{
    const bool ttl = ap_cstr_casecmpn(word, "ttl=", 4) == 0;
    const char *why = ttl ? map->source->no_ttl : map->source->no_timeout;
    rlp_time_t *span = ttl ? &map->ttl : &map->timeout;

    *known = ttl || ap_cstr_casecmpn(word, "timeout=", 8) == 0;
    if (!*known) {
        return NULL;
    }
    if (why != NULL) {
        return apr_psprintf(cmd->pool,
                            "expected no %s with %s:, since %s; leave it out, got \"%s\"",
                            ttl ? "ttl=" : "timeout=", map->source->prefix, why, word);
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

const char *plan_map_load(plan_map_t *map, apr_pool_t *pool)
{
    map->state = apr_pcalloc(pool, sizeof(*map->state));
    return map->source->load ? map->source->load(map, pool) : NULL;
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

const plan_t *plan_map_find(const plan_map_t *map, const char *value, request_rec *r)
{
    return map->source->find(map, value, r);
}

/* What it is known by in the cache: the same in each generation, another for each database. */
static const char *plan_map_identity(const plan_map_t *map, apr_pool_t *pool)
{
    return map->path ? apr_pstrcat(pool, map->dbm, ":", map->path, NULL)
                     : apr_psprintf(pool, "%s:%d %s %s", map->server->server_hostname,
                                    map->server->port, map->type, map->statement);
}

apr_status_t plan_map_open(apr_pool_t *pool)
{
    apr_status_t rv = APR_SUCCESS;

    for (int i = 0; i < rlp_world->maps->nelts && rv == APR_SUCCESS; i++) {
        const plan_map_t *map = APR_ARRAY_IDX(rlp_world->maps, i, const plan_map_t *);

        if (map->source->find != plan_map_slow_find) {
            continue;
        }
        rv = rlp_world->cache ? APR_SUCCESS : cache_open(&rlp_world->cache);
        if (rv == APR_SUCCESS) {
            map->state->source = cache_source(rlp_world->cache, plan_map_identity(map, pool));
        }
    }
    return rv;
}

/* --- the thread */

static void watch_look(watch_t *watch)
{
    for (int i = 0; i < rlp_world->maps->nelts; i++) {
        const plan_map_t *map = APR_ARRAY_IDX(rlp_world->maps, i, const plan_map_t *);

        if (map->state->versions != NULL && apr_atomic_read32(&watch->stop) == 0) {
            versions_refresh(map->state->versions, map->type, &watch->stop);
        }
    }
}

static void *APR_THREAD_FUNC watch_run(apr_thread_t *thread, void *data)
{
    watch_t *watch = data;

    (void)thread;
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), WATCH_PRIORITY);
    apr_thread_mutex_lock(watch->mutex);
    while (apr_atomic_read32(&watch->stop) == 0) {
        apr_thread_mutex_unlock(watch->mutex);
        watch_look(watch);
        apr_thread_mutex_lock(watch->mutex);
        if (apr_atomic_read32(&watch->stop) == 0) {
            apr_thread_cond_timedwait(watch->cond, watch->mutex, APR_USEC_PER_SEC);
        }
    }
    watch->done = true;
    apr_thread_cond_broadcast(watch->cond);
    apr_thread_mutex_unlock(watch->mutex);
    return NULL;
}

/* Under prefork this may run in the midst of anything: it does not wait for ever. */
static apr_status_t watch_stop(void *data)
{
    watch_t *watch = data;
    apr_status_t rv = APR_SUCCESS;

    apr_atomic_set32(&watch->stop, 1);
    apr_thread_mutex_lock(watch->mutex);
    apr_thread_cond_broadcast(watch->cond);
    while (!watch->done && rv == APR_SUCCESS) {
        rv = apr_thread_cond_timedwait(watch->cond, watch->mutex, WATCH_PATIENCE);
    }
    apr_thread_mutex_unlock(watch->mutex);
    if (watch->done) {
        apr_thread_join(&rv, watch->thread);
    }
    return APR_SUCCESS;
}

static void watch_begin(apr_pool_t *pchild, server_rec *server)
{
    watch_t *watch = apr_pcalloc(pchild, sizeof(*watch));
    apr_status_t rv = apr_thread_mutex_create(&watch->mutex, APR_THREAD_MUTEX_DEFAULT, pchild);

    if (rv == APR_SUCCESS) {
        rv = apr_thread_cond_create(&watch->cond, pchild);
    }
    if (rv == APR_SUCCESS) {
        rv = plan_map_thread(&watch->thread, watch_run, watch, pchild);
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, server,
                     "RLP015: this process does not read plan maps again when they change");
        return;
    }
    apr_pool_pre_cleanup_register(pchild, watch, watch_stop);
}

void plan_map_begin(apr_pool_t *pchild, server_rec *server)
{
    bool watched = false;

    for (int i = 0; i < rlp_world->maps->nelts; i++) {
        const plan_map_t *map = APR_ARRAY_IDX(rlp_world->maps, i, const plan_map_t *);

        if (map->source->begin != NULL) {
            map->source->begin(map, pchild, server);
        }
        watched |= map->state->versions != NULL;
    }
    if (watched) {
        watch_begin(pchild, server);
    }
}

void plan_map_count(const plan_map_t *map, uint32_t counts[])
{
    if (map->state->versions != NULL) {
        versions_count(map->state->versions, counts);
    }
}
