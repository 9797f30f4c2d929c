/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "hosts_world.h"

#include "hosts_parts.h"
#include "hosts_redis.h"
#include "redis/breaker.h"
#include "redis/denial.h"
#include "redis/lease.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPOCH (INT64_C(1800000000) * RLP_SECOND)
#define LEASES ((size_t)16 * LEASE_TABLE_STEP) /* store_redis_lease.c */
#define SWEEP_EVERY (RLP_SECOND / 4)
#define TOUCHED (3 * LEASE_SPAN) /* afterwards there is nothing to be done for a lease */
#define RENEW_AFTER 50           /* microseconds, until its thread runs */
#define PAUSE 500                /* lease_store.c */
#define NAP 200                  /* about as denial.c waits for who asks */
#define WAIT_STEP                                                                   \
    1.189207115002721 /* 2^(1/4), from one of the waiting times counted to the next \
                       */
#define STEPS 160

enum { REQUEST, AGAIN, RENEW, SWEEP, ARRIVAL, DECISION, REPLY, TIMEOUT, AWAY, BACK };

typedef enum { MAIL_CHECK, MAIL_LEASE, MAIL_SWEEP } mail_kind_t;

/* A question on its way, or its answer. */
typedef struct {
    mail_kind_t kind;
    uint32_t key;
    bool open;        /* the host waits for it */
    int events;       /* that will still come */
    rlp_time_t begun; /* the request */
    rlp_time_t sent;
    rlp_time_t decided;
    redis_ticket_t ticket;
    lease_question_t question;
    lease_answer_t answer;
    rlp_decision_t decision;
    uint32_t next; /* free */
} mail_t;

#define ASKING 64

typedef struct {
    rlp_time_t ahead; /* of its monotonic clock */
    double gap;       /* between two requests, on average */
    lease_table_t *table;
    redis_denials_t *denials;
    redis_breaker_t breaker;
    uint32_t asking[ASKING]; /* keys whose refusal has ended, + 1; 0: free */
    uint32_t cursor;         /* of its sweep */
    rlp_time_t *touched;     /* when each lease was */
    bool sweeps;
} host_t;

typedef struct {
    const world_settings_t *settings;
    world_result_t result;
    uint64_t random;
    rlp_time_t now;
    rlp_time_t end;
    zipf_t zipf;
    queue_t queue;
    host_t *hosts;
    redis_sim_t *redis;
    rlp_time_t busy_until;
    rlp_time_t worked;
    bool away;
    oracle_t promise;              /* charged with what passed */
    oracle_t ideal;                /* asked by each request as it comes */
    uint32_t *above;               /* by key */
    uint64_t (*passed)[WORLD_TOP]; /* by host */
    mail_t *mails;
    uint32_t mails_n;
    uint32_t free; /* + 1 */
    uint64_t waits[STEPS];
} world_t;

static const redis_breaker_settings_t breaker_settings = { .threshold = 3,
                                                           .recovery = 2 * RLP_SECOND,
                                                           .longest = 30 * RLP_SECOND,
                                                           .probe = RLP_SECOND,
                                                           .jitter = 25 };

/* --- events and mails */

static void world_add(world_t *world, int kind, rlp_time_t at, uint32_t host, uint32_t index,
                      rlp_time_t begun)
{
    queue_add(&world->queue,
              (event_t){ .at = at, .kind = kind, .host = host, .index = index, .begun = begun });
}

static rlp_time_t world_clock(const world_t *world, uint32_t host)
{
    return world->now + world->hosts[host].ahead;
}

static uint32_t world_mail(world_t *world)
{
    if (world->free == 0) {
        const uint32_t n = world->mails_n ? 2 * world->mails_n : 256;

        world->mails = realloc(world->mails, n * sizeof(*world->mails));
        if (world->mails == NULL) {
            abort();
        }
        for (uint32_t i = world->mails_n; i < n; i++) {
            world->mails[i].next = i + 1 < n ? i + 2 : 0;
        }
        world->free = world->mails_n + 1;
        world->mails_n = n;
    }
    const uint32_t index = world->free - 1;

    world->free = world->mails[index].next;
    return index;
}

/* One of its events has come. */
static void world_release(world_t *world, uint32_t index)
{
    if (--world->mails[index].events == 0) {
        world->mails[index].next = world->free;
        world->free = index + 1;
    }
}

static rlp_time_t world_latency(world_t *world)
{
    return world->settings->latency + parts_gap(&world->random, (double)world->settings->jitter);
}

static bool world_loses(world_t *world)
{
    return parts_random(&world->random) % 1000000 < (uint64_t)world->settings->lost;
}

/* Sends what has been filled in of a mail; false: the breaker is open. */
static bool world_send(world_t *world, uint32_t host, uint32_t index)
{
    mail_t *mail = &world->mails[index];

    mail->events = 1;
    mail->open = true;
    mail->sent = world->now;
    (void)redis_breaker_ask(&world->hosts[host].breaker, &breaker_settings,
                            world_clock(world, host), &mail->ticket);
    if (!mail->ticket.admitted) {
        return false;
    }
    world->result.trips++;
    world->result.top_trips[mail->key < WORLD_TOP ? mail->key : 0] += mail->key < WORLD_TOP;
    world_add(world, TIMEOUT, world->now + world->settings->timeout, host, index, 0);
    if (!world_loses(world)) {
        mail->events++;
        world_add(world, ARRIVAL, world->now + world_latency(world), host, index, 0);
    }
    return true;
}

/* --- what became of a request */

static void world_waited(world_t *world, rlp_time_t span)
{
    int step = 0;

    for (double most = 1; (double)span > most && step < STEPS - 1; step++) {
        most *= WAIT_STEP;
    }
    world->waits[step]++;
    world->result.most = span > world->result.most ? span : world->result.most;
}

static void world_digest(world_t *world, uint64_t what)
{
    uint64_t mixed = world->result.digest + what + (uint64_t)world->now;

    world->result.digest = parts_random(&mixed);
}

/* It passes now, or at Redis. */
static void world_passes(world_t *world, uint32_t host, uint32_t key, rlp_time_t begun)
{
    world->result.admitted++;
    world_waited(world, world->now - begun);
    world_digest(world, 2 * (uint64_t)key + 1);
    if (key < WORLD_TOP) {
        world->passed[host][key]++;
        world->result.top_admitted[key]++;
    }
}

/* Does the promise allow it? */
static void world_charges(world_t *world, uint32_t key)
{
    if (!oracle_take(&world->promise, key, RLP_UNIT, world->now)) {
        world->result.above++;
        world->above[key]++;
    }
}

static void world_refuses(world_t *world, uint32_t key, rlp_time_t begun)
{
    world->result.refused++;
    world_waited(world, world->now - begun);
    world_digest(world, 2 * (uint64_t)key);
}

/* --- exact */

static rlp_charge_t world_charge(const world_t *world, const uint32_t *key)
{
    rlp_charge_t charge;

    rlp_charge_init(&charge, (const char *)key, sizeof(*key), 1, world->settings->limit);
    return charge;
}

/* The host's place for who asks about a key; NULL: all are taken. */
static uint32_t *host_asking(host_t *host, uint32_t key)
{
    uint32_t *free = NULL;

    for (int i = 0; i < ASKING; i++) {
        if (host->asking[i] == key + 1) {
            return &host->asking[i];
        }
        free = host->asking[i] == 0 && free == NULL ? &host->asking[i] : free;
    }
    return free;
}

static void world_check(world_t *world, uint32_t host, uint32_t key, rlp_time_t begun)
{
    host_t *self = &world->hosts[host];
    rlp_charge_t charge = world_charge(world, &key);
    rlp_answer_t answer;
    redis_level_t level;

    if (redis_denials_refuse(self->denials, &charge, 1, world_clock(world, host), &answer)) {
        world_refuses(world, key, begun);
        return;
    }
    const bool ended =
        redis_denials_level(self->denials, &charge, world_clock(world, host), &level) &&
        level.remaining == 0;
    uint32_t *asking = ended ? host_asking(self, key) : NULL;

    if (asking != NULL && *asking != 0 && world->now - begun < world->settings->timeout / 2) {
        world_add(world, AGAIN, world->now + NAP, host, key, begun);
        return;
    }
    const uint32_t index = world_mail(world);

    world->mails[index].kind = MAIL_CHECK;
    world->mails[index].key = key;
    world->mails[index].begun = begun;
    if (!world_send(world, host, index)) {
        world->result.unasked++;
        world_release(world, index);
        return;
    }
    world->result.waited++;
    if (asking != NULL) {
        *asking = key + 1;
    }
}

static void world_checked(world_t *world, uint32_t host, mail_t *mail)
{
    rlp_charge_t charge = world_charge(world, &mail->key);
    rlp_charge_t *const charges[] = { &charge };
    const redis_told_t told = { .asked = mail->sent + world->hosts[host].ahead,
                                .lag = world->now - mail->sent,
                                .server = mail->decided };

    charge.decision = mail->decision;
    charge.spared = false;
    redis_denials_learn(world->hosts[host].denials, charges, 1, &told);
    if (mail->decision.verdict == RLP_ALLOW) {
        world_passes(world, host, mail->key, mail->begun);
    } else {
        world_refuses(world, mail->key, mail->begun);
    }
}

/* Nobody of the host asks about the key any more. */
static void world_asked(world_t *world, uint32_t host, const mail_t *mail)
{
    uint32_t *asking = host_asking(&world->hosts[host], mail->key);

    if (mail->kind == MAIL_CHECK && asking != NULL) {
        *asking = 0;
    }
}

/* --- leases */

static lease_charge_t world_wanted(const world_t *world, uint32_t key)
{
    uint64_t state = key;

    return (lease_charge_t){ .identity = parts_random(&state),
                             .signature = 1,
                             .cost = RLP_UNIT,
                             .limit = world->settings->limit };
}

/* Sends a question; a lease's key, by which it is renewed, is the number of the simulation's. */
static bool world_ask(world_t *world, uint32_t host, mail_kind_t kind,
                      const lease_question_t *question, rlp_time_t begun)
{
    const uint32_t index = world_mail(world);
    mail_t *mail = &world->mails[index];
    lease_result_t result;

    mail->kind = kind;
    mail->begun = begun;
    mail->question = *question;
    memcpy(&mail->key, question->key, sizeof(mail->key));
    if (world_send(world, host, index)) {
        world->result.waited += question->cost > 0;
        return true;
    }
    lease_granted(world->hosts[host].table, question, NULL, world_clock(world, host), &result);
    world->result.unasked += question->cost > 0;
    world_release(world, index);
    return false;
}

static void world_lease(world_t *world, uint32_t host, uint32_t key, rlp_time_t begun)
{
    const lease_charge_t wanted = world_wanted(world, key);
    lease_question_t question;
    lease_result_t result;

    lease_spend(world->hosts[host].table, &wanted, world_clock(world, host), &result, &question);
    world->hosts[host].touched[result.index] = world->now;
    switch (result.outcome) {
    case LEASE_SPENT:
        world_charges(world, key);
        world_passes(world, host, key, begun);
        if (result.renew) {
            world_add(world, RENEW, world->now + RENEW_AFTER, host, result.index, 0);
        }
        break;
    case LEASE_REFUSED:
        world_refuses(world, key, begun);
        break;
    case LEASE_ASK:
        question.key_len = sizeof(key);
        question.args_len = 1;
        question.args[0] = 0;
        memcpy(question.key, &key, sizeof(key));
        (void)world_ask(world, host, MAIL_LEASE, &question, begun);
        break;
    case LEASE_WAIT:
        if (world->now - begun >= world->settings->timeout) {
            world->result.unasked++;
        } else {
            world_add(world, AGAIN, world->now + PAUSE, host, key, begun);
        }
        break;
    case LEASE_NONE:
        world->result.crowded++;
        world_check(world, host, key, begun);
        break;
    }
}

/* Goes through the leases of a host up to the next that wants something, as its thread does, which
   waits for each answer. */
static void world_sweep(world_t *world, uint32_t host)
{
    host_t *self = &world->hosts[host];
    lease_question_t question;

    self->sweeps = true;
    while (self->cursor < LEASES) {
        const uint32_t index = self->cursor++;

        if (world->now - self->touched[index] < TOUCHED &&
            lease_due(self->table, index, false, world_clock(world, host), &question) &&
            world_ask(world, host, MAIL_SWEEP, &question, 0)) {
            return;
        }
    }
    self->sweeps = false;
    self->cursor = 0;
}

/* An answer; NULL: there is none. */
static void world_granted(world_t *world, uint32_t host, const mail_t *mail,
                          const lease_answer_t *answer)
{
    const uint32_t key = mail->key;
    const rlp_time_t begun = mail->begun;
    const bool waits = mail->question.cost > 0;
    const bool sweep = mail->kind == MAIL_SWEEP;
    lease_result_t result;

    lease_granted(world->hosts[host].table, &mail->question, answer, world_clock(world, host),
                  &result);
    if (waits && answer == NULL) {
        world->result.unasked++;
    } else if (waits && result.outcome == LEASE_SPENT) {
        world_charges(world, key);
        world_passes(world, host, key, begun);
    } else if (waits && result.outcome == LEASE_REFUSED) {
        world_refuses(world, key, begun);
    } else if (waits) {
        world_add(world, AGAIN, world->now + PAUSE, host, key, begun);
    }
    if (sweep) {
        world_sweep(world, host);
    }
}

/* --- Redis */

/* Calls come one after the other. */
static void world_arrival(world_t *world, const event_t *event)
{
    const rlp_time_t begin = world->busy_until > world->now ? world->busy_until : world->now;

    if (world->away) {
        world_release(world, event->index);
        return;
    }
    world->busy_until = begin + world->settings->service;
    world->worked += world->settings->service;
    world_add(world, DECISION, world->busy_until, event->host, event->index, 0);
}

static void world_decision(world_t *world, const event_t *event)
{
    mail_t *mail = &world->mails[event->index];
    const rlp_time_t back = world->now + world_latency(world);

    if (world->away) {
        world_release(world, event->index);
        return;
    }
    mail->decided = world->now;
    if (mail->kind == MAIL_CHECK) {
        mail->decision = redis_sim_check(world->redis, mail->key, RLP_UNIT, mail->decided);
    } else {
        mail->answer = redis_sim_lease(world->redis, mail->key, &mail->question, mail->decided);
    }
    if (world_loses(world)) {
        world_release(world, event->index);
        return;
    }
    /* whether it will be in time is known by now, and the limit is to hold on Redis' clock */
    if (mail->kind == MAIL_CHECK && mail->decision.verdict == RLP_ALLOW &&
        back < mail->sent + world->settings->timeout) {
        world_charges(world, mail->key);
    }
    world_add(world, REPLY, back, event->host, event->index, 0);
}

static void world_reply(world_t *world, const event_t *event)
{
    mail_t *mail = &world->mails[event->index];

    if (mail->open) {
        mail->open = false;
        world_asked(world, event->host, mail);
        (void)redis_breaker_succeed(&world->hosts[event->host].breaker, &mail->ticket);
        if (mail->kind == MAIL_CHECK) {
            world_checked(world, event->host, mail);
        } else {
            const mail_t copy = *mail; /* what follows may send more */

            world_granted(world, event->host, &copy, &copy.answer);
        }
    }
    world_release(world, event->index);
}

static void world_timeout(world_t *world, const event_t *event)
{
    mail_t *mail = &world->mails[event->index];

    if (mail->open) {
        mail->open = false;
        world_asked(world, event->host, mail);
        (void)redis_breaker_fail(&world->hosts[event->host].breaker, &breaker_settings,
                                 &mail->ticket, world_clock(world, event->host), false);
        if (mail->kind == MAIL_CHECK) {
            world->result.unasked++;
        } else {
            const mail_t copy = *mail;

            world_granted(world, event->host, &copy, NULL);
        }
    }
    world_release(world, event->index);
}

static void world_away(world_t *world)
{
    world->away = true;
    world->result.outages++;
    world_add(world, BACK, world->now + world->settings->away, 0, 0, 0);
    world_add(world, AWAY, world->now + world->settings->every, 0, 0, 0);
}

static void world_back(world_t *world)
{
    world->away = false;
    world->busy_until = world->now;
    if (world->settings->forgets) {
        redis_sim_forget(world->redis);
    }
}

/* --- what happens */

static void world_decide(world_t *world, uint32_t host, uint32_t key, rlp_time_t begun)
{
    if (world->settings->leases) {
        world_lease(world, host, key, begun);
    } else {
        world_check(world, host, key, begun);
    }
}

static void world_request(world_t *world, uint32_t host)
{
    const uint32_t key = parts_zipf_next(&world->zipf, &world->random);

    world->result.requests++;
    if (key < WORLD_TOP) {
        world->result.top_requests[key]++;
    }
    world->result.due += oracle_take(&world->ideal, key, RLP_UNIT, world->now);
    world_decide(world, host, key, world->now);
    world_add(world, REQUEST, world->now + parts_gap(&world->random, world->hosts[host].gap), host,
              0, 0);
}

static void world_renew(world_t *world, const event_t *event)
{
    lease_question_t question;

    if (lease_due(world->hosts[event->host].table, event->index, false,
                  world_clock(world, event->host), &question)) {
        (void)world_ask(world, event->host, MAIL_LEASE, &question, 0);
    }
}

static void world_look(world_t *world, uint32_t host)
{
    if (!world->hosts[host].sweeps &&
        lease_table_turn(world->hosts[host].table, world_clock(world, host))) {
        world_sweep(world, host);
    }
    world_add(world, SWEEP, world->now + SWEEP_EVERY, host, 0, 0);
}

static void world_happens(world_t *world, const event_t *event)
{
    switch (event->kind) {
    case REQUEST:
        world_request(world, event->host);
        break;
    case AGAIN:
        world_decide(world, event->host, event->index, event->begun);
        break;
    case RENEW:
        world_renew(world, event);
        break;
    case SWEEP:
        world_look(world, event->host);
        break;
    case ARRIVAL:
        world_arrival(world, event);
        break;
    case DECISION:
        world_decision(world, event);
        break;
    case REPLY:
        world_reply(world, event);
        break;
    case TIMEOUT:
        world_timeout(world, event);
        break;
    case AWAY:
        world_away(world);
        break;
    default:
        world_back(world);
        break;
    }
}

/* --- the whole */

static void host_begin(world_t *world, uint32_t host, double weight)
{
    host_t *self = &world->hosts[host];
    const size_t size = (lease_table_size(LEASES) + 63) / 64 * 64;

    self->ahead = (rlp_time_t)(parts_random(&world->random) % (uint64_t)RLP_SECOND) - EPOCH +
                  (rlp_time_t)host * 1000 * RLP_SECOND;
    self->gap = (double)RLP_SECOND / (world->settings->rate * weight);
    self->denials = parts_memory(1, sizeof(*self->denials));
    (void)redis_denials_init(self->denials);
    if (world->settings->leases) {
        void *memory = aligned_alloc(64, size);

        if (memory == NULL) {
            abort();
        }
        self->touched = parts_memory(LEASES, sizeof(*self->touched));
        self->table = lease_table_make(memset(memory, 0, size), LEASES, world->settings->timeout);
        world_add(world, SWEEP,
                  world->now + (rlp_time_t)(parts_random(&world->random) % (uint64_t)SWEEP_EVERY),
                  host, 0, 0);
    }
    world_add(world, REQUEST, world->now + parts_gap(&world->random, self->gap), host, 0, 0);
}

static void world_begin(world_t *world, apr_pool_t *pool)
{
    const world_settings_t *settings = world->settings;
    double weights = 0;

    world->redis = redis_sim_create(settings->limit, settings->keys, pool);
    world->promise = oracle_create(settings->limit, settings->keys);
    world->ideal = oracle_create(settings->limit, settings->keys);
    world->above = parts_memory(settings->keys, sizeof(*world->above));
    world->hosts = parts_memory(settings->hosts, sizeof(*world->hosts));
    world->passed = parts_memory(settings->hosts, sizeof(*world->passed));
    for (uint32_t i = 0; i < settings->hosts; i++) {
        weights += pow(i + 1, -settings->skew);
    }
    for (uint32_t i = 0; i < settings->hosts; i++) {
        host_begin(world, i, pow(i + 1, -settings->skew) / weights);
    }
    if (settings->every > 0) {
        world_add(world, AWAY, world->now + settings->every / 2, 0, 0, 0);
    }
}

/* Jain's index of one key. */
static double world_jain(const world_t *world, int key)
{
    double sum = 0;
    double squares = 0;

    for (uint32_t i = 0; i < world->settings->hosts; i++) {
        const double passed = (double)world->passed[i][key];

        sum += passed;
        squares += passed * passed;
    }
    return squares > 0 ? sum * sum / squares / world->settings->hosts : 1;
}

static void world_fairness(world_t *world)
{
    world_result_t *result = &world->result;
    double sum = 0;
    int n = 0;

    for (int key = 0; key < WORLD_TOP; key++) {
        if (result->top_admitted[key] < result->top_requests[key]) {
            sum += world_jain(world, key);
            n++;
        }
    }
    result->fairness = n > 0 ? sum / n : 1;
}

/* The time within which such a part of the requests was decided. */
static rlp_time_t world_quantile(const world_t *world, double part)
{
    const double all = (double)(world->result.admitted + world->result.refused);
    double most = 1;
    uint64_t sum = 0;

    for (int step = 0; step < STEPS; step++) {
        sum += world->waits[step];
        if ((double)sum >= part * all) {
            break;
        }
        most *= WAIT_STEP;
    }
    return (rlp_time_t)most;
}

static void world_finish(world_t *world)
{
    const world_settings_t *settings = world->settings;

    world_fairness(world);
    for (uint32_t key = 0; key < settings->keys; key++) {
        world->result.worst =
            world->above[key] > world->result.worst ? world->above[key] : world->result.worst;
    }
    world->result.living = redis_sim_living(world->redis, world->end);
    world->result.busy = (double)world->worked / (double)(settings->seconds * RLP_SECOND);
    world->result.p50 = world_quantile(world, 0.5);
    world->result.p99 = world_quantile(world, 0.99);
    for (uint32_t i = 0; i < settings->hosts; i++) {
        free(world->hosts[i].table);
        free(world->hosts[i].touched);
        free(world->hosts[i].denials);
    }
    free(world->hosts);
    free(world->passed);
    free(world->above);
    free(world->mails);
    oracle_destroy(&world->promise);
    oracle_destroy(&world->ideal);
    redis_sim_destroy(world->redis);
    queue_free(&world->queue);
}

world_result_t world_run(const world_settings_t *settings, apr_pool_t *pool)
{
    world_t world = { .settings = settings,
                      .random = settings->seed,
                      .now = EPOCH,
                      .end = EPOCH + settings->seconds * RLP_SECOND,
                      .busy_until = EPOCH,
                      .zipf = parts_zipf(settings->keys, settings->exponent) };

    parts_seed(settings->seed);
    world_begin(&world, pool);
    for (;;) {
        const event_t event = queue_next(&world.queue);

        if (event.at >= world.end) {
            break;
        }
        world.now = event.at;
        world_happens(&world, &event);
    }
    world_finish(&world);
    return world.result;
}
