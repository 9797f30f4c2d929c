/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is packed: answers of the script, which mean the same when they are packed again; and the
 * values of keys in a redis-server of the target's own, where there is one. Whatever a key holds,
 * the script answers, within the limit; what it writes has the format of docs/redis-format.md, and
 * the limits of others in it are as they were. The first three bytes choose the plan, what the rest
 * stands for and the moment.
 */

#include "fuzz.h"
#include "redis/lease_call.h"
#include "redis/script.h"
#include "redis/store.h"
#include "rlp.h"

#include <apr_strings.h>

#include <hiredis.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#define HEAD 3
#define NOW (INT64_C(1700000000) * RLP_SECOND)
#define PATIENCE (20 * RLP_SECOND)
#define VALUE_MAX 8192
#define TURNS (INT64_C(10) * 366 * 86400 * RLP_SECOND) /* as far ahead as steps let turns be */
#define KEY "rlp:{user:1}:rule"
#define ENTRY 20 /* bytes before a state */

const char fuzz_name[] = "packed";

static const char *const plans[] = { "rate=10/min burst=20",
                                     "rate=4/10s algorithm=stepped-bucket burst=9",
                                     "rate=3/s algorithm=leaky-bucket",
                                     "rate=5/10s algorithm=fixed-window",
                                     "rate=7/min algorithm=sliding-window",
                                     "rate=9/min algorithm=sliding-log",
                                     "quota=50/day",
                                     "concurrent=3",
                                     "rate=10/min quota=7 concurrent=2 rate=1/s" };

#define PLANS (sizeof(plans) / sizeof(plans[0]))

/* --- a server */

static struct {
    char dir[64];
    char path[80];
    pid_t pid;
    apr_pool_t *pool;
    redisContext *context; /* NULL: there is no server */
    rlp_store_t *store;
} server = { .dir = "/tmp/rlp-fuzz.XXXXXX" };

static void server_stop(void)
{
    apr_pool_destroy(server.pool); /* closes the store's connection */
    if (server.context != NULL) {
        redisFree(server.context);
    }
    if (server.pid > 0) {
        kill(server.pid, SIGKILL);
        waitpid(server.pid, NULL, 0);
    }
    (void)unlink(server.path);
    (void)rmdir(server.dir);
}

static void server_run(void)
{
    const int out = open("/dev/null", O_RDWR);

#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    dup2(out, 0);
    dup2(out, 1);
    dup2(out, 2);
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", server.path, "--save", "",
           "--appendonly", "no", "--dir", server.dir, (char *)NULL);
    _exit(127);
}

static redisContext *server_connect(void)
{
    redisContext *context = redisConnectUnix(server.path);

    if (context != NULL && context->err != 0) {
        redisFree(context);
        context = NULL;
    }
    return context;
}

static void server_start(void)
{
    if (mkdtemp(server.dir) == NULL) {
        abort();
    }
    snprintf(server.path, sizeof(server.path), "%s/socket", server.dir);
    server.pid = fork();
    if (server.pid == 0) {
        server_run();
    }
    atexit(server_stop);
    for (int tries = 0; tries < 2000 && server.pid > 0 && server.context == NULL; tries++) {
        if (waitpid(server.pid, NULL, WNOHANG) == server.pid) {
            server.pid = -1;
            fprintf(stderr, "# no redis-server: the values of keys are not tried\n");
        }
        (void)poll(NULL, 0, 10);
        server.context = server.pid > 0 ? server_connect() : NULL;
    }
}

static void server_open(void)
{
    static redis_breaker_t breakers[2];
    const redis_settings_t settings = { .session.connect = PATIENCE,
                                        .breaker = { .threshold = 3,
                                                     .recovery = RLP_SECOND,
                                                     .longest = RLP_SECOND,
                                                     .probe = RLP_SECOND } };
    redis_store_settings_t made = { .prefix = "", .timeout = PATIENCE, .told_time = true };
    redis_url_t url;

    if (server.pool != NULL) {
        return;
    }
    server_start();
    if (apr_pool_create(&server.pool, NULL) != APR_SUCCESS ||
        redis_url_parse(&url, apr_pstrcat(server.pool, "unix://", server.path, NULL), NULL,
                        server.pool) != NULL ||
        redis_endpoint_create(&made.endpoint, &url, &settings, breakers, 2, server.pool) !=
            APR_SUCCESS) {
        abort();
    }
    server.store = redis_store_create(&made, server.pool);
}

/* --- charges */

typedef struct {
    rlp_plan_t *plan;
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_charge_t *list[RLP_LIMITS_MAX];
    script_key_t keys[RLP_LIMITS_MAX];
    rlp_time_t now;
} asked_t;

static void asked_make(asked_t *asked, const char *text, apr_pool_t *pool)
{
    const char *words[8];
    char *rest = NULL;
    rlp_plan_source_t source = { .name = "plan", .words = words, .wall = NOW };

    for (char *word = apr_strtok(apr_pstrdup(pool, text), " ", &rest); word != NULL;
         word = apr_strtok(NULL, " ", &rest)) {
        words[source.n++] = word;
    }
    if (rlp_plan_parse(&asked->plan, &source, pool) != NULL) {
        abort();
    }
    for (int i = 0; i < asked->plan->n; i++) {
        const rlp_limit_t *limit = &asked->plan->limits[i];
        rlp_charge_t *charge = &asked->charges[i];

        memset(charge, 0, sizeof(*charge));
        rlp_charge_init(charge, "user:1", 6, rlp_signature("rule", NULL, limit), limit);
        charge->rule = "rule";
        charge->holder = 5;
        asked->list[i] = charge;
        asked->keys[i] = (script_key_t){ .bytes = KEY, .len = sizeof(KEY) - 1 };
    }
}

static void asked_expect(const asked_t *asked)
{
    for (int i = 0; i < asked->plan->n; i++) {
        const rlp_limit_t *limit = asked->charges[i].limit;
        const rlp_decision_t *d = &asked->charges[i].decision;
        const int64_t most = limit->burst > RLP_UNIT ? limit->burst / RLP_UNIT : 1;

        if (asked->charges[i].spared) {
            continue;
        }
        fuzz_expect(d->remaining >= 0 && d->remaining <= most,
                    "what is left is no more than the limit");
        fuzz_expect((d->retry > 0) == (d->verdict == RLP_DENY),
                    "who is refused knows for how long");
        fuzz_expect(limit->algorithm->holds ||
                        d->retry <= limit->drain + 3 * limit->period + 2 * RLP_CLOCK_SKEW + TURNS,
                    "nobody is locked out for ever");
    }
}

/* --- answers */

/* The answer that would be packed for these decisions. */
static void answer_pack(unsigned char *at, const asked_t *asked, rlp_time_t now)
{
    script_write(at, 1);
    script_write(at + 8, now);
    for (int i = 0; i < asked->plan->n; i++) {
        const rlp_charge_t *charge = &asked->charges[i];
        const rlp_decision_t *d = &charge->decision;
        unsigned char *to = at + 16 + (size_t)48 * (size_t)i;

        script_write(to, (int64_t)d->verdict + (d->damaged ? 4 : 0) + (charge->spared ? 8 : 0) +
                             16 * (int64_t)d->late);
        script_write(to + 8, d->wait);
        script_write(to + 16, d->retry);
        script_write(to + 24, d->next);
        script_write(to + 32, d->reset);
        script_write(to + 40, d->remaining);
    }
}

#define ANSWER_MAX (16 + 48 * RLP_LIMITS_MAX)

static void answer_try(asked_t *asked, script_op_t op, const uint8_t *data, size_t size)
{
    unsigned char before[ANSWER_MAX] = { 0 };
    unsigned char packed[ANSWER_MAX] = { 0 };
    unsigned char again[ANSWER_MAX] = { 0 };
    const script_call_t call = {
        .op = op, .charges = asked->list, .keys = asked->keys, .n = asked->plan->n, .wall = NOW
    };
    rlp_time_t now = -1;

    answer_pack(before, asked, now);
    if (!script_unpack(&call, (const char *)data, size, &now)) {
        answer_pack(packed, asked, now);
        fuzz_expect(memcmp(before, packed, sizeof(before)) == 0,
                    "what is no answer changes nothing");
        return;
    }
    fuzz_expect(now >= 0, "a moment is one");
    for (int i = 0; i < asked->plan->n; i++) {
        const rlp_charge_t *charge = &asked->charges[i];

        fuzz_expect(charge->spared || (charge->decision.remaining >= 0 &&
                                       charge->decision.wait <= charge->max_wait),
                    "a decision is one");
    }
    answer_pack(packed, asked, now);
    fuzz_expect(script_unpack(&call, (const char *)packed, size, &now), "what is packed is read");
    answer_pack(again, asked, now);
    fuzz_expect(memcmp(packed, again, sizeof(packed)) == 0, "and says the same again");
}

static void lease_try(asked_t *asked, const uint8_t *data, size_t size)
{
    lease_question_t question = { .need = RLP_UNIT,
                                  .want = 5 * RLP_UNIT,
                                  .has = -(rlp_units_t)(size % 7) };
    lease_answer_t answer;

    if (lease_identify(&question, asked->list[0], &asked->keys[0], NOW) &&
        lease_unpack(&answer, &question, (const char *)data, size)) {
        fuzz_expect(answer.granted >= 0 && answer.granted <= 6 * RLP_UNIT + question.want &&
                        answer.lasts <= LEASE_SPAN && answer.now >= 0,
                    "no more is granted than is wanted");
    }
}

/* --- the values of keys */

static const char value_magic[4] = { 'r', 'l', 'p', '1' };
static const char value_other[8] = { 't', 'h', 'e', 'o', 't', 'h', 'e', 'r' };

/* One number of a state, nine bytes: any eight, or one that may mean something. */
static void value_number(unsigned char *to, const uint8_t *data)
{
    static const double odd[] = { -1, 0.5, 1e300, 9007199254740992.0, -0.0 };
    uint64_t bytes;
    double number = odd[data[1] % 5];

    memcpy(&bytes, data + 1, sizeof(bytes));
    switch (data[0] & 7) {
    case 0:
        memcpy(to, &bytes, sizeof(bytes));
        return;
    case 1:
        script_write(to, (int64_t)(bytes & 0xffff));
        return;
    case 2:
        script_write(to, NOW + (int64_t)(bytes & 0xffffff) * 1000 - 3600 * RLP_SECOND);
        return;
    case 3:
        script_write(to, (int64_t)(bytes & 0xff) * RLP_SECOND);
        return;
    case 4:
        number = number / (double)(data[2] % 2); /* infinite, or none */
        break;
    default:
        break;
    }
    memcpy(to, &number, sizeof(number));
}

static size_t value_entry(unsigned char *to, uint64_t signature, size_t size, rlp_time_t expires)
{
    script_write_bytes(to, signature);
    for (int i = 0; i < 4; i++) {
        to[8 + i] = (unsigned char)(size >> 8 * i);
    }
    script_write(to + 12, expires);
    return ENTRY;
}

/* A value with a state of the first limit, and behind it one of a limit that nobody asks about. */
static size_t value_make(unsigned char value[VALUE_MAX], const asked_t *asked, const uint8_t *data,
                         size_t size)
{
    const size_t numbers = size / 9 < 64 ? size / 9 : 64;
    size_t n = 4;

    memcpy(value, value_magic, sizeof(value_magic));
    n += value_entry(value + n, asked->charges[0].entry.key.signature, 8 * numbers,
                     NOW + 7200 * RLP_SECOND);
    for (size_t i = 0; i < numbers; i++, n += 8) {
        value_number(value + n, data + 9 * i);
    }
    n += value_entry(value + n, UINT64_C(0x0102030405060708), 8, NOW + 86400 * RLP_SECOND);
    memcpy(value + n, value_other, sizeof(value_other));
    return n + 8;
}

static size_t value_size(const unsigned char *at)
{
    return (size_t)at[8] | (size_t)at[9] << 8 | (size_t)at[10] << 16 | (size_t)at[11] << 24;
}

/* Is it a value of the format? *others: it has the limit that nobody asks about. */
static bool value_is_one(const redisReply *reply, bool *others)
{
    const unsigned char *at = (const unsigned char *)reply->str;
    const size_t len = reply->type == REDIS_REPLY_STRING ? (size_t)reply->len : 0;
    size_t n = 4;

    *others = false;
    if (len < 4 || memcmp(at, value_magic, 4) != 0) {
        return false;
    }
    while (n + ENTRY <= len && value_size(at + n) <= len - n - ENTRY) {
        const size_t size = value_size(at + n);

        *others |= size == 8 && memcmp(at + n + ENTRY, value_other, 8) == 0;
        n += ENTRY + size;
    }
    return n == len;
}

typedef apr_status_t ask_t(rlp_store_t *store, rlp_charge_t charges[], int n,
                           const rlp_question_t *question, rlp_answer_t *answer);

static rlp_verdict_t value_ask(asked_t *asked, ask_t *ask, rlp_units_t cost)
{
    const rlp_question_t question = { .now = asked->now, .wall = asked->now };
    rlp_answer_t answer;

    for (int i = 0; i < asked->plan->n; i++) {
        asked->charges[i].cost = cost;
    }
    fuzz_expect(ask(server.store, asked->charges, asked->plan->n, &question, &answer) ==
                    APR_SUCCESS,
                "the script answers, whatever is there");
    asked_expect(asked);
    return answer.verdict;
}

static redisReply *value_command(const char *command, const unsigned char *value, size_t len)
{
    redisReply *reply =
        value == NULL ? redisCommand(server.context, command, KEY, sizeof(KEY) - 1)
                      : redisCommand(server.context, command, KEY, sizeof(KEY) - 1, value, len);

    fuzz_expect(reply != NULL && reply->type != REDIS_REPLY_ERROR, "the server lives");
    return reply;
}

static void value_try(asked_t *asked, const unsigned char *value, size_t len, bool made)
{
    bool others = false;

    freeReplyObject(value_command("SET %b %b", value, len));
    const rlp_verdict_t peek = value_ask(asked, rlp_peek, RLP_UNIT);

    fuzz_expect(value_ask(asked, rlp_check, RLP_UNIT) == peek, "a peek says what becomes of it");
    redisReply *reply = value_command("GET %b", NULL, 0);

    fuzz_expect(peek > RLP_WAIT || value_is_one(reply, &others), "what is written has the format");
    fuzz_expect(peek > RLP_WAIT || !made || others, "and keeps the limits of others");
    freeReplyObject(reply);
    if (peek <= RLP_WAIT) {
        (void)value_ask(asked, rlp_settle, -RLP_UNIT);
        (void)value_ask(asked, rlp_release, RLP_UNIT);
        fuzz_expect(value_ask(asked, rlp_peek, RLP_UNIT) <= RLP_WAIT,
                    "what is given back is there");
    }
    freeReplyObject(value_command("DEL %b", NULL, 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned char value[VALUE_MAX];
    apr_pool_t *pool = fuzz_pool();
    asked_t asked = { .now = NOW };

    if (size < HEAD) {
        return 0;
    }
    asked_make(&asked, plans[data[0] % PLANS], pool);
    asked.now = NOW + (rlp_time_t)data[2] * 60 * RLP_SECOND;
    answer_try(&asked, (script_op_t)(data[1] >> 2 & 3), data + HEAD, size - HEAD);
    lease_try(&asked, data + HEAD, size - HEAD);
    server_open();
    if (server.context == NULL) {
        return 0;
    }
    asked_make(&asked, plans[data[0] % PLANS], pool);
    if (data[1] & 1) {
        value_try(&asked, value, value_make(value, &asked, data + HEAD, size - HEAD),
                  asked.now < NOW + 86400 * RLP_SECOND);
    } else {
        memcpy(value, data + HEAD, size - HEAD < VALUE_MAX ? size - HEAD : VALUE_MAX);
        value_try(&asked, value, size - HEAD < VALUE_MAX ? size - HEAD : VALUE_MAX, false);
    }
    return 0;
}
