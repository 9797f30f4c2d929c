/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which plan: maps from the values of identities to plans, by their kinds of sources. The parent
 * reads files and shares them with the children; one thread of each child sees to what changes
 * later.
 */

#include "plan_map.h"

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

#define WATCH_PRIORITY 19               /* the lowest: requests go first */
#define WATCH_PATIENCE APR_USEC_PER_SEC /* for the end of the thread */

/* What a map has in memory, by its kind. */
struct plan_map_state_t {
    versions_t *versions; /* txt: */
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
      .no_ttl = "the file is in memory, and read again when it changes",
      .no_timeout = "the file is in memory" },
    { .prefix = "expr",
      .parse = plan_map_expr_parse,
      .find = plan_map_expr_find,
      .no_ttl = "the expression is evaluated for each request",
      .no_timeout = "the expression is evaluated for each request" },
};

#define PLAN_MAP_SOURCES (sizeof(plan_map_sources) / sizeof(plan_map_sources[0]))

const char *plan_map_source(plan_map_t *map, cmd_parms *cmd, const char *word)
{
    static const char *const names[] = { "txt:", "expr:", NULL };
    const size_t len = strcspn(word, ":=");

    for (size_t i = 0; i < PLAN_MAP_SOURCES && word[len] == ':'; i++) {
        const plan_source_t *source = &plan_map_sources[i];

        if (strlen(source->prefix) == len && strncmp(word, source->prefix, len) == 0) {
            map->source = source;
            return source->parse(map, cmd, word + len + 1);
        }
    }
    return apr_psprintf(cmd->pool, "expected txt:FILE or \"expr:EXPR\", got \"%s\"%s", word,
                        config_near(word, names, cmd->pool));
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
