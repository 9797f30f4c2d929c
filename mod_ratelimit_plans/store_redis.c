/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The store "redis": several hosts count together. What becomes of requests while it does not
 * answer is said here, too.
 */

#include "provider.h"

#include "plan_map.h"
#include "redis/script.h"
#include "redis/store.h"

#include <http_config.h>
#include <http_log.h>

#include <apr_atomic.h>
#include <apr_lib.h>
#include <apr_shm.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

#define FAR_BREAKERS 64
#define FAR_LONGEST (30 * RLP_SECOND) /* between two probes, unless recovery= is longer */
#define FAR_PROBE (2 * RLP_SECOND)    /* a probe without result may be repeated */
#define FAR_JITTER 20                 /* percent */
#define FAR_EVERY (APR_USEC_PER_SEC / 10)
#define FAR_PATIENCE APR_USEC_PER_SEC        /* for the end of the thread */
#define FAR_COMPLAIN (60 * APR_USEC_PER_SEC) /* between two lines of one process */

typedef enum { FAR_LOCAL, FAR_OPEN, FAR_CLOSED } failure_t;

static const char *const far_failures[] = { "local", "open", "closed", NULL };

typedef struct {
    const char *name;
    redis_url_t url;
    const char *url_text; /* NULL: not given */
    const char *password; /* where it is read from */
    const char *prefix;
    const char *secret; /* NULL: not given */
    int64_t timeout;
    int64_t connect;
    int64_t recovery;
    int64_t threshold;
    int64_t hosts;
    failure_t failure;
    unsigned given;
    void *local; /* settings of the store that stands in */
} far_settings_t;

/* --- configuration */

static const char *far_failure(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    const int failure = config_word(value, far_failures);

    if (failure < 0) {
        return apr_psprintf(pool, "expected failure=local, open or closed, got \"failure=%s\"%s",
                            value, config_near_whole(value, far_failures, pool));
    }
    settings->failure = (failure_t)failure;
    return NULL;
}

/* Paths are relative to ServerRoot. */
static const char *far_source(const char *value, apr_pool_t *pool)
{
    const char *path = ap_cstr_casecmpn(value, "file:", 5) == 0 && value[5] != '\0'
                           ? ap_server_root_relative(pool, value + 5)
                           : NULL;

    return path ? apr_pstrcat(pool, "file:", path, NULL) : value;
}

static const char *far_secret(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    const char *error = redis_secret_read(&settings->secret, far_source(value, pool), pool);

    return error ? apr_pstrcat(pool, "secret=: ", error, NULL) : NULL;
}

static const char *far_url(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    (void)pool;
    settings->url_text = value;
    return NULL;
}

static const char *far_password(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    settings->password = far_source(value, pool);
    return NULL;
}

static const char *far_prefix(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    for (const char *at = value; *at != '\0'; at++) {
        if (!apr_isgraph(*at) || *at == '{' || *at == '}') {
            return apr_psprintf(pool,
                                "expected a prefix= of printable characters without braces, got "
                                "\"prefix=%s\"",
                                value);
        }
    }
    settings->prefix = value;
    return NULL;
}

/* What is a number: where it goes, and from where to where. */
typedef struct {
    const char *name;
    const char *(*set)(far_settings_t *settings, const char *value, apr_pool_t *pool);
    size_t number; /* offset of it, without set */
    bool span;     /* a duration */
    int64_t least;
    int64_t most;
    const char *range;
} far_option_t;

#define FAR_MS (RLP_SECOND / 1000)

static const far_option_t far_options[] = {
    { .name = "url=", .set = far_url },
    { .name = "password=", .set = far_password },
    { .name = "secret=", .set = far_secret },
    { .name = "prefix=", .set = far_prefix },
    { .name = "failure=", .set = far_failure },
    { .name = "timeout=",
      .number = offsetof(far_settings_t, timeout),
      .span = true,
      .least = FAR_MS,
      .most = 10 * RLP_SECOND,
      .range = "timeout= from 1ms to 10s" },
    { .name = "connect=",
      .number = offsetof(far_settings_t, connect),
      .span = true,
      .least = FAR_MS,
      .most = 10 * RLP_SECOND,
      .range = "connect= from 1ms to 10s" },
    { .name = "recovery=",
      .number = offsetof(far_settings_t, recovery),
      .span = true,
      .least = 100 * FAR_MS,
      .most = 600 * RLP_SECOND,
      .range = "recovery= from 100ms to 10min" },
    { .name = "failure-threshold=",
      .number = offsetof(far_settings_t, threshold),
      .least = 1,
      .most = 1000,
      .range = "failure-threshold= from 1 to 1000" },
    { .name = "hosts=",
      .number = offsetof(far_settings_t, hosts),
      .least = 1,
      .most = 10000,
      .range = "hosts= from 1 to 10000" },
};

#define FAR_OPTIONS ((int)(sizeof(far_options) / sizeof(far_options[0])))

static const char *far_number(far_settings_t *settings, const far_option_t *option,
                              const char *value, apr_pool_t *pool)
{
    int64_t *number = (int64_t *)((char *)settings + option->number);
    char *end = NULL;
    const char *error = NULL;

    if (option->span) {
        error = rlp_duration_parse(number, value, pool);
    } else {
        *number = apr_strtoi64(value, &end, 10);
    }
    if (error != NULL || (end != NULL && (*end != '\0' || !apr_isdigit(*value))) ||
        *number < option->least || *number > option->most) {
        return apr_psprintf(pool, "expected %s, got \"%s%s\"", option->range, option->name, value);
    }
    return NULL;
}

/* What does not begin like an option is not repeated in full: it may be a secret. */
static const char *far_unknown(const char *word, apr_pool_t *pool)
{
    const char *names[FAR_OPTIONS + 1] = { NULL };
    const char *name = apr_pstrmemdup(pool, word, strcspn(word, "="));

    for (int i = 0; i < FAR_OPTIONS; i++) {
        names[i] = far_options[i].name;
    }
    return apr_psprintf(pool,
                        "expected url=, password=, secret=, prefix=, timeout=, connect=, failure=, "
                        "failure-threshold=, recovery= or hosts=, got \"%.32s\"%s",
                        strchr(name, ':') ? "..." : name, config_near(word, names, pool));
}

static const char *far_option(far_settings_t *settings, const char *word, apr_pool_t *pool)
{
    for (int i = 0; i < FAR_OPTIONS; i++) {
        const far_option_t *option = &far_options[i];
        const char *value = word + strlen(option->name);

        if (ap_cstr_casecmpn(word, option->name, strlen(option->name)) != 0) {
            continue;
        }
        if (settings->given >> i & 1) {
            return apr_psprintf(pool, "expected each option once, got \"%s\" again", option->name);
        }
        settings->given |= 1U << i;
        return option->set ? option->set(settings, value, pool)
                           : far_number(settings, option, value, pool);
    }
    return far_unknown(word, pool);
}

static const char *far_configure_url(far_settings_t *settings, apr_pool_t *pool)
{
    if (settings->url_text == NULL) {
        return "expected url=URL, got none";
    }
    return redis_url_parse(&settings->url, settings->url_text, settings->password, pool);
}

static const char *far_configure(void **made, const char *name, const char *const options[], int n,
                                 apr_pool_t *pool)
{
    far_settings_t *settings = apr_pcalloc(pool, sizeof(*settings));
    const char *error = NULL;

    *settings = (far_settings_t){ .name = name,
                                  .prefix = "",
                                  .timeout = 30 * FAR_MS,
                                  .connect = 100 * FAR_MS,
                                  .recovery = 2 * RLP_SECOND,
                                  .threshold = 3,
                                  .hosts = 1 };
    *made = settings;
    for (int i = 0; i < n && error == NULL; i++) {
        error = far_option(settings, options[i], pool);
    }
    if (error == NULL) {
        error = far_configure_url(settings, pool);
    }
    if (error == NULL) {
        error = store_shm_provider.configure(&settings->local, name, NULL, 0, pool);
    }
    return error;
}

static const char *far_limit(void *made, const rlp_limit_t *limit, rlp_time_t max_wait,
                             apr_pool_t *pool)
{
    (void)made;
    return script_limit_error(limit, max_wait, pool);
}

static const char *far_digest(void *made)
{
    const far_settings_t *settings = made;

    return settings->secret ? NULL
                            : "expected secret=file:PATH or secret=env:NAME behind RateLimitStore, "
                              "the key of the digests that stand for its values in Redis, got none";
}

static const char *far_describe(void *made, apr_pool_t *pool)
{
    const far_settings_t *settings = made;
    const char *hosts =
        settings->failure != FAR_LOCAL || settings->hosts == 1
            ? ""
            : apr_psprintf(pool, ", one of %" APR_INT64_T_FMT " hosts", settings->hosts);

    return apr_psprintf(pool, "Redis at %s; failure=%s%s", redis_url_print(&settings->url, pool),
                        far_failures[settings->failure], hosts);
}

/* --- asking */

/* What all processes of this host share. */
typedef struct {
    redis_breaker_t breakers[FAR_BREAKERS];
    rlp_owners_t owners;
} far_shared_t;

typedef struct {
    rlp_store_t head;
    const far_settings_t *settings;
    redis_endpoint_t *endpoint;
    rlp_store_t *redis;
    rlp_store_t *local; /* stands in; NULL: nobody does */
    server_rec *server;
    unsigned char secret[RLP_DIGEST_SIZE];
    apr_uint32_t complained; /* the second of the latest line; 0: none */
} far_t;

static apr_status_t far_ask(rlp_store_t *store, rlp_charge_t *charges, int n,
                            const rlp_question_t *question, rlp_op_kind_t kind,
                            rlp_answer_t *answer)
{
    switch (kind) {
    case RLP_TAKE:
        return rlp_check(store, charges, n, question, answer);
    case RLP_PEEK:
        return rlp_peek(store, charges, n, question, answer);
    case RLP_SETTLE:
        return rlp_settle(store, charges, n, question, answer);
    default:
        return rlp_release(store, charges, n, question, answer);
    }
}

/* The same question to the store that stands in, with this host's share of the limits. */
static apr_status_t far_stand_in(const far_t *store, rlp_charge_t *charges, int n,
                                 const rlp_question_t *question, rlp_op_kind_t kind,
                                 rlp_answer_t *answer)
{
    rlp_limit_t limits[RLP_ENTRIES_MAX];
    const rlp_limit_t *whole[RLP_ENTRIES_MAX] = { NULL };

    for (int i = 0; i < n; i++) {
        whole[i] = charges[i].limit;
        limits[i] = *charges[i].limit;
        rlp_limit_share(&limits[i], store->settings->hosts);
        charges[i].limit = &limits[i];
        charges[i].counted_at = 0;
    }
    const apr_status_t rv = far_ask(store->local, charges, n, question, kind, answer);

    for (int i = 0; i < n; i++) {
        charges[i].limit = whole[i];
    }
    return rv;
}

/* The breaker tells what it does; this tells the rest now and then. */
static void far_complain(far_t *store, apr_status_t rv)
{
    const apr_uint32_t now = (apr_uint32_t)(rlp_clock_monotonic() / RLP_SECOND) + 1;
    const apr_uint32_t before = apr_atomic_read32(&store->complained);

    if ((before == 0 || now - before >= FAR_COMPLAIN / APR_USEC_PER_SEC) &&
        apr_atomic_cas32(&store->complained, now, before) == before) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, rv, store->server,
                     "RLP033: Redis did not answer a question, failure=%s (said once a minute and "
                     "process)",
                     far_failures[store->settings->failure]);
    }
}

static apr_status_t far_decide(rlp_store_t *head, rlp_charge_t *charges, int n,
                               const rlp_question_t *question, rlp_op_kind_t kind,
                               rlp_answer_t *answer)
{
    far_t *store = (far_t *)head;
    const bool corrects = kind > RLP_PEEK;
    apr_status_t rv = APR_SUCCESS;

    if (!corrects || charges[0].counted_at != 0) {
        rv = store->redis->type->decide(store->redis, charges, n, question, kind, answer);
        if (rv == APR_SUCCESS) {
            return rv;
        }
        far_complain(store, rv);
        if (corrects) {
            return rv;
        }
    }
    return store->local ? far_stand_in(store, charges, n, question, kind, answer) : rv;
}

static rlp_time_t far_time(const rlp_store_t *head, rlp_time_t now)
{
    const far_t *store = (const far_t *)head;

    return rlp_store_time(store->local ? store->local : store->redis, now);
}

static uint64_t far_fingerprint(const rlp_store_t *head, const char *identity, size_t len)
{
    const far_t *store = (const far_t *)head;

    return rlp_store_fingerprint(store->local ? store->local : store->redis, identity, len);
}

static const rlp_store_type_t far_type = {
    .name = "redis", .time = far_time, .fingerprint = far_fingerprint, .decide = far_decide
};

static bool far_refuses(rlp_store_t *head)
{
    return ((const far_t *)head)->settings->failure == FAR_CLOSED;
}

/* --- opening */

static void far_report(void *baton, const char *name, redis_change_t change, const char *why)
{
    static const char *const doings[] = { "requests are counted on this host alone",
                                          "requests pass uncounted",
                                          "requests are answered with 503" };
    const far_t *store = baton;

    if (change.to == REDIS_OPEN) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, store->server,
                     "RLP030: Redis at %s is not asked for now (%s): %s", name, why,
                     doings[store->settings->failure]);
    } else if (change.to == REDIS_HALF_OPEN) {
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, store->server,
                     "RLP031: Redis at %s is asked once, to see whether it is back", name);
    } else {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, store->server, "RLP032: Redis at %s is back",
                     name);
    }
}

static far_shared_t *far_share(apr_pool_t *pool)
{
    apr_shm_t *shm;

    if (apr_shm_create(&shm, sizeof(far_shared_t), NULL, pool) != APR_SUCCESS) {
        return NULL;
    }
    return memset(apr_shm_baseaddr_get(shm), 0, sizeof(far_shared_t));
}

/* The key of digests, the same on all hosts. */
static void far_digest_key(far_t *store, apr_pool_t *pool)
{
    const char *secret = store->settings->secret ? store->settings->secret : "";
    const char *text = apr_pstrcat(pool, "rlp", store->settings->prefix, ":", secret, NULL);

    rlp_digest(store->secret, text, strlen(text));
}

static apr_status_t far_connect(far_t *store, far_shared_t *shared, apr_pool_t *pool)
{
    const far_settings_t *settings = store->settings;
    const char **scripts = apr_palloc(pool, sizeof(*scripts));
    const redis_settings_t made = {
        .session = { .scripts = scripts, .n_scripts = 1, .connect = settings->connect },
        .breaker = { .threshold = (int)settings->threshold,
                     .recovery = settings->recovery,
                     .longest = settings->recovery > FAR_LONGEST ? settings->recovery : FAR_LONGEST,
                     .probe = settings->timeout + FAR_PROBE,
                     .jitter = FAR_JITTER },
        .report = far_report,
        .baton = store
    };

    scripts[0] = redis_store_script(pool);
    return redis_endpoint_create(&store->endpoint, &settings->url, &made, shared->breakers,
                                 FAR_BREAKERS, pool);
}

static const char *far_open(rlp_store_t **made, void *settings, const rlp_clock_t *clock,
                            server_rec *server, apr_pool_t *pool)
{
    far_t *store = apr_pcalloc(pool, sizeof(*store));
    far_shared_t *shared = far_share(pool);

    store->settings = settings;
    store->server = server;
    if (store->settings->failure == FAR_LOCAL) {
        const char *error =
            store_shm_provider.open(&store->local, store->settings->local, clock, server, pool);

        if (error != NULL) {
            return error;
        }
    }
    far_digest_key(store, pool);
    if (shared == NULL || far_connect(store, shared, pool) != APR_SUCCESS) {
        return "cannot get memory for what the processes share about Redis";
    }
    store->head = (rlp_store_t){ .type = &far_type,
                                 .owners = store->local ? store->local->owners : &shared->owners,
                                 .secret = store->secret };
    const redis_store_settings_t inner = { .endpoint = store->endpoint,
                                           .prefix = store->settings->prefix,
                                           .timeout = store->settings->timeout,
                                           .owners = store->head.owners,
                                           .secret = store->secret };

    store->redis = redis_store_create(&inner, pool);
    *made = &store->head;
    return NULL;
}

int store_redis_servers(store_server_t servers[], apr_pool_t *pool)
{
    static const char *const phases[] = {
        [REDIS_CLOSED] = "closed", [REDIS_OPEN] = "open", [REDIS_HALF_OPEN] = "half-open"
    };
    const far_t *store = (const far_t *)rlp_world->store;

    if (rlp_world->store_provider != &store_redis_provider || store == NULL) {
        return 0;
    }
    redis_server_t *there = apr_pcalloc(pool, sizeof(*there) * STORE_SERVERS_MAX);
    const int n = redis_endpoint_servers(store->endpoint, there, STORE_SERVERS_MAX);

    for (int i = 0; i < n; i++) {
        servers[i] = (store_server_t){ .name = there[i].name,
                                       .breaker = phases[there[i].breaker.phase],
                                       .failures = there[i].breaker.failures,
                                       .wait = there[i].breaker.wait,
                                       .why = there[i].why };
    }
    return n;
}

/* --- the thread of a child that sees to names, Sentinels and slots */

typedef struct {
    far_t *store;
    apr_thread_t *thread;
    apr_thread_mutex_t *mutex; /* of what follows */
    apr_thread_cond_t *cond;
    bool stop;
    bool done;
} keeper_t;

static void *APR_THREAD_FUNC keeper_run(apr_thread_t *thread, void *data)
{
    keeper_t *keeper = data;

    (void)thread;
    apr_thread_mutex_lock(keeper->mutex);
    while (!keeper->stop) {
        apr_thread_mutex_unlock(keeper->mutex);
        redis_endpoint_maintain(keeper->store->endpoint);
        apr_thread_mutex_lock(keeper->mutex);
        if (!keeper->stop) {
            apr_thread_cond_timedwait(keeper->cond, keeper->mutex, FAR_EVERY);
        }
    }
    keeper->done = true;
    apr_thread_cond_broadcast(keeper->cond);
    apr_thread_mutex_unlock(keeper->mutex);
    return NULL;
}

/* Under prefork this may run in the midst of anything: it does not wait for ever. */
static apr_status_t keeper_stop(void *data)
{
    keeper_t *keeper = data;
    apr_status_t rv = APR_SUCCESS;

    apr_thread_mutex_lock(keeper->mutex);
    keeper->stop = true;
    apr_thread_cond_broadcast(keeper->cond);
    while (!keeper->done && rv == APR_SUCCESS) {
        rv = apr_thread_cond_timedwait(keeper->cond, keeper->mutex, FAR_PATIENCE);
    }
    const bool done = keeper->done;

    apr_thread_mutex_unlock(keeper->mutex);
    if (done) {
        apr_thread_join(&rv, keeper->thread);
    }
    return APR_SUCCESS;
}

static apr_status_t far_child(rlp_store_t *head, apr_pool_t *pchild)
{
    keeper_t *keeper = apr_pcalloc(pchild, sizeof(*keeper));

    keeper->store = (far_t *)head;
    apr_status_t rv = apr_thread_mutex_create(&keeper->mutex, APR_THREAD_MUTEX_DEFAULT, pchild);

    if (rv == APR_SUCCESS) {
        rv = apr_thread_cond_create(&keeper->cond, pchild);
    }
    if (rv == APR_SUCCESS) {
        rv = plan_map_thread(&keeper->thread, keeper_run, keeper, pchild);
    }
    if (rv == APR_SUCCESS) {
        apr_pool_pre_cleanup_register(pchild, keeper, keeper_stop);
    }
    return rv;
}

const rlp_store_provider_t store_redis_provider = {
    .options = "url=URL [password=file:PATH|env:NAME] [secret=file:PATH|env:NAME] [prefix=TEXT] "
               "[timeout=DURATION] [connect=DURATION] [failure=local|open|closed] "
               "[failure-threshold=N] [recovery=DURATION] [hosts=N]",
    .state_max = SHM_STATE_MAX,
    .configure = far_configure,
    .open = far_open,
    .child = far_child,
    .limit = far_limit,
    .digest = far_digest,
    .describe = far_describe,
    .refuses = far_refuses
};
