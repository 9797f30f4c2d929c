/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a host does with a request: asks Redis about each, or spends from its leases.
 */

#include "hosts_state.h"

#include <string.h>

#define TOUCHED (3 * LEASE_SPAN) /* afterwards there is nothing to be done for a lease */
#define RENEW_AFTER 50           /* microseconds, until its thread runs */
#define PAUSE 500                /* lease_store.c */
#define NAP 200                  /* about as denial.c waits for who asks */

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

void world_checked(world_t *world, uint32_t host, mail_t *mail)
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

void world_asked(world_t *world, uint32_t host, const mail_t *mail)
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

void world_granted(world_t *world, uint32_t host, const mail_t *mail, const lease_answer_t *answer)
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

/* --- what is to be done */

void world_decide(world_t *world, uint32_t host, uint32_t key, rlp_time_t begun)
{
    if (world->settings->leases) {
        world_lease(world, host, key, begun);
    } else {
        world_check(world, host, key, begun);
    }
}

void world_renew(world_t *world, const event_t *event)
{
    lease_question_t question;

    if (lease_due(world->hosts[event->host].table, event->index, false,
                  world_clock(world, event->host), &question)) {
        (void)world_ask(world, event->host, MAIL_LEASE, &question, 0);
    }
}

void world_look(world_t *world, uint32_t host)
{
    if (!world->hosts[host].sweeps &&
        lease_table_turn(world->hosts[host].table, world_clock(world, host))) {
        world_sweep(world, host);
    }
    world_add(world, SWEEP, world->now + SWEEP_EVERY, host, 0, 0);
}
