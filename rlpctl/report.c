/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Figures and words that all kinds of reports have.
 */

#include "report.h"

#include <apr_strings.h>
#include <apr_time.h>

#include <stdlib.h>
#include <string.h>

const struct report_level_t report_levels[REPORT_LEVELS] = {
    { 500, "50" }, { 900, "90" }, { 950, "95" }, { 990, "99" }, { 999, "99.9" }, { 1000, "100" },
};

/* --- figures */

static int report_compare(const void *a, const void *b)
{
    const double one = *(const double *)a;
    const double two = *(const double *)b;

    return (one > two) - (one < two);
}

/* How many of n a level is, rounded up. */
static uint64_t report_rank(uint64_t n, int level)
{
    return (n * (uint64_t)report_levels[level].thousandths + 999) / 1000;
}

/* A figure of each identity under a plan in a run. */
typedef double report_figure_fn(const replay_t *replay, identity_t *identity, int plan, int run);

static double report_figure_requests(const replay_t *replay, identity_t *identity, int plan,
                                     int run)
{
    (void)replay;
    (void)plan;
    (void)run;
    return (double)identity->requests;
}

static double report_figure_units(const replay_t *replay, identity_t *identity, int plan, int run)
{
    (void)replay;
    (void)plan;
    (void)run;
    return (double)identity->units;
}

static double report_figure_share(const replay_t *replay, identity_t *identity, int plan, int run)
{
    return identity->requests ? (double)replay_use(replay, identity, plan, run)->refused /
                                    (double)identity->requests
                              : 0;
}

/* The figure at each level. */
static void report_quantiles(const replay_t *replay, report_figure_fn *figure, int plan, int run,
                             double found[REPORT_LEVELS])
{
    const uint32_t n = population_count(replay->population);
    double *all = malloc(((size_t)n + 1) * sizeof(*all));

    for (int i = 0; i < REPORT_LEVELS; i++) {
        found[i] = 0;
    }
    for (uint32_t i = 0; all != NULL && i < n; i++) {
        all[i] = figure(replay, population_at(replay->population, i), plan, run);
    }
    if (all != NULL && n > 0) {
        qsort(all, n, sizeof(*all), report_compare);
        for (int i = 0; i < REPORT_LEVELS; i++) {
            found[i] = all[report_rank(n, i) - 1];
        }
    }
    free(all);
}

void report_requests(const replay_t *replay, uint64_t requests[REPORT_LEVELS])
{
    double found[REPORT_LEVELS];

    report_quantiles(replay, report_figure_requests, 0, 0, found);
    for (int i = 0; i < REPORT_LEVELS; i++) {
        requests[i] = (uint64_t)found[i];
    }
}

void report_units(const replay_t *replay, uint64_t units[REPORT_LEVELS])
{
    double found[REPORT_LEVELS];

    report_quantiles(replay, report_figure_units, 0, 0, found);
    for (int i = 0; i < REPORT_LEVELS; i++) {
        units[i] = (uint64_t)found[i];
    }
}

bool report_costs(const replay_t *replay)
{
    return replay->priced || replay->cost != RLP_UNIT;
}

void report_shares(const replay_t *replay, int plan, int run, double shares[REPORT_LEVELS])
{
    report_quantiles(replay, report_figure_share, plan, run < replay->runs ? run : 0, shares);
}

int report_fit(const replay_t *replay, int run, int level)
{
    const uint64_t n = population_count(replay->population);

    for (int i = 0; i < replay->plans; i++) {
        const uint64_t refused = replay->plan[i].sums[run < replay->runs ? run : 0].identities;

        if (n - refused >= report_rank(n, level)) {
            return i;
        }
    }
    return -1;
}

const char *report_plan(const replay_t *replay, int plan)
{
    return plan < 0 ? "none" : replay->plan[plan].plan->name;
}

int report_top(const replay_t *replay, int plan, uint32_t numbers[REPORT_TOP])
{
    const int run = replay->runs - 1;
    int n = 0;

    for (uint32_t i = 0; i < population_count(replay->population); i++) {
        const uint32_t refused =
            replay_use(replay, population_at(replay->population, i), plan, run)->refused;
        int at = n;

        while (at > 0 &&
               refused >
                   replay_use(replay, population_at(replay->population, numbers[at - 1]), plan, run)
                       ->refused) {
            at--;
        }
        if (refused == 0 || at == REPORT_TOP) {
            continue;
        }
        n += n < REPORT_TOP;
        memmove(numbers + at + 1, numbers + at, (size_t)(n - at - 1) * sizeof(*numbers));
        numbers[at] = i;
    }
    return n;
}

/* Are there more refusals, or as many and more delays? */
static bool report_worse(const replay_sum_t *sum, const replay_sum_t *than)
{
    return sum->refused > than->refused ||
           (sum->refused == than->refused && sum->delayed > than->delayed);
}

const replay_hour_t *report_worst(const replay_t *replay, int plan)
{
    static const replay_sum_t none;
    const replay_sum_t *most = &none;
    const replay_hour_t *worst = NULL;

    for (int i = 0; i < replay->hours; i++) {
        const replay_sum_t *sum = &replay->hour[i].sums[plan][replay->runs - 1];

        if (report_worse(sum, most)) {
            most = sum;
            worst = &replay->hour[i];
        }
    }
    return worst;
}

/* The two runs' figures in order: of the delayed, the run with the most refusals may have fewer. */
static report_range_t report_between(uint64_t a, uint64_t b)
{
    return (report_range_t){ a < b ? a : b, a < b ? b : a };
}

report_range_t report_refused(const replay_t *replay, const replay_sum_t sums[REPLAY_RUNS])
{
    return report_between(sums[0].refused, sums[replay->runs - 1].refused);
}

report_range_t report_delayed(const replay_t *replay, const replay_sum_t sums[REPLAY_RUNS])
{
    return report_between(sums[0].delayed, sums[replay->runs - 1].delayed);
}

report_range_t report_identities(const replay_t *replay, const replay_sum_t sums[REPLAY_RUNS])
{
    return report_between(sums[0].identities, sums[replay->runs - 1].identities);
}

report_range_t report_slowed(const replay_t *replay, const replay_sum_t sums[REPLAY_RUNS])
{
    return report_between(sums[0].slowed, sums[replay->runs - 1].slowed);
}

report_range_t report_use_refused(const replay_t *replay, uint32_t number, int plan)
{
    identity_t *identity = population_at(replay->population, number);

    return report_between(replay_use(replay, identity, plan, 0)->refused,
                          replay_use(replay, identity, plan, replay->runs - 1)->refused);
}

report_range_t report_use_delayed(const replay_t *replay, uint32_t number, int plan)
{
    identity_t *identity = population_at(replay->population, number);

    return report_between(replay_use(replay, identity, plan, 0)->delayed,
                          replay_use(replay, identity, plan, replay->runs - 1)->delayed);
}

/* --- words */

const char *report_number(uint64_t number, apr_pool_t *pool)
{
    const char *plain = apr_psprintf(pool, "%" APR_UINT64_T_FMT, (apr_uint64_t)number);
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

const char *report_count(uint64_t n, const char *one, const char *many, apr_pool_t *pool)
{
    return apr_pstrcat(pool, report_number(n, pool), " ", n == 1 ? one : many, NULL);
}

const char *report_decimal(uint64_t thousandths, apr_pool_t *pool)
{
    const char *whole = report_number(thousandths / RLP_UNIT, pool);
    char *fraction = apr_psprintf(pool, ".%03d", (int)(thousandths % RLP_UNIT));
    size_t len = strlen(fraction);

    while (len > 0 && strchr("0.", fraction[len - 1]) != NULL) {
        fraction[--len] = '\0';
    }
    return apr_pstrcat(pool, whole, fraction, NULL);
}

const char *report_range(report_range_t range, apr_pool_t *pool)
{
    const char *fewest = report_number(range.fewest, pool);

    return range.fewest == range.most
               ? fewest
               : apr_pstrcat(pool, fewest, " to ", report_number(range.most, pool), NULL);
}

const char *report_percent(double part, double whole, apr_pool_t *pool)
{
    const double percent = whole > 0 ? part * 100 / whole : 0;

    return percent > 0 && percent < 0.1 ? apr_psprintf(pool, "%.3f %%", percent)
                                        : apr_psprintf(pool, "%.1f %%", percent);
}

const char *report_time(rlp_time_t at, int len, apr_pool_t *pool)
{
    apr_time_exp_t t;

    if (apr_time_exp_gmt(&t, at) != APR_SUCCESS) {
        return "?";
    }
    const char *text = apr_psprintf(pool, "%04d-%02d-%02d %02d:%02d:%02d", t.tm_year + 1900,
                                    t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);

    return apr_pstrndup(pool, text, (apr_size_t)len);
}

/* The character that begins here and its length; 0 if it is none that may be shown. */
static size_t report_character(const unsigned char *text)
{
    static const struct {
        unsigned char mask;
        unsigned char lead;
        uint32_t least;
    } forms[] = {
        { 0x80, 0x00, 0x20 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 }
    };
    size_t len = 0;

    while (len < 4 && (text[0] & forms[len].mask) != forms[len].lead) {
        len++;
    }
    if (len == 4) {
        return 0;
    }
    uint32_t c = text[0] & (uint32_t)(0xff & ~forms[len].mask);

    for (size_t i = 1; i <= len; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (text[i] & 0x3f);
    }
    const bool hidden = (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e ||
                        (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
                        (c >= 0x2060 && c <= 0x206f) || (c >= 0xd800 && c <= 0xdfff) ||
                        c == 0xfeff || (c >= 0xfff0 && c <= 0xffff) || c >= 0xe0000;

    return c < forms[len].least || hidden ? 0 : len + 1;
}

const char *report_plain(const char *text, apr_pool_t *pool)
{
    char *plain = apr_palloc(pool, strlen(text) * 4 + 1);
    char *to = plain;

    while (*text) {
        const size_t len = report_character((const unsigned char *)text);

        if (len == 0) {
            to += snprintf(to, 5, "\\x%02x", (unsigned char)*text++);
        } else {
            memcpy(to, text, len);
            to += len;
            text += len;
        }
    }
    *to = '\0';
    return plain;
}

const char *report_identity(const simulate_t *simulate, uint32_t number, apr_pool_t *pool)
{
    const identity_t *identity = population_at(simulate->replay.population, number);

    return report_plain(log_key_show(simulate->key, identity->name, identity->len, pool), pool);
}
