/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * rlpctl simulate: reading the inputs, in the order of their first lines.
 */

#include "log_read.h"
#include "simulate.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN_LINE_BITS 40     /* of a line's number; above it stands that of its input */
#define RUN_PEEKED 100       /* lines in which a first moment is looked for */
#define RUN_PROGRESS 0x1ffff /* lines between two looks at the clock */

typedef struct {
    const char *name;
    rlp_time_t first; /* moment */
    int given;        /* place among the arguments */
} run_input_t;

/* The line under progress, on a terminal alone. */
typedef struct {
    bool shown;
    rlp_time_t next;
    uint64_t lines;
} run_progress_t;

/* --- progress */

static void run_progress(run_progress_t *progress, const simulate_t *simulate,
                         const log_read_t *reader)
{
    const rlp_time_t now = rlp_clock_monotonic();

    if (now < progress->next) {
        return;
    }
    progress->next = now + RLP_SECOND / 2;
    progress->shown = true;
    fprintf(stderr, "\rrlpctl: %.1f million lines, %s", (double)simulate->lines / 1e6,
            reader->name);
    if (reader->size > 0) {
        fprintf(stderr, " %d %%", (int)(log_read_done(reader) * 100 / reader->size));
    }
    fputs("\033[K", stderr);
}

static void run_progress_end(const run_progress_t *progress)
{
    if (progress->shown) {
        fputs("\r\033[K", stderr);
    }
}

/* --- lines */

static void run_malformed(simulate_t *simulate, const log_read_t *reader)
{
    if (simulate->malformed < SIMULATE_MALFORMED) {
        simulate->malformed_at[simulate->malformed] =
            (simulate_place_t){ reader->name, reader->lines };
    }
    simulate->malformed++;
}

static bool run_same(log_text_t value, const char *word)
{
    return value.len == strlen(word) && memcmp(value.text, word, value.len) == 0;
}

/* What RATELIMIT_ACTION says; RateLimitEnv auto says nothing of what passes. */
static replay_verdict_t run_logged(log_text_t action)
{
    if (run_same(action, "pass") || run_same(action, "-")) {
        return REPLAY_PASS;
    }
    if (run_same(action, "deny") || run_same(action, "would-deny") || run_same(action, "mark")) {
        return REPLAY_DENY;
    }
    return run_same(action, "delay") ? REPLAY_DELAY : REPLAY_UNKNOWN;
}

static const char *run_line(simulate_t *simulate, const log_line_t *said, uint64_t line)
{
    char identity[LOG_KEY_SIZE];
    replay_request_t request = { .at = said->at, .line = line, .cost = simulate->replay.cost };

    if (simulate->replay.compare) {
        request.logged = (uint8_t)run_logged(said->values[simulate->action]);
    }
    if (!log_filter_passes(simulate->filter, said) || request.logged == REPLAY_UNKNOWN) {
        simulate->filtered++;
        return NULL;
    }
    const size_t len = log_key_of(simulate->key, said, identity);

    if (len == 0) {
        simulate->anonymous++;
        return NULL;
    }
    if (simulate->cost_text != NULL && !log_cost_of(&simulate->cost, said, &request.cost)) {
        simulate->unpriced++;
    }
    return replay_add(&simulate->replay, request, identity, len);
}

static const char *run_lines(simulate_t *simulate, log_read_t *reader, int input,
                             run_progress_t *progress)
{
    const bool terminal = isatty(STDERR_FILENO) == 1;
    const char *error = NULL;
    const char *line;
    size_t len;

    while (error == NULL && (line = log_read_line(reader, &len)) != NULL) {
        log_line_t said;

        simulate->lines++;
        if (log_format_match(simulate->format, line, len, &said)) {
            error = run_line(simulate, &said, (uint64_t)input << RUN_LINE_BITS | reader->lines);
        } else {
            run_malformed(simulate, reader);
        }
        if (terminal && (simulate->lines & RUN_PROGRESS) == 0) {
            run_progress(progress, simulate, reader);
        }
    }
    return error;
}

/* --- inputs */

/* One that cannot be read is told, and the others are. */
static const char *run_input(simulate_t *simulate, int input, run_progress_t *progress)
{
    apr_pool_t *pool;
    log_read_t reader;

    apr_pool_create(&pool, simulate->pool);
    const char *error = log_read_open(&reader, simulate->input[input], pool);

    if (error != NULL) {
        fprintf(stderr, "rlpctl: %s\n", error);
        simulate->unreadable++;
        apr_pool_destroy(pool);
        return NULL;
    }
    error = run_lines(simulate, &reader, input, progress);
    if (reader.failed) {
        run_progress_end(progress);
        fprintf(stderr, "rlpctl: cannot read %s to its end: line %" PRIu64 " is the last\n",
                reader.name, reader.lines);
        simulate->unreadable++;
    }
    apr_pool_destroy(pool);
    return error;
}

/* The moment of the first line that is of the format; 0 if there is none soon. */
static rlp_time_t run_peek(simulate_t *simulate, log_read_t *reader)
{
    const char *line;
    size_t len;

    for (int i = 0; i < RUN_PEEKED && (line = log_read_line(reader, &len)) != NULL; i++) {
        log_line_t said;

        if (log_format_match(simulate->format, line, len, &said)) {
            return said.at;
        }
    }
    return 0;
}

/* When a file begins; what cannot be looked at twice comes first, and is not opened for that: who
   writes into a pipe ends with its first reader. */
static rlp_time_t run_first(simulate_t *simulate, const char *name)
{
    rlp_time_t first = 0;
    struct stat info;
    apr_pool_t *pool;
    log_read_t reader;

    if (stat(name, &info) != 0 || !S_ISREG(info.st_mode)) {
        return 0;
    }
    apr_pool_create(&pool, simulate->pool);
    if (log_read_open(&reader, name, pool) == NULL) {
        first = run_peek(simulate, &reader);
    }
    apr_pool_destroy(pool);
    return first;
}

static int run_compare(const void *a, const void *b)
{
    const run_input_t *one = a;
    const run_input_t *two = b;

    if (one->first != two->first) {
        return one->first < two->first ? -1 : 1;
    }
    return one->given - two->given;
}

/* Rotated logs come in any order: access.log before access.log.1. Standard input cannot be looked
   at twice. */
static void run_sort(simulate_t *simulate)
{
    run_input_t *inputs = apr_palloc(simulate->pool, (size_t)simulate->inputs * sizeof(*inputs));

    for (int i = 0; i < simulate->inputs; i++) {
        if (strcmp(simulate->input[i], "-") == 0) {
            return;
        }
        inputs[i] = (run_input_t){ simulate->input[i], run_first(simulate, simulate->input[i]), i };
    }
    qsort(inputs, (size_t)simulate->inputs, sizeof(*inputs), run_compare);
    for (int i = 0; i < simulate->inputs; i++) {
        simulate->input[i] = inputs[i].name;
    }
}

const char *simulate_run(simulate_t *simulate)
{
    run_progress_t progress = { .next = rlp_clock_monotonic() + RLP_SECOND };
    const char *error = NULL;

    if (simulate->inputs > 1) {
        run_sort(simulate);
    }
    for (int i = 0; i < simulate->inputs && error == NULL; i++) {
        error = run_input(simulate, i, &progress);
    }
    replay_finish(&simulate->replay);
    run_progress_end(&progress);
    return error;
}

const char *simulate_place(const simulate_t *simulate, uint64_t line, apr_pool_t *pool)
{
    const char *name = simulate->input[line >> RUN_LINE_BITS];

    return apr_psprintf(pool, "%s:%" APR_UINT64_T_FMT, name,
                        (apr_uint64_t)(line & ((UINT64_C(1) << RUN_LINE_BITS) - 1)));
}
