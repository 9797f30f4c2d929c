/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Plans in a database, through mod_dbd. A database may take any time to answer, and APR knows no
 * limit for that: threads of their own ask, and requests wait for them as long as they may.
 */

#include "plan_map.h"

#include <ap_mpm.h>
#include <http_config.h>
#include <http_log.h>

#include <apr_atomic.h>
#include <apr_dbd.h>
#include <apr_lib.h>
#include <apr_optional.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>

#include <mod_dbd.h> /* which needs apr_dbd.h before it */

#include <signal.h>
#include <stdlib.h>
#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

#define DBD_THREADS 4      /* of a child that has threads; else one */
#define DBD_QUEUE 64       /* questions that wait for a thread; beyond, there is no answer */
#define DBD_VALUE_MAX 1024 /* bytes; longer ones are unknown */

typedef enum { DBD_WAITS, DBD_ANSWERED, DBD_FAILED } dbd_outcome_t;

/* A question, of the thread that asks and of the request that waits: who is last frees it. */
typedef struct dbd_question_t dbd_question_t;

struct dbd_question_t {
    dbd_question_t *next;
    const plan_map_t *map;
    cache_key_t key;
    int users;
    dbd_outcome_t outcome;
    const plan_t *plan;
    char value[];
};

/* Of a child. */
struct askers_t {
    apr_thread_mutex_t *mutex; /* of all below, and of the questions */
    apr_thread_cond_t *asked;
    apr_thread_cond_t *answered;
    dbd_question_t *first;
    dbd_question_t **end;
    int queued;
    bool stop;
    bool alone; /* the child has one thread for requests, which signals may end anywhere */
    int n;
    apr_thread_t *threads[DBD_THREADS];
    APR_OPTIONAL_FN_TYPE(ap_dbd_open) * open;
    APR_OPTIONAL_FN_TYPE(ap_dbd_close) * close;
};

/* --- the directive */

/* How many "%s" there are; -1 if there is something else behind a "%". */
static int dbd_places(const char *statement)
{
    int n = 0;

    for (const char *at = strchr(statement, '%'); at != NULL; at = strchr(at + 2, '%')) {
        if (at[1] != 's' && at[1] != '%') {
            return -1;
        }
        n += at[1] == 's';
    }
    return n;
}

const char *dbd_parse(plan_map_t *map, cmd_parms *cmd, const char *statement)
{
    APR_OPTIONAL_FN_TYPE(ap_dbd_prepare) *prepare = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_prepare);

    if (dbd_places(statement) != 1) {
        return apr_psprintf(cmd->pool,
                            "expected one %%s in the statement, where the value goes, as in "
                            "\"dbd:SELECT plan FROM customers WHERE key = %%s\", got \"dbd:%s\"",
                            statement);
    }
    if (strpbrk(statement, "'\"") != NULL && strstr(statement, "'%s'") != NULL) {
        return apr_psprintf(cmd->pool,
                            "expected %%s without quotes, since the database gets the value apart "
                            "from the statement, got \"dbd:%s\"",
                            statement);
    }
    if (prepare == NULL) {
        return "expected mod_dbd for a map by dbd: load it before, with LoadModule dbd_module";
    }
    map->label = apr_psprintf(cmd->pool, "ratelimit_plan_map_%d", rlp_world->maps->nelts);
    map->statement = statement;
    prepare(cmd->server, statement, map->label);
    return NULL;
}

/* The directive that comes next, be it inside or outside of a section; NULL at the end. */
static const ap_directive_t *dbd_next_directive(const ap_directive_t *directive)
{
    if (directive->first_child != NULL) {
        return directive->first_child;
    }
    while (directive != NULL && directive->next == NULL) {
        directive = directive->parent;
    }
    return directive ? directive->next : NULL;
}

/* Is there a directive of that name anywhere? */
static bool dbd_is_said(const char *name)
{
    const ap_directive_t *directive = ap_conftree;

    while (directive != NULL && ap_cstr_casecmp(directive->directive, name) != 0) {
        directive = dbd_next_directive(directive);
    }
    return directive != NULL;
}

const char *dbd_load(const plan_map_t *map, apr_pool_t *pool)
{
    (void)pool;
    (void)map;
    return dbd_is_said("DBDriver")
               ? NULL
               : "expected DBDriver and DBDParams, which tell mod_dbd of the database, beside a "
                 "map by dbd:";
}

/* --- asking */

/* UTF-8: what a character begins with, what its second byte may be, and how many come behind the
   first. */
static const struct {
    unsigned char first;
    unsigned char last;
    unsigned char low;
    unsigned char high;
    int more;
} dbd_utf8[] = {
    { 0x01, 0x7f, 0, 0, 0 },       { 0xc2, 0xdf, 0x80, 0xbf, 1 }, { 0xe0, 0xe0, 0xa0, 0xbf, 2 },
    { 0xe1, 0xec, 0x80, 0xbf, 2 }, { 0xed, 0xed, 0x80, 0x9f, 2 }, { 0xee, 0xef, 0x80, 0xbf, 2 },
    { 0xf0, 0xf0, 0x90, 0xbf, 3 }, { 0xf1, 0xf3, 0x80, 0xbf, 3 }, { 0xf4, 0xf4, 0x80, 0x8f, 3 },
};

#define DBD_UTF8 (sizeof(dbd_utf8) / sizeof(dbd_utf8[0]))

/* The bytes of the character that begins here; 0: there is none. */
static int dbd_character(const unsigned char *at)
{
    size_t i = 0;

    while (i < DBD_UTF8 && (*at < dbd_utf8[i].first || *at > dbd_utf8[i].last)) {
        i++;
    }
    if (i == DBD_UTF8 ||
        (dbd_utf8[i].more > 0 && (at[1] < dbd_utf8[i].low || at[1] > dbd_utf8[i].high))) {
        return 0;
    }
    for (int k = 2; k <= dbd_utf8[i].more; k++) {
        if ((at[k] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return dbd_utf8[i].more + 1;
}

/* Databases refuse, or misread, what is no text. */
static bool dbd_is_text(const char *value)
{
    const unsigned char *at = (const unsigned char *)value;
    int len = 1;

    while (*at != '\0' && len > 0) {
        len = dbd_character(at);
        at += len;
    }
    return len > 0;
}

/* The first column of the first row, empty for none. All rows are read, or the connection is not
   free again. */
static const char *dbd_row(const ap_dbd_t *dbd, apr_dbd_results_t *results, apr_pool_t *pool)
{
    const char *name = NULL;
    apr_dbd_row_t *row = NULL;

    while (apr_dbd_get_row(dbd->driver, pool, results, &row, -1) == 0) {
        const char *entry = apr_dbd_get_entry(dbd->driver, row, 0);

        if (name == NULL) {
            name = entry ? apr_pstrdup(pool, entry) : "";
        }
    }
    return name ? name : "";
}

static const char *dbd_select(const ap_dbd_t *dbd, apr_dbd_prepared_t *statement, const char *value,
                              apr_pool_t *pool)
{
    const char *values[] = { value };
    apr_dbd_results_t *results = NULL;

    /* "random": the driver for PostgreSQL else does not come back where there is no row */
    return apr_dbd_pselect(dbd->driver, pool, dbd->handle, &results, statement, 1, 1, values) == 0
               ? dbd_row(dbd, results, pool)
               : NULL;
}

/* mod_dbd makes a connection to PostgreSQL anew when it is lost, but not its statements. */
static const char *dbd_select_anew(const ap_dbd_t *dbd, const dbd_question_t *question,
                                   apr_pool_t *pool)
{
    apr_dbd_prepared_t *statement = NULL;

    return strcmp(apr_dbd_name(dbd->driver), "pgsql") == 0 &&
                   apr_dbd_check_conn(dbd->driver, pool, dbd->handle) == APR_SUCCESS &&
                   apr_dbd_prepare(dbd->driver, pool, dbd->handle, question->map->statement, NULL,
                                   &statement) == 0
               ? dbd_select(dbd, statement, question->value, pool)
               : NULL;
}

/* The name that the database has for the value; NULL: it failed. */
static const char *dbd_ask(const askers_t *askers, const dbd_question_t *question, apr_pool_t *pool)
{
    const plan_map_t *map = question->map;

    if (map->provider != NULL) {
        return plan_map_ask_provider(map, question->value, NULL, pool);
    }
    ap_dbd_t *dbd = askers->open(pool, map->server);

    if (dbd == NULL) {
        plan_map_failed(map, "there is no connection to the database");
        return NULL;
    }
    apr_dbd_prepared_t *statement = apr_hash_get(dbd->prepared, map->label, APR_HASH_KEY_STRING);
    const char *name = statement ? dbd_select(dbd, statement, question->value, pool) : NULL;

    if (name == NULL) {
        name = dbd_select_anew(dbd, question, pool);
    }
    if (name == NULL) { /* the database's own words may have the value in them */
        plan_map_failed(map, "the database does not answer the statement; its own log says why");
    }
    askers->close(map->server, dbd);
    return name;
}

static dbd_outcome_t dbd_answer(const plan_t **plan, const askers_t *askers,
                                const dbd_question_t *question)
{
    apr_pool_t *pool;

    if (apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS) {
        return DBD_FAILED;
    }
    const char *name = dbd_ask(askers, question, pool);

    if (name != NULL) {
        *plan = plan_map_named(question->map, name);
        cache_put(rlp_world->cache, &question->key, *plan, question->map->ttl);
    }
    apr_pool_destroy(pool);
    return name ? DBD_ANSWERED : DBD_FAILED;
}

/* With the mutex. */
static void dbd_leave(dbd_question_t *question)
{
    if (--question->users == 0) {
        free(question);
    }
}

/* The next question, taken; NULL when it is time to stop. With the mutex. */
static dbd_question_t *dbd_next(askers_t *askers)
{
    while (askers->first == NULL && !askers->stop) {
        apr_thread_cond_wait(askers->asked, askers->mutex);
    }
    dbd_question_t *question = askers->stop ? NULL : askers->first;

    if (question != NULL) {
        askers->first = question->next;
        askers->end = askers->first ? askers->end : &askers->first;
        askers->queued--;
    }
    return question;
}

/* With the mutex, which is given back meanwhile. */
static void dbd_serve(askers_t *askers, dbd_question_t *question)
{
    const plan_t *plan = NULL;

    if (question->users == 2) { /* else nobody waits any more */
        apr_thread_mutex_unlock(askers->mutex);
        const dbd_outcome_t outcome = dbd_answer(&plan, askers, question);

        apr_thread_mutex_lock(askers->mutex);
        question->plan = plan;
        question->outcome = outcome;
        apr_thread_cond_broadcast(askers->answered);
    }
    dbd_leave(question);
}

static void *APR_THREAD_FUNC dbd_run(apr_thread_t *thread, void *data)
{
    askers_t *askers = data;
    dbd_question_t *question;

    (void)thread;
    apr_thread_mutex_lock(askers->mutex);
    while ((question = dbd_next(askers)) != NULL) {
        dbd_serve(askers, question);
    }
    apr_thread_mutex_unlock(askers->mutex);
    return NULL;
}

/* --- waiting for the answer */

static dbd_question_t *dbd_question(const plan_map_t *map, const char *value,
                                    const cache_key_t *key)
{
    const size_t size = strlen(value) + 1;
    dbd_question_t *question = calloc(1, sizeof(*question) + size);

    if (question != NULL) {
        question->map = map;
        question->key = *key;
        question->users = 2;
        memcpy(question->value, value, size);
    }
    return question;
}

/* With the mutex. */
static void dbd_wait(const askers_t *askers, const dbd_question_t *question)
{
    const rlp_time_t end = rlp_clock_monotonic() + question->map->timeout;
    rlp_time_t left = question->map->timeout;

    while (question->outcome == DBD_WAITS && left > 0) {
        apr_thread_cond_timedwait(askers->answered, askers->mutex, left);
        left = end - rlp_clock_monotonic();
    }
}

/* With the mutex. */
static bool dbd_queue(const plan_t **plan, askers_t *askers, dbd_question_t *question)
{
    *askers->end = question;
    askers->end = &question->next;
    askers->queued++;
    apr_thread_cond_signal(askers->asked);
    dbd_wait(askers, question);
    const bool answered = question->outcome == DBD_ANSWERED;

    if (question->outcome == DBD_WAITS) {
        plan_map_failed(question->map, "the database does not answer in time");
    }
    *plan = question->plan;
    dbd_leave(question);
    return answered;
}

static bool dbd_find_in_queue(const plan_t **plan, askers_t *askers, const plan_map_t *map,
                              dbd_question_t *question)
{
    bool answered = false;

    apr_thread_mutex_lock(askers->mutex);
    if (askers->queued < DBD_QUEUE) {
        answered = dbd_queue(plan, askers, question);
    } else {
        plan_map_failed(map, "the database does not keep up with the questions");
        free(question);
    }
    apr_thread_mutex_unlock(askers->mutex);
    return answered;
}

/* A child without threads ends with a signal, wherever it is: not with the mutex. */
bool dbd_find(const plan_t **plan, const plan_map_t *map, const char *value, const cache_key_t *key)
{
    askers_t *askers = rlp_world->askers;
    sigset_t all;
    sigset_t before;

    *plan = NULL;
    if (strlen(value) > DBD_VALUE_MAX || (map->provider == NULL && !dbd_is_text(value))) {
        cache_put(rlp_world->cache, key, NULL, map->ttl);
        return true;
    }
    dbd_question_t *question = askers ? dbd_question(map, value, key) : NULL;

    if (question == NULL) {
        return false;
    }
    sigfillset(&all);
    if (askers->alone) {
        pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    const bool answered = dbd_find_in_queue(plan, askers, map, question);

    if (askers->alone) {
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    return answered;
}

/* --- the threads of a child */

/* Waits for those who ask just now: their connections go with the child. */
static apr_status_t dbd_end(void *data)
{
    askers_t *askers = data;
    apr_status_t rv;

    apr_thread_mutex_lock(askers->mutex);
    askers->stop = true;
    apr_thread_cond_broadcast(askers->asked);
    apr_thread_mutex_unlock(askers->mutex);
    for (int i = 0; i < askers->n; i++) {
        apr_thread_join(&rv, askers->threads[i]);
    }
    return APR_SUCCESS;
}

/* Under prefork, the pools of a child are for one thread. But mod_dbd makes connections in them. */
static apr_status_t dbd_share_pool(apr_pool_t *pchild)
{
    apr_allocator_t *allocator = apr_pool_allocator_get(pchild);
    apr_thread_mutex_t *mutex = NULL;

    if (apr_allocator_mutex_get(allocator) != NULL) {
        return APR_SUCCESS;
    }
    const apr_status_t rv = apr_thread_mutex_create(&mutex, APR_THREAD_MUTEX_DEFAULT, pchild);

    if (rv == APR_SUCCESS) {
        apr_allocator_mutex_set(allocator, mutex);
    }
    return rv;
}

static apr_status_t dbd_start(askers_t *askers, apr_pool_t *pchild)
{
    const int n = askers->alone ? 1 : DBD_THREADS;
    apr_status_t rv = apr_thread_mutex_create(&askers->mutex, APR_THREAD_MUTEX_DEFAULT, pchild);

    if (rv == APR_SUCCESS) {
        rv = apr_thread_cond_create(&askers->asked, pchild);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_thread_cond_create(&askers->answered, pchild);
    }
    while (rv == APR_SUCCESS && askers->n < n) {
        rv = plan_map_thread(&askers->threads[askers->n], dbd_run, askers, pchild);
        askers->n += rv == APR_SUCCESS;
    }
    return askers->n > 0 ? APR_SUCCESS : rv;
}

void dbd_begin(apr_pool_t *pchild, server_rec *server)
{
    askers_t *askers = apr_pcalloc(pchild, sizeof(*askers));
    int threaded = 0;

    askers->end = &askers->first;
    askers->alone = ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded) != APR_SUCCESS || threaded == 0;
    askers->open = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_open);
    askers->close = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_close);
    apr_status_t rv = dbd_share_pool(pchild);

    if (rv == APR_SUCCESS) {
        rv = dbd_start(askers, pchild);
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, server,
                     "RLP016: this process does not ask databases for plans");
        return;
    }
    apr_pool_pre_cleanup_register(pchild, askers, dbd_end);
    rlp_world->askers = askers;
}
