/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis.h"

#include "redis_ctl.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_time.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define REDIS_USAGE                                                                          \
    "usage: rlpctl get   --store=URL [OPTION]... IDENTITY RULE [LIMIT]...\n"                 \
    "       rlpctl reset --store=URL [OPTION]... IDENTITY RULE\n"                            \
    "\n"                                                                                     \
    "What servers count in Redis. IDENTITY is TYPE:VALUE and RULE a name, as in its keys.\n" \
    "With the limits of the rule or plan, get says of each what is left.\n"                  \
    "\n"                                                                                     \
    "  --store=URL         as url= of RateLimitStore, without a password\n"                  \
    "  --password=SOURCE   file:PATH or env:NAME\n"                                          \
    "  --prefix=TEXT       as prefix= of RateLimitStore\n"                                   \
    "  --json              one JSON object a line\n"

#define REDIS_NOTHING 1 /* exit status: nothing is counted there */

/* --- try */

/* What rlp_store_t is asked of, and what is behind it. */
typedef struct {
    rlp_store_t head;
    redis_ctl_t *ctl;
    apr_pool_t *pool;
} redis_try_t;

static apr_status_t try_decide(rlp_store_t *head, rlp_charge_t *charges, int n,
                               const rlp_question_t *question, rlp_op_kind_t kind,
                               rlp_answer_t *answer)
{
    rlp_store_t *store = ((redis_try_t *)head)->ctl->store;

    return store->type->decide(store, charges, n, question, kind, answer);
}

static const rlp_store_type_t try_type = { .name = "redis try", .decide = try_decide };

static const char *try_prefix(apr_pool_t *pool)
{
    uint64_t random = 0;

    (void)apr_generate_random_bytes((unsigned char *)&random, sizeof(random));
    return apr_psprintf(pool, "rlpctl-try-%016" PRIx64 ":", random);
}

const char *redis_try_open(rlp_store_t **store, const char *url, const char *password,
                           apr_pool_t *pool)
{
    redis_try_t *made = apr_pcalloc(pool, sizeof(*made));
    rlp_charge_t none = { .entry = { .key = { .identity = "" } } };
    redisReply *reply = NULL;
    const char *error = redis_ctl_open(&made->ctl, url, password, try_prefix(pool), pool);

    if (error != NULL) {
        return error;
    }
    redis_ctl_make_store(made->ctl, true, pool);
    made->head = *made->ctl->store;
    made->head.type = &try_type;
    made->pool = pool;
    *store = &made->head;
    const script_key_t key = redis_ctl_key(made->ctl, &none, pool);

    error = redis_ctl_ask_key(made->ctl, &reply, "GET", &key, pool);
    freeReplyObject(reply);
    return error;
}

const char *redis_try_refuses(const rlp_limit_t *limit, rlp_time_t max_wait, apr_pool_t *pool)
{
    return redis_store_limit_error(limit, max_wait, pool);
}

void redis_try_close(rlp_store_t *store, const char *identity)
{
    const redis_try_t *made = (const redis_try_t *)store;
    const rlp_charge_t charge = { .entry = { .key = { .identity = identity,
                                                      .identity_len = strlen(identity) } } };
    const script_key_t key = redis_ctl_key(made->ctl, &charge, made->pool);
    redisReply *reply = NULL;

    (void)redis_ctl_ask_key(made->ctl, &reply, "DEL", &key, made->pool);
    freeReplyObject(reply);
}

/* --- get and reset */

typedef struct {
    bool resets;
    bool json;
    const char *url;
    const char *password;
    const char *prefix;
    const char *identity;
    const char *rule;
    const char *const *limits; /* words */
    int n;
    rlp_plan_t *plan; /* of the words, if there are any */
    apr_pool_t *pool;
} job_t;

bool redis_is_command(int argc, const char *const argv[])
{
    bool store = false;

    for (int i = 1; i < argc; i++) {
        store |= strncmp(argv[i], "--store=", 8) == 0;
    }
    return store && (strcmp(argv[0], "get") == 0 || strcmp(argv[0], "reset") == 0);
}

/* One option; false: it is none. */
static bool job_option(job_t *job, const char *word)
{
    static const struct {
        const char *name;
        size_t at;
    } options[] = { { "--store=", offsetof(job_t, url) },
                    { "--password=", offsetof(job_t, password) },
                    { "--prefix=", offsetof(job_t, prefix) } };

    if (strcmp(word, "--json") == 0) {
        job->json = true;
        return !job->resets;
    }
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        const size_t len = strlen(options[i].name);

        if (strncmp(word, options[i].name, len) == 0) {
            *(const char **)((char *)job + options[i].at) = word + len;
            return true;
        }
    }
    return false;
}

/* NULL, or what was expected. */
static const char *job_words(job_t *job, int argc, const char *const argv[])
{
    int i = 1;

    job->resets = strcmp(argv[0], "reset") == 0;
    while (i < argc && argv[i][0] == '-') {
        if (!job_option(job, argv[i++])) {
            return apr_psprintf(job->pool,
                                "expected --store=, --password=, --prefix=%s, got \"%s\"",
                                job->resets ? "" : " or --json", argv[i - 1]);
        }
    }
    if (argc - i < 2 || (job->resets && argc - i > 2) || strchr(argv[i], ':') == NULL) {
        return "expected IDENTITY, such as ip:192.0.2.1, and RULE behind the options";
    }
    if (job->prefix != NULL && job->prefix[strcspn(job->prefix, "{}")] != '\0') {
        return "expected a --prefix= without braces";
    }
    job->identity = argv[i];
    job->rule = argv[i + 1];
    job->limits = argv + i + 2;
    job->n = argc - i - 2;
    return NULL;
}

/* Reads the limits; NULL, or what was expected. */
static const char *job_plan(job_t *job)
{
    rlp_clock_t clock;

    if (job->n == 0) {
        return NULL;
    }
    rlp_clock_read(&clock);
    const rlp_plan_source_t source = {
        .name = "get", .words = job->limits, .n = job->n, .wall = clock.wall
    };
    const char *error = rlp_plan_parse(&job->plan, &source, job->pool);

    for (int i = 0; error == NULL && i < job->plan->n; i++) {
        error = redis_store_limit_error(&job->plan->limits[i], 0, job->pool);
    }
    return error;
}

static void job_charge(const job_t *job, rlp_charge_t *charge, const rlp_limit_t *limit)
{
    rlp_charge_init(charge, job->identity, strlen(job->identity),
                    rlp_signature(job->rule, NULL, limit), limit);
    charge->rule = job->rule;
}

static const rlp_limit_t job_no_limit;

static script_key_t job_key(const job_t *job, const redis_ctl_t *ctl)
{
    rlp_charge_t charge = { .limit = &job_no_limit,
                            .entry = { .key = { .identity = job->identity,
                                                .identity_len = strlen(job->identity) } },
                            .rule = job->rule };

    return redis_ctl_key(ctl, &charge, job->pool);
}

static int64_t job_seconds(rlp_time_t span)
{
    return span == RLP_TIME_NEVER ? -1 : span <= 0 ? 0 : rlp_seconds(span);
}

static const char *job_number(const job_t *job, int64_t number)
{
    return number < 0 ? (job->json ? "null" : "-")
                      : apr_psprintf(job->pool, "%" APR_INT64_T_FMT, (apr_int64_t)number);
}

/* What one limit would answer to a request of one unit. */
static void job_print(const job_t *job, const rlp_decision_t *d)
{
    const bool passes = d->verdict <= RLP_WAIT;
    const int64_t retry = d->verdict == RLP_NEVER ? -1 : passes ? 0 : rlp_seconds(d->retry);

    printf(job->json ? "{\"verdict\":\"%s\",\"remaining\":%" PRId64 ",\"retry\":%s,\"reset\":%s}\n"
                     : "%s\tremaining=%" PRId64 "\tretry=%s\treset=%s\n",
           passes                    ? "allow"
           : d->verdict == RLP_NEVER ? "never"
                                     : "deny",
           d->remaining, job_number(job, retry), job_number(job, job_seconds(d->reset)));
}

/* What is left of each limit. */
static const char *job_get_limits(const job_t *job, redis_ctl_t *ctl)
{
    const rlp_plan_t *plan = job->plan;
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_clock_t clock;
    rlp_answer_t answer;

    rlp_clock_read(&clock);
    const rlp_question_t question = { .now = clock.monotonic, .wall = clock.wall };

    for (int i = 0; i < plan->n; i++) {
        job_charge(job, &charges[i], &plan->limits[i]);
    }
    redis_ctl_make_store(ctl, false, job->pool);
    if (rlp_peek(ctl->store, charges, plan->n, &question, &answer) != APR_SUCCESS) {
        return redis_ctl_why(ctl, REDIS_FAULT_ERROR, job->pool);
    }
    for (int i = 0; i < plan->n; i++) {
        job_print(job, &charges[i].decision);
    }
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
    return at > now ? job_seconds((rlp_time_t)(at - now)) : 0;
}

/* false: it is no value of ours. */
static bool value_print(const job_t *job, const char *value, size_t len)
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
        printf(job->json ? "{\"signature\":\"%016" PRIx64 "\",\"bytes\":%zu,\"expires\":%s}\n"
                         : "%016" PRIx64 "\tbytes=%zu\texpires=%s\n",
               value_word(value + at, 8), size, job_number(job, value_expires(value + at + 12)));
        at += VALUE_HEAD + size;
    }
    return true;
}

/* --- running */

/* The exit status, or an error. */
static const char *job_run(const job_t *job, redis_ctl_t *ctl, int *status)
{
    const script_key_t key = job_key(job, ctl);
    redisReply *reply = NULL;
    const char *error =
        redis_ctl_ask_key(ctl, &reply, job->resets ? "DEL" : "GET", &key, job->pool);
    const bool there = error == NULL && reply != NULL &&
                       (job->resets ? reply->integer > 0 : reply->type == REDIS_REPLY_STRING);

    *status = there ? EXIT_SUCCESS : REDIS_NOTHING;
    if (error == NULL && job->plan != NULL) {
        *status = EXIT_SUCCESS;
        error = job_get_limits(job, ctl);
    } else if (there && !job->resets && !value_print(job, reply->str, (size_t)reply->len)) {
        error = "expected a value of format 1 under the key, got something else";
    }
    freeReplyObject(reply);
    if (error == NULL && *status != EXIT_SUCCESS) {
        fprintf(stderr, "rlpctl: nothing is counted under %.*s\n", (int)key.len, key.bytes);
    }
    return error;
}

int redis_main(int argc, const char *const argv[], apr_pool_t *pool)
{
    job_t job = { .pool = pool, .identity = "", .rule = "" };
    redis_ctl_t *ctl = NULL;
    int status = EXIT_SUCCESS;
    const char *error = job_words(&job, argc, argv);

    if (error == NULL) {
        error = job_plan(&job);
    }
    if (error == NULL) {
        error = redis_ctl_open(&ctl, job.url, job.password, job.prefix, pool);
    }
    if (error != NULL) {
        fprintf(stderr, "rlpctl: %s\n\n" REDIS_USAGE, error);
        return EX_USAGE;
    }
    error = job_run(&job, ctl, &status);
    if (error != NULL) {
        fprintf(stderr, "rlpctl: %s\n", error);
        return EX_UNAVAILABLE;
    }
    if (fflush(stdout) != 0) {
        fputs("rlpctl: cannot write\n", stderr);
        return EX_IOERR;
    }
    return status;
}
