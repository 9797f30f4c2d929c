/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "script_walk.h"

#include "redis/script.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <string.h>

#define NOW_MAX INT64_C(2000000000000000)

const kind_t walk_kinds[KINDS] = {
    { "token-bucket", "", true, true, false },
    { "stepped-bucket", " algorithm=stepped-bucket", true, true, true },
    { "leaky-bucket", " algorithm=leaky-bucket", true, false, false },
    { "fixed-window", " algorithm=fixed-window", false, false, true },
    { "sliding-window", " algorithm=sliding-window", false, false, true },
    { "sliding-log", " algorithm=sliding-log", false, false, false },
    { "quota", NULL, false, true, false },
    { "concurrency", NULL, false, false, false },
};

static const char *random_option(walk_t *walk, const char *name, unsigned digits)
{
    const rlp_units_t units = unit_size(&walk->random, digits);

    return apr_psprintf(walk->pool, " %s=%" PRId64 ".%03d", name, units / RLP_UNIT,
                        (int)(units % RLP_UNIT));
}

static const char *random_quota(walk_t *walk)
{
    static const char *const periods[] = { "/day", "/week", "/month", "/year" };
    const char *zone = unit_below(&walk->random, 8) ? "" : "@Europe/Berlin";
    const int64_t count = unit_below(&walk->random, 16) == 0 ? 0 : unit_size(&walk->random, 4);

    if (unit_below(&walk->random, 4) == 0) {
        return apr_psprintf(walk->pool, "quota=%" PRId64 "%s", count,
                            unit_below(&walk->random, 2) ? random_option(walk, "initial", 3) : "");
    }
    return apr_psprintf(walk->pool, "quota=%" PRId64 "%s%s", count,
                        periods[unit_below(&walk->random, 4)], zone);
}

static const char *random_words(walk_t *walk, int kind, int64_t period)
{
    const kind_t *k = &walk_kinds[kind];
    const unsigned digits = kind == KIND_LOG ? 2 : unit_below(&walk->random, 2) == 0 ? 12 : 2;

    if (kind == KIND_QUOTA) {
        return random_quota(walk);
    }
    if (kind == KIND_CONCURRENCY) {
        return apr_psprintf(walk->pool, "concurrent=%" PRId64 " lease=520weeks",
                            unit_size(&walk->random, 1));
    }
    const char *burst = k->has_burst && unit_below(&walk->random, 2)
                            ? random_option(walk, "burst", unit_below(&walk->random, 2) ? 5 : 15)
                            : "";
    const char *initial = k->has_initial && unit_below(&walk->random, 8) == 0
                              ? random_option(walk, "initial", *burst ? 4 : 3)
                              : "";

    return apr_psprintf(walk->pool, "rate=%" PRId64 "/%" PRId64 "ms%s%s%s%s",
                        unit_size(&walk->random, digits), period, k->words, burst, initial,
                        k->has_start && unit_below(&walk->random, 2) ? " start=2020-02-29" : "");
}

/* A limit of that kind; false if the words are refused. */
static bool walk_parse(walk_t *walk, int i, const char *words)
{
    char *rest = NULL;
    const char *list[8];
    int n = 0;
    rlp_plan_t *plan;

    for (char *word = apr_strtok(apr_pstrdup(walk->pool, words), " ", &rest); word != NULL;
         word = apr_strtok(NULL, " ", &rest)) {
        list[n++] = word;
    }
    const rlp_plan_source_t source = {
        .name = "test", .words = list, .n = n, .wall = NOW, .since = NOW
    };

    if (rlp_plan_parse(&plan, &source, walk->pool) != NULL ||
        script_limit_error(&plan->limits[0], 0, walk->pool) != NULL) {
        return false;
    }
    walk->limits[i] = plan->limits[0];
    walk->words[i] = words;
    return true;
}

void walk_add(walk_t *walk, int kind)
{
    const int i = walk->n++;
    int64_t period;

    do {
        period = unit_size(&walk->random, unit_below(&walk->random, 2) ? 5 : 11);
    } while (!walk_parse(walk, i, random_words(walk, kind, period)));
    walk->limits[i].ordinal = (unsigned)i;
    walk->signatures[i] = rlp_signature("rule", NULL, &walk->limits[i]);
    walk->branches[i] = RLP_ALWAYS;
    walk->former_words = NULL;
}

/* A limit not far from another one. */
static const char *near_words(walk_t *walk, int kind, const rlp_limit_t *limit)
{
    const kind_t *k = &walk_kinds[kind];
    const int64_t count = limit->count / (int64_t)(1 + unit_below(&walk->random, 9));
    const int64_t burst = limit->burst / (int64_t)(1 + unit_below(&walk->random, 9)) + 1;
    const char *rate = apr_psprintf(walk->pool, "rate=%" PRId64 "/%" PRId64 "ms%s", count + 1,
                                    limit->period / 1000, k->words);

    return k->has_burst ? apr_psprintf(walk->pool, "%s burst=%" PRId64 ".%03d", rate,
                                       burst / RLP_UNIT, (int)(burst % RLP_UNIT))
                        : rate;
}

void walk_change(walk_t *walk, int kind)
{
    const rlp_limit_t was = walk->limits[0];
    const char *words = walk->words[0];

    if (walk->former_words != NULL && unit_below(&walk->random, 4)) {
        walk->limits[0] = walk->former;
        walk->words[0] = walk->former_words;
        walk->former = was;
        walk->former_words = words;
        return;
    }
    if (kind >= KIND_QUOTA) {
        walk->limits[0].count = unit_size(&walk->random, 2);
        walk->limits[0].burst = walk->limits[0].count * RLP_UNIT;
        walk->limits[0].initial = was.calendar || kind == KIND_CONCURRENCY
                                      ? walk->limits[0].burst
                                      : walk->limits[0].burst / 2;
        return;
    }
    if (!walk_parse(walk, 0,
                    unit_below(&walk->random, 2) ? near_words(walk, kind, &was)
                                                 : random_words(walk, kind, was.period / 1000)) ||
        rlp_signature("rule", NULL, &walk->limits[0]) != walk->signatures[0] ||
        script_limit_error(&walk->limits[0], walk->longest, walk->pool) != NULL) {
        walk->limits[0] = was;
        walk->words[0] = words;
        return;
    }
    walk->former = was;
    walk->former_words = words;
}

rlp_time_t random_longest(walk_t *walk)
{
    rlp_time_t longest = (rlp_time_t)(1 + unit_below(&walk->random, 4)) * walk->limits[0].drain;

    if (unit_below(&walk->random, 2) || walk->limits[0].period == 0) {
        return 0;
    }
    for (int i = 0; i < walk->n; i++) {
        while (script_limit_error(&walk->limits[i], longest, walk->pool) != NULL) {
            longest /= 16;
        }
    }
    return longest;
}

rlp_units_t random_units(walk_t *walk, const rlp_limit_t *limit)
{
    const rlp_units_t burst = limit->burst;

    switch (unit_below(&walk->random, 16)) {
    case 0:
        return 0;
    case 1:
        return burst;
    case 2:
        return burst + 1;
    case 3:
        return -(rlp_units_t)unit_below(&walk->random, 5000) - 1;
    case 4:
    case 5:
    case 6:
        return (rlp_units_t)unit_below(&walk->random, (uint64_t)burst + 1);
    case 7:
        return (rlp_units_t)unit_below(&walk->random, 3000);
    case 8:
        return RLP_UNITS_MAX;
    default:
        return RLP_UNIT;
    }
}

static rlp_time_t random_gap(walk_t *walk)
{
    const rlp_limit_t *limit = &walk->limits[0];
    const rlp_decision_t *d = &walk->last;

    switch (unit_below(&walk->random, 16)) {
    case 0:
        return 1;
    case 1:
        return (rlp_time_t)unit_below(&walk->random, 2 * (uint64_t)limit->drain + 1);
    case 2:
    case 3:
        return d->retry;
    case 4:
        return d->retry > 0 ? d->retry - 1 : 0;
    case 5:
        return d->reset == RLP_TIME_NEVER ? 0 : d->reset;
    case 6:
        return d->next == RLP_TIME_NEVER || d->next == 0 ? 0 : d->next - 1;
    case 7:
        return limit->count > 0
                   ? (rlp_time_t)unit_below(&walk->random,
                                            (uint64_t)(limit->period / limit->count) + 2)
                   : 0;
    case 8:
        return d->wait;
    case 9:
        return (rlp_time_t)unit_below(&walk->random, (uint64_t)limit->period + 1);
    case 10:
        return walk->n > 1 || unit_below(&walk->random, 4) ? 0 : -unit_size(&walk->random, 14);
    default:
        return 0;
    }
}

void walk_move(walk_t *walk)
{
    rlp_time_t gap = random_gap(walk);

    for (int i = 0; i < walk->n; i++) {
        walk->kept |=
            walk->limits[i].initial < walk->limits[i].burst || walk->limits[i].algorithm->holds;
    }
    /* a key that starts with less than it holds is kept for 30 days after it is full, a place for
       520 weeks: C keeps both for good */
    gap = walk->kept ? gap % DAY : gap;
    if (unit_below(&walk->random, 8) == 0) {
        /* another server's clock, which is behind */
        walk->now -= (rlp_time_t)unit_below(&walk->random, (uint64_t)walk->limits[0].period + 1);
    } else if (walk->now + gap < NOW_MAX) {
        walk->now += gap;
    }
}
