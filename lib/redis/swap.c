/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/swap.h"

#include "check.h"
#include "redis/key.h"

#include <apr_sha1.h>
#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWAP_TRIES 100 /* within the timeout */
#define SWAP_HEAD 12   /* the magic, and the instant from which the state is as good as new */
#define SWAP_TTL_MAX (INT64_C(10) * 366 * 86400 * 1000)

static const char swap_magic[4] = { 'r', 'l', 'c', '1' };

/* Reads all keys; and: writes some, if all are as they were read. Answers with the time, whether it
   has written, and what is there now. ARGV: for each key what is expected, what is to be there
   (empty: as it is), and its TTL in milliseconds. */
static const char swap_script[] = "local t = redis.call('TIME')\n"
                                  "local answer = { t[1], t[2], '1' }\n"
                                  "for i, key in ipairs(KEYS) do\n"
                                  "  local value = redis.pcall('GET', key)\n"
                                  "  if type(value) == 'table' then value = string.find(value.err, "
                                  "'WRONGTYPE', 1, true) and '' or value end\n"
                                  "  if type(value) == 'table' then return value end\n"
                                  "  answer[3 + i] = value or ''\n"
                                  "  if answer[3 + i] ~= ARGV[3 * i - 2] then answer[3] = '0' end\n"
                                  "end\n"
                                  "if #ARGV == 0 then return answer end\n"
                                  "for i, key in ipairs(KEYS) do\n"
                                  "  local value = ARGV[3 * i - 1]\n"
                                  "  if answer[3] == '1' and value ~= '' then redis.call('SET', "
                                  "key, value, 'PX', ARGV[3 * i]) end\n"
                                  "end\n"
                                  "return answer\n";

typedef struct {
    rlp_store_t head;
    redis_store_settings_t settings;
    char sha[SCRIPT_SHA_SIZE];
} swap_t;

/* One question, of the limits of one identity. The head is the store that check.c asks. */
typedef struct {
    rlp_store_t head;
    const swap_t *swap;
    rlp_time_t deadline;
    rlp_time_t now;     /* by the server's clock, of what was read last */
    rlp_time_t stepped; /* ..., of what was stepped last */
    int n;
    script_key_t keys[RLP_ENTRIES_MAX];
    char *text;                    /* of the keys */
    redisReply *seen;              /* what was read last */
    char *values[RLP_ENTRIES_MAX]; /* to be written; NULL: as it is */
    size_t lens[RLP_ENTRIES_MAX];  /* of them */
    char ttls[RLP_ENTRIES_MAX][24];
    const char *argv[3 + 4 * RLP_ENTRIES_MAX];
    size_t argv_lens[3 + 4 * RLP_ENTRIES_MAX];
    char keys_n[8];
} round_t;

/* --- keys */

#define ROUND_SIGN 17 /* a colon and 16 digits */

/* The rule's key with the signature behind it. */
static char *round_key(round_t *round, int i, char *at, const rlp_charge_t *charge)
{
    at = redis_key_make(&round->keys[i], at, round->swap->settings.prefix, charge);
    at += snprintf(at, ROUND_SIGN + 1, ":%016llx", (unsigned long long)charge->entry.key.signature);
    round->keys[i].len += ROUND_SIGN;
    return at;
}

static bool round_keys(round_t *round, rlp_entry_t *const entries[], int n)
{
    size_t room = 1;

    for (int i = 0; i < n; i++) {
        room += redis_key_room(round->swap->settings.prefix, (const rlp_charge_t *)entries[i]) +
                ROUND_SIGN + 1;
    }
    round->n = n;
    round->text = malloc(room);
    char *at = round->text;

    for (int i = 0; at != NULL && i < n; i++) {
        at = round_key(round, i, at, (const rlp_charge_t *)entries[i]);
    }
    return at != NULL;
}

/* --- asking the server */

static void round_say(round_t *round, int *argc, const char *word, size_t len)
{
    round->argv[*argc] = word;
    round->argv_lens[(*argc)++] = len;
}

static const redisReply *round_seen(const round_t *round, int i)
{
    return round->seen->element[3 + i];
}

/* What is expected and what is to be there. */
static void round_say_values(round_t *round, int *argc)
{
    for (int i = 0; i < round->n; i++) {
        round_say(round, argc, round_seen(round, i)->str, (size_t)round_seen(round, i)->len);
        round_say(round, argc, round->values[i] ? round->values[i] : "", round->lens[i]);
        round_say(round, argc, round->ttls[i], strlen(round->ttls[i]));
    }
}

static bool round_is_answer(const redisReply *reply, int n)
{
    bool good = reply->type == REDIS_REPLY_ARRAY && (int)reply->elements == 3 + n;

    for (int i = 0; good && i < 3 + n; i++) {
        good = reply->element[i]->type == REDIS_REPLY_STRING;
    }
    return good;
}

/* Keeps what came of a call; *written says whether it has been written. */
static apr_status_t round_hear(round_t *round, redis_call_t *call, bool *written)
{
    if (call->fault != REDIS_FAULT_NONE) {
        freeReplyObject(call->reply);
        return redis_remedy(call->fault)->status;
    }
    if (!round_is_answer(call->reply, round->n) || redis_reply_time(call->reply) < 0) {
        freeReplyObject(call->reply);
        return APR_EGENERAL;
    }
    freeReplyObject(round->seen);
    round->seen = call->reply;
    round->now = redis_reply_time(round->seen);
    *written = round->seen->element[2]->str[0] == '1';
    return APR_SUCCESS;
}

/* Reads, or writes what is to be written. */
static apr_status_t round_ask(round_t *round, bool writes, bool *written)
{
    int argc = 0;

    snprintf(round->keys_n, sizeof(round->keys_n), "%d", round->n);
    round_say(round, &argc, "EVALSHA", 7);
    round_say(round, &argc, round->swap->sha, SCRIPT_SHA_SIZE - 1);
    round_say(round, &argc, round->keys_n, strlen(round->keys_n));
    for (int i = 0; i < round->n; i++) {
        round_say(round, &argc, round->keys[i].bytes, round->keys[i].len);
    }
    if (writes) {
        round_say_values(round, &argc);
    }
    redis_call_t call = { .key = round->keys[0].bytes,
                          .key_len = round->keys[0].len,
                          .argc = argc,
                          .argv = round->argv,
                          .argv_len = round->argv_lens,
                          .script = swap_script,
                          .script_len = sizeof(swap_script) - 1 };

    redis_endpoint_exchange(round->swap->settings.endpoint, &call, 1, round->deadline);
    return round_hear(round, &call, written);
}

/* --- states */

static int64_t state_number(const char *bytes)
{
    uint64_t number = 0;

    for (int i = 0; i < 8; i++) {
        number |= (uint64_t)(unsigned char)bytes[i] << 8 * i;
    }
    return (int64_t)number;
}

/* Of another size it comes as rlp_algorithm_t says; what is no state of ours, or has expired, as a
   new one. */
static void state_load(rlp_entry_t *entry, const redisReply *value, rlp_time_t now)
{
    const size_t len = (size_t)value->len;

    entry->dirty = false;
    entry->reach = 0;
    memset(entry->state, 0, entry->key.size);
    if (len < SWAP_HEAD || memcmp(value->str, swap_magic, sizeof(swap_magic)) != 0 ||
        state_number(value->str + 4) <= now) {
        return;
    }
    const size_t size = len - SWAP_HEAD;

    memcpy(entry->state, value->str + SWAP_HEAD, size < entry->key.size ? size : entry->key.size);
}

/* Until it is as good as new, rounded up. */
static int64_t state_ttl(rlp_time_t expires, rlp_time_t now)
{
    const int64_t ms = expires > now ? (expires - now - 1) / 1000 + 1 : 1;

    return expires == RLP_TIME_NEVER || ms > SWAP_TTL_MAX ? SWAP_TTL_MAX : ms;
}

/* false: no memory. */
static bool state_save(round_t *round, int i, const rlp_entry_t *entry)
{
    char *value = malloc(SWAP_HEAD + entry->key.size);

    if (value == NULL) {
        return false;
    }
    memcpy(value, swap_magic, sizeof(swap_magic));
    for (int k = 0; k < 8; k++) {
        value[4 + k] = (char)((uint64_t)entry->expires >> 8 * k);
    }
    memcpy(value + SWAP_HEAD, entry->state, entry->key.size);
    round->values[i] = value;
    round->lens[i] = SWAP_HEAD + entry->key.size;
    return true;
}

/* --- one act */

static void round_forget(round_t *round)
{
    for (int i = 0; i < round->n; i++) {
        free(round->values[i]);
        round->values[i] = NULL;
        round->lens[i] = 0;
        round->ttls[i][0] = '\0';
    }
}

/* Steps what was read. How many states are to be written; -1: no memory. */
static int round_step(round_t *round, rlp_entry_t *entries[], rlp_update_fn *fn, void *baton)
{
    int dirty = 0;

    round_forget(round);
    round->stepped = round->now;
    for (int i = 0; i < round->n; i++) {
        state_load(entries[i], round_seen(round, i), round->now);
    }
    fn(entries, round->n, round->now, baton);
    for (int i = 0; i < round->n; i++) {
        if (!entries[i]->dirty) {
            continue;
        }
        if (!state_save(round, i, entries[i])) {
            return -1;
        }
        snprintf(round->ttls[i], sizeof(round->ttls[i]), "%lld",
                 (long long)state_ttl(entries[i]->expires, round->now));
        dirty++;
    }
    return dirty;
}

/* Until what was read is still there when it is written. */
static apr_status_t round_run(round_t *round, rlp_entry_t *entries[], rlp_update_fn *fn,
                              void *baton)
{
    bool written = false;
    apr_status_t rv = round_ask(round, false, &written);

    for (int tries = 0; rv == APR_SUCCESS && tries < SWAP_TRIES; tries++) {
        const int dirty = round_step(round, entries, fn, baton);

        if (dirty <= 0) {
            return dirty == 0 ? APR_SUCCESS : APR_ENOMEM;
        }
        rv = round_ask(round, true, &written);
        if (rv == APR_SUCCESS && written) {
            return APR_SUCCESS;
        }
    }
    return rv == APR_SUCCESS ? APR_EAGAIN : rv;
}

static apr_status_t round_update(rlp_store_t *head, rlp_entry_t *entries[], int n, rlp_time_t now,
                                 rlp_update_fn *fn, void *baton)
{
    round_t *round = (round_t *)head;

    (void)now;
    return round_keys(round, entries, n) ? round_run(round, entries, fn, baton) : APR_ENOMEM;
}

static const rlp_store_type_t round_type = { .name = "redis swap", .update = round_update };

/* --- the store */

static apr_status_t swap_ask(round_t *round, rlp_charge_t *charges, int n,
                             const rlp_question_t *question, rlp_op_kind_t kind,
                             rlp_answer_t *answer)
{
    rlp_question_t own = *question;

    own.charged_at = charges[0].counted_at;
    switch (kind) {
    case RLP_TAKE:
        return rlp_check(&round->head, charges, n, &own, answer);
    case RLP_PEEK:
        return rlp_peek(&round->head, charges, n, &own, answer);
    default:
        return rlp_settle(&round->head, charges, n, &own, answer);
    }
}

/* None of these algorithms holds places. */
static apr_status_t swap_release(rlp_charge_t *charges, int n, rlp_answer_t *answer)
{
    for (int i = 0; i < n; i++) {
        charges[i].spared = true;
    }
    check_answer(charges, n, answer);
    return APR_SUCCESS;
}

static apr_status_t swap_decide(rlp_store_t *head, rlp_charge_t *charges, int n,
                                const rlp_question_t *question, rlp_op_kind_t kind,
                                rlp_answer_t *answer)
{
    const swap_t *swap = (const swap_t *)head;
    round_t *round = kind == RLP_RELEASE ? NULL : calloc(1, sizeof(*round));

    if (round == NULL) {
        return kind == RLP_RELEASE ? swap_release(charges, n, answer) : APR_ENOMEM;
    }
    round->head = *head;
    round->head.type = &round_type;
    round->swap = swap;
    round->deadline = rlp_clock_monotonic() + swap->settings.timeout;
    const apr_status_t rv = swap_ask(round, charges, n, question, kind, answer);

    for (int i = 0; kind == RLP_TAKE && rv == APR_SUCCESS && i < n; i++) {
        charges[i].counted_at = round->stepped;
    }
    if (rv != APR_SUCCESS && round->n > 0 && round->text != NULL) {
        answer->retry =
            redis_endpoint_wait(swap->settings.endpoint, round->keys[0].bytes, round->keys[0].len);
    }
    round_forget(round);
    freeReplyObject(round->seen);
    free(round->text);
    free(round);
    return rv;
}

/* Charges know when they were made (counted_at). */
static rlp_time_t swap_time(const rlp_store_t *store, rlp_time_t now)
{
    (void)store;
    return now;
}

static uint64_t swap_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    (void)store;
    (void)identity;
    (void)len;
    return 0;
}

static const rlp_store_type_t swap_type = {
    .name = "redis swap", .time = swap_time, .fingerprint = swap_fingerprint, .decide = swap_decide
};

static void swap_sha(char sha[SCRIPT_SHA_SIZE])
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t context;

    apr_sha1_init(&context);
    apr_sha1_update_binary(&context, (const unsigned char *)swap_script, sizeof(swap_script) - 1);
    apr_sha1_final(digest, &context);
    for (size_t i = 0; i < APR_SHA1_DIGESTSIZE; i++) {
        snprintf(&sha[2 * i], 3, "%02x", digest[i]);
    }
}

rlp_store_t *redis_swap_create(const redis_store_settings_t *settings, apr_pool_t *pool)
{
    swap_t *swap = apr_pcalloc(pool, sizeof(*swap));

    swap->head =
        (rlp_store_t){ .type = &swap_type, .owners = settings->owners, .secret = settings->secret };
    swap->settings = *settings;
    swap_sha(swap->sha);
    return &swap->head;
}
