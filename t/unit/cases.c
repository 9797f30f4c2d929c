/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The table cases.txt against the library. A peek before each request must foretell its answer.
 */

#include "unit.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CASES_LINE 1024

typedef struct {
    const char *limits;
    const char *answers;
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

static void case_step(rlp_store_t *store, rlp_charge_t charges[], int n, const char *word)
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
        assert_int_equal(rlp_peek(store, charges, n, &question, &foretold), APR_SUCCESS);
        assert_int_equal(rlp_check(store, charges, n, &question, &answer), APR_SUCCESS);
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
    rlp_store_t *store;
    char *rest = NULL;

    assert_int_equal(rlp_memory_create(&store, unit_pool()), APR_SUCCESS);
    plan = unit_plan(limits);
    for (int i = 0; i < plan->n; i++) {
        const rlp_limit_t *limit = &plan->limits[i];

        rlp_charge_init(&charges[i], "ip:192.0.2.1", 12, rlp_signature("case", NULL, limit), limit);
        charges[i].max_wait = max_wait;
        charges[i].entry.state = apr_palloc(unit_pool(), limit->state_size + RLP_STATE_MAX);
    }
    for (char *word = apr_strtok(apr_pstrdup(unit_pool(), c->answers), " ", &rest); word != NULL;
         word = apr_strtok(NULL, " ", &rest)) {
        case_step(store, charges, plan->n, word);
    }
}

/* "NAME | LIMITS | ANSWERS" as a test; what is empty or a comment is none. */
static void case_read(char *line)
{
    char *limits = strstr(line, " | ");
    char *answers = limits ? strstr(limits + 3, " | ") : NULL;

    if (line[0] == '#' || answers == NULL) {
        return;
    }
    *limits = *answers = '\0';
    case_t *c = apr_palloc(unit_pool(), sizeof(*c));

    *c = (case_t){ .limits = apr_pstrdup(unit_pool(), limits + 3),
                   .answers = apr_pstrdup(unit_pool(), answers + 3) };
    unit_add(apr_psprintf(unit_pool(), "%s: %s", line, c->limits), case_run, c);
}

int main(void)
{
    const char *dir = getenv("top_srcdir");
    FILE *file = fopen(apr_pstrcat(unit_pool(), dir ? dir : ".", "/t/unit/cases.txt", NULL), "r");
    char line[CASES_LINE];

    if (file == NULL) {
        puts("Bail out! no t/unit/cases.txt: top_srcdir= says where the sources are");
        return 1;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        case_read(line);
    }
    fclose(file);
    return unit_run();
}
