/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which plan: maps from the values of identities to plans. The parent reads them and shares them
 * with the children by fork; a child reads what changes later.
 */

#include "plan_map.h"

#include <ap_mpm.h>
#include <http_log.h>

#include <apr_atomic.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>
#include <apr_thread_rwlock.h>

#include <signal.h>
#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

struct plan_map_state_t {
    txt_t *txt;
    apr_thread_rwlock_t *lock; /* of txt; NULL: it stays as the parent has read it */
    file_mark_t seen;          /* the version that was looked at last, good or not */
    server_rec *server;        /* for the log */
    bool asks;                 /* requests look for a new version, since no thread does */
    apr_uint32_t asked_at;     /* in seconds */
};

/* The thread of a child that looks for new versions of files. */
typedef struct {
    apr_thread_t *thread;
    apr_thread_mutex_t *mutex; /* of stop */
    apr_thread_cond_t *cond;
    bool stop;
} watch_t;

static apr_status_t plan_map_end(void *data)
{
    plan_map_state_t *state = data;

    if (state->txt != NULL) {
        txt_free(state->txt);
        state->txt = NULL;
    }
    return APR_SUCCESS;
}

const char *plan_map_source(plan_map_t *map, cmd_parms *cmd, const char *word)
{
    static const char *const names[] = { "txt:", "expr:", NULL };

    if (strncmp(word, "expr:", 5) == 0) {
        return config_expression(&map->expr, cmd, "expr:", word + 5, AP_EXPR_FLAG_STRING_RESULT);
    }
    if (strncmp(word, "txt:", 4) != 0 || word[4] == '\0') {
        return apr_psprintf(cmd->pool, "expected txt:FILE or \"expr:EXPR\", got \"%s\"%s", word,
                            config_near(word, names, cmd->pool));
    }
    map->path = ap_server_root_relative(cmd->pool, word + 4);
    return map->path ? NULL
                     : apr_psprintf(cmd->pool, "expected txt:FILE with a path, got \"%s\"", word);
}

const char *plan_map_load(plan_map_t *map, apr_pool_t *pool)
{
    if (map->path == NULL) {
        return NULL;
    }
    map->state = apr_pcalloc(pool, sizeof(*map->state));
    apr_pool_cleanup_register(pool, map->state, plan_map_end, apr_pool_cleanup_null);
    return txt_read(&map->state->txt, &map->state->seen, map->path, pool);
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

/* The plan that the map's expression names for the request. */
static const plan_t *plan_map_evaluate(const plan_map_t *map, request_rec *r)
{
    const char *error = NULL;
    const char *name = ap_expr_str_exec(r, map->expr, &error);
    const plan_t *plan =
        error == NULL ? apr_hash_get(rlp_world->plans, name, APR_HASH_KEY_STRING) : NULL;

    if (error != NULL) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "RLP014: plan map of %s: %s", map->type, error);
    } else if (plan == NULL && *name != '\0') { /* the word may come from the client */
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      "RLP014: plan map of %s: the expression names no plan", map->type);
    }
    return plan;
}

/* --- new versions */

static file_mark_t plan_map_mark(const char *path, apr_pool_t *pool)
{
    apr_finfo_t info;

    return apr_stat(&info, path, FILE_MARK_WANTED, pool) == APR_SUCCESS
               ? file_mark(&info)
               : (file_mark_t){ .size = 0 };
}

static bool plan_map_same(const file_mark_t *a, const file_mark_t *b)
{
    return a->changed == b->changed && a->modified == b->modified && a->size == b->size &&
           a->inode == b->inode;
}

/* Who writes may not be done yet: a version counts when it is a second old. */
static bool plan_map_settled(const file_mark_t *mark)
{
    rlp_clock_t clock;

    rlp_clock_read(&clock);
    return clock.wall - mark->changed >= RLP_SECOND || clock.wall < mark->changed;
}

static void plan_map_swap(plan_map_state_t *state, txt_t *txt)
{
    txt_t *old = state->txt;

    apr_thread_rwlock_wrlock(state->lock);
    state->txt = txt;
    apr_thread_rwlock_unlock(state->lock);
    txt_free(old);
}

static void plan_map_read(const plan_map_t *map, apr_pool_t *pool)
{
    plan_map_state_t *state = map->state;
    txt_t *txt = NULL;
    const char *error = txt_read(&txt, &state->seen, map->path, pool);

    if (error != NULL) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, state->server,
                     "RLP012: plan map of %s: %s; this process keeps what it has read before",
                     map->type, error);
        return;
    }
    plan_map_swap(state, txt);
    ap_log_error(APLOG_MARK, APLOG_INFO, 0, state->server, "RLP013: plan map of %s: read again: %s",
                 map->type, map->path);
}

/* Reads the file if it has changed. */
static void plan_map_refresh(const plan_map_t *map)
{
    plan_map_state_t *state = map->state;
    apr_pool_t *pool;

    if (state == NULL || state->lock == NULL ||
        apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS) {
        return;
    }
    const file_mark_t mark = plan_map_mark(map->path, pool);

    if (!plan_map_same(&mark, &state->seen) && plan_map_settled(&mark)) {
        state->seen = mark;
        plan_map_read(map, pool);
    }
    apr_pool_destroy(pool);
}

/* Without a thread, one request in a second looks. */
static void plan_map_ask(const plan_map_t *map)
{
    plan_map_state_t *state = map->state;
    const apr_uint32_t last = apr_atomic_read32(&state->asked_at);
    const apr_uint32_t now = (apr_uint32_t)(rlp_clock_monotonic() / RLP_SECOND);

    if (now != last && apr_atomic_cas32(&state->asked_at, now, last) == last) {
        plan_map_refresh(map);
    }
}

const plan_t *plan_map_find(const plan_map_t *map, const char *value, request_rec *r)
{
    plan_map_state_t *state = map->state;

    if (state == NULL) {
        return plan_map_evaluate(map, r);
    }
    if (state->asks) {
        plan_map_ask(map);
    }
    if (state->lock != NULL) {
        apr_thread_rwlock_rdlock(state->lock);
    }
    const plan_t *plan = txt_find(state->txt, value);

    if (state->lock != NULL) {
        apr_thread_rwlock_unlock(state->lock);
    }
    return plan;
}

/* --- the thread */

static void *APR_THREAD_FUNC watch_run(apr_thread_t *thread, void *data)
{
    watch_t *watch = data;

    (void)thread;
    apr_thread_mutex_lock(watch->mutex);
    while (!watch->stop) {
        apr_thread_mutex_unlock(watch->mutex);
        for (int i = 0; i < rlp_world->maps->nelts; i++) {
            plan_map_refresh(APR_ARRAY_IDX(rlp_world->maps, i, const plan_map_t *));
        }
        apr_thread_mutex_lock(watch->mutex);
        if (!watch->stop) {
            apr_thread_cond_timedwait(watch->cond, watch->mutex, APR_USEC_PER_SEC);
        }
    }
    apr_thread_mutex_unlock(watch->mutex);
    return NULL;
}

static apr_status_t watch_stop(void *data)
{
    watch_t *watch = data;
    apr_status_t rv;

    apr_thread_mutex_lock(watch->mutex);
    watch->stop = true;
    apr_thread_cond_signal(watch->cond);
    apr_thread_mutex_unlock(watch->mutex);
    apr_thread_join(&rv, watch->thread);
    return APR_SUCCESS;
}

/* Signals are for the threads of the MPM, which expects them there. */
static apr_status_t watch_start(watch_t *watch, apr_pool_t *pool)
{
    sigset_t all;
    sigset_t before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const apr_status_t rv = apr_thread_create(&watch->thread, NULL, watch_run, watch, pool);

    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rv;
}

static void watch_begin(apr_pool_t *pchild, server_rec *server)
{
    watch_t *watch = apr_pcalloc(pchild, sizeof(*watch));
    apr_status_t rv = apr_thread_mutex_create(&watch->mutex, APR_THREAD_MUTEX_DEFAULT, pchild);

    if (rv == APR_SUCCESS) {
        rv = apr_thread_cond_create(&watch->cond, pchild);
    }
    if (rv == APR_SUCCESS) {
        rv = watch_start(watch, pchild);
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
    int threaded = 0;

    if (ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded) != APR_SUCCESS) {
        threaded = 0;
    }
    for (int i = 0; i < rlp_world->maps->nelts; i++) {
        plan_map_state_t *state = APR_ARRAY_IDX(rlp_world->maps, i, const plan_map_t *)->state;

        if (state == NULL) {
            continue;
        }
        if (apr_thread_rwlock_create(&state->lock, pchild) != APR_SUCCESS) {
            state->lock = NULL;
        }
        state->server = server;
        state->asks = threaded == 0;
    }
    if (threaded != 0 && rlp_world->maps->nelts > 0) {
        watch_begin(pchild, server);
    }
}
