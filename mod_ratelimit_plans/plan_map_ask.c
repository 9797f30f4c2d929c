/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Asking sources that block. A database may take any time to answer, and APR knows no limit for
 * that: threads of their own ask, and requests wait for them as long as they may.
 */

#include "plan_map.h"
#include "thread.h"

#include <ap_mpm.h>
#include <http_config.h>
#include <http_log.h>

#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

#define ASK_THREADS 4      /* of a child that has threads; else one */
#define ASK_QUEUE 64       /* questions that wait for a thread; beyond, there is no answer */
#define ASK_VALUE_MAX 1024 /* bytes; longer ones are unknown */

typedef enum { ASK_WAITS, ASK_ANSWERED, ASK_FAILED } ask_outcome_t;

/* A question, of the thread that asks and of the request that waits: who is last frees it. */
typedef struct ask_question_t ask_question_t;

struct ask_question_t {
    ask_question_t *next;
    const plan_map_t *map;
    cache_key_t key;
    int users;
    ask_outcome_t outcome;
    const plan_t *plan;
    char value[];
};

/* Of a child. */
struct askers_t {
    pthread_mutex_t mutex; /* of all below, and of the questions */
    pthread_cond_t asked;
    pthread_cond_t answered;
    ask_question_t *first;
    ask_question_t **end;
    int queued;
    bool stop;
    bool alone; /* the child has one thread for requests, which signals may end anywhere */
    int n;
    apr_thread_t *threads[ASK_THREADS];
};

/* --- text */

/* UTF-8: what a character begins with, what its second byte may be, and how many come behind the
   first. */
static const struct {
    unsigned char first;
    unsigned char last;
    unsigned char low;
    unsigned char high;
    int more;
} ask_utf8[] = {
    { 0x01, 0x7f, 0, 0, 0 },       { 0xc2, 0xdf, 0x80, 0xbf, 1 }, { 0xe0, 0xe0, 0xa0, 0xbf, 2 },
    { 0xe1, 0xec, 0x80, 0xbf, 2 }, { 0xed, 0xed, 0x80, 0x9f, 2 }, { 0xee, 0xef, 0x80, 0xbf, 2 },
    { 0xf0, 0xf0, 0x90, 0xbf, 3 }, { 0xf1, 0xf3, 0x80, 0xbf, 3 }, { 0xf4, 0xf4, 0x80, 0x8f, 3 },
};

#define ASK_UTF8 (sizeof(ask_utf8) / sizeof(ask_utf8[0]))

/* The bytes of the character that begins here; 0: there is none. */
static int ask_character(const unsigned char *at)
{
    size_t i = 0;

    while (i < ASK_UTF8 && (*at < ask_utf8[i].first || *at > ask_utf8[i].last)) {
        i++;
    }
    if (i == ASK_UTF8 ||
        (ask_utf8[i].more > 0 && (at[1] < ask_utf8[i].low || at[1] > ask_utf8[i].high))) {
        return 0;
    }
    for (int k = 2; k <= ask_utf8[i].more; k++) {
        if ((at[k] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return ask_utf8[i].more + 1;
}

/* Databases refuse, or misread, what is no text. */
static bool ask_is_text(const char *value)
{
    const unsigned char *at = (const unsigned char *)value;
    int len = 1;

    while (*at != '\0' && len > 0) {
        len = ask_character(at);
        at += len;
    }
    return len > 0;
}

/* --- asking */

static ask_outcome_t ask_answer(const plan_t **plan, const ask_question_t *question)
{
    apr_pool_t *pool;

    if (apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS) {
        return ASK_FAILED;
    }
    const bool answered = plan_map_ask(plan, question->map, question->value, NULL, pool);

    if (answered) {
        cache_put(rlp_world->cache, &question->key, *plan, question->map->ttl);
    }
    apr_pool_destroy(pool);
    return answered ? ASK_ANSWERED : ASK_FAILED;
}

/* With the mutex. */
static void ask_leave(ask_question_t *question)
{
    if (--question->users == 0) {
        free(question);
    }
}

/* The next question, taken; NULL when it is time to stop. With the mutex. */
static ask_question_t *ask_next(askers_t *askers)
{
    while (askers->first == NULL && !askers->stop) {
        pthread_cond_wait(&askers->asked, &askers->mutex);
    }
    ask_question_t *question = askers->stop ? NULL : askers->first;

    if (question != NULL) {
        askers->first = question->next;
        askers->end = askers->first ? askers->end : &askers->first;
        askers->queued--;
    }
    return question;
}

/* With the mutex, which is given back meanwhile. */
static void ask_serve(askers_t *askers, ask_question_t *question)
{
    const plan_t *plan = NULL;

    if (question->users == 2) { /* else nobody waits any more */
        pthread_mutex_unlock(&askers->mutex);
        const ask_outcome_t outcome = ask_answer(&plan, question);

        pthread_mutex_lock(&askers->mutex);
        question->plan = plan;
        question->outcome = outcome;
        pthread_cond_broadcast(&askers->answered);
    }
    ask_leave(question);
}

static void *APR_THREAD_FUNC ask_run(apr_thread_t *thread, void *data)
{
    askers_t *askers = data;
    ask_question_t *question;

    (void)thread;
    pthread_mutex_lock(&askers->mutex);
    while ((question = ask_next(askers)) != NULL) {
        ask_serve(askers, question);
    }
    pthread_mutex_unlock(&askers->mutex);
    return NULL;
}

/* --- waiting for the answer */

static ask_question_t *ask_question(const plan_map_t *map, const char *value,
                                    const cache_key_t *key)
{
    const size_t size = strlen(value) + 1;
    ask_question_t *question = calloc(1, sizeof(*question) + size);

    if (question != NULL) {
        question->map = map;
        question->key = *key;
        question->users = 2;
        memcpy(question->value, value, size);
    }
    return question;
}

/* With the mutex. */
static void ask_wait(askers_t *askers, const ask_question_t *question)
{
    const rlp_time_t end = rlp_clock_monotonic() + question->map->timeout;
    rlp_time_t left = question->map->timeout;

    while (question->outcome == ASK_WAITS && left > 0) {
        (void)thread_await(&askers->answered, &askers->mutex, left);
        left = end - rlp_clock_monotonic();
    }
}

/* With the mutex. */
static bool ask_queue(const plan_t **plan, askers_t *askers, ask_question_t *question)
{
    *askers->end = question;
    askers->end = &question->next;
    askers->queued++;
    pthread_cond_signal(&askers->asked);
    ask_wait(askers, question);
    const bool answered = question->outcome == ASK_ANSWERED;

    if (question->outcome == ASK_WAITS) {
        plan_map_failed(question->map, "the database does not answer in time");
    }
    *plan = question->plan;
    ask_leave(question);
    return answered;
}

static bool ask_find_in_queue(const plan_t **plan, askers_t *askers, const plan_map_t *map,
                              ask_question_t *question)
{
    bool answered = false;

    pthread_mutex_lock(&askers->mutex);
    if (askers->queued < ASK_QUEUE) {
        answered = ask_queue(plan, askers, question);
    } else {
        plan_map_failed(map, "the database does not keep up with the questions");
        free(question);
    }
    pthread_mutex_unlock(&askers->mutex);
    return answered;
}

/* A child without threads ends with a signal, wherever it is: not with the mutex. */
bool ask_find(const plan_t **plan, const plan_map_t *map, const char *value, const cache_key_t *key)
{
    askers_t *askers = rlp_world->askers;
    sigset_t all;
    sigset_t before;

    *plan = NULL;
    if (strlen(value) > ASK_VALUE_MAX || (map->provider->text && !ask_is_text(value))) {
        cache_put(rlp_world->cache, key, NULL, map->ttl);
        return true;
    }
    ask_question_t *question = askers ? ask_question(map, value, key) : NULL;

    if (question == NULL) {
        return false;
    }
    sigfillset(&all);
    if (askers->alone) {
        pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    const bool answered = ask_find_in_queue(plan, askers, map, question);

    if (askers->alone) {
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    return answered;
}

/* --- the threads of a child */

/* Waits for those who ask just now: their connections go with the child. */
static apr_status_t ask_end(void *data)
{
    askers_t *askers = data;
    apr_status_t rv;

    pthread_mutex_lock(&askers->mutex);
    askers->stop = true;
    pthread_cond_broadcast(&askers->asked);
    pthread_mutex_unlock(&askers->mutex);
    for (int i = 0; i < askers->n; i++) {
        apr_thread_join(&rv, askers->threads[i]);
    }
    return APR_SUCCESS;
}

/* Under prefork, the pools of a child are for one thread. But mod_dbd makes connections in them. */
static apr_status_t ask_share_pool(apr_pool_t *pchild)
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

static apr_status_t ask_start(askers_t *askers, apr_pool_t *pchild)
{
    const int n = askers->alone ? 1 : ASK_THREADS;
    apr_status_t rv = pthread_mutex_init(&askers->mutex, NULL);

    if (rv == APR_SUCCESS) {
        rv = thread_condition(&askers->asked);
    }
    if (rv == APR_SUCCESS) {
        rv = thread_condition(&askers->answered);
    }
    while (rv == APR_SUCCESS && askers->n < n) {
        rv = thread_spawn(&askers->threads[askers->n], ask_run, askers, pchild);
        askers->n += rv == APR_SUCCESS;
    }
    return askers->n > 0 ? APR_SUCCESS : rv;
}

void ask_begin(apr_pool_t *pchild, server_rec *server)
{
    askers_t *askers = apr_pcalloc(pchild, sizeof(*askers));
    int threaded = 0;

    askers->end = &askers->first;
    askers->alone = ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded) != APR_SUCCESS || threaded == 0;
    apr_status_t rv = ask_share_pool(pchild);

    if (rv == APR_SUCCESS) {
        rv = ask_start(askers, pchild);
    }
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, server,
                     "RLP016: this process does not ask databases for plans");
        return;
    }
    apr_pool_pre_cleanup_register(pchild, askers, ask_end);
    rlp_world->askers = askers;
}
