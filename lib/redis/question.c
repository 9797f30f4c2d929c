/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/question.h"

#include "redis/key.h"

#include <apr_general.h>

#include <stdlib.h>
#include <string.h>

/* --- calls */

static bool question_same_identity(const rlp_charge_t *a, const rlp_charge_t *b)
{
    const rlp_key_t *x = &a->entry.key;
    const rlp_key_t *y = &b->entry.key;

    return x->identity_len == y->identity_len &&
           (x->identity == y->identity || memcmp(x->identity, y->identity, x->identity_len) == 0);
}

int redis_identities(int identity[], const rlp_charge_t charges[], int n)
{
    int identities = 1;

    identity[0] = 0;
    for (int i = 1; i < n; i++) {
        int same = 0;

        while (!question_same_identity(&charges[same], &charges[i])) {
            same++;
        }
        identity[i] = same == i ? identities++ : identity[same];
    }
    return identities;
}

/* Whose the places are: a number that nobody else has. */
static uint64_t question_holder(void)
{
    uint64_t holder = 0;

    (void)apr_generate_random_bytes((unsigned char *)&holder, sizeof(holder));
    return holder | 1;
}

static void group_add(redis_group_t *group, const script_key_t *key, rlp_charge_t *charge)
{
    group->keys[group->call.n] = *key;
    group->charges[group->call.n++] = charge;
}

static void group_begin(redis_group_t *group, rlp_charge_t *charge, script_op_t op,
                        const rlp_question_t *question)
{
    const bool corrects = op > SCRIPT_PEEK; /* else nothing is told of a charge before */

    if (group->call.n == 0) {
        group->call = (script_call_t){ .op = op,
                                       .charges = group->charges,
                                       .keys = group->keys,
                                       .wall = question->wall,
                                       .charged_at = corrects ? charge->counted_at : 0,
                                       .holder = corrects ? charge->holder : 0 };
    }
    if (!corrects && charge->limit->algorithm->holds && group->call.holder == 0) {
        group->call.holder = question_holder();
    }
}

/* One more; NULL: no memory. */
static redis_group_t *question_group(redis_question_t *made)
{
    redis_group_t *group = calloc(1, sizeof(*group));

    if (group != NULL) {
        made->groups[made->n++] = group;
    }
    return group;
}

static apr_status_t question_pack(const redis_question_t *made, int from)
{
    for (int i = from; i < made->n; i++) {
        if (!script_pack(&made->groups[i]->packet, &made->groups[i]->call, made->sha)) {
            return APR_EINVAL;
        }
    }
    return APR_SUCCESS;
}

apr_status_t redis_question_make(redis_question_t *made, rlp_charge_t charges[], int n,
                                 script_op_t op, const rlp_question_t *question)
{
    const redis_store_settings_t *settings = made->settings;
    int identity[RLP_ENTRIES_MAX] = { 0 };
    const int identities = redis_identities(identity, charges, n);
    size_t room = 1;

    for (int i = 0; i < n; i++) {
        room += redis_key_room(settings->prefix, &charges[i]);
    }
    made->text = malloc(room);
    while (made->n < identities) {
        if (made->text == NULL || question_group(made) == NULL) {
            return APR_ENOMEM;
        }
    }
    char *at = made->text;

    for (int i = 0; i < n; i++) {
        redis_group_t *group = made->groups[identity[i]];
        script_key_t key;

        at = redis_key_make(&key, at, settings->prefix, &charges[i]);
        group_begin(group, &charges[i], op, question);
        group->call.clock = settings->told_time ? &question->now : NULL;
        group_add(group, &key, &charges[i]);
    }
    return question_pack(made, 0);
}

void redis_question_free(redis_question_t *made)
{
    for (int i = 0; i < made->n; i++) {
        free(made->groups[i]);
    }
    free(made->text);
}

/* --- keys that are apart */

/* Is the charge of the key that the group begins with, or of the other branch of its rule? */
static bool group_is_of(const redis_group_t *group, const rlp_charge_t *charge,
                        const script_key_t *key)
{
    const rlp_charge_t *first = group->charges[0];

    if (charge->branch != RLP_ALWAYS && first->branch != RLP_ALWAYS &&
        charge->group == first->group) {
        return true;
    }
    return key->len == group->keys[0].len &&
           memcmp(key->bytes, group->keys[0].bytes, key->len) == 0;
}

/* The group for a charge that has been another's, among those from the first on. NULL: there is
   none, and no memory for one. */
static redis_group_t *question_part(redis_question_t *made, int first, const script_call_t *whole,
                                    int i)
{
    for (int k = first; k < made->n; k++) {
        if (group_is_of(made->groups[k], whole->charges[i], &whole->keys[i])) {
            return made->groups[k];
        }
    }
    redis_group_t *part = question_group(made);

    if (part != NULL) {
        part->call = *whole;
        part->call.charges = part->charges;
        part->call.keys = part->keys;
        part->call.n = 0;
    }
    return part;
}

/* A group of several keys goes on as one of the first, and others of the rest. */
static void question_divide(redis_question_t *made, redis_group_t *group)
{
    const int first = made->n;
    const script_call_t whole = group->call;

    group->call.n = 1;
    for (int i = 1; i < whole.n; i++) {
        const bool own = group_is_of(group, group->charges[i], &group->keys[i]);
        redis_group_t *part = own ? group : question_part(made, first, &whole, i);

        group_add(part != NULL ? part : group, &group->keys[i], group->charges[i]);
    }
    group->asked = made->n == first;
    (void)script_pack(&group->packet, &group->call, made->sha); /* what went together goes apart */
    (void)question_pack(made, first);
}

/* While a slot moves, Redis has some keys of an identity here and others there, and then does not
   answer of several at once: each is asked about by itself. */
static void question_divide_all(redis_question_t *made)
{
    const int n = made->n;

    for (int i = 0; i < n; i++) {
        if (made->groups[i]->fault == REDIS_FAULT_APART) {
            question_divide(made, made->groups[i]);
        }
    }
}

/* --- the exchange */

/* Reads what came for one call. */
static apr_status_t group_read(redis_group_t *group, const redis_call_t *call)
{
    const redisReply *reply = call->reply;

    if (call->fault != REDIS_FAULT_NONE) {
        return redis_remedy(call->fault)->status;
    }
    if (reply == NULL || reply->type != REDIS_REPLY_STRING ||
        !script_unpack(&group->call, reply->str, reply->len, &group->now)) {
        return APR_EGENERAL;
    }
    for (int i = 0; group->call.op == SCRIPT_TAKE && i < group->call.n; i++) {
        group->charges[i]->counted_at = group->now;
        group->charges[i]->holder = group->call.holder;
    }
    return APR_SUCCESS;
}

/* Has the answer come about by a write? A server without memory, or a replica, answers all else. */
static bool group_has_charged(const redis_group_t *group)
{
    bool charged = false;

    for (int i = 0; group->call.op == SCRIPT_TAKE && i < group->call.n; i++) {
        const rlp_charge_t *charge = group->charges[i];

        if (!charge->spared && charge->decision.verdict > RLP_WAIT) {
            return false;
        }
        charged |= !charge->spared && charge->cost > 0;
    }
    return charged;
}

/* Is Redis away still? The line stays with all who read it, but when that changes. */
static bool group_tell(uint32_t *away, const redis_group_t *group)
{
    const uint32_t before = away != NULL ? __atomic_load_n(away, __ATOMIC_RELAXED) : 0;
    const uint32_t now =
        group->status != APR_SUCCESS || (before != 0 && !group_has_charged(group)) ? 1 : 0;

    if (group->fault == REDIS_FAULT_APART) {
        return before != 0;
    }
    if (away != NULL && before != now) {
        __atomic_store_n(away, now, __ATOMIC_RELAXED);
    }
    return now != 0;
}

static void group_hear(const redis_question_t *made, redis_group_t *group, redis_call_t *call,
                       redis_told_t *told)
{
    const redis_store_settings_t *settings = made->settings;

    group->asked = true;
    group->fault = call->fault;
    group->status = group_read(group, call);
    told->server = group->now;
    told->away = group_tell(settings->away, group);
    redis_denials_learn(group->status == APR_SUCCESS ? settings->denials : NULL, group->charges,
                        group->call.n, told);
    freeReplyObject(call->reply);
}

/* Asks about the groups of which nobody has asked yet. */
static void question_round(const redis_question_t *made, rlp_time_t deadline)
{
    redis_call_t calls[REDIS_CALLS_MAX];
    redis_group_t *groups[RLP_ENTRIES_MAX];
    int n = 0;
    size_t text_len;
    const char *text = script_text(&text_len);
    const rlp_time_t begin = rlp_clock_monotonic();

    for (int i = 0; i < made->n; i++) {
        redis_group_t *group = made->groups[i];

        if (group->asked) {
            continue;
        }
        groups[n] = group;
        calls[n++] = (redis_call_t){ .key = group->keys[0].bytes,
                                     .key_len = group->keys[0].len,
                                     .argc = group->packet.argc,
                                     .argv = group->packet.argv,
                                     .argv_len = group->packet.lens,
                                     .script = text,
                                     .script_len = text_len };
    }
    redis_endpoint_exchange(made->settings->endpoint, calls, n, deadline);
    redis_told_t told = { .asked = begin, .lag = rlp_clock_monotonic() - begin };

    for (int i = 0; i < n; i++) {
        group_hear(made, groups[i], &calls[i], &told);
    }
}

apr_status_t redis_question_ask(redis_question_t *made, rlp_time_t deadline)
{
    apr_status_t rv = APR_SUCCESS;
    const int n = made->n;

    question_round(made, deadline);
    question_divide_all(made);
    if (made->n > n) {
        question_round(made, deadline);
    }
    for (int i = 0; i < made->n; i++) {
        rv = rv == APR_SUCCESS ? made->groups[i]->status : rv;
    }
    return rv;
}
