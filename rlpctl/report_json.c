/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The report for programs: one JSON object. docs/rlpctl.1 has its members.
 */

#include "report.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <string.h>

typedef struct {
    const simulate_t *simulate;
    const replay_t *replay;
    FILE *out;
    apr_pool_t *pool;
} json_t;

/* What is shown has no control characters any more. */
static void json_string(const json_t *json, const char *text)
{
    putc('"', json->out);
    for (const char *at = report_plain(text, json->pool); *at; at++) {
        if (*at == '"' || *at == '\\') {
            putc('\\', json->out);
        }
        putc(*at, json->out);
    }
    putc('"', json->out);
}

static void json_name(const json_t *json, const char *name)
{
    json_string(json, name);
    putc(':', json->out);
}

static void json_number(const json_t *json, const char *name, uint64_t number)
{
    json_name(json, name);
    fprintf(json->out, "%" PRIu64 ",", number);
}

static void json_range(const json_t *json, const char *name, report_range_t range)
{
    json_name(json, name);
    fprintf(json->out, "{\"fewest\":%" PRIu64 ",\"most\":%" PRIu64 "}", range.fewest, range.most);
}

static void json_sums(const json_t *json, const replay_sum_t sums[REPLAY_RUNS])
{
    json_range(json, "refused", report_refused(json->replay, sums));
    putc(',', json->out);
    json_range(json, "delayed", report_delayed(json->replay, sums));
    putc(',', json->out);
    json_range(json, "identities_refused", report_identities(json->replay, sums));
}

/* With a Z behind it, as RFC 3339 has it. */
static void json_time(const json_t *json, const char *name, rlp_time_t at)
{
    char *text = apr_pstrdup(json->pool, report_time(at, 19, json->pool));

    text[10] = 'T';
    json_name(json, name);
    json_string(json, apr_pstrcat(json->pool, text, "Z", NULL));
}

/* Of a request, if there is one. */
static void json_moment(const json_t *json, const char *name, rlp_time_t at)
{
    if (json->replay->requests > 0) {
        json_time(json, name, at);
    } else {
        json_name(json, name);
        fputs("null", json->out);
    }
    putc(',', json->out);
}

static void json_hour_time(const json_t *json, const replay_hour_t *hour)
{
    json_time(json, "hour", (rlp_time_t)hour->hour * 3600 * RLP_SECOND);
    putc(',', json->out);
}

/* --- what was read */

static void json_malformed(const json_t *json)
{
    const simulate_t *simulate = json->simulate;

    json_name(json, "malformed_at");
    putc('[', json->out);
    for (uint64_t i = 0; i < simulate->malformed && i < SIMULATE_MALFORMED; i++) {
        const simulate_place_t *place = &simulate->malformed_at[i];

        fputs(i ? "," : "", json->out);
        json_string(json, apr_psprintf(json->pool, "%s:%" APR_UINT64_T_FMT, place->input,
                                       (apr_uint64_t)place->line));
    }
    putc(']', json->out);
}

static void json_read(const json_t *json)
{
    const simulate_t *simulate = json->simulate;

    json_number(json, "lines", simulate->lines);
    json_number(json, "malformed", simulate->malformed);
    json_malformed(json);
    putc(',', json->out);
    json_number(json, "left_out", simulate->filtered);
    json_number(json, "without_identity", simulate->anonymous);
    json_number(json, "without_cost", simulate->unpriced);
    json_number(json, "sorted", json->replay->sorted);
    json_number(json, "late", json->replay->late);
    json_number(json, "requests", json->replay->requests);
    json_number(json, "identities", population_count(json->replay->population));
    json_moment(json, "first", json->replay->first);
    json_moment(json, "last", json->replay->last);
    json_number(json, "tick_microseconds", (uint64_t)json->replay->tick);
}

/* --- plans */

static void json_top(const json_t *json, int plan)
{
    uint32_t numbers[REPORT_TOP];
    const int n = report_top(json->replay, plan, numbers);

    json_name(json, "most_refused");
    putc('[', json->out);
    for (int i = 0; i < n; i++) {
        fputs(i ? ",{" : "{", json->out);
        json_name(json, "identity");
        json_string(json, report_identity(json->simulate, numbers[i], json->pool));
        putc(',', json->out);
        json_number(json, "requests",
                    population_at(json->replay->population, numbers[i])->requests);
        json_range(json, "refused", report_use_refused(json->replay, numbers[i], plan));
        putc(',', json->out);
        json_range(json, "delayed", report_use_delayed(json->replay, numbers[i], plan));
        putc('}', json->out);
    }
    putc(']', json->out);
}

static void json_shares(const json_t *json, int plan)
{
    double fewest[REPORT_LEVELS];
    double most[REPORT_LEVELS];

    report_shares(json->replay, plan, REPLAY_FEWEST, fewest);
    report_shares(json->replay, plan, REPLAY_MOST, most);
    json_name(json, "refused_share");
    for (int i = 0; i < REPORT_LEVELS; i++) {
        fprintf(json->out, "%c\"%s\":{\"fewest\":%.6g,\"most\":%.6g}", i ? ',' : '{',
                report_levels[i].name, fewest[i], most[i]);
    }
    putc('}', json->out);
}

static void json_worst(const json_t *json, int plan)
{
    const replay_hour_t *hour = report_worst(json->replay, plan);

    json_name(json, "worst_hour");
    if (hour == NULL) {
        fputs("null", json->out);
        return;
    }
    putc('{', json->out);
    json_hour_time(json, hour);
    json_number(json, "requests", hour->requests);
    json_sums(json, hour->sums[plan]);
    putc('}', json->out);
}

static void json_plan(const json_t *json, int number)
{
    const replay_plan_t *plan = &json->replay->plan[number];

    fputs(number ? ",{" : "{", json->out);
    json_name(json, "name");
    json_string(json, plan->plan->name);
    putc(',', json->out);
    json_name(json, "limits");
    json_string(json, plan->limits);
    putc(',', json->out);
    json_name(json, "words");
    json_string(json, rlp_plan_describe(plan->plan, json->pool));
    putc(',', json->out);
    json_name(json, "bounds");
    fprintf(json->out, "%s,", replay_bounds(json->replay, number) ? "true" : "false");
    json_sums(json, plan->sums);
    putc(',', json->out);
    json_range(json, "identities_delayed", report_slowed(json->replay, plan->sums));
    putc(',', json->out);
    json_worst(json, number);
    putc(',', json->out);
    json_shares(json, number);
    putc(',', json->out);
    json_top(json, number);
    putc('}', json->out);
}

/* --- all plans */

static void json_fit(const json_t *json, const char *name, int run, int level)
{
    const int plan = report_fit(json->replay, run, level);

    json_name(json, name);
    if (plan < 0) {
        fputs("null", json->out);
    } else {
        json_string(json, json->replay->plan[plan].plan->name);
    }
}

static void json_fits(const json_t *json)
{
    uint64_t requests[REPORT_LEVELS];
    uint64_t units[REPORT_LEVELS];

    report_requests(json->replay, requests);
    report_units(json->replay, units);
    json_name(json, "fits");
    putc('[', json->out);
    for (int i = 0; i < REPORT_LEVELS; i++) {
        fprintf(json->out, "%s{\"identities_percent\":%s,\"requests\":%" PRIu64 ",", i ? "," : "",
                report_levels[i].name, requests[i]);
        fprintf(json->out, "\"units\":%" PRIu64 ".%03d,", units[i] / RLP_UNIT,
                (int)(units[i] % RLP_UNIT));
        json_fit(json, "plan", REPLAY_MOST, i);
        putc(',', json->out);
        json_fit(json, "perhaps", REPLAY_FEWEST, i);
        putc('}', json->out);
    }
    putc(']', json->out);
}

static void json_hours(const json_t *json)
{
    apr_pool_t *all = json->pool;
    json_t each = *json;

    apr_pool_create(&each.pool, all);
    json_name(json, "hours");
    putc('[', json->out);
    for (int i = 0; i < json->replay->hours; i++) {
        const replay_hour_t *hour = &json->replay->hour[i];

        fputs(i ? ",{" : "{", json->out);
        json_hour_time(&each, hour);
        json_number(&each, "requests", hour->requests);
        json_name(&each, "plans");
        for (int k = 0; k < json->replay->plans; k++) {
            putc(k ? ',' : '{', json->out);
            json_name(&each, json->replay->plan[k].plan->name);
            putc('{', json->out);
            json_sums(&each, hour->sums[k]);
            putc('}', json->out);
        }
        fputs("}}", json->out);
        apr_pool_clear(each.pool);
    }
    putc(']', json->out);
}

static void json_differences(const json_t *json)
{
    static const char *const words[] = { "pass", "delay", "deny" };
    const replay_t *replay = json->replay;

    putc(',', json->out);
    json_number(json, "differences", replay->differences);
    json_name(json, "different");
    putc('[', json->out);
    for (uint64_t i = 0; i < replay->differences && i < REPLAY_SHOWN; i++) {
        const replay_difference_t *d = &replay->difference[i];

        fputs(i ? ",{" : "{", json->out);
        json_name(json, "at");
        json_string(json, simulate_place(json->simulate, d->request.line, json->pool));
        putc(',', json->out);
        json_name(json, "identity");
        json_string(json, report_identity(json->simulate, d->request.identity, json->pool));
        fprintf(json->out, ",\"log\":\"%s\",\"plan\":\"%s\"}", words[d->request.logged],
                words[d->verdict]);
    }
    putc(']', json->out);
}

void report_json(const simulate_t *simulate, FILE *out)
{
    json_t json = { .simulate = simulate, .replay = &simulate->replay, .out = out };

    apr_pool_create(&json.pool, simulate->pool);
    putc('{', out);
    json_read(&json);
    json_name(&json, "plans");
    putc('[', out);
    for (int i = 0; i < json.replay->plans; i++) {
        json_plan(&json, i);
    }
    fputs("],", out);
    json_fits(&json);
    putc(',', out);
    json_hours(&json);
    if (json.replay->compare) {
        json_differences(&json);
    }
    fputs("}\n", out);
    apr_pool_destroy(json.pool);
}
