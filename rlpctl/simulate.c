/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * rlpctl simulate: what the command is told.
 */

#include "simulate.h"
#include "option.h"
#include "report.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define SIMULATE_DIFFERENT 1 /* exit status: verdicts are not those of the log */

#define SIMULATE_USAGE                                                                  \
    "usage: rlpctl simulate --plan='NAME=LIMIT...' [OPTION]... [FILE]...\n"             \
    "\n"                                                                                \
    "Replays access logs (standard input without FILE; gzip or not) against plans:\n"   \
    "who would have been refused, when, and which plan would have been enough.\n"       \
    "\n"                                                                                \
    "  --plan='NAME=LIMIT...'  such as 'free=rate=10/min burst=20'; may be repeated,\n" \
    "                          the cheapest first\n"                                    \
    "  --format=FORMAT         common, combined (default), vhost_combined, ratelimit\n" \
    "                          or a LogFormat such as '%a %u %t \"%r\" %>s %{usec}t'\n" \
    "  --key=KEY               whom to count: ip (default), ip/24,48, user, vhost,\n"   \
    "                          vhost+ip, '%{X-API-Key}i'; user,ip: the first of them\n" \
    "  --status=LIST           count only these: 200,4xx or all but these: !429,!5xx\n" \
    "  --method=LIST           GET,POST or !OPTIONS, as method= of a rule\n"            \
    "  --path=GLOB             /api/** or /items/*, as path= of a rule\n"               \
    "  --cost=N|%...           units that a request costs (1), or where the log has\n"  \
    "                          them, such as %O or %{X-Cost}o\n"                        \
    "  --delay=DURATION        let a request wait for its turn, no longer than that\n"  \
    "  --compare               compare with what the log says (RATELIMIT_ACTION)\n"     \
    "  --json                  one JSON object instead of text\n"                       \
    "  --html=FILE             write a page with charts, too\n"                         \
    "\n"                                                                                \
    "Exit status: 0; 1 --compare found differences; 64 not understood; 65 no line of\n" \
    "the log was; 66 a file cannot be read; 74 nothing can be written\n"

/* --- options */

static const char *simulate_words(const rlp_plan_source_t *source, rlp_plan_t **plan,
                                  apr_pool_t *pool)
{
    const char *error = rlp_plan_parse(plan, source, pool);

    if (error != NULL) {
        return error;
    }
    if ((*plan)->then != NULL || (*plan)->bandwidth > 0) {
        return "expected neither then= nor bandwidth=, which mean something in a server alone";
    }
    for (int i = 0; i < (*plan)->n; i++) {
        if ((*plan)->limits[i].algorithm->holds) {
            return "expected no concurrent=: a log does not say when a request was in flight";
        }
    }
    return NULL;
}

static const char *simulate_name(const simulate_t *simulate, const char *name)
{
    const char *error = rlp_name_check(name, simulate->pool);

    for (int i = 0; i < simulate->replay.plans && error == NULL; i++) {
        if (strcmp(simulate->replay.plan[i].plan->name, name) == 0) {
            error = "expected plans of different names";
        }
    }
    return error;
}

/* NAME=LIMIT... */
static const char *simulate_plan(void *baton, const char *value)
{
    simulate_t *simulate = baton;
    replay_t *replay = &simulate->replay;
    const char *equals = strchr(value, '=');
    char **words;
    rlp_clock_t clock;

    if (replay->plans == REPLAY_PLANS_MAX) {
        return "expected at most 16 plans";
    }
    if (equals == NULL) {
        return apr_psprintf(simulate->pool,
                            "expected --plan='NAME=LIMIT...', such as 'free=rate=10/min', got "
                            "\"%s\"",
                            value);
    }
    const char *name = apr_pstrmemdup(simulate->pool, value, (apr_size_t)(equals - value));
    const char *error = simulate_name(simulate, name);

    if (error != NULL) {
        return error;
    }
    replay_plan_t *plan = &replay->plan[replay->plans];
    rlp_plan_t *parsed = NULL;
    rlp_plan_source_t source = { .name = name };

    rlp_clock_read(&clock);
    source.wall = clock.wall;
    apr_tokenize_to_argv(equals + 1, &words, simulate->pool);
    while (words[source.n] != NULL) {
        source.n++;
    }
    source.words = (const char *const *)words;
    error = simulate_words(&source, &parsed, simulate->pool);
    if (error != NULL) {
        return apr_psprintf(simulate->pool, "plan \"%s\": %s", name, error);
    }
    plan->plan = parsed;
    plan->limits = equals + 1;
    replay->plans++;
    return NULL;
}

static const char *simulate_status(void *baton, const char *value)
{
    simulate_t *simulate = baton;

    return log_filter_status(simulate->filter, value);
}

static const char *simulate_method(void *baton, const char *value)
{
    simulate_t *simulate = baton;

    return log_filter_method(simulate->filter, value);
}

static const char *simulate_path(void *baton, const char *value)
{
    simulate_t *simulate = baton;

    return log_filter_path(simulate->filter, value);
}

/* A number, or where it stands in the lines. */
static const char *simulate_cost(void *baton, const char *value)
{
    simulate_t *simulate = baton;

    simulate->cost_text = value[0] == '%' ? value : NULL;
    return simulate->cost_text ? NULL
                               : rlp_units_parse(&simulate->replay.cost, value, simulate->pool);
}

static const char *simulate_delay(void *baton, const char *value)
{
    simulate_t *simulate = baton;

    simulate->replay.max_wait = 0;
    return strcmp(value, "0") == 0
               ? NULL
               : rlp_duration_parse(&simulate->replay.max_wait, value, simulate->pool);
}

/* One option, as --name=value or in two words; *i is moved to its last word. */
static const char *simulate_option(simulate_t *simulate, int argc, const char *const argv[], int *i)
{
    const option_t options[] = { { .name = "--plan=", .take = simulate_plan },
                                 { .name = "--format=", .value = &simulate->format_text },
                                 { .name = "--key=", .value = &simulate->key_text },
                                 { .name = "--status=", .take = simulate_status },
                                 { .name = "--method=", .take = simulate_method },
                                 { .name = "--path=", .take = simulate_path },
                                 { .name = "--cost=", .take = simulate_cost },
                                 { .name = "--delay=", .take = simulate_delay },
                                 { .name = "--html=", .value = &simulate->html },
                                 { .name = "--compare", .flag = &simulate->replay.compare },
                                 { .name = "--json", .flag = &simulate->json },
                                 { .name = NULL } };
    const char *word = argv[*i];
    const char *error = option_take(options, word, 0, simulate);

    if (error == option_unknown && *i + 1 < argc) {
        const char *both = apr_pstrcat(simulate->pool, word, "=", argv[*i + 1], NULL);

        error = option_take(options, both, 0, simulate);
        *i += error != option_unknown;
    }
    return error != option_unknown
               ? error
               : apr_psprintf(simulate->pool, "expected an option with its value, got \"%s\"",
                              word);
}

static const char *simulate_arguments(simulate_t *simulate, int argc, const char *const argv[])
{
    const char *error = NULL;

    simulate->input = apr_palloc(simulate->pool, (size_t)(argc + 1) * sizeof(*simulate->input));
    for (int i = 0; i < argc && error == NULL; i++) {
        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            error = simulate_option(simulate, argc, argv, &i);
        } else {
            simulate->input[simulate->inputs++] = argv[i];
        }
    }
    if (simulate->inputs == 0) {
        simulate->input[simulate->inputs++] = "-";
    }
    return error;
}

/* --- what the options mean together */

static const char *simulate_settle_compare(simulate_t *simulate)
{
    simulate->action = log_format_want(simulate->format, "%{RATELIMIT_ACTION}e");
    if (simulate->action < 0) {
        return "expected %{RATELIMIT_ACTION}e in the log format, to --compare with";
    }
    if (log_format_tick(simulate->format) != 1) {
        return "expected microseconds in the log format, such as %{usec}t, to --compare";
    }
    return simulate->replay.plans == 1 ? NULL : "expected one plan to --compare the log with";
}

static const char *simulate_settle(simulate_t *simulate)
{
    if (simulate->replay.plans == 0) {
        return "expected at least one --plan='NAME=LIMIT...'";
    }
    if (simulate->format_text == NULL) {
        simulate->format_text = simulate->replay.compare ? "ratelimit" : "combined";
    }
    const char *error =
        log_format_compile(&simulate->format, simulate->format_text, simulate->pool);

    if (error == NULL) {
        error =
            log_key_compile(&simulate->key, simulate->key_text, simulate->format, simulate->pool);
    }
    if (error == NULL) {
        error = log_filter_settle(simulate->filter, simulate->format);
    }
    if (error == NULL && simulate->cost_text != NULL) {
        error = log_cost_compile(&simulate->cost, simulate->cost_text, simulate->format,
                                 simulate->pool);
        simulate->replay.priced = true;
    }
    if (error == NULL && simulate->replay.compare) {
        error = simulate_settle_compare(simulate);
    }
    if (error != NULL) {
        return error;
    }
    simulate->replay.tick = log_format_tick(simulate->format);
    simulate->replay.runs = simulate->replay.tick == 1 ? 1 : REPLAY_RUNS;
    return replay_open(&simulate->replay, simulate->pool);
}

static const char *simulate_page(const simulate_t *simulate)
{
    FILE *out = fopen(simulate->html, "w");

    if (out == NULL) {
        return apr_psprintf(simulate->pool, "cannot write %s", simulate->html);
    }
    report_html(simulate, out);
    const bool failed = ferror(out) != 0;

    return fclose(out) != 0 || failed
               ? apr_psprintf(simulate->pool, "cannot write %s", simulate->html)
               : NULL;
}

static int simulate_report(const simulate_t *simulate)
{
    if (simulate->json) {
        report_json(simulate, stdout);
    } else {
        report_text(simulate, stdout);
    }
    const char *error = simulate->html ? simulate_page(simulate) : NULL;

    if (fflush(stdout) != 0 || ferror(stdout)) {
        error = "cannot write the report";
    }
    if (error != NULL) {
        return option_fail(error, EX_IOERR);
    }
    if (simulate->unreadable > 0) {
        return EX_NOINPUT;
    }
    if (simulate->lines > 0 && simulate->malformed == simulate->lines) {
        return option_fail("no line is written as --format says", EX_DATAERR);
    }
    return simulate->replay.differences > 0 ? SIMULATE_DIFFERENT : EXIT_SUCCESS;
}

int simulate_main(int argc, const char *const argv[], apr_pool_t *pool)
{
    if (argc == 1 && strcmp(argv[0], "--help") == 0) {
        fputs(SIMULATE_USAGE, stdout);
        return EXIT_SUCCESS;
    }
    simulate_t *simulate = apr_pcalloc(pool, sizeof(*simulate));

    simulate->pool = pool;
    simulate->filter = log_filter_create(pool);
    simulate->key_text = "ip";
    simulate->replay.cost = RLP_UNIT;
    const char *error = simulate_arguments(simulate, argc, argv);

    if (error == NULL) {
        error = simulate_settle(simulate);
    }
    if (error != NULL) {
        fprintf(stderr, "rlpctl: %s\n\n%s", error, SIMULATE_USAGE);
        return EX_USAGE;
    }
    error = simulate_run(simulate);
    if (error != NULL) {
        return option_fail(error, EX_SOFTWARE);
    }
    return simulate_report(simulate);
}
