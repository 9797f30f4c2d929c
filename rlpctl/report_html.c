/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The report as one page: no script, no outside resource, light and dark, narrow and wide; what a
 * picture shows stands in a table, too.
 */

#include "report.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <string.h>

#define HTML_BARS 96 /* of a chart; several hours may share one */
#define HTML_HEIGHT 120
#define HTML_BAR 8

typedef struct {
    const simulate_t *simulate;
    const replay_t *replay;
    FILE *out;
    apr_pool_t *pool;
} html_t;

/* One bar of a chart. */
typedef struct {
    uint64_t requests;
    report_range_t refused;
} html_bar_t;

typedef struct {
    int n;
    int hours; /* in each bar */
    uint32_t first;
    uint64_t highest;
    html_bar_t bars[HTML_BARS];
} html_chart_t;

static const char html_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
    "style-src 'unsafe-inline'\">\n"
    "<title>Plans against a log</title>\n<style>\n"
    ":root { color-scheme: light dark; --ink: #1b1b1f; --soft: #5a5d66; --paper: #fff; "
    "--line: #c9ccd4; --all: #8a94a6; --sure: #b3261e; --maybe: #c77700; }\n"
    "@media (prefers-color-scheme: dark) { :root { --ink: #e6e6ea; --soft: #aeb2bd; "
    "--paper: #16171a; --line: #43464e; --all: #737d8f; --sure: #ff6b60; --maybe: #ffb347; } }\n"
    "body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); "
    "max-width: 62rem; margin: 0 auto; padding: 1rem; }\n"
    "h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }\n"
    ".scroll { overflow-x: auto; margin: 1rem 0; } .soft { color: var(--soft); }\n"
    "table { border-collapse: collapse; font-variant-numeric: tabular-nums; }\n"
    "caption { text-align: left; color: var(--soft); }\n"
    "th, td { text-align: right; padding: .25rem .75rem; border-bottom: 1px solid var(--line); "
    "white-space: nowrap; }\n"
    "th:first-child, td:first-child { text-align: left; padding-left: 0; }\n"
    "th.words, td.words { text-align: left; white-space: normal; min-width: 12rem; }\n"
    "td.name { white-space: normal; overflow-wrap: anywhere; }\n"
    "svg { display: block; width: 100%; height: auto; margin: 1rem 0 .25rem; }\n"
    ".all { fill: var(--all); } .sure { fill: var(--sure); } .maybe { fill: var(--maybe); }\n"
    ".with { white-space: nowrap; } .key { display: inline-block; width: .8em; height: .8em; "
    "margin: 0 .3em 0 1em; }\n"
    "summary { cursor: pointer; padding: .5rem 0; }\n"
    "</style>\n</head>\n<body>\n<main>\n";

/* --- words */

/* What may come from a log, so that it is text wherever it stands. */
static void html_text(const html_t *html, const char *text)
{
    for (const char *at = report_plain(text, html->pool); *at; at++) {
        switch (*at) {
        case '&':
            fputs("&amp;", html->out);
            break;
        case '<':
            fputs("&lt;", html->out);
            break;
        case '>':
            fputs("&gt;", html->out);
            break;
        case '"':
            fputs("&quot;", html->out);
            break;
        default:
            putc(*at, html->out);
        }
    }
}

static const char *html_number(const html_t *html, uint64_t number)
{
    return report_number(number, html->pool);
}

static const char *html_range(const html_t *html, report_range_t range)
{
    return report_range(range, html->pool);
}

static const char *html_hour(const html_t *html, uint32_t hour)
{
    return report_time((rlp_time_t)hour * 3600 * RLP_SECOND, 16, html->pool);
}

/* A table that scrolls by itself where it is too wide, by keyboard too. What it is about, and of
   which plan. */
static void html_table(const html_t *html, const char *about, const char *plan)
{
    const char *caption = apr_pstrcat(html->pool, about, plan, NULL);

    fprintf(html->out,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\">\n"
            "<table>\n<caption>%s</caption>\n",
            caption, caption);
}

static void html_table_end(const html_t *html)
{
    fputs("</tbody>\n</table>\n</div>\n", html->out);
}

static void html_heading(const html_t *html, const char *text)
{
    fputs("<th scope=\"col\">", html->out);
    html_text(html, text);
    fputs("</th>", html->out);
}

/* --- what was read */

static void html_left_out(const html_t *html)
{
    const struct {
        uint64_t n;
        const char *one;
        const char *many;
    } lines[] = {
        { html->simulate->malformed, "line was not understood", "lines were not understood" },
        { html->simulate->filtered, "line was left out by its status, method, path or action",
          "lines were left out by their status, method, path or action" },
        { html->simulate->anonymous, "line had nobody to count, and was left out",
          "lines had nobody to count, and were left out" },
        { html->simulate->unpriced, "line had no number of units, and was counted as one",
          "lines had no number of units, and were counted as one" },
        { html->replay->late,
          "request was too far out of order, and was judged with the lines beside it",
          "requests were too far out of order, and were judged with the lines beside them" },
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (lines[i].n > 0) {
            fprintf(html->out, "<p>%s.</p>\n",
                    report_count(lines[i].n, lines[i].one, lines[i].many, html->pool));
        }
    }
}

static void html_read(const html_t *html)
{
    const replay_t *replay = html->replay;

    fprintf(html->out, "<h1>Plans against a log</h1>\n<p>%s of %s, ",
            report_count(replay->requests, "request", "requests", html->pool),
            report_count(population_count(replay->population), "identity", "identities",
                         html->pool));
    if (replay->requests > 0) {
        fprintf(html->out, "from %s to %s UTC, ", report_time(replay->first, 19, html->pool),
                report_time(replay->last, 19, html->pool));
    }
    fputs("counted by ", html->out);
    html_text(html, html->simulate->key_text);
    fputs(".</p>\n", html->out);
    if (replay->runs > 1) {
        fputs("<p>The log tells no microseconds: &#8220;A to B&#8221; are the fewest and the most "
              "that are possible.</p>\n",
              html->out);
    }
    html_left_out(html);
}

/* --- all plans */

static void html_fit(const html_t *html, int level)
{
    const int surely = report_fit(html->replay, REPLAY_MOST, level);
    const int perhaps = report_fit(html->replay, REPLAY_FEWEST, level);

    fputs("<td>", html->out);
    html_text(html, report_plan(html->replay, surely));
    if (surely != perhaps) {
        fputs(", perhaps ", html->out);
        html_text(html, report_plan(html->replay, perhaps));
    }
    fputs("</td></tr>\n", html->out);
}

static void html_fits(const html_t *html)
{
    const bool costs = report_costs(html->replay);
    uint64_t requests[REPORT_LEVELS];
    uint64_t units[REPORT_LEVELS];

    report_requests(html->replay, requests);
    report_units(html->replay, units);
    fputs("<h2>Which plan is enough?</h2>\n", html->out);
    html_table(html, "The first plan that refuses nothing to so many of the identities", "");
    fprintf(html->out,
            "<thead><tr><th scope=\"col\">Identities</th><th scope=\"col\">Requests at most</th>"
            "%s<th scope=\"col\">Plan</th></tr></thead>\n<tbody>\n",
            costs ? "<th scope=\"col\">Units at most</th>" : "");
    for (int i = 0; i < REPORT_LEVELS; i++) {
        fprintf(html->out, "<tr><th scope=\"row\">%s %%</th><td>%s</td>", report_levels[i].name,
                html_number(html, requests[i]));
        if (costs) {
            fprintf(html->out, "<td>%s</td>", report_decimal(units[i], html->pool));
        }
        html_fit(html, i);
    }
    html_table_end(html);
}

static void html_cell(const html_t *html, report_range_t range)
{
    fprintf(html->out, "<td>%s</td>", html_range(html, range));
}

static void html_plan_row(const html_t *html, const replay_plan_t *plan)
{
    const replay_t *replay = html->replay;

    fputs("<tr><th scope=\"row\">", html->out);
    html_text(html, plan->plan->name);
    fputs("</th><td class=\"words\">", html->out);
    html_text(html, rlp_plan_describe(plan->plan, html->pool));
    fputs("</td>", html->out);
    html_cell(html, report_refused(replay, plan->sums));
    html_cell(html, report_identities(replay, plan->sums));
    if (replay->max_wait > 0) {
        html_cell(html, report_delayed(replay, plan->sums));
        html_cell(html, report_slowed(replay, plan->sums));
    }
    fputs("</tr>\n", html->out);
}

static void html_plans(const html_t *html)
{
    fputs("<h2>The plans</h2>\n", html->out);
    html_table(html, "What each plan would have done", "");
    fputs("<thead><tr><th scope=\"col\">Plan</th><th scope=\"col\" class=\"words\">Limits</th>"
          "<th scope=\"col\">Requests refused</th><th scope=\"col\">Identities refused</th>",
          html->out);
    fputs(html->replay->max_wait > 0 ? "<th scope=\"col\">Requests delayed</th>"
                                       "<th scope=\"col\">Identities delayed</th>"
                                     : "",
          html->out);
    fputs("</tr></thead>\n<tbody>\n", html->out);
    for (int i = 0; i < html->replay->plans; i++) {
        html_plan_row(html, &html->replay->plan[i]);
    }
    html_table_end(html);
}

/* --- charts */

/* All hours from the first to the last, as many to a bar as it takes. */
static void html_chart_fill(const replay_t *replay, int plan, html_chart_t *chart)
{
    const uint32_t last = replay->hour[replay->hours - 1].hour;

    chart->first = replay->hour[0].hour;
    chart->hours = (int)((last - chart->first) / HTML_BARS + 1);
    chart->n = (int)((last - chart->first) / (uint32_t)chart->hours + 1);
    for (int i = 0; i < replay->hours; i++) {
        const replay_hour_t *hour = &replay->hour[i];
        html_bar_t *bar = &chart->bars[(hour->hour - chart->first) / (uint32_t)chart->hours];
        const report_range_t refused = report_refused(replay, hour->sums[plan]);

        bar->requests += hour->requests;
        bar->refused.fewest += refused.fewest;
        bar->refused.most += refused.most;
        chart->highest = bar->requests > chart->highest ? bar->requests : chart->highest;
    }
}

static void html_part(const html_t *html, const html_chart_t *chart, int i, uint64_t n,
                      const char *kind)
{
    const double height = (double)n * HTML_HEIGHT / (double)chart->highest;

    if (n > 0) {
        fprintf(html->out,
                "<rect class=\"%s\" x=\"%d\" y=\"%.2f\" width=\"%d\" height=\"%.2f\"/>\n", kind,
                i * HTML_BAR, HTML_HEIGHT - height, HTML_BAR - 1, height);
    }
}

static void html_bar(const html_t *html, const html_chart_t *chart, int i)
{
    const html_bar_t *bar = &chart->bars[i];

    if (bar->requests == 0) {
        return;
    }
    fprintf(html->out, "<g><title>%s: %s of %s refused</title>\n",
            html_hour(html, chart->first + (uint32_t)(i * chart->hours)),
            html_range(html, bar->refused), html_number(html, bar->requests));
    html_part(html, chart, i, bar->requests, "all");
    html_part(html, chart, i, bar->refused.most, "maybe");
    html_part(html, chart, i, bar->refused.fewest, "sure");
    fputs("</g>\n", html->out);
}

static void html_chart(const html_t *html, int plan)
{
    html_chart_t chart = { 0 };

    html_chart_fill(html->replay, plan, &chart);
    fprintf(html->out,
            "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"c%d\" "
            "preserveAspectRatio=\"none\" style=\"max-height:12rem\">\n"
            "<title id=\"c%d\">Requests and refusals under ",
            chart.n * HTML_BAR, HTML_HEIGHT, plan, plan);
    html_text(html, html->replay->plan[plan].plan->name);
    fprintf(html->out, ", %s in each bar; the table of hours has the numbers</title>\n",
            report_count((uint64_t)chart.hours, "hour", "hours", html->pool));
    for (int i = 0; i < chart.n; i++) {
        html_bar(html, &chart, i);
    }
    fprintf(html->out,
            "</svg>\n<p class=\"soft\">%s to %s UTC, each bar %d h, the highest %s requests."
            " <span class=\"with\"><span class=\"key\" "
            "style=\"background:var(--all)\"></span>requests</span> "
            "<span class=\"with\"><span class=\"key\" "
            "style=\"background:var(--sure)\"></span>refused</span>",
            html_hour(html, chart.first),
            html_hour(html, html->replay->hour[html->replay->hours - 1].hour), chart.hours,
            html_number(html, chart.highest));
    fputs(html->replay->runs > 1
              ? " <span class=\"with\"><span class=\"key\" "
                "style=\"background:var(--maybe)\"></span>perhaps refused</span></p>\n"
              : "</p>\n",
          html->out);
}

/* --- one plan */

static void html_shares(const html_t *html, int plan)
{
    double fewest[REPORT_LEVELS];
    double most[REPORT_LEVELS];

    report_shares(html->replay, plan, REPLAY_FEWEST, fewest);
    report_shares(html->replay, plan, REPLAY_MOST, most);
    html_table(html, "So many identities have at most this share of their requests refused by ",
               html->replay->plan[plan].plan->name);
    fputs("<thead><tr><th scope=\"col\">Identities</th><th scope=\"col\">At least</th>"
          "<th scope=\"col\">At most</th></tr></thead>\n<tbody>\n",
          html->out);
    for (int i = 0; i < REPORT_LEVELS; i++) {
        fprintf(html->out, "<tr><th scope=\"row\">%s %%</th><td>%s</td><td>%s</td></tr>\n",
                report_levels[i].name, report_percent(fewest[i], 1, html->pool),
                report_percent(most[i], 1, html->pool));
    }
    html_table_end(html);
}

static void html_top(const html_t *html, int plan)
{
    uint32_t numbers[REPORT_TOP];
    const int n = report_top(html->replay, plan, numbers);

    if (n == 0) {
        return;
    }
    html_table(html, "Most refused by ", html->replay->plan[plan].plan->name);
    fputs("<thead><tr><th scope=\"col\">Identity</th><th scope=\"col\">Refused</th>"
          "<th scope=\"col\">Of requests</th></tr></thead>\n<tbody>\n",
          html->out);
    for (int i = 0; i < n; i++) {
        fputs("<tr><td class=\"name\">", html->out);
        html_text(html, report_identity(html->simulate, numbers[i], html->pool));
        fprintf(html->out, "</td><td>%s</td><td>%s</td></tr>\n",
                html_range(html, report_use_refused(html->replay, numbers[i], plan)),
                html_number(html, population_at(html->replay->population, numbers[i])->requests));
    }
    html_table_end(html);
}

static void html_plan(const html_t *html, int plan)
{
    const replay_hour_t *worst = report_worst(html->replay, plan);

    fputs("<h2>", html->out);
    html_text(html, html->replay->plan[plan].plan->name);
    fputs("</h2>\n", html->out);
    if (!replay_bounds(html->replay, plan)) {
        fputs("<p>With these limits &#8220;A to B&#8221; are two of what is possible, and no "
              "bounds.</p>\n",
              html->out);
    }
    if (worst != NULL) {
        fprintf(html->out, "<p>Worst hour: %s, %s of %s requests refused.</p>\n",
                html_hour(html, worst->hour),
                html_range(html, report_refused(html->replay, worst->sums[plan])),
                html_number(html, worst->requests));
    }
    html_chart(html, plan);
    html_shares(html, plan);
    html_top(html, plan);
}

/* --- hours */

static void html_hours(const html_t *html)
{
    const replay_t *replay = html->replay;
    html_t each = *html;

    apr_pool_create(&each.pool, html->pool);
    fputs("<h2>Hours</h2>\n<details>\n<summary>Requests and refusals of each hour</summary>\n",
          html->out);
    html_table(html, "Requests, and how many of them each plan refuses", "");
    fputs("<thead><tr><th scope=\"col\">Hour (UTC)</th><th scope=\"col\">Requests</th>", html->out);
    for (int i = 0; i < replay->plans; i++) {
        html_heading(html, replay->plan[i].plan->name);
    }
    fputs("</tr></thead>\n<tbody>\n", html->out);
    for (int i = 0; i < replay->hours; i++) {
        const replay_hour_t *hour = &replay->hour[i];

        fprintf(html->out, "<tr><th scope=\"row\">%s</th><td>%s</td>", html_hour(&each, hour->hour),
                html_number(&each, hour->requests));
        for (int k = 0; k < replay->plans; k++) {
            fprintf(html->out, "<td>%s</td>",
                    html_range(&each, report_refused(replay, hour->sums[k])));
        }
        fputs("</tr>\n", html->out);
        apr_pool_clear(each.pool);
    }
    html_table_end(html);
    fputs("</details>\n", html->out);
}

void report_html(const simulate_t *simulate, FILE *out)
{
    html_t html = { .simulate = simulate, .replay = &simulate->replay, .out = out };

    apr_pool_create(&html.pool, simulate->pool);
    fputs(html_head, out);
    html_read(&html);
    html_plans(&html);
    if (html.replay->requests > 0) {
        html_fits(&html);
        for (int i = 0; i < html.replay->plans; i++) {
            html_plan(&html, i);
        }
        html_hours(&html);
    }
    fputs("</main>\n</body>\n</html>\n", out);
    apr_pool_destroy(html.pool);
}
