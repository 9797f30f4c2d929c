/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Plans: named sets of limits, their signatures, and what they say in words.
 */

#include "limit.h"

#include "algorithm/algorithms.h"

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

/* Adds the limits of another plan that the plan has none of its own for. */
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
    return plan->n ? NULL : "expected a limit, such as rate=10/min, got none";
}

const char *rlp_plan_parse(rlp_plan_t **plan, const rlp_plan_source_t *source, apr_pool_t *pool)
{
    rlp_plan_t *made = apr_pcalloc(pool, sizeof(*made));
    const char *error =
        limit_parse_words(made->limits, &made->n, source->words, source->n, source->wall, pool);

    if (error == NULL) {
        error = plan_inherit(made, source->base, pool);
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
    const int len = apr_snprintf(text, sizeof(text),
                                 "%s%c%s%c%s%c%" APR_INT64_T_FMT "%c%" APR_INT64_T_FMT "%c%u",
                                 scope, 1, plan ? plan : "", 1, limit->algorithm->name, 1,
                                 limit->period, 1, limit->start, 1, limit->ordinal);

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

/* "at most 100 in each minute", "in any minute" where windows slide */
static const char *plan_windows(const rlp_limit_t *limit, const char *burst, apr_pool_t *pool)
{
    const char *span = plan_span(limit->period, pool);

    const bool slides = strncmp(limit->algorithm->name, "sliding-", 8) == 0;

    return apr_psprintf(pool, "at most %s in %s %s%s", burst, slides ? "any" : "each",
                        strchr(span, ' ') ? "window of " : "", span);
}

/* "10 more at the end of each minute" */
static const char *plan_steps(const rlp_limit_t *limit, apr_pool_t *pool)
{
    const char *span = plan_span(limit->period, pool);

    return apr_psprintf(pool, "%s more at the end of each %s%s", plan_number(limit->count, pool),
                        strchr(span, ' ') ? "period of " : "", span);
}

const char *limit_describe(const rlp_limit_t *limit, apr_pool_t *pool)
{
    const char *burst = plan_units(limit->burst, pool);
    const char *initial =
        limit->initial == limit->burst
            ? ""
            : apr_psprintf(pool, " (%s at first)", plan_units(limit->initial, pool));

    if (limit->burst == 0) {
        return "blocked";
    }
    if (limit->period == 0) {
        return apr_psprintf(pool, "at most %s ever%s", burst, initial);
    }
    if (limit->algorithm->windowed || limit->algorithm == &rlp_sliding_log) {
        return plan_windows(limit, burst, pool);
    }
    const bool stepped = strcmp(limit->algorithm->name, "stepped-bucket") == 0;

    return apr_psprintf(pool, "%s at once%s, then %s", burst, initial,
                        stepped ? plan_steps(limit, pool) : plan_rate(limit, pool));
}

const char *rlp_plan_describe(const rlp_plan_t *plan, apr_pool_t *pool)
{
    const char *text = "";

    for (int i = 0; i < plan->n; i++) {
        text = apr_pstrcat(pool, text, i ? "; " : "", limit_describe(&plan->limits[i], pool), NULL);
    }
    return text;
}
