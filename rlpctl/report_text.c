/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The report for a terminal.
 */

#include "report.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <string.h>

#define TEXT_HOURS 24 /* lines of the table */

typedef struct {
    const simulate_t *simulate;
    const replay_t *replay;
    FILE *out;
    apr_pool_t *pool;
} text_t;

static const char *text_number(const text_t *text, uint64_t number)
{
    return report_number(number, text->pool);
}

static const char *text_range(const text_t *text, report_range_t range)
{
    return report_range(range, text->pool);
}

/* "(9.7 %)" or "(9.7 % to 10.5 %)" */
static const char *text_percents(const text_t *text, report_range_t range, uint64_t whole)
{
    const char *fewest = report_percent((double)range.fewest, (double)whole, text->pool);
    const char *most = report_percent((double)range.most, (double)whole, text->pool);

    return strcmp(fewest, most) == 0 ? fewest : apr_pstrcat(text->pool, fewest, " to ", most, NULL);
}

/* --- what was read */

static void text_malformed(const text_t *text)
{
    const simulate_t *simulate = text->simulate;

    if (simulate->malformed == 0) {
        return;
    }
    fprintf(text->out, "%s not understood:", text_number(text, simulate->malformed));
    for (uint64_t i = 0; i < simulate->malformed && i < SIMULATE_MALFORMED; i++) {
        fprintf(text->out, " %s:%" PRIu64,
                report_plain(simulate->malformed_at[i].input, text->pool),
                simulate->malformed_at[i].line);
    }
    fputs(simulate->malformed > SIMULATE_MALFORMED ? " ...\n" : "\n", text->out);
}

static void text_left_out(const text_t *text)
{
    const simulate_t *simulate = text->simulate;

    text_malformed(text);
    if (simulate->filtered > 0) {
        fprintf(text->out, "%s left out by their status, method, path or action\n",
                text_number(text, simulate->filtered));
    }
    if (simulate->anonymous > 0) {
        fprintf(text->out, "%s without %s, and not counted\n",
                text_number(text, simulate->anonymous),
                report_plain(simulate->key_text, text->pool));
    }
    if (simulate->unpriced > 0) {
        fprintf(text->out, "%s without a number of units, and counted as one\n",
                text_number(text, simulate->unpriced));
    }
    if (text->replay->sorted > 0) {
        fprintf(text->out, "%s put in order\n", text_number(text, text->replay->sorted));
    }
    if (text->replay->late > 0) {
        fprintf(text->out, "%s too far out of order, and judged with the lines beside them\n",
                text_number(text, text->replay->late));
    }
}

static void text_read(const text_t *text)
{
    const replay_t *replay = text->replay;

    fprintf(text->out, "%s, %s of %s\n",
            report_count(text->simulate->lines, "line", "lines", text->pool),
            report_count(replay->requests, "request", "requests", text->pool),
            report_count(population_count(replay->population), "identity", "identities",
                         text->pool));
    if (replay->requests > 0) {
        fprintf(text->out, "from %s to %s UTC\n", report_time(replay->first, 19, text->pool),
                report_time(replay->last, 19, text->pool));
    }
    text_left_out(text);
    if (replay->runs > 1) {
        fprintf(text->out,
                "The log tells no microseconds: \"A to B\" are the fewest and the most that are "
                "possible.\n");
    }
}

/* --- plans */

static void text_worst(const text_t *text, int plan)
{
    const replay_hour_t *hour = report_worst(text->replay, plan);

    if (hour == NULL) {
        return;
    }
    fprintf(text->out, "  worst hour          %s: %s of %s refused\n",
            report_time((rlp_time_t)hour->hour * 3600 * RLP_SECOND, 16, text->pool),
            text_range(text, report_refused(text->replay, hour->sums[plan])),
            text_number(text, hour->requests));
}

static void text_shares(const text_t *text, int plan)
{
    double shares[REPORT_LEVELS];

    report_shares(text->replay, plan, REPLAY_MOST, shares);
    fputs("  refused share of    ", text->out);
    for (int i = 0; i < REPORT_LEVELS; i++) {
        fprintf(text->out, "%s%s %%: %s", i ? ", " : "", report_levels[i].name,
                report_percent(shares[i], 1, text->pool));
    }
    fputs("\n", text->out);
}

static void text_top(const text_t *text, int plan)
{
    uint32_t numbers[REPORT_TOP];
    const int n = report_top(text->replay, plan, numbers);

    for (int i = 0; i < n; i++) {
        fprintf(text->out, "  %-20s%s: %s of %s\n", i ? "" : "most refused",
                report_identity(text->simulate, numbers[i], text->pool),
                text_range(text, report_use_refused(text->replay, numbers[i], plan)),
                text_number(text, population_at(text->replay->population, numbers[i])->requests));
    }
}

static void text_sum(const text_t *text, const char *what, report_range_t range, uint64_t whole)
{
    fprintf(text->out, "  %-20s%s of %s (%s)\n", what, text_range(text, range),
            text_number(text, whole), text_percents(text, range, whole));
}

static void text_plan(const text_t *text, int number)
{
    const replay_t *replay = text->replay;
    const replay_plan_t *plan = &replay->plan[number];
    const uint32_t identities = population_count(replay->population);

    fprintf(text->out, "\n%s: %s\n", plan->plan->name, rlp_plan_describe(plan->plan, text->pool));
    if (!replay_bounds(replay, number)) {
        fputs("  With these limits \"A to B\" are two of what is possible, and no bounds.\n",
              text->out);
    }
    text_sum(text, "requests refused", report_refused(replay, plan->sums), replay->requests);
    if (replay->max_wait > 0) {
        text_sum(text, "requests delayed", report_delayed(replay, plan->sums), replay->requests);
    }
    text_sum(text, "identities refused", report_identities(replay, plan->sums), identities);
    if (replay->max_wait > 0) {
        text_sum(text, "identities delayed", report_slowed(replay, plan->sums), identities);
    }
    text_worst(text, number);
    text_shares(text, number);
    text_top(text, number);
}

/* --- all plans */

static void text_fits(const text_t *text)
{
    const bool costs = report_costs(text->replay);
    uint64_t requests[REPORT_LEVELS];
    uint64_t units[REPORT_LEVELS];

    report_requests(text->replay, requests);
    report_units(text->replay, units);
    fprintf(text->out, "\nidentities  requests at most%s  first plan that refuses them nothing\n",
            costs ? "     units at most" : "");
    for (int i = 0; i < REPORT_LEVELS; i++) {
        const int surely = report_fit(text->replay, REPLAY_MOST, i);
        const int perhaps = report_fit(text->replay, REPLAY_FEWEST, i);

        fprintf(text->out, "%8s %%  %16s", report_levels[i].name, text_number(text, requests[i]));
        if (costs) {
            fprintf(text->out, "  %16s", report_decimal(units[i], text->pool));
        }
        fprintf(text->out, "  %s", report_plan(text->replay, surely));
        if (surely != perhaps) {
            fprintf(text->out, ", perhaps %s", report_plan(text->replay, perhaps));
        }
        fputs("\n", text->out);
    }
}

static bool text_hour_counts(const replay_t *replay, const replay_hour_t *hour)
{
    for (int i = 0; i < replay->plans; i++) {
        const replay_sum_t *sum = &hour->sums[i][replay->runs - 1];

        if (sum->refused + sum->delayed > 0) {
            return true;
        }
    }
    return false;
}

static void text_hour(const text_t *text, const replay_hour_t *hour)
{
    fprintf(text->out, "%s  %10s",
            report_time((rlp_time_t)hour->hour * 3600 * RLP_SECOND, 16, text->pool),
            text_number(text, hour->requests));
    for (int i = 0; i < text->replay->plans; i++) {
        fprintf(text->out, "  %16s", text_range(text, report_refused(text->replay, hour->sums[i])));
    }
    fputs("\n", text->out);
}

static void text_hours_head(const text_t *text)
{
    fputs("\nrefused in the hour    requests", text->out);
    for (int i = 0; i < text->replay->plans; i++) {
        fprintf(text->out, "  %16s", text->replay->plan[i].plan->name);
    }
    fputs("\n", text->out);
}

/* The hours in which a plan refuses something, the first of them. */
static void text_hours(const text_t *text)
{
    const replay_t *replay = text->replay;
    int n = 0;

    for (int i = 0; i < replay->hours; i++) {
        if (!text_hour_counts(replay, &replay->hour[i])) {
            continue;
        }
        if (n == 0) {
            text_hours_head(text);
        }
        if (n++ < TEXT_HOURS) {
            text_hour(text, &replay->hour[i]);
        }
    }
    if (n > TEXT_HOURS) {
        fprintf(text->out, "and %s more, which --json and --html have\n",
                report_count((uint64_t)(n - TEXT_HOURS), "hour", "hours", text->pool));
    }
}

static void text_differences(const text_t *text)
{
    static const char *const words[] = { "pass", "delay", "deny" };
    const replay_t *replay = text->replay;

    fprintf(text->out, "\n%s of %s verdicts are not those of the log\n",
            text_number(text, replay->differences), text_number(text, replay->requests));
    for (uint64_t i = 0; i < replay->differences && i < REPLAY_SHOWN; i++) {
        const replay_difference_t *d = &replay->difference[i];

        fprintf(text->out, "  %s %s: the log says %s, the plan %s\n",
                report_plain(simulate_place(text->simulate, d->request.line, text->pool),
                             text->pool),
                report_identity(text->simulate, d->request.identity, text->pool),
                words[d->request.logged], words[d->verdict]);
    }
}

void report_text(const simulate_t *simulate, FILE *out)
{
    text_t text = { .simulate = simulate, .replay = &simulate->replay, .out = out };

    apr_pool_create(&text.pool, simulate->pool);
    text_read(&text);
    for (int i = 0; i < text.replay->plans; i++) {
        text_plan(&text, i);
    }
    if (text.replay->requests > 0) {
        text_fits(&text);
        text_hours(&text);
    }
    if (text.replay->compare) {
        text_differences(&text);
    }
    apr_pool_destroy(text.pool);
}
