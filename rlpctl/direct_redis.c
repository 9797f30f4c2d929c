/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is counted in a Redis, without a server's help.
 */

#include "direct.h"
#include "json.h"
#include "redis_ctl.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *redis_direct_open(direct_t *job, struct redis_ctl_t **made)
{
    redis_ctl_t *ctl = NULL;
    const char *error = redis_ctl_open(&ctl, &job->place, job->pool);

    *made = ctl;
    if (error == NULL) {
        redis_ctl_make_store(ctl, false, job->pool);
        job->store = ctl->store;
    }
    return error;
}

const char *redis_direct_why(struct redis_ctl_t *ctl, apr_pool_t *pool)
{
    return redis_ctl_why(ctl, REDIS_FAULT_ERROR, pool);
}

/* The key of the rule; without one, what the keys of all rules begin with. */
static script_key_t direct_key(const direct_t *job, const redis_ctl_t *ctl)
{
    static const rlp_limit_t none;
    const rlp_charge_t charge = { .limit = &none,
                                  .entry = { .key = { .identity = job->identity,
                                                      .identity_len = strlen(job->identity) } },
                                  .rule = direct_scope(job) };

    return redis_ctl_key(ctl, &charge, job->pool);
}

static const char *direct_nothing(const script_key_t *key, int *status)
{
    fprintf(stderr, "rlpctl: nothing is counted under %.*s\n", (int)key->len, key->bytes);
    *status = DIRECT_NOTHING;
    return NULL;
}

/* --- what stands under a key, limit by limit (docs/redis-format.md) */

#define VALUE_MAGIC "rlp1"
#define VALUE_HEAD 20

static uint64_t value_word(const char *bytes, int n)
{
    uint64_t word = 0;

    for (int i = 0; i < n; i++) {
        word |= (uint64_t)(unsigned char)bytes[i] << 8 * i;
    }
    return word;
}

static double value_double(const char *bytes)
{
    const uint64_t word = value_word(bytes, 8);
    double number;

    memcpy(&number, &word, sizeof(number));
    return number;
}

/* Seconds until the limit is as good as new. */
static int64_t value_expires(const char *bytes)
{
    const double at = value_double(bytes);
    const double now = (double)rlp_clock_wall();

    if (at >= 9007199254740992.0) { /* 2^53: never */
        return -1;
    }
    return at > now ? direct_seconds((rlp_time_t)(at - now)) : 0;
}

/* false: it is no value of ours. */
static bool value_print(const direct_t *job, const char *value, size_t len)
{
    size_t at = 4;

    if (len < 4 || memcmp(value, VALUE_MAGIC, 4) != 0) {
        return false;
    }
    while (at < len) {
        const size_t size = len - at < VALUE_HEAD ? len : value_word(value + at + 8, 4);

        if (size > len - at - VALUE_HEAD || len - at < VALUE_HEAD) {
            return false;
        }
        direct_print_state(job, value_word(value + at, 8), size, value_expires(value + at + 12));
        at += VALUE_HEAD + size;
    }
    return true;
}

const char *redis_direct_look(const direct_t *job, struct redis_ctl_t *ctl, int *status)
{
    const script_key_t key = direct_key(job, ctl);
    redisReply *reply = NULL;
    const char *error = redis_ctl_ask_key(ctl, &reply, "GET", &key, job->pool);

    if (error == NULL && reply->type == REDIS_REPLY_NIL) {
        error = direct_nothing(&key, status);
    } else if (error == NULL && (reply->type != REDIS_REPLY_STRING ||
                                 !value_print(job, reply->str, (size_t)reply->len))) {
        error = "expected a value of format 1 under the key, got something else";
    }
    freeReplyObject(reply);
    return error;
}

/* --- reset */

typedef struct {
    redis_ctl_t *ctl;
    long long removed;
} reset_t;

static const char *reset_keys(void *baton, const script_key_t keys[], int n, apr_pool_t *pool)
{
    reset_t *reset = baton;
    const char *error = NULL;

    for (int i = 0; error == NULL && i < n; i++) {
        redisReply *reply = NULL;

        error = redis_ctl_ask_key(reset->ctl, &reply, "DEL", &keys[i], pool);
        reset->removed += error == NULL ? reply->integer : 0;
        freeReplyObject(reply);
    }
    return error;
}

const char *redis_direct_reset(const direct_t *job, struct redis_ctl_t *ctl, int *status)
{
    const script_key_t key = direct_key(job, ctl);
    reset_t reset = { .ctl = ctl };
    const char *error = job->rule != NULL
                            ? reset_keys(&reset, &key, 1, job->pool)
                            : redis_ctl_scan(ctl, redis_ctl_pattern("", key.bytes, job->pool),
                                             reset_keys, &reset, job->pool);

    if (error == NULL && reset.removed == 0) {
        return direct_nothing(&key, status);
    }
    if (error == NULL && job->json) {
        printf("{\"forgotten\":%lld}\n", reset.removed);
    }
    return error;
}

/* --- top */

#define TOP_SHOWN 20

/* One that is shown: its tightest limit. */
typedef struct {
    const char *identity;
    int64_t remaining;
    int64_t quota;
    int64_t reset;
} top_row_t;

typedef struct {
    const direct_t *job;
    redis_ctl_t *ctl;
    const char *end; /* of the keys of the rule */
    top_row_t rows[TOP_SHOWN + 1];
    int n;
    rlp_charge_t charges[RLP_ENTRIES_MAX];
} top_t;

static int top_digit(char c)
{
    return apr_isdigit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* The identity in a key of the rule; NULL: it is another rule's. */
static const char *top_identity(const top_t *top, const script_key_t *key, apr_pool_t *pool)
{
    const size_t head = strlen(top->ctl->prefix) + strlen("rlp:{");
    const size_t end = strlen(top->end);

    if (key->len <= head + end || memcmp(key->bytes + key->len - end, top->end, end) != 0) {
        return NULL;
    }
    const size_t len = key->len - head - end;
    char *identity = apr_pstrmemdup(pool, key->bytes + head, len);
    char *to = identity;

    for (const char *at = identity; *at != '\0'; at++) {
        const bool escaped = at[0] == '%' && apr_isxdigit(at[1]) && apr_isxdigit(at[2]);

        *to++ = (char)(escaped ? top_digit(at[1]) << 4 | top_digit(at[2]) : *at);
        at += escaped ? 2 : 0;
    }
    *to = '\0';
    return strlen(identity) == (size_t)(to - identity) ? identity : NULL;
}

/* Has the one less left than the other, as a share of all there is? */
static bool top_before(const top_row_t *one, const top_row_t *other)
{
    const double a = (double)one->remaining * (double)other->quota;
    const double b = (double)other->remaining * (double)one->quota;

    return a < b || (a <= b && strcmp(one->identity, other->identity) < 0);
}

static void top_add(top_t *top, const top_row_t *row)
{
    int i = top->n;

    for (int k = 0; k < top->n; k++) {
        if (strcmp(top->rows[k].identity, row->identity) == 0) {
            return; /* a scan may show a key twice */
        }
    }
    while (i > 0 && top_before(row, &top->rows[i - 1])) {
        top->rows[i] = top->rows[i - 1];
        i--;
    }
    if (i < TOP_SHOWN) {
        top->rows[i] = *row;
        top->rows[i].identity = apr_pstrdup(top->job->pool, row->identity);
        top->n += top->n < TOP_SHOWN;
    }
}

/* The limit that is most in the way, of one identity. */
static void top_take(top_t *top, const rlp_charge_t *charges)
{
    const rlp_plan_t *plan = top->job->plan;
    int tightest = 0;

    for (int i = 1; i < plan->n; i++) {
        if (rlp_decision_tighter(charges[i].limit, &charges[i].decision, charges[tightest].limit,
                                 &charges[tightest].decision)) {
            tightest = i;
        }
    }
    const rlp_charge_t *charge = &charges[tightest];
    const top_row_t row = { .identity = charge->entry.key.identity,
                            .remaining = charge->decision.remaining,
                            .quota = rlp_limit_quota(charge->limit),
                            .reset = direct_seconds(charge->decision.reset) };

    top_add(top, &row);
}

/* Asks about n identities in one round trip. */
static const char *top_ask(top_t *top, const char *const identities[], int n, apr_pool_t *pool)
{
    const rlp_plan_t *plan = top->job->plan;
    rlp_question_t question = { .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
    rlp_answer_t answer;

    for (int i = 0; i < n; i++) {
        for (int k = 0; k < plan->n; k++) {
            direct_charge(top->job, &top->charges[(ptrdiff_t)i * plan->n + k], identities[i],
                          &plan->limits[k]);
        }
    }
    if (n > 0 &&
        rlp_peek(top->job->store, top->charges, n * plan->n, &question, &answer) != APR_SUCCESS) {
        return redis_direct_why(top->ctl, pool);
    }
    for (int i = 0; i < n; i++) {
        top_take(top, &top->charges[(ptrdiff_t)i * plan->n]);
    }
    return NULL;
}

static const char *top_keys(void *baton, const script_key_t keys[], int n, apr_pool_t *pool)
{
    top_t *top = baton;
    const int most = RLP_ENTRIES_MAX / top->job->plan->n;
    const char *identities[RLP_ENTRIES_MAX];
    const char *error = NULL;
    int count = 0;

    for (int i = 0; error == NULL && i < n; i++) {
        identities[count] = top_identity(top, &keys[i], pool);
        count += identities[count] != NULL;
        if (count == most) {
            error = top_ask(top, identities, count, pool);
            count = 0;
        }
    }
    return error ? error : top_ask(top, identities, count, pool);
}

/* What a terminal would obey is shown as "?". */
static const char *top_plain(const char *identity, apr_pool_t *pool)
{
    char *text = apr_pstrdup(pool, identity);

    for (char *at = text; *at != '\0'; at++) {
        *at = (char)(*at > ' ' && *at < 0x7f ? *at : '?');
    }
    return text;
}

static void top_print(const direct_t *job, const top_row_t *row)
{
    json_out_t out = json_out(job->pool);

    if (!job->json) {
        printf("%s\tremaining=%" PRId64 "\tquota=%" PRId64 "\treset=%s\n",
               top_plain(row->identity, job->pool), row->remaining, row->quota,
               direct_number(job, row->reset));
        return;
    }
    json_open(&out, NULL, '{');
    json_string(&out, "identity", row->identity);
    json_number(&out, "remaining", row->remaining);
    json_number(&out, "quota", row->quota);
    json_figure(&out, "reset", direct_number(job, row->reset));
    json_close(&out, '}');
    printf("%.*s\n", (int)out.len, out.text);
}

const char *redis_direct_top(direct_t *job, struct redis_ctl_t *ctl)
{
    top_t *top = apr_pcalloc(job->pool, sizeof(*top));

    *top = (top_t){ .job = job, .ctl = ctl };
    job->identity = "";
    const script_key_t key = direct_key(job, ctl);

    top->end = key.bytes + strlen(ctl->prefix) + strlen("rlp:{");
    const char *error = redis_ctl_scan(ctl, redis_ctl_pattern(ctl->prefix, "rlp:{", job->pool),
                                       top_keys, top, job->pool);

    for (int i = 0; error == NULL && i < top->n; i++) {
        top_print(job, &top->rows[i]);
    }
    return error;
}
