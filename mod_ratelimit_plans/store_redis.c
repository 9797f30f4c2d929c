/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The store "redis": several hosts count together. What becomes of requests while it does not
 * answer is said here, too.
 */

#include "store_redis.h"

#include "redis/lease_store.h"
#include "redis/local.h"
#include "redis/store.h"
#include "retained.h"
#include "thread.h"

#include <http_log.h>

#include <apr_atomic.h>
#include <apr_general.h>
#include <apr_shm.h>
#include <apr_strings.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

#define FAR_BREAKERS 64
#define FAR_LONGEST (30 * RLP_SECOND) /* between two probes, unless recovery= is longer */
#define FAR_PROBE (2 * RLP_SECOND)    /* a probe without result may be repeated */
#define FAR_JITTER 20                 /* percent */
#define FAR_EVERY (APR_USEC_PER_SEC / 10)
#define FAR_RETAINED "mod_ratelimit_plans host 1"
#define FAR_KNOWN "mod_ratelimit_plans known 2 %" APR_SIZE_T_FMT " %s %s %s"
#define FAR_COMPLAIN (60 * APR_USEC_PER_SEC) /* between two lines of one process */

/* --- asking */

/* What all processes of this host share, until a restart. */
typedef struct {
    redis_breaker_t breakers[FAR_BREAKERS];
    rlp_owners_t owners;
    far_orders_shared_t orders;
} far_shared_t;

/* ... and beyond it, or a host that is reloaded while Redis is away would not know any more what
   was left, and how many hosts share it. */
typedef struct {
    redis_local_shared_t local;
    redis_denials_t denials;
} far_known_t;

typedef struct {
    rlp_store_t head;
    const far_settings_t *settings;
    redis_endpoint_t *endpoint;
    rlp_store_t *redis;    /* what is asked: the next, or leases before it */
    rlp_store_t *exact;    /* the store in Redis */
    rlp_store_t *local;    /* has the counters while Redis is away; NULL: nobody has */
    redis_local_t *stands; /* ... and decides by them */
    server_rec *server;
    unsigned char secret[RLP_DIGEST_SIZE];
    far_orders_t orders;
    apr_uint32_t complained; /* the second of the latest line; 0: none */
    apr_uint32_t told;       /* ... that has the words of an error */
} far_t;

/* The same question to the store that stands in, with this host's share of the limits. */
static apr_status_t far_stand_in(const far_t *store, rlp_charge_t *charges, int n,
                                 const rlp_question_t *question, rlp_op_kind_t kind,
                                 rlp_answer_t *answer)
{
    return redis_local_decide(store->stands, charges, n, question, kind, answer);
}

/* Is it time for another line? */
static bool far_may_say(apr_uint32_t *latest)
{
    const apr_uint32_t now = (apr_uint32_t)(rlp_clock_monotonic() / RLP_SECOND) + 1;
    const apr_uint32_t before = apr_atomic_read32(latest);

    return (before == 0 || now - before >= FAR_COMPLAIN / APR_USEC_PER_SEC) &&
           apr_atomic_cas32(latest, now, before) == before;
}

/* The breaker tells what it does; this tells the rest now and then. */
static void far_complain(far_t *store, apr_status_t rv)
{
    if (far_may_say(&store->complained)) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, rv, store->server,
                     "RLP033: Redis did not answer a question, failure=%s (said once a minute and "
                     "process)",
                     far_failures[store->settings->failure]);
    }
}

/* What becomes of the charge while Redis does not answer. */
static failure_t far_failure(const far_t *store, const rlp_charge_t *charge)
{
    const rlp_failure_t own = charge->terms ? charge->terms->failure : RLP_FAILURE_USUAL;

    return own == RLP_FAILURE_USUAL ? store->settings->failure
                                    : (failure_t)(own - RLP_FAILURE_LOCAL);
}

/* How many of the charges have that become of them. */
static int far_count(const far_t *store, const rlp_charge_t charges[], int n, failure_t failure)
{
    int found = 0;

    for (int i = 0; i < n; i++) {
        found += far_failure(store, &charges[i]) == failure;
    }
    return found;
}

/* Of those that are not spared. */
static int far_tightest(const rlp_charge_t charges[], int n)
{
    int tightest = -1;

    for (int i = 0; i < n; i++) {
        if (!charges[i].spared &&
            (tightest < 0 ||
             rlp_decision_tighter(charges[i].limit, &charges[i].decision, charges[tightest].limit,
                                  &charges[tightest].decision))) {
            tightest = i;
        }
    }
    return tightest < 0 ? 0 : tightest;
}

/* Asks the store that stands in; what passes uncounted costs nothing there, and is spared. */
static apr_status_t far_stand_in_some(const far_t *store, rlp_charge_t charges[], int n,
                                      const rlp_question_t *question, rlp_op_kind_t kind,
                                      rlp_answer_t *answer)
{
    rlp_units_t costs[RLP_ENTRIES_MAX];

    for (int i = 0; i < n; i++) {
        costs[i] = charges[i].cost;
        charges[i].cost = far_failure(store, &charges[i]) == FAR_OPEN ? 0 : costs[i];
    }
    const apr_status_t rv = far_stand_in(store, charges, n, question, kind, answer);

    for (int i = 0; i < n; i++) {
        charges[i].cost = costs[i];
        charges[i].spared |= far_failure(store, &charges[i]) == FAR_OPEN;
    }
    answer->tightest = far_tightest(charges, n);
    answer->unasked = true;
    return rv;
}

/* Redis does not answer. APR_SUCCESS if there is another answer. */
static apr_status_t far_without(const far_t *store, rlp_charge_t charges[], int n,
                                const rlp_question_t *question, rlp_op_kind_t kind,
                                rlp_answer_t *answer)
{
    const int open = far_count(store, charges, n, FAR_OPEN);

    answer->told = true;
    answer->refuses = far_count(store, charges, n, FAR_CLOSED) > 0;
    if (answer->refuses || open == n || store->local == NULL) {
        return APR_EGENERAL;
    }
    return open > 0 ? far_stand_in_some(store, charges, n, question, kind, answer)
                    : far_stand_in(store, charges, n, question, kind, answer);
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
    const apr_status_t without = far_without(store, charges, n, question, kind, answer);

    return without == APR_SUCCESS ? without : rv;
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

const far_orders_t *far_orders(const rlp_store_t *head)
{
    return &((const far_t *)head)->orders;
}

void far_exchange(rlp_store_t *head, redis_call_t *call)
{
    const far_t *store = (const far_t *)head;

    redis_endpoint_exchange(store->endpoint, call, 1,
                            rlp_clock_monotonic() + store->settings->timeout);
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

static void far_error(void *baton, const char *name, const char *why)
{
    far_t *store = baton;

    if (far_may_say(&store->told)) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, store->server,
                     "RLP033: Redis at %s answered with an error: %s (said once a minute and "
                     "process)",
                     name, why);
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

static apr_status_t far_know_nothing(void *memory)
{
    far_known_t *known = memory;

    return redis_denials_init(&known->denials);
}

/* What is known of this Redis; another one has memory of its own, children that know the old one
   keep that. */
static far_known_t *far_know(const far_settings_t *settings, apr_pool_t *pool)
{
    const char *name = apr_psprintf(pool, FAR_KNOWN, sizeof(far_known_t), settings->name,
                                    redis_url_print(&settings->url, pool), settings->prefix);
    far_known_t *known = retained_memory(name, sizeof(*known), far_know_nothing);

    if (known != NULL) {
        redis_denials_doubt(&known->denials, rlp_clock_monotonic()); /* a reload asks anew */
    }
    return known;
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
        .session = { .scripts = scripts,
                     .n_scripts = 1,
                     .connect = settings->connect,
                     .tls = settings->tls },
        .breaker = { .threshold = (int)settings->threshold,
                     .recovery = settings->recovery,
                     .longest = settings->recovery > FAR_LONGEST ? settings->recovery : FAR_LONGEST,
                     .probe = settings->timeout + FAR_PROBE,
                     .jitter = FAR_JITTER },
        .report = far_report,
        .error = far_error,
        .baton = store
    };

    scripts[0] = redis_store_script(pool);
    return redis_endpoint_create(&store->endpoint, &settings->url, &made, shared->breakers,
                                 FAR_BREAKERS, pool);
}

/* The name that this host goes by among the others, as long as the server runs. */
static const unsigned char *far_host(void)
{
    unsigned char *id = ap_retained_data_get(FAR_RETAINED);

    if (id == NULL) {
        id = ap_retained_data_create(FAR_RETAINED, REDIS_HOST_ID);
        (void)apr_generate_random_bytes(id, REDIS_HOST_ID);
    }
    return id;
}

static bool far_stand(far_t *store, far_known_t *known, apr_pool_t *pool)
{
    const redis_local_settings_t settings = { .redis = store->redis,
                                              .local = store->local,
                                              .denials = &known->denials,
                                              .shared = &known->local,
                                              .hosts = store->settings->hosts,
                                              .own = { .endpoint = store->endpoint,
                                                       .prefix = store->settings->prefix,
                                                       .id = far_host(),
                                                       .timeout = store->settings->timeout,
                                                       .ttl = REDIS_HOSTS_TTL } };

    if (store->local == NULL) {
        return true;
    }
    store->stands = redis_local_create(&settings, pool);
    return store->stands != NULL;
}

static const char *far_open(rlp_store_t **made, void *settings, const rlp_clock_t *clock,
                            server_rec *server, apr_pool_t *pool)
{
    far_t *store = apr_pcalloc(pool, sizeof(*store));
    far_shared_t *shared = far_share(pool);
    far_known_t *known = far_know(settings, pool);

    store->settings = settings;
    store->server = server;
    if (store->settings->stands_in) {
        const char *error =
            store_shm_provider.open(&store->local, store->settings->local, clock, server, pool);

        if (error != NULL) {
            return error;
        }
    }
    far_digest_key(store, pool);
    if (shared == NULL || known == NULL || far_connect(store, shared, pool) != APR_SUCCESS) {
        return "cannot get memory for what the processes share about Redis";
    }
    store->orders = (far_orders_t){ .shared = &shared->orders,
                                    .endpoint = store->endpoint,
                                    .settings = store->settings,
                                    .server = server };
    store->head = (rlp_store_t){ .type = &far_type,
                                 .owners = store->local ? store->local->owners : &shared->owners,
                                 .secret = store->secret };
    const redis_store_settings_t inner = { .endpoint = store->endpoint,
                                           .prefix = store->settings->prefix,
                                           .timeout = store->settings->timeout,
                                           .owners = store->head.owners,
                                           .secret = store->secret,
                                           .denials = &known->denials,
                                           .away = &known->local.away };

    store->redis = store->exact = redis_store_create(&inner, pool);
    if (!far_stand(store, known, pool)) {
        return "cannot get memory to count without Redis";
    }
    if (store->settings->leases || store->settings->leased) {
        store->redis = far_lease_open(store->exact, store->endpoint, store->settings, pool);
        if (store->redis == NULL) {
            return "cannot get memory for the leases of this host";
        }
        lease_store_note(store->redis, &known->denials);
    }
    *made = &store->head;
    return NULL;
}

/* Is nothing of it worse than what is said already? Who is waited for longer, then who has failed
   more often. */
static bool far_is_no_worse(const store_server_t *said, const redis_server_t *there)
{
    return there->breaker.wait < said->wait ||
           (there->breaker.wait == said->wait && there->breaker.failures <= said->failures);
}

/* Adds a server, or says of one that another store has, too, what is worse; how many there are. */
static int far_list(store_server_t servers[], int n, const redis_server_t *there)
{
    static const char *const phases[] = {
        [REDIS_CLOSED] = "closed", [REDIS_OPEN] = "open", [REDIS_HALF_OPEN] = "half-open"
    };
    int i = 0;

    while (i < n && strcmp(servers[i].name, there->name) != 0) {
        i++;
    }
    if (i == STORE_SERVERS_MAX || (i < n && far_is_no_worse(&servers[i], there))) {
        return n;
    }
    servers[i] = (store_server_t){ .name = there->name,
                                   .breaker = phases[there->breaker.phase],
                                   .failures = there->breaker.failures,
                                   .wait = there->breaker.wait,
                                   .why = there->why };
    return i < n ? n : n + 1;
}

int store_redis_servers(store_server_t servers[], apr_pool_t *pool)
{
    int n = 0;

    for (int i = 0; i < rlp_world->depots->nelts; i++) {
        const depot_t *depot = &APR_ARRAY_IDX(rlp_world->depots, i, depot_t);
        const far_t *store = (const far_t *)depot->store;

        if (depot->provider != &store_redis_provider || store == NULL) {
            continue;
        }
        redis_server_t *there = apr_pcalloc(pool, sizeof(*there) * STORE_SERVERS_MAX);
        const int here = redis_endpoint_servers(store->endpoint, there, STORE_SERVERS_MAX);

        for (int k = 0; k < here; k++) {
            n = far_list(servers, n, &there[k]);
        }
    }
    return n;
}

/* --- the thread of a child that sees to names, Sentinels and slots, to places that last, and to
   what was counted here */

typedef struct {
    far_t *store;
    bool first; /* the store that has bans and plans for a time, too */
} keeper_t;

static void keeper_run(thread_t *thread, void *data)
{
    const keeper_t *keeper = data;

    do {
        const rlp_question_t question = { .now = rlp_world->clock->monotonic(),
                                          .wall = rlp_world->clock->wall() };

        redis_endpoint_maintain(keeper->store->endpoint);
        redis_store_renew(keeper->store->exact, &question);
        if (keeper->store->stands) {
            redis_local_maintain(keeper->store->stands);
        }
        if (keeper->first) {
            far_orders_look(&keeper->store->orders);
        }
    } while (thread_sleep(thread, FAR_EVERY));
}

static apr_status_t far_child(rlp_store_t *head, apr_pool_t *pchild)
{
    const keeper_t keeper = { .store = (far_t *)head,
                              .first = APR_ARRAY_IDX(rlp_world->depots, 0, depot_t).store == head };
    thread_t *thread;
    const apr_status_t rv = thread_begin(&thread, keeper_run, &keeper, sizeof(keeper));

    if (rv != APR_SUCCESS) {
        return rv;
    }
    thread_end_with(pchild, thread, thread_end);
    return keeper.store->redis == keeper.store->exact
               ? APR_SUCCESS
               : far_lease_child(keeper.store->redis, pchild);
}

const rlp_store_provider_t store_redis_provider = { .options = far_options_usage,
                                                    .state_max = SHM_STATE_MAX,
                                                    .configure = far_configure,
                                                    .open = far_open,
                                                    .child = far_child,
                                                    .limit = far_limit,
                                                    .digest = far_digest,
                                                    .describe = far_describe,
                                                    .doubt = far_doubt,
                                                    .terms = far_terms };
