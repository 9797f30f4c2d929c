/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The table steps.txt: one step of one algorithm at its borders, with all that it answers and
 * leaves behind. STEPS_SHOW=yes prints the table with what the steps answer in place of what they
 * should.
 */

#include "algorithm/second.h"
#include "unit.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS 32
#define LINE_MAX_LEN 1024

/* Periods of unlike length, so that guesses by the mean miss; what stands before and behind them is
   no edge. */
static const rlp_time_t edges[] = { 0,
                                    RLP_TIME_NEVER,
                                    1000 * RLP_SECOND,
                                    1110 * RLP_SECOND,
                                    1210 * RLP_SECOND,
                                    1240 * RLP_SECOND,
                                    1530 * RLP_SECOND,
                                    0,
                                    RLP_TIME_NEVER };
static const rlp_calendar_t calendar = {
    .zone = "UTC", .n = 5, .edges = edges + 2, .mean = 100 * RLP_SECOND
};

/* CASE | LIMIT | STATE | OPERATION | ANSWER | STATE */
typedef struct row {
    const struct row *next; /* of the same case, limit and state */
    char *name;
    char *limit;
    char *state;
    char *op;
    char *expected;
} row_t;

static rlp_limit_t limit_of(const char *words)
{
    rlp_limit_t limit = unit_plan(words)->limits[0];

    if (limit.calendar != NULL) {
        limit.calendar = &calendar;
        limit.period = 100 * RLP_SECOND;
    }
    return limit;
}

static void read_state(uint64_t state[WORDS], const char *text)
{
    char *end = NULL;

    memset(state, 0, WORDS * sizeof(*state));
    for (int i = 0; i < WORDS; i++, text = end) {
        const bool below = text[strspn(text, " ")] == '-';

        state[i] = below ? (uint64_t)strtoll(text, &end, 0) : strtoull(text, &end, 0);
        if (end == text) {
            return;
        }
        if (*end == '@') {
            state[i] = second_mark((rlp_units_t)state[i], strtoll(end + 1, &end, 10));
            state[i] |= *end == '+' ? SECOND_SPARE : 0;
            end += *end == '+';
        }
    }
}

/* The words up to the last that is not 0; large ones as they are packed, and the marks of limits
   with a burst as BURST@COUNT. */
static const char *write_state(const uint64_t state[WORDS], const rlp_limit_t *limit)
{
    const bool marked = (limit->algorithm->takes & RLP_TAKES_BURST) != 0;
    const char *text = "";
    int n = WORDS;

    while (n > 0 && state[n - 1] == 0) {
        n--;
    }
    for (int i = 0; i < n; i++) {
        const int64_t word = (int64_t)state[i];
        const rlp_units_t burst = second_burst(state[i]);
        const int64_t count = second_count(state[i] & ~SECOND_SPARE);

        if (marked && (i == 2 || i == 3) &&
            second_mark(burst, count) == (state[i] & ~SECOND_SPARE)) {
            text = apr_psprintf(unit_pool(), "%s %" PRId64 "@%" PRId64 "%s", text, burst, count,
                                state[i] & SECOND_SPARE ? "+" : "");
            continue;
        }
        const bool packed = word >> 44 != 0 && word >> 44 != -1;

        text = apr_psprintf(unit_pool(), packed ? "%s 0x%" PRIx64 : "%s %" PRId64, text, word);
    }
    return n > 0 ? text + 1 : "-";
}

static rlp_time_t after(const char *op, const char *word)
{
    const char *at = strstr(op, word);

    return at != NULL ? strtoll(at + strlen(word), NULL, 0) : 0;
}

/* "take 1000 at 5 wait 7", "peek", "settle -500 at 5 from 4", with "wall 8" for calendars. */
static rlp_op_t read_op(const char *op)
{
    return (rlp_op_t){ .kind = *op == 't'   ? RLP_TAKE
                               : *op == 'p' ? RLP_PEEK
                               : *op == 's' ? RLP_SETTLE
                                            : RLP_RELEASE,
                       .units = strtoll(strchr(op, ' '), NULL, 10),
                       .now = after(op, " at "),
                       .max_wait = after(op, " wait "),
                       .charged_at = after(op, " from "),
                       .wall = after(op, " wall ") };
}

static const char *span(const char *name, rlp_time_t at)
{
    return at == 0                ? ""
           : at == RLP_TIME_NEVER ? apr_pstrcat(unit_pool(), " ", name, " never", NULL)
                                  : apr_psprintf(unit_pool(), " %s %" PRId64, name, at);
}

static const char *write_answer(const rlp_decision_t *d)
{
    static const char *const verdicts[] = { "allow", "wait", "deny", "never" };

    return apr_psprintf(unit_pool(), "%s%s%s rest %" PRId64 "%s%s%s loss %" PRIu32 "%s%s%s",
                        verdicts[d->verdict], span("in", d->wait), span("retry", d->retry),
                        d->remaining, span("next", d->next), span("reset", d->reset),
                        span("expires", d->expires), d->loss, span("late", d->late),
                        d->changed ? " changed" : "", d->damaged ? " damaged" : "");
}

static const char *answered(const row_t *row)
{
    const rlp_limit_t limit = limit_of(row->limit);
    const rlp_op_t op = read_op(row->op);
    uint64_t state[WORDS];
    rlp_decision_t d;

    read_state(state, row->state);
    limit.algorithm->step(state, &limit, &op, &d);
    return apr_pstrcat(unit_pool(), write_answer(&d), " | ", write_state(state, &limit), NULL);
}

static void test_row(void **state)
{
    for (const row_t *row = unit_row(state); row != NULL; row = row->next) {
        const char *answer = answered(row);

        if (strcmp(answer, row->expected) != 0) {
            fail_msg("from %s, %s: expected %s, got %s", row->state, row->op, row->expected,
                     answer);
        }
    }
}

/* Cuts the line at " | "; what is not there is empty. */
static row_t *row_of(const char *line)
{
    char *rest = apr_pstrdup(unit_pool(), line);
    char *parts[5] = { NULL };
    row_t *row = apr_palloc(unit_pool(), sizeof(*row));

    for (int i = 0; i < 5; i++) {
        char *bar = i < 4 ? strstr(rest, " | ") : NULL;

        parts[i] = rest;
        rest += bar != NULL ? (size_t)(bar - rest) + 3 : strlen(rest);
        if (bar != NULL) {
            *bar = '\0';
        }
    }
    *row = (row_t){ NULL, parts[0], parts[1], parts[2], parts[3], parts[4] };
    return row;
}

/* Another test, or one more row of the last. */
static void take_row(const char *line)
{
    static row_t *last;
    row_t *row = row_of(line);

    if (last != NULL && strcmp(last->name, row->name) == 0 &&
        strcmp(last->limit, row->limit) == 0 && strcmp(last->state, row->state) == 0) {
        last->next = row;
    } else {
        unit_add(apr_pstrcat(unit_pool(), row->name, ": ", row->limit, ", ", row->state, NULL),
                 test_row, row);
    }
    last = row;
}

static void show_row(const char *line)
{
    const row_t *row = row_of(line);

    printf("%s | %s | %s | %s | %s\n", row->name, row->limit, row->state, row->op, answered(row));
}

static void take_line(char *line, bool show)
{
    line[strcspn(line, "\n")] = '\0';
    const bool row = *line != '#' && *line != '\0';

    if (row) {
        (show ? show_row : take_row)(line);
    } else if (show) {
        puts(line);
    }
}

int main(void)
{
    const char *dir = getenv("top_srcdir");
    FILE *table = fopen(apr_pstrcat(unit_pool(), dir ? dir : ".", "/t/unit/steps.txt", NULL), "re");
    char line[LINE_MAX_LEN];
    const bool show = getenv("STEPS_SHOW") != NULL;

    if (table == NULL) {
        puts("Bail out! no t/unit/steps.txt: top_srcdir= says where the sources are");
        return 1;
    }
    while (fgets(line, sizeof(line), table) != NULL) {
        take_line(line, show);
    }
    fclose(table);
    return show ? 0 : unit_run();
}
