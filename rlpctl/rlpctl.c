/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * rlpctl: what would this plan do? Reads moments and costs, answers as a server would.
 */

#include "ask.h"
#include "direct.h"
#include "dump.h"
#include "hash_key.h"
#include "option.h"
#ifdef RLP_REDIS
#include "redis.h"
#endif
#include "rlp.h"
#include "simulate.h"

#include <apr_file_io.h>
#include <apr_general.h>
#include <apr_strings.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRY_USAGE                                                                             \
    "usage: rlpctl try [--json] [--store=memory|shm|URL] [--password=SOURCE]\n"               \
    "                  [--delay=DURATION] LIMIT...\n"                                         \
    "\n"                                                                                      \
    "Reads lines \"AT [COST]\" (AT in seconds, COST 1 if left out; both may have decimals)\n" \
    "and says of each what a server with these limits would answer.\n"                        \
    "\n"                                                                                      \
    "LIMIT: rate=COUNT/PERIOD [burst=N] [initial=N] [algorithm=NAME] [start=TIME]\n"          \
    "       quota=COUNT[/day|week|month|year[@ZONE]]   concurrent=N\n"                        \
    "\n"                                                                                      \
    "  --json               one JSON object a line\n"                                         \
    "  --store=memory|shm   where the counters live (memory); or the URL of a Redis, such\n"  \
    "                       as redis://127.0.0.1/0\n"                                         \
    "  --password=SOURCE    of that Redis: file:PATH or env:NAME\n"                           \
    "  --tls-ca=FILE, --tls-cert=FILE, --tls-key=FILE, --tls-name=NAME\n"                     \
    "                       as those of RateLimitStore, for rediss://\n"                      \
    "  --delay=DURATION     let a request wait for its turn, no longer than that\n"           \
    "  --help, --version\n"                                                                   \
    "\n"                                                                                      \
    "rlpctl hash-key --help: keys as their digests, for plan maps\n"                          \
    "rlpctl simulate --help: access logs replayed against plans\n"                            \
    "rlpctl get --help: ask and change a running server\n"                                    \
    "rlpctl help stores: the same without a server, in a store\n"                             \
    "rlpctl dump --help: counters out of a store and into another\n"

enum { EXIT_USAGE = 64, EXIT_INPUT = 65, EXIT_AWAY = 69, EXIT_STORE = 70, EXIT_IO = 74 };

typedef struct {
    bool json;
    bool shm;
    option_place_t redis;
    rlp_time_t max_wait;
    rlp_hold_t owner;
    rlp_store_t *store;
    rlp_segment_t segment;
    const rlp_plan_t *plan;
    rlp_charge_t charges[RLP_LIMITS_MAX];
    apr_pool_t *pool;
} try_t;

/* Seconds with up to six decimals, as microseconds; -1 if it is no such number. */
static rlp_time_t try_time(const char *text)
{
    const size_t whole = strspn(text, "0123456789");
    const char *fraction = text[whole] == '.' ? text + whole + 1 : text + whole;
    const size_t decimals = strspn(fraction, "0123456789");
    rlp_time_t at = 0;

    if (whole > 11 || decimals > 6 || whole + decimals == 0 || fraction[decimals] != '\0') {
        return -1;
    }
    for (size_t i = 0; i < whole; i++) {
        at = at * 10 + (text[i] - '0');
    }
    for (size_t i = 0; i < 6; i++) {
        at = at * 10 + (i < decimals ? fraction[i] - '0' : 0);
    }
    return at;
}

static const char *try_verdict(const rlp_answer_t *answer)
{
    static const char *const names[] = {
        [RLP_ALLOW] = "allow", [RLP_WAIT] = "wait", [RLP_DENY] = "deny", [RLP_NEVER] = "never"
    };

    return names[answer->verdict];
}

/* Whole seconds, rounded up; -1 for never. */
static int64_t try_seconds(rlp_time_t span)
{
    return span == RLP_TIME_NEVER ? -1 : span == 0 ? 0 : rlp_seconds(span);
}

/* The moment as a JSON number, whatever zeros it was written with. */
static const char *try_moment(rlp_time_t at, apr_pool_t *pool)
{
    char *text = apr_psprintf(pool, "%" APR_INT64_T_FMT ".%06d", (apr_int64_t)(at / RLP_SECOND),
                              (int)(at % RLP_SECOND));
    char *end = text + strlen(text);

    while (end[-1] == '0') {
        *--end = '\0';
    }
    if (end[-1] == '.') {
        end[-1] = '\0';
    }
    return text;
}

static const char *try_number(int64_t number, const char *otherwise, apr_pool_t *pool)
{
    return number < 0 ? otherwise : apr_psprintf(pool, "%" APR_INT64_T_FMT, (apr_int64_t)number);
}

static int64_t try_retry(const rlp_answer_t *answer)
{
    if (answer->verdict == RLP_NEVER) {
        return -1;
    }
    return answer->verdict == RLP_DENY ? rlp_seconds(answer->retry) : 0;
}

/* What a waiting answer has behind the others. */
static const char *try_wait(const try_t *try, const rlp_answer_t *answer, apr_pool_t *pool)
{
    if (answer->verdict != RLP_WAIT) {
        return "";
    }
    return apr_pstrcat(pool, try->json ? ",\"wait\":" : "\twait=", try_moment(answer->wait, pool),
                       NULL);
}

static void try_print(const try_t *try, const char *at, const rlp_answer_t *answer,
                      apr_pool_t *pool)
{
    const rlp_decision_t *d = &try->charges[answer->tightest].decision;
    const char *none = try->json ? "null" : "-";

    printf(try->json ? "{\"at\":%s,\"verdict\":\"%s\",\"remaining\":%" PRId64
                       ",\"retry\":%s,\"reset\":%s%s}\n"
                     : "%s\t%s\tremaining=%" PRId64 "\tretry=%s\treset=%s%s\n",
           at, try_verdict(answer), d->remaining, try_number(try_retry(answer), none, pool),
           try_number(try_seconds(d->reset), none, pool), try_wait(try, answer, pool));
    fflush(stdout);
}

/* The cost of one line, 1 if it has none; a negative one is for the library to refuse. */
static const char *try_cost(rlp_units_t *cost, const char *text, apr_pool_t *pool)
{
    if (text == NULL || text[0] == '-') {
        *cost = text == NULL ? RLP_UNIT : -1;
        return NULL;
    }
    return rlp_units_parse(cost, text, pool);
}

static const char try_failed[] = "the store failed";

/* Answers one line; NULL, what was expected in it, or try_failed. */
static const char *try_line(try_t *try, char *line, apr_pool_t *pool)
{
    char *rest = NULL;
    const char *at = strtok_r(line, " \t\r\n", &rest);
    const char *cost = strtok_r(NULL, " \t\r\n", &rest);
    rlp_question_t question = { .now = 0 };
    rlp_units_t units = 0;
    rlp_answer_t answer;

    if (at == NULL) {
        return NULL;
    }
    question.now = try_time(at);
    if (question.now < 0 || strtok_r(NULL, " \t\r\n", &rest) != NULL) {
        return "expected \"AT [COST]\", AT in seconds with at most six decimals";
    }
    const char *error = try_cost(&units, cost, pool);

    if (error != NULL) {
        return error;
    }
    question.wall = question.now;
    question.owner = try->owner;
    for (int i = 0; i < try->plan->n; i++) {
        try->charges[i].cost = units;
        try->charges[i].max_wait = try->max_wait;
    }
    if (rlp_check(try->store, try->charges, try->plan->n, &question, &answer) != APR_SUCCESS) {
        return try_failed;
    }
    try_print(try, try->json ? try_moment(question.now, pool) : at, &answer, pool);
    return NULL;
}

/* What is known of it, behind what is said of a line. */
static const char *try_why(const try_t *try, const char *error, apr_pool_t *pool)
{
#ifdef RLP_REDIS
    if (error == try_failed && try->redis.url != NULL) {
        return apr_pstrcat(pool, ": ", redis_try_why(try->store, pool), NULL);
    }
#else
    (void)try;
    (void)error;
    (void)pool;
#endif
    return "";
}

static int try_run(try_t *try, apr_pool_t *pool)
{
    apr_pool_t *scratch;
    char *line = NULL;
    size_t size = 0;
    ssize_t got;

    apr_pool_create(&scratch, pool);
    for (int n = 1; !ferror(stdout) && (got = getline(&line, &size, stdin)) >= 0; n++) {
        const char *error = memchr(line, '\0', (size_t)got) != NULL
                                ? "expected \"AT [COST]\", got a NUL byte"
                                : try_line(try, line, scratch);

        if (error != NULL) {
            fprintf(stderr, "rlpctl: line %d: %s%s\n", n, error, try_why(try, error, scratch));
            free(line);
            return error == try_failed ? EXIT_AWAY : EXIT_INPUT;
        }
        apr_pool_clear(scratch);
    }
    free(line);
    if (ferror(stdin) || ferror(stdout)) {
        fputs("rlpctl: cannot read or write\n", stderr);
        return EXIT_IO;
    }
    return EXIT_SUCCESS;
}

/* A new file in the directory for such, or -1. */
static int try_temporary(char **path, apr_pool_t *pool)
{
    const char *dir;

    if (apr_temp_dir_get(&dir, pool) != APR_SUCCESS) {
        return -1;
    }
    *path = apr_pstrcat(pool, dir, "/rlpctl.XXXXXX", NULL);
    return mkstemp(*path);
}

/* A store of its own in a file without a name: nothing is left behind however this process ends. */
static const char *try_open_shm(try_t *try, apr_pool_t *pool)
{
    char *path = NULL;
    const char *error;
    rlp_clock_t clock = { .monotonic = 0 };
    const int fd = try_temporary(&path, pool);

    if (fd < 0) {
        return path ? apr_psprintf(pool, "cannot make the file %s", path)
                    : "no directory for temporary files";
    }
    const apr_status_t rv =
        rlp_segment_open(&try->segment, path, RLP_SEGMENT_MIN, &clock, &error, pool);

    (void)close(fd);
    (void)unlink(path);
    if (rv != APR_SUCCESS) {
        return error;
    }
    return rlp_shm_create(&try->store, &try->segment, pool) == APR_SUCCESS ? NULL : "no store";
}

/* What keeps a Redis from counting the limits, or from being there. */
static const char *try_open_redis(try_t *try, apr_pool_t *pool)
{
#ifdef RLP_REDIS
    const char *error = NULL;

    for (int i = 0; i < try->plan->n && error == NULL; i++) {
        error = redis_try_refuses(&try->plan->limits[i], try->max_wait, pool);
    }
    return error ? error : redis_try_open(&try->store, &try->redis, pool);
#else
    (void)try;
    (void)pool;
    return "this program was built without Redis";
#endif
}

static const char *try_open(try_t *try, apr_pool_t *pool)
{
    if (try->redis.url != NULL) {
        return try_open_redis(try, pool);
    }
    if (try->shm) {
        return try_open_shm(try, pool);
    }
    return rlp_memory_create(&try->store, pool) == APR_SUCCESS ? NULL : "out of memory";
}

static const char *try_store(void *baton, const char *value)
{
    try_t *try = baton;

    if (strstr(value, "://") != NULL) {
        try->redis.url = value;
        return NULL;
    }
    try->shm = strcmp(value, "shm") == 0;
    try->redis.url = NULL;
    return try->shm || strcmp(value, "memory") == 0 ? NULL : "expected memory, shm or a URL";
}

/* A span of time, or 0. */
static const char *try_delay(void *baton, const char *value)
{
    try_t *try = baton;

    try->max_wait = 0;
    return strcmp(value, "0") == 0 ? NULL : rlp_duration_parse(&try->max_wait, value, try->pool);
}

/* Options before the limits; the index of the first limit, or -1 with a message printed. */
static int try_options(try_t *try, int argc, const char *const argv[])
{
    const option_t options[] = { { .name = "--json", .flag = &try->json },
                                 { .name = "--store=", .take = try_store },
                                 { .name = "--delay=", .take = try_delay },
                                 { .name = NULL } };
    int i = 0;

    for (; i < argc && argv[i][0] == '-'; i++) {
        if (option_take(options, argv[i], 0, try) != NULL &&
            option_redis(&try->redis, argv[i], 0) != NULL) {
            fprintf(stderr,
                    "rlpctl: expected --json, --store=memory|shm|URL, --password=SOURCE, "
                    "--tls-...= or --delay=DURATION, got \"%s\"\n\n%s",
                    argv[i], TRY_USAGE);
            return -1;
        }
    }
    return i;
}

static const char try_identity[] = "global";

/* The plan to try, with everything charged to one identity. */
static const char *try_plan(try_t *try, const char *const limits[], int n, apr_pool_t *pool)
{
    rlp_clock_t clock;
    rlp_plan_t *plan = NULL;

    rlp_clock_read(&clock);
    const rlp_plan_source_t source = { .name = "try", .words = limits, .n = n, .wall = clock.wall };
    const char *error = rlp_plan_parse(&plan, &source, pool);

    if (error != NULL) {
        return error;
    }
    if (plan->then != NULL || plan->bandwidth > 0) {
        return "expected neither then= nor bandwidth=, which mean something in a server alone";
    }
    try->plan = plan;
    for (int i = 0; i < plan->n; i++) {
        rlp_charge_init(&try->charges[i], try_identity, strlen(try_identity),
                        rlp_signature("try", NULL, &plan->limits[i]), &plan->limits[i]);
        if (plan->limits[i].state_size > RLP_STATE_MAX) {
            try->charges[i].entry.state = apr_palloc(pool, plan->limits[i].state_size);
        }
    }
    return NULL;
}

/* Is it said how a Redis is spoken to, where there is none? */
static bool try_is_odd(const try_t *try)
{
    return try->redis.url == NULL && (try->redis.password != NULL || option_has_tls(&try->redis));
}

static int try_main(int argc, const char *const argv[], apr_pool_t *pool)
{
    try_t try = { .segment = { .fd = -1 }, .pool = pool };
    const int first = try_options(&try, argc, argv);

    if (first < 0) {
        return EXIT_USAGE;
    }
    const char *error = try_is_odd(&try)
                            ? "expected --store=URL of a Redis with --password or --tls-...="
                            : try_plan(&try, argv + first, argc - first, pool);

    if (error != NULL) {
        return option_fail(error, EXIT_USAGE);
    }
    error = try_open(&try, pool);
    if (error != NULL) {
        return option_fail(error, EXIT_STORE);
    }
    /* places of a concurrency limit are this process's, which never gives one back */
    try.owner = rlp_owner_open(try.store, getpid());
    const int status = try_run(&try, pool);

#ifdef RLP_REDIS
    if (try.redis.url != NULL) {
        redis_try_close(try.store, try_identity);
    }
#endif
    rlp_segment_close(&try.segment);
    return status;
}

/* What is only to be read; NULL: there is something to do. */
static const char *main_text(int argc, const char *const argv[])
{
    const bool of_try = argc > 2 && strcmp(argv[1], "try") == 0;
    const bool of_all = argc == 2 && strcmp(argv[1], "help") == 0;

    if (of_all || ((argc == 2 || of_try) && strcmp(argv[argc - 1], "--help") == 0)) {
        return TRY_USAGE;
    }
    if (argc == 3 && strcmp(argv[1], "help") == 0 && strcmp(argv[2], "stores") == 0) {
        return direct_usage;
    }
    return argc == 2 && strcmp(argv[1], "--version") == 0 ? "rlpctl " RLP_VERSION "\n" : NULL;
}

/* argc: 2 or more. */
static int main_run(int argc, const char *const argv[], apr_pool_t *pool)
{
    if (argc > 2 && strcmp(argv[1], "try") == 0) {
        return try_main(argc - 2, argv + 2, pool);
    }
    if (direct_is_command(argc - 1, argv + 1)) {
        return direct_main(argc - 1, argv + 1, pool);
    }
    if (ask_is_command(argv[1])) {
        return ask_main(argc - 1, argv + 1, pool);
    }
    if (dump_is_command(argv[1])) {
        return dump_main(argc - 1, argv + 1, pool);
    }
    if (strcmp(argv[1], "hash-key") == 0) {
        return hash_key_main(argc - 2, argv + 2);
    }
    if (strcmp(argv[1], "simulate") == 0) {
        return simulate_main(argc - 2, argv + 2, pool);
    }
    fputs(TRY_USAGE, stderr);
    return EXIT_USAGE;
}

/* Where one of these is closed, the next file to be opened would be it, such as a store, and what
   is printed would go there: in its place stands one that can be neither read nor printed to. */
static bool main_hold_standard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) {
            return false;
        }
    }
    return true;
}

int main(int argc, const char *const *argv)
{
    apr_pool_t *pool;
    int status = EXIT_USAGE;

    if (!main_hold_standard()) {
        return EXIT_IO;
    }
    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return EXIT_STORE;
    }
    const char *text = main_text(argc, argv);

    if (text != NULL) {
        fputs(text, stdout);
        status = EXIT_SUCCESS;
    } else if (argc < 2) {
        fputs(TRY_USAGE, stderr);
    } else {
        status = main_run(argc, argv, pool);
    }
    apr_terminate();
    return status;
}
