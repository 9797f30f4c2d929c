/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Plans: named sets of limits, their signatures, and what they say in words.
 */

#include "limit.h"

#include "calendar.h"

#include <apr_siphash.h>
#include <apr_strings.h>

#include <string.h>

static bool plan_has(const rlp_limit_t *limits, int n, const rlp_limit_t *limit)
{
    for (int i = 0; i < n; i++) {
        if (limit_same_kind(&limits[i], limit) && limits[i].ordinal == limit->ordinal) {
            return true;
        }
    }
    return false;
}

/* Adds what another plan has and the plan has not. */
static const char *plan_inherit(rlp_plan_t *plan, const rlp_plan_t *base, apr_pool_t *pool)
{
    const int own = plan->n;

    for (int i = 0; base != NULL && i < base->n; i++) {
        if (plan_has(plan->limits, own, &base->limits[i])) {
            continue;
        }
        if (plan->n == RLP_LIMITS_MAX) {
            return apr_psprintf(pool, "expected at most 8 limits in one plan, with those of \"%s\"",
                                base->name);
        }
        plan->limits[plan->n++] = base->limits[i];
    }
    if (base != NULL) {
        plan->bandwidth = plan->bandwidth ? plan->bandwidth : base->bandwidth;
        plan->then = plan->then ? plan->then : base->then;
    }
    return NULL;
}

static bool plan_has_quota(const rlp_plan_t *plan)
{
    for (int i = 0; i < plan->n; i++) {
        if (plan->limits[i].algorithm->quota) {
            return true;
        }
    }
    return false;
}

/* NULL, or what is missing. */
static const char *plan_missing(const rlp_plan_t *plan, apr_pool_t *pool)
{
    if (plan->then != NULL && !plan_has_quota(plan)) {
        return apr_psprintf(pool, "expected a quota= beside then=, got \"then=%s\"", plan->then);
    }
    if (plan->n == 0 && plan->bandwidth > 0) {
        return "expected a rate=, quota= or concurrent= beside bandwidth=, got none";
    }
    return plan->n ? NULL : "expected a limit, such as rate=10/min, got none";
}

const char *rlp_plan_parse(rlp_plan_t **plan, const rlp_plan_source_t *source, apr_pool_t *pool)
{
    rlp_plan_t *made = apr_pcalloc(pool, sizeof(*made));
    const char *error = limit_parse_words(made, source, pool);

    if (error == NULL) {
        error = plan_inherit(made, source->base, pool);
    }
    if (error == NULL) {
        error = plan_missing(made, pool);
    }
    if (error != NULL) {
        return error;
    }
    made->name = apr_pstrdup(pool, source->name);
    *plan = made;
    return NULL;
}

void rlp_plan_owners(rlp_plan_t *plan, int owners)
{
    for (int i = 0; i < plan->n; i++) {
        if (plan->limits[i].algorithm->holds) {
            plan->limits[i].state_size = (uint32_t)owners * (uint32_t)sizeof(rlp_hold_t);
        }
    }
}

uint64_t rlp_signature(const char *scope, const char *plan, const rlp_limit_t *limit)
{
    /* not a secret: it must be the same everywhere, and clients have no say in what is hashed */
    static const unsigned char key[APR_SIPHASH_KSIZE] = "rlp signature 1";
    char text[1024];
    const int len =
        apr_snprintf(text, sizeof(text),
                     "%s%c%s%c%s%c%" APR_INT64_T_FMT "%c%" APR_INT64_T_FMT "%c%u%s%s", scope, 1,
                     plan ? plan : "", 1, limit->algorithm->name, 1, limit->period, 1, limit->start,
                     1, limit->ordinal, limit->calendar ? "\1" : "",
                     limit->calendar ? limit->calendar->zone : "");

    return apr_siphash24(text, (apr_size_t)len, key);
}

/* 1234567 as "1 234 567". */
static const char *plan_number(int64_t number, apr_pool_t *pool)
{
    const char *plain = apr_psprintf(pool, "%" APR_INT64_T_FMT, number);
    const size_t len = strlen(plain);
    char *spaced = apr_pcalloc(pool, len + len / 3 + 1);
    char *to = spaced;

    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            *to++ = ' ';
        }
        *to++ = plain[i];
    }
    return spaced;
}

static const char *plan_units(rlp_units_t units, apr_pool_t *pool)
{
    const char *whole = plan_number(units / RLP_UNIT, pool);

    return units % RLP_UNIT ? apr_psprintf(pool, "%s.%03d", whole, (int)(units % RLP_UNIT)) : whole;
}

static const struct {
    const char *name;
    rlp_time_t span;
} plan_spans[] = {
    { "week", 604800 * RLP_SECOND }, { "day", 86400 * RLP_SECOND }, { "hour", 3600 * RLP_SECOND },
    { "minute", 60 * RLP_SECOND },   { "second", RLP_SECOND },
};

/* "minute", "10 seconds", "1 500 ms" */
static const char *plan_span(rlp_time_t span, apr_pool_t *pool)
{
    for (size_t i = 0; i < sizeof(plan_spans) / sizeof(plan_spans[0]); i++) {
        if (span == plan_spans[i].span) {
            return plan_spans[i].name;
        }
        if (span % plan_spans[i].span == 0) {
            return apr_psprintf(pool, "%s %ss", plan_number(span / plan_spans[i].span, pool),
                                plan_spans[i].name);
        }
    }
    return apr_psprintf(pool, "%s ms", plan_number(span / 1000, pool));
}

/* "1 per second", "1 every 12 seconds", "100 per minute" */
static const char *plan_rate(const rlp_limit_t *limit, apr_pool_t *pool)
{
    int64_t count = limit->count;
    rlp_time_t period = limit->period;

    if (period % count == 0 && period / count % RLP_SECOND == 0) {
        period /= count;
        count = 1;
    }
    const char *span = plan_span(period, pool);

    return apr_psprintf(pool, "%s %s %s", plan_number(count, pool),
                        strchr(span, ' ') ? "every" : "per", span);
}

/* "minute" or "period of 10 seconds", to stand behind "each" */
static const char *plan_each(const rlp_limit_t *limit, const char *noun, apr_pool_t *pool)
{
    const char *span = plan_span(limit->period, pool);

    return strchr(span, ' ') ? apr_pstrcat(pool, noun, " of ", span, NULL) : span;
}

/* A limit being described: "10", and " (3 at first)" where that is less. */
typedef struct {
    const rlp_limit_t *limit;
    const char *burst;
    const char *first;
} words_t;

static const char *plan_say_bucket(const words_t *say, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%s at once%s, then %s", say->burst, say->first,
                        plan_rate(say->limit, pool));
}

static const char *plan_say_steps(const words_t *say, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%s at once%s, then %s more at the end of each %s", say->burst,
                        say->first, plan_number(say->limit->count, pool),
                        plan_each(say->limit, "period", pool));
}

static const char *plan_say_queue(const words_t *say, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%s, evenly spaced, %s may queue%s", plan_rate(say->limit, pool),
                        say->burst, say->first);
}

static const char *plan_say_window(const words_t *say, apr_pool_t *pool)
{
    return apr_psprintf(pool, "at most %s in each %s", say->burst,
                        plan_each(say->limit, "window", pool));
}

static const char *plan_say_estimate(const words_t *say, apr_pool_t *pool)
{
    return apr_psprintf(pool, "about %s in any %s", say->burst,
                        plan_span(say->limit->period, pool));
}

static const char *plan_say_log(const words_t *say, apr_pool_t *pool)
{
    return apr_psprintf(pool, "at most %s in any %s", say->burst,
                        plan_span(say->limit->period, pool));
}

static const char *plan_say_quota(const words_t *say, apr_pool_t *pool)
{
    const rlp_calendar_t *calendar = say->limit->calendar;

    if (say->limit->burst == 0) {
        return "blocked";
    }
    if (calendar == NULL) {
        return apr_psprintf(pool, "at most %s ever%s", say->burst, say->first);
    }
    return apr_psprintf(pool, "at most %s a %s (%s)", say->burst, calendar_unit(say->limit->period),
                        strcmp(calendar->zone, "local") == 0 ? "local time" : calendar->zone);
}

static const char *plan_say_places(const words_t *say, apr_pool_t *pool)
{
    return apr_psprintf(pool, "at most %s at the same time", say->burst);
}

/* One that the library does not know: its numbers, and who makes what of them. */
static const char *plan_say_other(const words_t *say, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%s each %s%s, burst %s, as %s counts",
                        plan_number(say->limit->count, pool), plan_each(say->limit, "period", pool),
                        say->first, say->burst, say->limit->algorithm->name);
}

static const struct {
    const char *algorithm;
    const char *(*say)(const words_t *say, apr_pool_t *pool);
} plan_algorithms[] = {
    { "token-bucket", plan_say_bucket },
    { "stepped-bucket", plan_say_steps },
    { "leaky-bucket", plan_say_queue },
    { "fixed-window", plan_say_window },
    { "sliding-window", plan_say_estimate },
    { "sliding-log", plan_say_log },
    { "quota", plan_say_quota },
    { "concurrency", plan_say_places },
};

const char *limit_describe(const rlp_limit_t *limit, apr_pool_t *pool)
{
    words_t say = { .limit = limit, .burst = plan_units(limit->burst, pool), .first = "" };

    if (limit->initial < limit->burst) {
        say.first = apr_psprintf(pool, " (%s at first)", plan_units(limit->initial, pool));
    }
    for (size_t i = 0; i < sizeof(plan_algorithms) / sizeof(plan_algorithms[0]); i++) {
        if (strcmp(plan_algorithms[i].algorithm, limit->algorithm->name) == 0) {
            return plan_algorithms[i].say(&say, pool);
        }
    }
    return plan_say_other(&say, pool);
}

const char *rlp_plan_describe(const rlp_plan_t *plan, apr_pool_t *pool)
{
    const char *text = "";

    for (int i = 0; i < plan->n; i++) {
        text = apr_pstrcat(pool, text, i ? "; " : "", limit_describe(&plan->limits[i], pool), NULL);
    }
    if (plan->then != NULL) {
        text = apr_pstrcat(pool, text, "; beyond the quota as ", plan->then, NULL);
    }
    if (plan->bandwidth > 0) {
        text = apr_psprintf(pool, "%s; %s KiB per second for each response", text,
                            plan_number(plan->bandwidth / 1024, pool));
    }
    return text;
}
