/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "hosts_state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPOCH (INT64_C(1800000000) * RLP_SECOND)
#define WAIT_STEP                                                                   \
    1.189207115002721 /* 2^(1/4), from one of the waiting times counted to the next \
                       */

static const redis_breaker_settings_t breaker_settings = { .threshold = 3,
                                                           .recovery = 2 * RLP_SECOND,
                                                           .longest = 30 * RLP_SECOND,
                                                           .probe = RLP_SECOND,
                                                           .jitter = 20 };

/* --- events and mails */

void world_add(world_t *world, int kind, rlp_time_t at, uint32_t host, uint32_t index,
               rlp_time_t begun)
{
    queue_add(&world->queue,
              (event_t){ .at = at, .kind = kind, .host = host, .index = index, .begun = begun });
}

rlp_time_t world_clock(const world_t *world, uint32_t host)
{
    return world->now + world->hosts[host].ahead;
}

uint32_t world_mail(world_t *world)
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

void world_release(world_t *world, uint32_t index)
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

bool world_send(world_t *world, uint32_t host, uint32_t index)
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

void world_passes(world_t *world, uint32_t host, uint32_t key, rlp_time_t begun)
{
    world->result.admitted++;
    world_waited(world, world->now - begun);
    world_digest(world, 2 * (uint64_t)key + 1);
    if (key < WORLD_TOP) {
        world->passed[host][key]++;
        world->result.top_admitted[key]++;
    }
}

void world_charges(world_t *world, uint32_t key)
{
    if (!oracle_take(&world->promise, key, RLP_UNIT, world->now)) {
        world->result.above++;
        world->above[key]++;
    }
}

void world_refuses(world_t *world, uint32_t key, rlp_time_t begun)
{
    world->result.refused++;
    world_waited(world, world->now - begun);
    world_digest(world, 2 * (uint64_t)key);
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
