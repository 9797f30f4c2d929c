/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "case_table.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CASES_LINE 1024

typedef struct {
    const char *identity; /* of each case its own */
    const char *limits;
    const char *answers;
    case_ask_fn *ask;
    case_refuse_fn *refuse;
} case_t;

typedef struct {
    rlp_time_t at;
    rlp_units_t cost;
    long times;
    char what;       /* A, W, D or N */
    rlp_time_t wait; /* of W */
    int64_t retry;   /* of D */
    int64_t rest;    /* remaining */
    int64_t reset;   /* -1: not said */
} expect_t;

/* A decimal number as whole parts of 1/scale; advances the text. */
static int64_t case_number(const char **text, int64_t scale)
{
    const int64_t sign = **text == '-' ? -1 : 1;
    char *end;
    int64_t value = strtoll(*text + (sign < 0), &end, 10) * scale;

    if (*end == '.') {
        for (end++; *end >= '0' && *end <= '9'; end++) {
            scale /= 10;
            value += (*end - '0') * scale;
        }
    }
    *text = end;
    return sign * value;
}

static int64_t case_option(const char **text, char mark, int64_t scale, int64_t otherwise)
{
    if (**text != mark) {
        return otherwise;
    }
    ++*text;
    return case_number(text, scale);
}

static expect_t case_parse(const char *word)
{
    const char *at = word;
    expect_t e = { .at = case_number(&at, RLP_SECOND) };

    e.cost = case_option(&at, '*', RLP_UNIT, RLP_UNIT);
    e.times = (long)case_option(&at, 'x', 1, 1);
    assert_int_equal(*at++, ':');
    e.what = *at++;
    if (e.what == 'A') {
        e.rest = case_number(&at, 1);
    } else if (e.what == 'W') {
        e.wait = case_number(&at, RLP_SECOND);
    } else {
        e.retry = e.what == 'D' ? case_number(&at, 1) : 0;
        e.rest = case_option(&at, '/', 1, 0);
    }
    e.reset = case_option(&at, '~', 1, -1);
    assert_string_equal(at, "");
    return e;
}

static void case_compare(const char *word, const expect_t *e, const rlp_answer_t *answer,
                         const rlp_decision_t *d)
{
    static const char verdicts[] = {
        [RLP_ALLOW] = 'A', [RLP_WAIT] = 'W', [RLP_DENY] = 'D', [RLP_NEVER] = 'N'
    };

    if (verdicts[answer->verdict] != e->what || d->remaining != e->rest ||
        (e->what == 'D' && rlp_seconds(answer->retry) != e->retry) ||
        (e->what != 'D' && answer->retry != 0) || answer->wait != e->wait ||
        (e->reset >= 0 && rlp_seconds(d->reset) != e->reset)) {
        fail_msg("%s: got %c, remaining %ld, wait %ld us, retry %ld us, reset %ld us", word,
                 verdicts[answer->verdict], (long)d->remaining, (long)answer->wait,
                 (long)answer->retry, (long)d->reset);
    }
    assert_false(answer->damaged);
}

static void case_step(const case_t *c, rlp_charge_t charges[], int n, const char *word)
{
    expect_t e = case_parse(word);
    const rlp_question_t question = { .now = e.at, .wall = e.at };
    rlp_answer_t foretold;
    rlp_answer_t answer;

    /* so many are left after the first of them */
    for (int i = 0; i < n; i++) {
        charges[i].cost = e.cost;
    }
    e.rest += e.what == 'A' ? (e.times - 1) * (e.cost / RLP_UNIT) : 0;
    for (long i = 0; i < e.times; i++) {
        c->ask(RLP_PEEK, charges, n, &question, &foretold);
        c->ask(RLP_TAKE, charges, n, &question, &answer);
        assert_int_equal(foretold.verdict, answer.verdict);
        assert_int_equal(foretold.retry, answer.retry);
        assert_int_equal(foretold.wait, answer.wait);
        case_compare(word, &e, &answer, &charges[answer.tightest].decision);
        e.rest -= e.what == 'A' ? e.cost / RLP_UNIT : 0;
    }
}

/* Takes --delay=DURATION off the limits. */
static const char *case_delay(const char *limits, rlp_time_t *max_wait)
{
    const char *end = strchr(limits, ' ');

    if (strncmp(limits, "--delay=", 8) != 0) {
        return limits;
    }
    assert_null(
        rlp_duration_parse(max_wait,
                           apr_pstrmemdup(unit_pool(), limits + 8, (size_t)(end - limits) - 8),
                           unit_pool()));
    return end + 1;
}

static void case_run(void **state)
{
    const case_t *c = unit_row(state);
    const rlp_plan_t *plan;
    rlp_time_t max_wait = 0;
    const char *limits = case_delay(c->limits, &max_wait);
    rlp_charge_t charges[RLP_LIMITS_MAX];
    char *rest = NULL;

    plan = unit_plan(limits);
    for (int i = 0; i < plan->n; i++) {
        const rlp_limit_t *limit = &plan->limits[i];
        const char *refused = c->refuse ? c->refuse(limit, max_wait, unit_pool()) : NULL;

        if (refused != NULL) {
            unit_skip(refused);
            return;
        }

        rlp_charge_init(&charges[i], c->identity, strlen(c->identity),
                        rlp_signature("case", NULL, limit), limit);
        charges[i].max_wait = max_wait;
        charges[i].entry.state = apr_palloc(unit_pool(), limit->state_size + RLP_STATE_MAX);
    }
    for (char *word = apr_strtok(apr_pstrdup(unit_pool(), c->answers), " ", &rest); word != NULL;
         word = apr_strtok(NULL, " ", &rest)) {
        case_step(c, charges, plan->n, word);
    }
}

/* "NAME | LIMITS | ANSWERS" as a test; what is empty or a comment is none. */
static void case_read(char *line, const char *what, case_ask_fn *ask, case_refuse_fn *refuse)
{
    char *limits = strstr(line, " | ");
    char *answers = limits ? strstr(limits + 3, " | ") : NULL;

    if (line[0] == '#' || answers == NULL) {
        return;
    }
    *limits = *answers = '\0';
    case_t *c = apr_palloc(unit_pool(), sizeof(*c));

    *c = (case_t){ .identity = apr_psprintf(unit_pool(), "case:%pp", (void *)c),
                   .limits = apr_pstrdup(unit_pool(), limits + 3),
                   .answers = apr_pstrdup(unit_pool(), answers + 3),
                   .ask = ask,
                   .refuse = refuse };
    unit_add(apr_psprintf(unit_pool(), "%s%s: %s", line, what, c->limits), case_run, c);
}

bool case_table_add(const char *what, case_ask_fn *ask, case_refuse_fn *refuse)
{
    const char *dir = getenv("top_srcdir");
    FILE *file = fopen(apr_pstrcat(unit_pool(), dir ? dir : ".", "/t/unit/cases.txt", NULL), "r");
    char line[CASES_LINE];

    if (file == NULL) {
        puts("Bail out! no t/unit/cases.txt: top_srcdir= says where the sources are");
        return false;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        case_read(line, what, ask, refuse);
    }
    fclose(file);
    return true;
}
