/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What Redis says: replies of servers, Sentinels and clusters, and where they send us. There is no
 * network: the calls that reach it stand here, and time passes only in them. The first four bytes
 * choose the store, the plan and the acts; the rest, parted by RS (0x1e), is said piece by piece,
 * one to each message that is sent. Nothing that is said ends the process, is waited for beyond the
 * timeout, or makes a decision that the limit does not have.
 */

#include "fuzz.h"
#include "redis/lease_store.h"
#include "redis/store.h"
#include "redis/swap.h"
#include "redis/topology.h"
#include "rlp.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_time.h>

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HEAD 4
#define ACTS ((HEAD - 1) * 4)
#define SEPARATOR 0x1e
#define BEGIN (INT64_C(1700000000) * RLP_SECOND)
#define TIMEOUT (20 * INT64_C(1000))
#define FDS 1024
#define BREAKERS 8

const char fuzz_name[] = "replies";

/* --- the network */

typedef struct {
    const uint8_t *at; /* said, and not yet heard */
    size_t len;
    bool gone; /* nothing more will come */
} link_t;

static struct {
    const uint8_t *rest;
    size_t len;
    rlp_time_t now;
    link_t links[FDS];
} network;

static link_t *network_link(int fd)
{
    if (fd < 0 || fd >= FDS) {
        abort();
    }
    return &network.links[fd];
}

/* The next piece is heard on that link. */
static void network_say(link_t *link)
{
    const uint8_t *end = network.len ? memchr(network.rest, SEPARATOR, network.len) : NULL;
    const size_t len = end != NULL ? (size_t)(end - network.rest) : network.len;

    link->gone |= network.len == 0;
    if (link->len == 0) {
        link->at = network.rest;
        link->len = len;
    }
    network.rest += len + (end != NULL);
    network.len -= len + (end != NULL);
}

rlp_time_t rlp_clock_monotonic(void)
{
    return network.now += 20;
}

rlp_time_t rlp_clock_wall(void)
{
    return network.now;
}

void rlp_clock_read(rlp_clock_t *clock)
{
    *clock = (rlp_clock_t){ .monotonic = network.now, .wall = network.now };
}

void apr_sleep(apr_interval_time_t t)
{
    network.now += t;
}

/* There is no other thread that could end the waiting. */
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *abstime)
{
    const rlp_time_t until = abstime->tv_sec * RLP_SECOND + abstime->tv_nsec / 1000;

    (void)cond;
    (void)mutex;
    network.now = until > network.now ? until : network.now;
    return ETIMEDOUT;
}

apr_status_t apr_generate_random_bytes(unsigned char *buf, apr_size_t length)
{
    memset(buf, 7, length);
    return APR_SUCCESS;
}

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    (void)addr;
    (void)len;
    *network_link(fd) = (link_t){ .len = 0 };
    errno = ECONNREFUSED;
    return network.len > 0 ? 0 : -1;
}

/* Whatever is sent is answered. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t sent = 0;

    (void)flags;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        sent += (ssize_t)message->msg_iov[i].iov_len;
    }
    network_say(network_link(fd));
    return sent;
}

ssize_t recv(int fd, void *buf, size_t n, int flags)
{
    link_t *link = network_link(fd);
    const size_t got = n < link->len ? n : link->len;

    if (got == 0) {
        network.now += flags & MSG_DONTWAIT ? 1000 : 5000; /* poll() takes none */
        errno = EAGAIN;
        return link->gone ? 0 : -1;
    }
    memcpy(buf, link->at, got);
    if (!(flags & MSG_PEEK)) {
        link->at += got;
        link->len -= got;
    }
    return (ssize_t)got;
}

/* All names are known, and one address is as good as another. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *req,
                struct addrinfo **pai)
{
    typedef struct {
        struct addrinfo info;
        struct sockaddr_in at;
    } found_t;
    found_t *found = calloc(1, sizeof(*found));

    (void)service;
    (void)req;
    if (found == NULL || name == NULL || *name == '\0') {
        free(found);
        return EAI_NONAME;
    }
    found->at.sin_family = AF_INET;
    found->info = (struct addrinfo){ .ai_family = AF_INET,
                                     .ai_socktype = SOCK_STREAM,
                                     .ai_addr = (struct sockaddr *)&found->at,
                                     .ai_addrlen = sizeof(found->at) };
    *pai = &found->info;
    return 0;
}

void freeaddrinfo(struct addrinfo *ai)
{
    free(ai);
}

/* --- the store */

static const char *const urls[] = { "redis://u:p@127.0.0.1/3", "redis-cluster://a,b:7",
                                    "redis-sentinel://s,t/master", "unix:///x" };
static const char *const plans[] = {
    "rate=10/min burst=20", "rate=5/10s algorithm=fixed-window quota=7/day",
    "rate=40/min algorithm=sliding-log concurrent=3",
    "rate=4/10s algorithm=stepped-bucket rate=3/s algorithm=leaky-bucket"
};

typedef struct {
    apr_pool_t *pool;
    redis_endpoint_t *endpoint;
    rlp_store_t *store;
    bool leases;
    rlp_plan_t *plan;
    rlp_charge_t charges[2 * RLP_LIMITS_MAX]; /* of two identities */
    int n;
} scene_t;

static void scene_report(void *baton, const char *server, redis_change_t change, const char *why)
{
    (void)baton;
    fuzz_expect(*server != '\0' && change.from != change.to && strlen(why) < REDIS_WHY_MAX,
                "a transition is one");
}

static void scene_endpoint(scene_t *scene, const char *url_text)
{
    static redis_breaker_t breakers[BREAKERS];
    const char **scripts = apr_pcalloc(scene->pool, sizeof(*scripts));
    const redis_settings_t settings = {
        .session = { .scripts = scripts, .n_scripts = 1, .connect = TIMEOUT },
        .breaker = { .threshold = 3,
                     .recovery = RLP_SECOND,
                     .longest = RLP_SECOND,
                     .probe = RLP_SECOND },
        .report = scene_report
    };
    redis_url_t url;

    scripts[0] = "return 1";
    memset(breakers, 0, sizeof(breakers));
    if (redis_url_parse(&url, url_text, NULL, scene->pool) != NULL ||
        redis_endpoint_create(&scene->endpoint, &url, &settings, breakers, BREAKERS, scene->pool) !=
            APR_SUCCESS) {
        abort();
    }
}

static void scene_store(scene_t *scene, int which)
{
    redis_store_settings_t made = { .endpoint = scene->endpoint, .prefix = "", .timeout = TIMEOUT };
    lease_store_settings_t leased = { .endpoint = scene->endpoint,
                                      .timeout = TIMEOUT,
                                      .usual = true };

    scene->store =
        which == 1 ? redis_swap_create(&made, scene->pool) : redis_store_create(&made, scene->pool);
    scene->leases = which == 2;
    if (scene->leases) {
        const size_t size = lease_table_size(LEASE_TABLE_STEP);
        const uintptr_t room = (uintptr_t)apr_pcalloc(scene->pool, size + 64);

        leased.exact = scene->store;
        leased.table = lease_table_make((void *)((room + 63) / 64 * 64), LEASE_TABLE_STEP, TIMEOUT);
        scene->store = lease_store_create(&leased, scene->pool);
    }
}

static void scene_plan(scene_t *scene, const char *text)
{
    const char *words[8];
    char *rest = NULL;
    rlp_plan_source_t source = { .name = "plan", .words = words, .wall = BEGIN };

    for (char *word = apr_strtok(apr_pstrdup(scene->pool, text), " ", &rest); word != NULL;
         word = apr_strtok(NULL, " ", &rest)) {
        words[source.n++] = word;
    }
    if (rlp_plan_parse(&scene->plan, &source, scene->pool) != NULL) {
        abort();
    }
}

/* One identity, or two, which in a cluster are on two servers. */
static void scene_charges(scene_t *scene, int identities, bool places)
{
    for (int i = 0; i < identities * scene->plan->n; i++) {
        const rlp_limit_t *limit = &scene->plan->limits[i % scene->plan->n];
        const char *identity = i < scene->plan->n ? "user:1" : "user:2";

        if (limit->algorithm->holds && !places) {
            continue;
        }
        rlp_charge_t *charge = &scene->charges[scene->n++];

        rlp_charge_init(charge, identity, strlen(identity), rlp_signature("rule", NULL, limit),
                        limit);
        charge->entry.state = apr_pcalloc(scene->pool, limit->state_size + RLP_STATE_MAX);
        charge->rule = "rule";
        charge->max_wait = RLP_SECOND;
    }
}

/* --- the acts */

static void scene_expect(const scene_t *scene)
{
    for (int i = 0; i < scene->n; i++) {
        const rlp_limit_t *limit = scene->charges[i].limit;
        const rlp_decision_t *d = &scene->charges[i].decision;

        if (scene->charges[i].spared) {
            continue;
        }
        fuzz_expect(d->verdict <= RLP_NEVER && (d->wait > 0) == (d->verdict == RLP_WAIT) &&
                        d->wait <= scene->charges[i].max_wait,
                    "a verdict is one");
        fuzz_expect((d->retry > 0) == (d->verdict == RLP_DENY),
                    "who is refused knows for how long");
        fuzz_expect(d->remaining >= 0 &&
                        d->remaining <= (limit->burst > RLP_UNIT ? limit->burst / RLP_UNIT : 1),
                    "what is left is no more than the limit");
        fuzz_expect(d->next >= 0 && d->reset >= 0, "no time is below 0");
    }
}

typedef apr_status_t ask_t(rlp_store_t *store, rlp_charge_t charges[], int n,
                           const rlp_question_t *question, rlp_answer_t *answer);

/* One question, and what may have to be given back. */
static void scene_ask(scene_t *scene, ask_t *ask, rlp_units_t cost)
{
    const rlp_time_t begin = network.now;
    const rlp_question_t question = { .now = network.now, .wall = network.now };
    rlp_answer_t answer;

    for (int i = 0; i < scene->n; i++) {
        scene->charges[i].cost = cost;
    }
    const apr_status_t rv = ask(scene->store, scene->charges, scene->n, &question, &answer);

    if (rv == APR_SUCCESS) {
        fuzz_expect(answer.verdict <= RLP_NEVER && answer.tightest < scene->n, "an answer is one");
        scene_expect(scene);
    }
    fuzz_expect(answer.retry >= 0, "no time is below 0");
    fuzz_expect(network.now - begin <= 8 * TIMEOUT, "nobody waits for longer than the timeout");
}

static void scene_look(scene_t *scene)
{
    static redis_server_t servers[REDIS_NODES_MAX];
    const int n = redis_endpoint_servers(scene->endpoint, servers, REDIS_NODES_MAX);

    for (int i = 0; i < n; i++) {
        fuzz_expect(memchr(servers[i].name, '\0', sizeof(servers[i].name)) != NULL &&
                        memchr(servers[i].why, '\0', sizeof(servers[i].why)) != NULL,
                    "what is shown of a server ends");
    }
}

static void scene_maintain(scene_t *scene)
{
    network.now += RLP_SECOND + 1;
    redis_endpoint_maintain(scene->endpoint);
    if (scene->leases) {
        static const volatile unsigned never;

        lease_store_return(scene->store, false, &never);
    }
    scene_look(scene);
}

static void scene_act(scene_t *scene, unsigned act)
{
    network.now += 1000;
    switch (act) {
    case 0:
        scene_maintain(scene);
        break;
    case 1:
        scene_ask(scene, rlp_peek, RLP_UNIT);
        break;
    case 2:
        scene_ask(scene, rlp_settle, -RLP_UNIT);
        scene_ask(scene, rlp_release, RLP_UNIT);
        break;
    default:
        scene_ask(scene, rlp_check, RLP_UNIT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    scene_t scene = { .pool = fuzz_pool() };

    if (size < HEAD) {
        return 0;
    }
    network.rest = data + HEAD;
    network.len = size - HEAD;
    network.now = BEGIN;
    scene_endpoint(&scene, urls[data[0] & 3]);
    scene_store(&scene, data[0] >> 2 & 3);
    scene_plan(&scene, plans[data[0] >> 4 & 3]);
    scene_charges(&scene, 1 + (data[0] >> 6 & 1), (data[0] >> 2 & 3) != 1);
    for (int i = 0; i < ACTS; i++) {
        scene_act(&scene, (unsigned)data[1 + i / 4] >> i % 4 * 2 & 3U);
    }
    (void)fuzz_pool(); /* closes the connections */
    return 0;
}
