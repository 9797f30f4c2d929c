/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Calendars against glibc's own arithmetic, at random instants and on the days that are odd.
 */

#include "calendar_zones.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INSTANTS ((size_t)STEPS / 5)
#define NO_TIME INT64_MIN

static const char *const zones[] = {
    "UTC",
    "local",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Lisbon",
    "America/New_York",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Santiago",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Asia/Tehran",
    "Asia/Gaza",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
};

static void zone_set(const char *zone)
{
    if (strcmp(zone, "local") == 0) {
        unsetenv("TZ");
    } else {
        setenv("TZ", zone, 1);
    }
    tzset();
}

/* --- against glibc */

/* The local date on which the period of an instant begins. */
static struct tm date_begin(time_t at, int unit)
{
    struct tm tm;

    localtime_r(&at, &tm);
    struct tm begin = { .tm_year = tm.tm_year, .tm_mon = tm.tm_mon, .tm_mday = tm.tm_mday };

    if (unit == 1) {
        begin.tm_mday -= (tm.tm_wday + 6) % 7;
    } else if (unit == 2) {
        begin.tm_mday = 1;
    } else if (unit == 3) {
        begin.tm_mon = 0;
        begin.tm_mday = 1;
    }
    (void)timegm(&begin);
    return begin;
}

static bool same_date(const struct tm *a, const struct tm *b)
{
    return a->tm_year == b->tm_year && a->tm_mon == b->tm_mon && a->tm_mday == b->tm_mday;
}

/* The first of the instants that have this local midnight; NO_TIME if it does not exist. */
static time_t midnight(const struct tm *date)
{
    static const time_t earlier[] = { HOUR, HOUR / 2, 0 }; /* by so much clocks go back */
    struct tm tm = {
        .tm_year = date->tm_year, .tm_mon = date->tm_mon, .tm_mday = date->tm_mday, .tm_isdst = -1
    };
    const time_t at = mktime(&tm);

    for (size_t i = 0; i < UNIT_N(earlier); i++) {
        const time_t first = at - earlier[i];

        localtime_r(&first, &tm);
        if (same_date(&tm, date) && tm.tm_hour == 0 && tm.tm_min == 0 && tm.tm_sec == 0) {
            return first;
        }
    }
    return NO_TIME;
}

static void check_instant(const char *zone, int unit, const rlp_calendar_t *calendar, time_t at)
{
    const int i = period_of(calendar, at * RLP_SECOND);
    const time_t begin = (time_t)(calendar->edges[i] / RLP_SECOND);
    const struct tm date = date_begin(at, unit);
    const struct tm first = date_begin(begin, unit);
    const struct tm before = date_begin(begin - 1, unit);
    const time_t by_mktime = midnight(&date);
    struct tm there;

    localtime_r(&begin, &there);
    if (i + 1 >= calendar->n || calendar->edges[i] % RLP_SECOND != 0 || begin > at ||
        at * RLP_SECOND >= calendar->edges[i + 1] || !same_date(&date, &first) ||
        same_date(&date, &before) || (by_mktime != NO_TIME && by_mktime != begin) ||
        (by_mktime == NO_TIME && there.tm_hour == 0 && there.tm_min == 0)) {
        fail_msg("the %s of %ld in %s begins at %ld, got %ld (RLP_SEED=%" PRIu64 ")",
                 calendar_units[unit], (long)at, zone, (long)by_mktime, (long)begin, unit_seed());
    }
}

static void test_glibc(void **state)
{
    const char *zone = unit_row(state);
    const rlp_calendar_t *calendars[UNIT_N(calendar_units)];
    uint64_t random = unit_seed();
    const rlp_time_t end = (rlp_time_t)time(NULL) + INT64_C(20) * 365 * DAY;

    if (!zones_there()) {
        return;
    }
    for (size_t i = 0; i < UNIT_N(calendar_units); i++) {
        calendars[i] = limit_of("1", calendar_units[i], zone)->calendar;
        assert_string_equal(calendars[i]->zone, zone);
        assert_true(calendars[i]->edges[0] <= 0);
        assert_true(calendars[i]->edges[calendars[i]->n - 1] > end * RLP_SECOND);
        for (int k = 1; k < calendars[i]->n; k++) {
            assert_true(calendars[i]->edges[k - 1] < calendars[i]->edges[k]);
        }
    }
    zone_set(zone);
    for (size_t n = 0; n < INSTANTS / UNIT_N(zones); n++) {
        const int unit = (int)unit_below(&random, UNIT_N(calendar_units));

        check_instant(zone, unit, calendars[unit], (time_t)unit_below(&random, (uint64_t)end));
    }
    zone_set("local");
}

/* --- days that are odd */

static const struct {
    const char *zone;
    const char *unit;
    rlp_time_t begin; /* seconds since the epoch */
    int64_t hours;
    const char *why;
} spans[] = {
    { "Europe/Berlin", "day", 1711839600, 23, "2024-03-31, summer time begins" },
    { "Europe/Berlin", "day", 1711922400, 24, "2024-04-01" },
    { "Europe/Berlin", "day", 1729980000, 25, "2024-10-27, and ends" },
    { "Europe/Berlin", "week", 1711321200, 167, "the week of 2024-03-25" },
    { "Europe/Berlin", "month", 1709247600, 743, "March 2024" },
    { "Europe/Berlin", "year", 1704063600, 8784, "2024" },
    { "UTC", "month", 1706745600, 696, "February 2024, a leap year" },
    { "UTC", "month", 1675209600, 672, "February 2023, none" },
    { "UTC", "month", 949363200, 696, "February 2000, a leap year" },
    { "UTC", "month", 1743465600, 720, "April 2025" },
    { "UTC", "year", 1672531200, 8760, "2023" },
    { "UTC", "week", 1704067200, 168, "the week of Monday 2024-01-01" },
    { "Australia/Lord_Howe", "day", 1712408400, 24, "2024-04-07, half an hour more: not whole" },
    { "Pacific/Apia", "day", 1325152800 - 86400, 24, "2011-12-29; the 30th does not exist" },
    { "Pacific/Apia", "day", 1325239200, 24, "2011-12-31" },
    { "Pacific/Apia", "month", 1322733600, 720, "December 2011 has 30 days" },
    { "America/Sao_Paulo", "day", 1541300400, 23, "2018-11-04 begins at 01:00" },
    { "America/Sao_Paulo", "day", 1518832800, 25, "2018-02-17 has 23:00 to 24:00 twice" },
    { "Asia/Beirut", "day", 1648332000, 23, "2022-03-27 begins at 01:00" },
    { "America/St_Johns", "day", 1162002600, 24, "2006-10-28" },
    { "America/St_Johns", "day", 1162089000, 25, "2006-10-29: 00:01 goes back to 23:01" },
};

static void test_spans(void **state)
{
    (void)state;
    if (!zones_there()) {
        return;
    }
    for (size_t k = 0; k < UNIT_N(spans); k++) {
        const rlp_calendar_t *calendar = limit_of("1", spans[k].unit, spans[k].zone)->calendar;
        const int i = period_of(calendar, spans[k].begin * RLP_SECOND);
        const int64_t begin = calendar->edges[i] / RLP_SECOND;
        const int64_t hours = (calendar->edges[i + 1] / RLP_SECOND - begin) / HOUR;

        if (begin != spans[k].begin || hours != spans[k].hours) {
            fail_msg("%s, %s: begins at %" PRId64 " and has %" PRId64 " hours", spans[k].zone,
                     spans[k].why, begin, hours);
        }
    }
}

/* Equal tables are one; TZ is as it was; a table reaches from since to 20 years after wall. */
static void test_sharing(void **state)
{
    const rlp_limit_t *a = limit_of("1", "day", "Europe/Berlin");
    static const char *const words[] = { "quota=1/day" };
    const rlp_plan_source_t source = {
        .name = "late", .words = words, .n = 1, .wall = NOW, .since = NOW - 100 * RLP_SECOND
    };
    apr_pool_t *pool;
    rlp_plan_t *plan;

    (void)state;
    if (!zones_there()) {
        return;
    }
    assert_ptr_equal(a->calendar, limit_of("2", "days", "Europe/Berlin")->calendar);
    assert_ptr_not_equal(a->calendar, limit_of("1", "week", "Europe/Berlin")->calendar);
    assert_ptr_not_equal(a->calendar, limit_of("1", "day", "Europe/Paris")->calendar);
    setenv("TZ", "Asia/Kolkata", 1);
    (void)limit_of("1", "day", "Europe/Rome");
    assert_string_equal(getenv("TZ"), "Asia/Kolkata");
    unsetenv("TZ");
    (void)limit_of("1", "day", "Europe/Madrid");
    assert_null(getenv("TZ"));
    tzset();
    apr_pool_create(&pool, unit_pool());
    assert_null(rlp_plan_parse(&plan, &source, pool));
    const rlp_calendar_t *calendar = plan->limits[0].calendar;

    assert_true(calendar->edges[0] <= source.since && calendar->edges[1] > source.since);
    assert_true(calendar->edges[calendar->n - 1] > NOW + INT64_C(20) * 365 * DAY * RLP_SECOND);
    assert_true(calendar->n < 22 * 366);
}

static void test_unknown(void **state)
{
    static const char *const names[] = { "",
                                         "Europe/Berln",
                                         "europe/berlin",
                                         "Europe",
                                         "/etc/passwd",
                                         "/usr/share/zoneinfo/UTC",
                                         "../zoneinfo/Europe/Berlin",
                                         "Europe//Berlin",
                                         "Europe/Berlin/",
                                         "zone.tab",
                                         "leapseconds",
                                         ":UTC",
                                         "CET-1CEST",
                                         "Europe/Berlin@UTC" };
    const rlp_plan_t *plan;

    (void)state;
    if (!zones_there()) {
        return;
    }
    for (size_t i = 0; i < UNIT_N(names); i++) {
        const char *words = apr_pstrcat(unit_pool(), "quota=1/day@", names[i], NULL);
        const char *expected =
            apr_psprintf(unit_pool(),
                         "expected @UTC, @local or a time zone of /usr/share/zoneinfo such as "
                         "@Europe/Berlin, got \"@%s\" in \"%s\"",
                         names[i], words);
        const char *error = unit_parse(&plan, words, NULL);

        assert_non_null(error);
        assert_string_equal(error, expected);
    }
    setenv("TZDIR", "/nowhere", 1);
    const char *error = unit_parse(&plan, "quota=1/day@Europe/Vienna", NULL);

    unsetenv("TZDIR");
    assert_string_equal(error, "expected @UTC, or the system's time zones in /nowhere (Debian's "
                               "package is tzdata), got \"@Europe/Vienna\" in "
                               "\"quota=1/day@Europe/Vienna\"");
}

int main(void)
{
    unsetenv("TZ");
    unsetenv("TZDIR");
    for (size_t i = 0; i < UNIT_N(zones); i++) {
        unit_add_case("Q-07", apr_pstrcat(unit_pool(), "as glibc says, ", zones[i], NULL),
                      test_glibc, zones[i]);
    }
    unit_add("Q-07: days that are odd", test_spans, NULL);
    unit_add("one table for all plans, from since on, and TZ as it was", test_sharing, NULL);
    unit_add("V-13: zones that are none", test_unknown, NULL);
    return unit_run();
}
