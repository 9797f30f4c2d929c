/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "direct.h"

#ifdef RLP_REDIS
#include "redis.h"
#endif

#include <apr_strings.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

const char direct_usage[] =
    "usage: rlpctl COMMAND --file=PATH [OPTION]... [WORD]...\n"
    "       rlpctl COMMAND --store=URL [OPTION]... [WORD]...\n"
    "\n"
    "What is counted in the file of a store, whose server may run or not, or in a\n"
    "Redis, without a server's help.\n"
    "\n"
    "  get IDENTITY RULE [LIMIT]...          what stands there; with the limits of\n"
    "                                        the rule or plan, what is left of each\n"
    "  grant IDENTITY UNITS RULE LIMIT...    so many are left again\n"
    "  reset IDENTITY [RULE]                 all is; in a file of all rules\n"
    "  top RULE LIMIT...                     of a Redis: who has least left\n"
    "  top                                   of a file: who is refused most\n"
    "\n"
    "IDENTITY is TYPE:VALUE and RULE a name with its scope, as they are counted.\n"
    "  --store=URL         as url= of RateLimitStore, without a password\n"
    "  --password=SOURCE   file:PATH or env:NAME\n"
    "  --tls-ca=FILE, --tls-cert=FILE, --tls-key=FILE, --tls-name=NAME\n"
    "                      as those of RateLimitStore, for rediss://\n"
    "  --prefix=TEXT       as prefix= of RateLimitStore\n"
    "  --plan=NAME         the plan, where RateLimitPlanChange is reset\n"
    "  --secret            of a file: IDENTITY is TYPE, the value on standard input\n"
    "  --json              one JSON object a line\n";

#define DIRECT_SECRET_MAX 8192

/* --- which command */

/* Is the option there, with so many signs behind it at least? */
static bool direct_has(int argc, const char *const argv[], const char *option, size_t signs)
{
    bool has = false;

    for (int i = 1; i < argc; i++) {
        const char *value = option_value(argv[i], option);

        has |= value != NULL && strlen(value) >= signs;
    }
    return has;
}

static bool direct_is_one_of(const char *word, const char *const words[])
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(word, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* What else they have is rlpctl ban --file= and --store=. */
bool direct_is_command(int argc, const char *const argv[])
{
    static const char *const of_redis[] = { "get", "grant", "reset", "top", NULL };
    static const char *const of_file[] = { "get", "grant", NULL };

    return (direct_has(argc, argv, "--store=", 0) && direct_is_one_of(argv[0], of_redis)) ||
           (direct_has(argc, argv, "--file=", 1) && direct_is_one_of(argv[0], of_file));
}

static bool direct_is(const direct_t *job, const char *command)
{
    return strcmp(job->command, command) == 0;
}

/* --- words */

/* One option; false: it is none. */
static bool direct_option(direct_t *job, const char *word)
{
    const option_t options[] = { { .name = "--plan=", .value = &job->plan_name },
                                 { .name = "--secret", .flag = &job->secret },
                                 { .name = "--json", .flag = &job->json },
                                 { .name = NULL } };

    return option_take(options, word, 1, NULL) == NULL ||
           option_place(&job->place, word, 0) == NULL;
}

/* What does not go together. */
static const char *direct_odd(const direct_t *job)
{
    const char *error = option_place_odd(&job->place);

    if (error != NULL) {
        return error;
    }
    if (job->place.file == NULL && job->secret) {
        return "expected --file=PATH with --secret: only a server knows what Redis counts it by";
    }
    if (job->plan_name != NULL && rlp_name_check(job->plan_name, job->pool) != NULL) {
        return "expected --plan=NAME of a plan";
    }
    return option_prefix_odd(job->place.prefix);
}

static const char *direct_no_rule(const direct_t *job)
{
    return direct_is(job, "top") ? "expected RULE, such as api, and its limits behind it"
                                 : "expected RULE, such as api, behind IDENTITY";
}

/* What the command has to have behind IDENTITY and UNITS. */
static const char *direct_rule(const direct_t *job)
{
    const bool lists = direct_is(job, "get") && job->place.file != NULL;

    if (job->rule != NULL && job->rule[0] == '\0') {
        return direct_no_rule(job);
    }
    if (direct_is(job, "reset")) {
        return job->n > 0 || job->plan_name != NULL
                   ? "expected IDENTITY and RULE, and no limits or --plan=: all of it is reset"
                   : NULL;
    }
    if (direct_is(job, "get") && job->n == 0 && job->plan_name != NULL) {
        return "expected the limits of the plan behind RULE with --plan=NAME";
    }
    if (job->rule == NULL && !lists) {
        return direct_no_rule(job);
    }
    return job->n == 0 && !direct_is(job, "get")
               ? "expected the limits of the rule or plan behind RULE, such as rate=10/min"
               : NULL;
}

/* The words behind the options: IDENTITY, UNITS, RULE and limits, as far as the command has
   them. */
static const char *direct_operands(direct_t *job, const char *const words[], int n)
{
    int i = 0;

    if (!direct_is(job, "top")) {
        if (n == 0 || (!job->secret && option_identity_odd(words[0]) != NULL)) {
            return "expected IDENTITY, such as ip:192.0.2.1, and RULE";
        }
        if (job->secret && option_secret_odd(words[0]) != NULL) {
            return option_secret_odd(words[0]);
        }
        job->identity = words[i++];
    }
    if (direct_is(job, "grant") &&
        (i == n || rlp_units_parse(&job->units, words[i++], job->pool) != NULL ||
         job->units == 0)) {
        return "expected UNITS behind IDENTITY: a number above 0 with at most three decimals";
    }
    job->rule = i < n ? words[i++] : NULL;
    job->limits = words + i;
    job->n = n - i;
    return direct_rule(job);
}

/* NULL, or what was expected. */
static const char *direct_words(direct_t *job, int argc, const char *const argv[])
{
    const char **operands = apr_palloc(job->pool, sizeof(*operands) * (size_t)argc);
    int n = 0;

    job->command = argv[0];
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-') {
            operands[n++] = argv[i];
        } else if (!direct_option(job, argv[i])) {
            return apr_psprintf(job->pool,
                                "expected --file=, --store=, --password=, --prefix=, --tls-...=, "
                                "--plan=, --secret or --json, got \"%s\"",
                                argv[i]);
        }
    }
    const char *error = direct_odd(job);

    return error ? error : direct_operands(job, operands, n);
}

/* What keeps a Redis from counting it, or a tool from seeing it: places in a file are held in the
   size that its server has for them, and only for who has a number there. */
static const char *direct_refuses(const direct_t *job, const rlp_limit_t *limit)
{
    if (job->place.file != NULL) {
        return limit->algorithm->holds ? "expected no concurrent= with --file=: a server alone "
                                         "knows what is in flight"
                                       : NULL;
    }
#ifdef RLP_REDIS
    return redis_try_refuses(limit, 0, job->pool);
#else
    return NULL;
#endif
}

/* Reads the limits; NULL, or what was expected. */
static const char *direct_plan(direct_t *job)
{
    rlp_clock_t clock;

    if (job->n == 0) {
        return NULL;
    }
    rlp_clock_read(&clock);
    const rlp_plan_source_t source = {
        .name = "direct", .words = job->limits, .n = job->n, .wall = clock.wall
    };
    const char *error = rlp_plan_parse(&job->plan, &source, job->pool);

    if (error == NULL && (job->plan->then != NULL || job->plan->bandwidth > 0)) {
        return "expected neither then= nor bandwidth=, which mean something in a server alone";
    }
    for (int i = 0; error == NULL && i < job->plan->n; i++) {
        error = direct_refuses(job, &job->plan->limits[i]);
    }
    return error;
}

/* --- what is printed */

int64_t direct_seconds(rlp_time_t span)
{
    return span == RLP_TIME_NEVER ? -1 : span <= 0 ? 0 : rlp_seconds(span);
}

const char *direct_number(const direct_t *job, int64_t number)
{
    return number < 0 ? (job->json ? "null" : "-")
                      : apr_psprintf(job->pool, "%" APR_INT64_T_FMT, (apr_int64_t)number);
}

void direct_print_state(const direct_t *job, uint64_t signature, size_t bytes, int64_t expires)
{
    printf(job->json ? "{\"signature\":\"%016" PRIx64 "\",\"bytes\":%zu,\"expires\":%s}\n"
                     : "%016" PRIx64 "\tbytes=%zu\texpires=%s\n",
           signature, bytes, direct_number(job, expires));
}

/* What one limit would answer to a request of one unit. */
static void direct_print(const direct_t *job, const rlp_decision_t *d)
{
    const bool passes = d->verdict <= RLP_WAIT;
    const int64_t retry = d->verdict == RLP_NEVER ? -1 : passes ? 0 : rlp_seconds(d->retry);

    printf(job->json ? "{\"verdict\":\"%s\",\"remaining\":%" PRId64 ",\"retry\":%s,\"reset\":%s}\n"
                     : "%s\tremaining=%" PRId64 "\tretry=%s\treset=%s\n",
           passes                    ? "allow"
           : d->verdict == RLP_NEVER ? "never"
                                     : "deny",
           d->remaining, direct_number(job, retry), direct_number(job, direct_seconds(d->reset)));
}

/* --- questions to the store */

const char *direct_scope(const direct_t *job)
{
    return job->plan_name ? apr_pstrcat(job->pool, job->rule, ":", job->plan_name, NULL)
                          : job->rule;
}

void direct_charge(const direct_t *job, rlp_charge_t *charge, const char *identity,
                   const rlp_limit_t *limit)
{
    rlp_charge_init(charge, identity, strlen(identity),
                    rlp_signature(job->rule, job->plan_name, limit), limit);
    charge->rule = direct_scope(job);
    if (job->place.file != NULL && limit->state_size > sizeof(charge->room)) {
        charge->entry.state = apr_palloc(job->pool, limit->state_size);
    }
}

static rlp_question_t direct_question(void)
{
    rlp_clock_t clock;

    rlp_clock_read(&clock);
    return (rlp_question_t){ .now = clock.monotonic, .wall = clock.wall };
}

/* What is left of each limit. */
static apr_status_t direct_peek(const direct_t *job)
{
    const rlp_plan_t *plan = job->plan;
    const rlp_question_t question = direct_question();
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_answer_t answer;

    for (int i = 0; i < plan->n; i++) {
        direct_charge(job, &charges[i], job->identity, &plan->limits[i]);
    }
    const apr_status_t rv = rlp_peek(job->store, charges, plan->n, &question, &answer);

    for (int i = 0; rv == APR_SUCCESS && i < plan->n; i++) {
        direct_print(job, &charges[i].decision);
    }
    return rv;
}

/* Gives units back under one limit, whenever they were charged. By a charge of nothing a store that
   decides by itself says that it is asked itself. */
static apr_status_t direct_give(const direct_t *job, const rlp_limit_t *limit)
{
    rlp_question_t question = direct_question();
    rlp_charge_t charge;
    rlp_answer_t answer;

    direct_charge(job, &charge, job->identity, limit);
    question.charged_at = RLP_TIME_EVER;
    charge.cost = 0;
    apr_status_t rv = rlp_check(job->store, &charge, 1, &question, &answer);

    charge.cost = -job->units;
    charge.counted_at = charge.counted_at != 0 ? RLP_TIME_EVER : 0;
    if (rv == APR_SUCCESS) {
        rv = rlp_settle(job->store, &charge, 1, &question, &answer);
    }
    return rv;
}

/* Under each limit but those of what is in flight. */
static apr_status_t direct_grant(const direct_t *job)
{
    apr_status_t rv = APR_SUCCESS;

    for (int i = 0; rv == APR_SUCCESS && i < job->plan->n; i++) {
        if (!job->plan->limits[i].algorithm->holds) {
            rv = direct_give(job, &job->plan->limits[i]);
        }
    }
    return rv == APR_SUCCESS ? direct_peek(job) : rv;
}

static apr_status_t direct_ask(const direct_t *job)
{
    return direct_is(job, "grant") ? direct_grant(job) : direct_peek(job);
}

/* --- a file */

typedef struct {
    const direct_t *job;
    uint64_t fingerprint;
    rlp_time_t now; /* the store's time */
    int n;
} list_t;

static bool list_counter(void *baton, const rlp_counter_t *counter)
{
    list_t *list = baton;

    if (counter->fingerprint == list->fingerprint) {
        direct_print_state(list->job, counter->signature, counter->size,
                           counter->expires == RLP_TIME_NEVER
                               ? -1
                               : direct_seconds(counter->expires - list->now));
        list->n++;
    }
    return true;
}

/* All counters of the identity; the exit status. */
static int file_list(const direct_t *job, const rlp_segment_t *segment)
{
    const rlp_time_t now = rlp_clock_monotonic();
    list_t list = { .job = job,
                    .fingerprint =
                        rlp_store_fingerprint(job->store, job->identity, strlen(job->identity)),
                    .now = rlp_store_time(job->store, now) };

    (void)rlp_segment_visit(segment, now, list_counter, &list, job->pool);
    if (list.n == 0) {
        fprintf(stderr, "rlpctl: nothing is counted of %s\n", job->identity);
    }
    return list.n > 0 ? EXIT_SUCCESS : DIRECT_NOTHING;
}

/* Reads the secret, if there is one: before the file is opened, since who is still to type it would
   keep a server from starting. */
static const char *file_read_secret(const direct_t *job, char secret[DIRECT_SECRET_MAX])
{
    if (!job->secret) {
        return NULL;
    }
    if (fgets(secret, DIRECT_SECRET_MAX, stdin) == NULL || strcspn(secret, "\r\n") == 0) {
        return "expected a secret on standard input";
    }
    return NULL;
}

/* TYPE and a secret become TYPE:DIGEST. */
static void file_identify(direct_t *job, const char *secret)
{
    char digest[33];

    if (job->secret) {
        rlp_store_digest(job->store, secret, strcspn(secret, "\r\n"), digest);
        job->identity = apr_pstrcat(job->pool, job->identity, ":", digest, NULL);
    }
}

/* NULL and the exit status, or an error. */
static const char *direct_file(direct_t *job, int *status)
{
    char secret[DIRECT_SECRET_MAX];
    const char *error = file_read_secret(job, secret);
    rlp_segment_t segment;
    rlp_clock_t clock;
    bool shared;

    *status = EX_DATAERR;
    if (error != NULL) {
        return error;
    }
    rlp_clock_read(&clock);
    if (rlp_segment_join(&segment, job->place.file, &clock, &shared, &error, job->pool) !=
        APR_SUCCESS) {
        return error;
    }
    if (rlp_shm_create(&job->store, &segment, job->pool) != APR_SUCCESS) {
        error = "the store in the file is damaged";
    }
    if (error == NULL) {
        file_identify(job, secret);
    }
    if (error == NULL && job->plan != NULL) {
        *status = EXIT_SUCCESS;
        error = direct_ask(job) == APR_SUCCESS ? NULL : "the store in the file cannot be asked";
    } else if (error == NULL) {
        *status = file_list(job, &segment);
    }
    rlp_segment_close(&segment);
    return error;
}

/* --- Redis */

#ifdef RLP_REDIS
static const char *direct_redis(direct_t *job, int *status)
{
    struct redis_ctl_t *ctl = NULL;
    const char *error = redis_direct_open(job, &ctl);

    *status = EX_USAGE;
    if (error != NULL) {
        return error;
    }
    *status = EXIT_SUCCESS;
    if (direct_is(job, "top")) {
        error = redis_direct_top(job, ctl);
    } else if (direct_is(job, "reset")) {
        error = redis_direct_reset(job, ctl, status);
    } else if (job->plan == NULL) {
        error = redis_direct_look(job, ctl, status);
    } else if (direct_ask(job) != APR_SUCCESS) {
        error = redis_direct_why(ctl, job->pool);
    }
    *status = error != NULL ? EX_UNAVAILABLE : *status;
    return error;
}
#else
static const char *direct_redis(direct_t *job, int *status)
{
    (void)job;
    *status = EX_USAGE;
    return "this program was built without Redis";
}
#endif

static int direct_fail(const char *error, int status)
{
    fprintf(stderr, "rlpctl: %s\n", error);
    if (status == EX_USAGE) {
        fputs("rlpctl help stores has the commands and options\n", stderr);
    }
    return status;
}

int direct_main(int argc, const char *const argv[], apr_pool_t *pool)
{
    direct_t job = { .pool = pool };
    int status = EX_USAGE;
    const char *error = direct_words(&job, argc, argv);

    error = error ? error : direct_plan(&job);
    if (error != NULL) {
        return direct_fail(error, EX_USAGE);
    }
    error = job.place.file != NULL ? direct_file(&job, &status) : direct_redis(&job, &status);
    if (error != NULL) {
        return direct_fail(error, status);
    }
    return option_end(status);
}
