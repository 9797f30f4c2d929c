/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The status for people. What the page looks like stands in page/; this file puts the figures in.
 * Nothing gets into it unescaped, and the browser is told to take nothing from anywhere else.
 */

#include "status.h"

#include <http_protocol.h>

#include <apr_base64.h>
#include <apr_strings.h>

#include <page_parts.h>

/* What stands for "@NAME@" in a part: a text, which is escaped, or what prints more. */
typedef struct {
    const char *name; /* NULL: the end */
    const char *text;
    void (*print)(const status_t *status, const void *of);
    const void *of;
} page_value_t;

static void page_put(request_rec *r, const char *text)
{
    ap_rputs(ap_escape_html(r->pool, status_plain(text, r->pool)), r);
}

static const page_value_t *page_find(const page_value_t values[], const char *name, size_t len)
{
    while (values->name != NULL &&
           (strlen(values->name) != len || strncmp(values->name, name, len) != 0)) {
        values++;
    }
    return values;
}

/* A part has names alone between two "@". */
static void page_part(const status_t *status, const char *part, const page_value_t values[])
{
    const char *sign = strchr(part, '@');

    while (sign != NULL) {
        const size_t len = strcspn(sign + 1, "@");
        const page_value_t *value = page_find(values, sign + 1, len);

        ap_rwrite(part, (int)(sign - part), status->r);
        if (value->print != NULL) {
            value->print(status, value->of);
        } else if (value->text != NULL) {
            page_put(status->r, value->text);
        }
        part = sign + len + 2;
        sign = strchr(part, '@');
    }
    ap_rputs(part, status->r);
}

static void page_plain(const status_t *status, const char *part)
{
    ap_rputs(part, status->r);
}

/* --- numbers */

/* With a space between thousands. */
static const char *page_number(uint64_t number, apr_pool_t *pool)
{
    const char *digits = apr_psprintf(pool, "%" APR_UINT64_T_FMT, number);
    const size_t len = strlen(digits);
    char *made = apr_palloc(pool, len + len / 3 + 1);
    char *to = made;

    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            *to++ = ' ';
        }
        *to++ = digits[i];
    }
    *to = '\0';
    return made;
}

/* In percent, with one decimal. */
static const char *page_share(uint64_t part, uint64_t whole, apr_pool_t *pool)
{
    while (whole > UINT32_MAX) {
        part /= 2;
        whole /= 2;
    }
    const uint64_t tenths = whole ? (part * 1000 + whole / 2) / whole : 0;

    return apr_psprintf(pool, "%" APR_UINT64_T_FMT ".%" APR_UINT64_T_FMT, tenths / 10, tenths % 10);
}

/* A cell with a number, which sorts by it. */
static void page_cell(const status_t *status, uint64_t number, const char *words)
{
    ap_rprintf(status->r, "<td class=\"n%s%s\" data-v=\"%" APR_UINT64_T_FMT "\">%s</td>",
               number ? "" : " zero", number ? words : "", number,
               page_number(number, status->r->pool));
}

/* --- charts */

typedef struct {
    uint64_t n[STATS_SERIES][STATS_MINUTES];
} page_hour_t;

typedef struct {
    const char *size; /* "big" or "small" */
    page_hour_t hour;
} page_chart_t;

static uint64_t page_sum(const uint64_t minutes[STATS_MINUTES])
{
    uint64_t sum = 0;

    for (int i = 0; i < STATS_MINUTES; i++) {
        sum += minutes[i];
    }
    return sum;
}

static void page_add_row(page_hour_t *hour, const stats_row_t *row)
{
    for (int i = 0; i < STATS_SERIES; i++) {
        for (int k = 0; k < STATS_MINUTES; k++) {
            hour->n[i][k] += row->minutes[i][k];
        }
    }
}

static void page_add_rows(page_hour_t *hour, const stats_t *stats)
{
    for (int i = 0; i < stats->n; i++) {
        page_add_row(hour, &stats->rows[i]);
    }
}

static uint64_t page_peak(const page_hour_t *hour)
{
    uint64_t peak = 0;

    for (int i = 0; i < STATS_MINUTES; i++) {
        const uint64_t sum = hour->n[0][i] + hour->n[1][i] + hour->n[2][i];

        peak = sum > peak ? sum : peak;
    }
    return peak;
}

#define PAGE_HEIGHT 100 /* of a chart, in its own units; a minute is 10 wide */

/* Where a column that stands for so many ends; who is not nothing is seen. */
static int page_height(uint64_t number, uint64_t peak)
{
    const int height = peak ? (int)(number * PAGE_HEIGHT / peak) : 0;

    return number > 0 && height < 2 ? 2 : height;
}

/* The columns of one series, on top of those before it. */
static void page_columns(const status_t *status, const page_hour_t *hour, int series, uint64_t peak)
{
    static const char classes[STATS_SERIES] = { 'a', 'r', 'w' };

    ap_rprintf(status->r, "<path class=\"%c\" d=\"", classes[series]);
    for (int i = 0; i < STATS_MINUTES; i++) {
        uint64_t below = 0;

        for (int k = 0; k < series; k++) {
            below += hour->n[k][i];
        }
        const int from = (int)(peak ? below * PAGE_HEIGHT / peak : 0);
        const int height = page_height(hour->n[series][i], peak);

        if (height > 0) {
            ap_rprintf(status->r, "M%d %dh8v-%dh-8z", 10 * i + 1, PAGE_HEIGHT - from, height);
        }
    }
    ap_rputs("\"/>", status->r);
}

static void page_chart(const status_t *status, const void *of)
{
    const page_chart_t *chart = of;
    const uint64_t peak = page_peak(&chart->hour);
    apr_pool_t *pool = status->r->pool;

    ap_rprintf(status->r,
               "<svg class=\"%s\" viewBox=\"0 -2 600 102\" preserveAspectRatio=\"none\" "
               "role=\"img\" aria-label=\"The last hour: %s admitted, %s refused, %s would be "
               "refused\">",
               chart->size, page_number(page_sum(chart->hour.n[0]), pool),
               page_number(page_sum(chart->hour.n[1]), pool),
               page_number(page_sum(chart->hour.n[2]), pool));
    for (int i = 0; i < STATS_SERIES; i++) {
        if (page_sum(chart->hour.n[i]) > 0) {
            page_columns(status, &chart->hour, i, peak);
        }
    }
    ap_rputs("</svg>", status->r);
}

/* --- the last hour */

static void page_tile(const status_t *status, const char *style, const char *name,
                      const char *value, const char *note)
{
    const page_value_t values[] = { { .name = "class", .text = style },
                                    { .name = "name", .text = name },
                                    { .name = "value", .text = value },
                                    { .name = "note", .text = note },
                                    { .name = NULL } };

    page_part(status, page_tile_part, values);
}

static const char *page_in_all(uint64_t number, apr_pool_t *pool)
{
    return apr_pstrcat(pool, page_number(number, pool), " in all", NULL);
}

static void page_tiles(const status_t *status, const void *of)
{
    const page_chart_t *chart = of;
    apr_pool_t *pool = status->r->pool;
    const uint64_t admitted = page_sum(chart->hour.n[0]);
    const uint64_t refused = page_sum(chart->hour.n[1]);
    const uint64_t *totals = status->totals;

    page_tile(status, "a", "Admitted", page_number(admitted, pool),
              page_in_all(totals[STATS_ADMITTED] + totals[STATS_DELAYED], pool));
    page_tile(status, "r", "Refused", page_number(refused, pool),
              apr_pstrcat(pool, page_share(refused, admitted + refused, pool), " %; ",
                          page_in_all(totals[STATS_REFUSED], pool), NULL));
    page_tile(status, "w", "Would be refused", page_number(page_sum(chart->hour.n[2]), pool),
              page_in_all(totals[STATS_WOULD_REFUSE], pool));
    page_tile(status, "", "Delayed, in all", page_number(totals[STATS_DELAYED], pool), "");
    page_tile(status, "", "Errors, in all", page_number(totals[STATS_FAILED], pool),
              "the store could not be asked");
    page_tile(status, "", "Exempt, in all", page_number(totals[STATS_EXEMPT], pool), "");
}

static void page_note(const status_t *status, const char *text)
{
    page_part(status, page_note_part,
              (const page_value_t[]){ { .name = "text", .text = text }, { .name = NULL } });
}

static void page_none(const status_t *status, const char *text)
{
    page_part(status, page_none_part,
              (const page_value_t[]){ { .name = "text", .text = text }, { .name = NULL } });
}

/* What somebody who looks at this should know first. */
static void page_notes(const status_t *status, const void *of)
{
    (void)of;
    if (!rlp_world->engaged) {
        page_note(status, "RateLimitEngine is off everywhere: nothing is enforced.");
    }
    for (int i = 0; i < status->n_servers; i++) {
        if (strcmp(status->servers[i].breaker, "closed") != 0) {
            page_note(status, apr_psprintf(status->r->pool, "Redis at %s is not asked for now: %s.",
                                           status->servers[i].name, status->servers[i].why));
        }
    }
    if (status->stats->crowded > 0) {
        page_note(status, "There was no room for all rules under all plans: those without are "
                          "counted together as (other).");
    }
}

/* --- tables */

static void page_most_cells(const status_t *status, const void *of)
{
    const stats_top_t *top = of;

    page_cell(status, top->refused, "");
    page_cell(status, top->refused - top->error, "");
}

static void page_most(const status_t *status, const void *of)
{
    (void)of;
    if (status->stats->n_top == 0) {
        page_none(status, "Nobody was refused in this hour or the one before.");
        return;
    }
    page_plain(status, page_top_begin);
    for (int i = 0; i < status->stats->n_top && i < 50; i++) {
        const stats_top_t *top = &status->stats->top[i];

        page_part(status, page_top_row,
                  (const page_value_t[]){ { .name = "identity", .text = top->identity },
                                          { .name = "rule", .text = top->rule },
                                          { .name = "cells", .print = page_most_cells, .of = top },
                                          { .name = NULL } });
    }
    page_plain(status, page_table_end);
}

typedef struct {
    const stats_row_t *row;
    page_chart_t chart;
} page_counts_t;

static void page_counts_cells(const status_t *status, const void *of)
{
    const page_counts_t *counts = of;

    page_cell(status, page_sum(counts->chart.hour.n[1]), " bad");
    for (int i = 0; i < STATS_KINDS; i++) {
        page_cell(status, counts->row->counts[i], status_kinds[i].look);
    }
}

static void page_counts(const status_t *status, const void *of)
{
    (void)of;
    if (status->stats->n == 0) {
        page_none(status, "No rule has judged a request yet.");
        return;
    }
    page_plain(status, page_counts_begin);
    for (int i = 0; i < status->stats->n; i++) {
        page_counts_t counts = { .row = &status->stats->rows[i], .chart = { .size = "small" } };

        page_add_row(&counts.chart.hour, counts.row);
        page_part(status, page_counts_row,
                  (const page_value_t[]){
                      { .name = "rule", .text = counts.row->rule },
                      { .name = "plan", .text = counts.row->plan },
                      { .name = "cells", .print = page_counts_cells, .of = &counts },
                      { .name = "chart", .print = page_chart, .of = &counts.chart },
                      { .name = NULL } });
    }
    page_plain(status, page_table_end);
}

static void page_plans(const status_t *status)
{
    if (rlp_world->plan_list->nelts == 0) {
        return;
    }
    page_plain(status, page_plans_begin);
    for (int i = 0; i < rlp_world->plan_list->nelts; i++) {
        const rlp_plan_t *plan = APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *)->limits;

        page_part(status, page_plans_row,
                  (const page_value_t[]){
                      { .name = "name", .text = plan->name },
                      { .name = "words", .text = rlp_plan_describe(plan, status->r->pool) },
                      { .name = NULL } });
    }
    page_plain(status, page_rules_end);
}

static void page_rules(const status_t *status, const void *of)
{
    apr_pool_t *pool = status->r->pool;

    (void)of;
    if (rlp_world->rules->nelts == 0) {
        page_none(status, "The server's configuration has no rule.");
    } else {
        page_plain(status, page_rules_begin);
    }
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *);
        const char *section = rule->section ? apr_pstrcat(pool, "in ", rule->section, NULL) : "";

        page_part(status, page_rules_row,
                  (const page_value_t[]){ { .name = "name", .text = rule->scope },
                                          { .name = "section", .text = section },
                                          { .name = "words", .text = dump_rule_words(rule, pool) },
                                          { .name = "file", .text = rule->file },
                                          { .name = "line", .text = apr_itoa(pool, rule->line) },
                                          { .name = NULL } });
    }
    if (rlp_world->rules->nelts > 0) {
        page_plain(status, page_rules_end);
    }
    page_plans(status);
}

/* --- the store */

static void page_use(const status_t *status, const void *of)
{
    const rlp_segment_look_t *look = &status->look;
    apr_pool_t *pool = status->r->pool;

    (void)of;
    if (look->slots == 0) {
        return;
    }
    page_part(status, page_use_part,
              (const page_value_t[]){
                  { .name = "slots",
                    .text = apr_psprintf(pool, "%" APR_UINT64_T_FMT, look->slots) },
                  { .name = "used", .text = apr_psprintf(pool, "%" APR_UINT64_T_FMT, look->used) },
                  { .name = "slots_words", .text = page_number(look->slots, pool) },
                  { .name = "used_words", .text = page_number(look->used, pool) },
                  { .name = "percent", .text = page_share(look->used, look->slots, pool) },
                  { .name = "evicted", .text = page_number(look->evicted, pool) },
                  { .name = NULL } });
}

static void page_servers_cells(const status_t *status, const void *of)
{
    const store_server_t *server = of;

    page_cell(status, (uint64_t)(server->failures > 0 ? server->failures : 0), " bad");
}

static void page_servers(const status_t *status, const void *of)
{
    apr_pool_t *pool = status->r->pool;

    (void)of;
    if (status->n_servers == 0) {
        return;
    }
    page_plain(status, page_servers_begin);
    for (int i = 0; i < status->n_servers; i++) {
        const store_server_t *server = &status->servers[i];
        const bool closed = strcmp(server->breaker, "closed") == 0;

        page_part(status, page_servers_row,
                  (const page_value_t[]){
                      { .name = "name", .text = server->name },
                      { .name = "breaker", .text = server->breaker },
                      { .name = "class", .text = closed ? "" : "bad" },
                      { .name = "cells", .print = page_servers_cells, .of = server },
                      { .name = "wait",
                        .text = closed ? ""
                                       : apr_psprintf(pool, "in %" APR_INT64_T_FMT " ms",
                                                      server->wait / 1000) },
                      { .name = "why", .text = server->why },
                      { .name = NULL } });
    }
    page_plain(status, page_table_end);
}

static void page_maps_cells(const status_t *status, const void *of)
{
    const stats_map_t *map = of;

    page_cell(status, map->reloads, "");
    page_cell(status, map->failures, " bad");
}

static void page_maps(const status_t *status, const void *of)
{
    (void)of;
    if (status->stats->n_maps == 0) {
        return;
    }
    page_plain(status, page_maps_begin);
    for (int i = 0; i < status->stats->n_maps; i++) {
        const stats_map_t *map = &status->stats->maps[i];

        page_part(status, page_maps_row,
                  (const page_value_t[]){ { .name = "type", .text = map->type },
                                          { .name = "path", .text = map->path },
                                          { .name = "cells", .print = page_maps_cells, .of = map },
                                          { .name = NULL } });
    }
    page_plain(status, page_table_end);
}

/* --- the whole */

/* 'sha256-...': the only text of its kind that the browser takes. */
static const char *page_hash(const char *text, apr_pool_t *pool)
{
    uint8_t digest[RLP_DIGEST_SIZE];
    char code[2 * RLP_DIGEST_SIZE];

    rlp_digest(digest, text, strlen(text));
    apr_base64_encode_binary(code, digest, sizeof(digest));
    return apr_pstrcat(pool, "'sha256-", code, "'", NULL);
}

static void page_guard(request_rec *r)
{
    apr_table_setn(r->headers_out, "Content-Security-Policy",
                   apr_pstrcat(r->pool, "default-src 'none'; style-src ",
                               page_hash(page_style, r->pool), "; script-src ",
                               page_hash(page_script, r->pool),
                               "; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                               "frame-ancestors 'none'",
                               NULL));
    apr_table_setn(r->headers_out, "Referrer-Policy", "no-referrer");
}

/* "2026-11-21 14:00 UTC" */
static const char *page_time(rlp_time_t time, apr_pool_t *pool)
{
    const char *text = status_time(time, pool);

    return time > 0 && strlen(text) == 20 ? apr_psprintf(pool, "%.10s %.8s UTC", text, text + 11)
                                          : "no time yet";
}

void status_page(const status_t *status)
{
    request_rec *r = status->r;
    page_chart_t *chart = apr_pcalloc(r->pool, sizeof(*chart));
    const char *host = r->server->server_hostname ? r->server->server_hostname : "";

    chart->size = "big";
    page_add_rows(&chart->hour, status->stats);
    const page_value_t values[] = {
        { .name = "host", .text = host },
        { .name = "now", .text = status_time(status->now, r->pool) },
        { .name = "now_words", .text = page_time(status->now, r->pool) },
        { .name = "since", .text = status_time(status->stats->begun, r->pool) },
        { .name = "since_words", .text = page_time(status->stats->begun, r->pool) },
        { .name = "notes", .print = page_notes },
        { .name = "tiles", .print = page_tiles, .of = chart },
        { .name = "chart", .print = page_chart, .of = chart },
        { .name = "peak", .text = page_number(page_peak(&chart->hour), r->pool) },
        { .name = "most", .print = page_most },
        { .name = "counts", .print = page_counts },
        { .name = "rules", .print = page_rules },
        { .name = "store",
          .text = rlp_world->store ? dump_store_words(r->pool) : "No store: no rule needs one." },
        { .name = "use", .print = page_use },
        { .name = "servers", .print = page_servers },
        { .name = "maps", .print = page_maps },
        { .name = NULL },
    };

    page_guard(r);
    page_part(status, page_head, values);
    ap_rvputs(r, "<style>", page_style, "</style>\n", NULL);
    page_part(status, page_body, values);
    ap_rvputs(r, "<script>", page_script, "</script>\n", NULL);
    page_plain(status, page_foot);
}
