/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The grammar of limits: the first line is a plan, the second one that it inherits from, the rest
 * are requests, two bytes each. What is refused says what was expected; what is read keeps the
 * promises that steps rely on, and written again it is the same; and no decision goes beyond it.
 */

#include "fuzz.h"
#include "rlp.h"

#include <apr_strings.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 40
#define NOW (INT64_C(1700000000) * RLP_SECOND)
#define LATEST (NOW + (INT64_C(1) << 59))

const char fuzz_name[] = "limits";

/* As of a wider type, where a product needs it. */
__extension__ typedef unsigned __int128 wide_t;

/* --- words */

static const char *plan_read(rlp_plan_t **plan, char *line, const rlp_plan_t *base,
                             apr_pool_t *pool)
{
    const char *words[WORDS_MAX];
    char *rest = NULL;
    rlp_plan_source_t source = { .name = "plan", .words = words, .base = base, .wall = NOW };

    for (char *word = apr_strtok(line, " ", &rest); word != NULL && source.n < WORDS_MAX;
         word = apr_strtok(NULL, " ", &rest)) {
        words[source.n++] = word;
    }
    return rlp_plan_parse(plan, &source, pool);
}

static const char *units_text(rlp_units_t units, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%" APR_INT64_T_FMT ".%03d", units / RLP_UNIT,
                        (int)(units % RLP_UNIT));
}

/* "year@Europe/Berlin" */
static const char *period_text(const rlp_limit_t *limit, apr_pool_t *pool)
{
    static const struct {
        int days;
        const char *name;
    } units[] = { { 1, "day" }, { 7, "week" }, { 30, "month" }, { 31, "month" }, { 365, "year" } };
    const char *name = "year";

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (limit->period == (rlp_time_t)units[i].days * 86400 * RLP_SECOND) {
            name = units[i].name;
        }
    }
    return apr_pstrcat(pool, name, "@", limit->calendar->zone, NULL);
}

/* The limit as its author could have written it. */
static const char *limit_text(const rlp_limit_t *limit, apr_pool_t *pool)
{
    const unsigned takes = limit->algorithm->takes;
    const char *text;

    if (limit->algorithm->holds) {
        return apr_psprintf(pool, "concurrent=%" APR_INT64_T_FMT, limit->count);
    }
    if (limit->algorithm->quota) {
        text = apr_psprintf(pool, "quota=%" APR_INT64_T_FMT "%s%s", limit->count,
                            limit->calendar ? "/" : "",
                            limit->calendar ? period_text(limit, pool) : "");
    } else {
        text = apr_psprintf(pool, "rate=%" APR_INT64_T_FMT "/%" APR_INT64_T_FMT "ms algorithm=%s",
                            limit->count, limit->period / 1000, limit->algorithm->name);
    }
    if (takes & RLP_TAKES_BURST) {
        text = apr_pstrcat(pool, text, " burst=", units_text(limit->burst, pool), NULL);
    }
    return takes & RLP_TAKES_INITIAL && limit->calendar == NULL
               ? apr_pstrcat(pool, text, " initial=", units_text(limit->initial, pool), NULL)
               : text;
}

/* Where it has a start of its own, that is left out. */
static void limit_try_text(const rlp_limit_t *limit, apr_pool_t *pool)
{
    rlp_plan_t *again = NULL;
    const char *text = limit_text(limit, pool);
    const char *error = plan_read(&again, apr_pstrdup(pool, text), NULL, pool);

    fuzz_expect(error == NULL && again->n == 1, "a limit that is written can be read");
    const rlp_limit_t *got = &again->limits[0];

    fuzz_expect(got->algorithm == limit->algorithm && got->count == limit->count &&
                    got->period == limit->period && got->burst == limit->burst &&
                    got->initial == limit->initial && got->drain == limit->drain &&
                    got->capacity == limit->capacity && got->calendar == limit->calendar,
                "and is the same");
}

/* The ranges of rlp_limit_t. */
static void limit_try_ranges(const rlp_limit_t *limit)
{
    const bool blocked = limit->count == 0;

    fuzz_expect(limit->algorithm != NULL && (!blocked || limit->algorithm->quota),
                "only a quota is blocked");
    fuzz_expect(limit->count >= 0 && limit->count <= RLP_UNITS_MAX / RLP_UNIT, "a count is one");
    fuzz_expect(limit->period >= 0 && limit->period % 1000 == 0 &&
                    limit->period <= INT64_C(3660) * 86400 * RLP_SECOND,
                "a period is 10 years at most, in milliseconds");
    fuzz_expect((limit->burst > 0 || blocked) && limit->burst <= RLP_UNITS_MAX,
                "a burst is above 0");
    fuzz_expect(limit->initial >= 0 && limit->initial <= limit->burst, "none has more at first");
    fuzz_expect(limit->drain >= 0 && limit->start <= NOW, "a start is past");
    fuzz_expect(!limit->algorithm->credit || limit->capacity <= INT64_MAX, "credit has room");
    fuzz_expect(limit->state_size > 0 && limit->state_size % 8 == 0, "a state is words");
    for (int i = 1; limit->calendar != NULL && i < limit->calendar->n; i++) {
        fuzz_expect(limit->calendar->edges[i - 1] < limit->calendar->edges[i], "edges rise");
    }
}

static void plan_try(const rlp_plan_t *plan, apr_pool_t *pool)
{
    fuzz_expect(plan->n > 0 && plan->n <= RLP_LIMITS_MAX, "a plan has limits");
    fuzz_expect(*rlp_plan_describe(plan, pool) != '\0', "and words for them");
    for (int i = 0; i < plan->n; i++) {
        limit_try_ranges(&plan->limits[i]);
        limit_try_text(&plan->limits[i], pool);
        for (int k = 0; k < i; k++) {
            fuzz_expect(rlp_signature("rule", NULL, &plan->limits[i]) !=
                            rlp_signature("rule", NULL, &plan->limits[k]),
                        "each limit has a counter of its own");
        }
    }
}

/* --- requests */

typedef struct {
    const rlp_plan_t *plan;
    rlp_store_t *store;
    rlp_question_t question;
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_answer_t answer;
    wide_t used;      /* by what passed, less what was given back */
    rlp_units_t last; /* what passed last; 0: it is given back */
    int places;
    bool renewed; /* all is known of what may pass after a while: no places, no more given back */
} client_t;

typedef apr_status_t ask_t(rlp_store_t *store, rlp_charge_t charges[], int n,
                           const rlp_question_t *question, rlp_answer_t *answer);

static void client_ask(client_t *client, ask_t *ask, rlp_units_t cost, rlp_time_t later)
{
    rlp_question_t question = client->question;

    question.now += later;
    question.wall += later;
    for (int i = 0; i < client->plan->n; i++) {
        client->charges[i].cost = cost;
    }
    fuzz_expect(ask(client->store, client->charges, client->plan->n, &question, &client->answer) ==
                    APR_SUCCESS,
                "a store in memory answers");
    for (int i = 0; i < client->plan->n; i++) {
        fuzz_expect(client->charges[i].decision.remaining >= 0, "nothing is left below 0");
    }
}

static void client_begin(client_t *client, const rlp_plan_t *plan, apr_pool_t *pool)
{
    *client = (client_t){ .plan = plan, .question = { .now = NOW, .wall = NOW }, .renewed = true };
    if (rlp_memory_create(&client->store, pool) != APR_SUCCESS) {
        abort();
    }
    client->question.owner = rlp_owner_open(client->store, getpid());
    for (int i = 0; i < plan->n; i++) {
        const rlp_limit_t *limit = &plan->limits[i];

        rlp_charge_init(&client->charges[i], "ip:192.0.2.1", 12, rlp_signature("rule", NULL, limit),
                        limit);
        client->charges[i].entry.state = apr_pcalloc(pool, limit->state_size + RLP_STATE_MAX);
        client->renewed &= !limit->algorithm->holds;
    }
}

/* What a limit may have let pass since the first request: for windows and the like, what all those
   that were touched hold; for buckets, exactly what they promise. */
static wide_t client_most(const client_t *client, const rlp_limit_t *limit)
{
    const wide_t past = (uint64_t)(client->question.now - NOW);
    const wide_t count = (uint64_t)(limit->count * RLP_UNIT);
    const uint64_t burst = (uint64_t)limit->burst;
    const uint64_t period = (uint64_t)limit->period;

    if (limit->period == 0) {
        return burst;
    }
    if (limit->algorithm->credit && !limit->algorithm->windowed) {
        /* beside a queue one passes */
        const bool queues = strcmp(limit->algorithm->name, "leaky-bucket") == 0;

        return burst + count * past / period + (queues ? RLP_UNIT : 0);
    }
    return burst + count + count * (past * 10 / ((wide_t)period * 9) + 2); /* a February is short */
}

static void client_try_sum(const client_t *client)
{
    for (int i = 0; i < client->plan->n; i++) {
        const rlp_limit_t *limit = &client->plan->limits[i];

        fuzz_expect(limit->algorithm->holds ? client->places <= limit->count
                                            : client->used <= client_most(client, limit),
                    "no more than the limit passes");
    }
}

/* After the time that was told, and not before, the same request passes. */
static void client_try_retry(client_t *client, rlp_units_t cost)
{
    const rlp_time_t retry = client->answer.retry;

    fuzz_expect(retry > 0, "a refusal has to be waited for");
    if (!client->renewed || retry > LATEST - client->question.now) {
        return;
    }
    client_ask(client, rlp_peek, cost, retry);
    fuzz_expect(client->answer.verdict == RLP_ALLOW, "it passes after that");
    client_ask(client, rlp_peek, cost, retry - 1);
    fuzz_expect(client->answer.verdict != RLP_ALLOW, "and not a moment before");
}

static void client_take(client_t *client, rlp_units_t cost)
{
    client_ask(client, rlp_peek, cost, 0);
    const rlp_verdict_t verdict = client->answer.verdict;

    client_ask(client, rlp_check, cost, 0);
    fuzz_expect(client->answer.verdict == verdict, "a peek says what becomes of it");
    if (verdict == RLP_DENY) {
        client_try_retry(client, cost);
    }
    if (verdict != RLP_ALLOW || cost == 0) {
        return;
    }
    client->used += (uint64_t)cost;
    client->last = cost;
    client->places++;
    client->question.charged_at = rlp_store_time(client->store, client->question.now);
    client_try_sum(client);
}

static void client_give(client_t *client)
{
    client_ask(client, rlp_settle, -client->last, 0);
    client->used -= (uint64_t)client->last;
    client->last = 0;
}

static void client_release(client_t *client)
{
    if (client->places > 0) {
        client_ask(client, rlp_release, RLP_UNIT, 0);
        client->places--;
    }
}

static rlp_units_t client_cost(const client_t *client, unsigned which)
{
    const rlp_limit_t *limit = &client->plan->limits[which % (unsigned)client->plan->n];

    if (which < 8) {
        return (rlp_units_t)which * RLP_UNIT;
    }
    if (which < 12) {
        return (rlp_units_t)which;
    }
    return which < 14 ? limit->burst : limit->burst / 2 + 1;
}

static rlp_time_t client_pause(const client_t *client, unsigned which)
{
    static const rlp_time_t pauses[] = {
        0, 0, 1, 999, 1000, 100000, RLP_SECOND, 60 * RLP_SECOND, 3600 * RLP_SECOND
    };
    const rlp_limit_t *limit = &client->plan->limits[which % (unsigned)client->plan->n];
    rlp_time_t pause = limit->drain;

    if (which < sizeof(pauses) / sizeof(pauses[0])) {
        pause = pauses[which];
    } else if (which < 13) {
        pause = limit->period - (which % 2);
    }
    return pause > 0 && pause < LATEST - client->question.now ? pause : 0;
}

static void client_play(client_t *client, const uint8_t *ops, size_t n)
{
    for (size_t i = 0; i + 1 < n; i += 2) {
        const rlp_time_t pause = client_pause(client, ops[i + 1] & 15);
        const rlp_units_t cost = client_cost(client, ops[i] >> 2 & 15);

        client->question.now += pause;
        client->question.wall += pause;
        switch (ops[i] & 3) {
        case 2:
            client_give(client);
            break;
        case 3:
            client_release(client);
            break;
        default:
            client_take(client, cost);
        }
    }
}

/* --- */

/* Cuts a line off. */
static char *line_cut(const uint8_t **data, size_t *size, apr_pool_t *pool)
{
    const uint8_t *end = *size ? memchr(*data, '\n', *size) : NULL;
    const size_t len = end ? (size_t)(end - *data) : *size;
    char *line = apr_pstrmemdup(pool, (const char *)*data, len);
    const size_t used = len + (end != NULL);

    *data += used;
    *size -= used;
    return line;
}

static void line_try_parts(const char *line, apr_pool_t *pool)
{
    rlp_time_t span = 0;
    rlp_units_t units = 0;
    rlp_units_t again = 0;

    if (rlp_duration_parse(&span, line, pool) == NULL) {
        fuzz_expect(span >= 1000 && span <= INT64_C(3660) * 86400 * RLP_SECOND,
                    "a span is bounded");
    }
    if (rlp_units_parse(&units, line, pool) == NULL) {
        fuzz_expect(units >= 0 && units <= RLP_UNITS_MAX, "units are bounded");
        fuzz_expect(rlp_units_parse(&again, units_text(units, pool), pool) == NULL &&
                        again == units,
                    "units that are written are the same");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_pool_t *pool = fuzz_pool();
    char *line = line_cut(&data, &size, pool);
    char *base_line = line_cut(&data, &size, pool);
    rlp_plan_t *base = NULL;
    rlp_plan_t *plan = NULL;
    client_t client;

    line_try_parts(line, pool);
    if (plan_read(&base, base_line, NULL, pool) != NULL) {
        base = NULL;
    }
    const char *error = plan_read(&plan, line, base, pool);

    if (error != NULL) {
        fuzz_expect(strstr(error, "expected ") != NULL, "a refusal says what was expected");
        return 0;
    }
    plan_try(plan, pool);
    client_begin(&client, plan, pool);
    client_play(&client, data, size);
    return 0;
}
