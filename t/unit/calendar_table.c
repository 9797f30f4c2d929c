/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Tables of calendars: how far they reach, who shares them, and which names of zones are taken.
 */

#include "unit.h"

#include "calendar.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOW (INT64_C(1700000000) * RLP_SECOND) /* 2023-11-14, a Tuesday, 22:13:20 */
#define DAY (INT64_C(86400) * RLP_SECOND)

static apr_pool_t *new_pool(void)
{
    apr_pool_t *pool = NULL;

    assert_int_equal(apr_pool_create(&pool, unit_pool()), APR_SUCCESS);
    return pool;
}

/* The table of a text, from since on; the test fails if it is refused. */
static const rlp_calendar_t *table_of(const char *text, rlp_time_t since, rlp_time_t wall,
                                      apr_pool_t *pool)
{
    const rlp_plan_source_t source = { .since = since, .wall = wall };
    const rlp_calendar_t *calendar = NULL;
    rlp_time_t usual = 0;

    assert_null(calendar_parse(&calendar, &usual, text, &source, pool));
    return calendar;
}

/* --- what a table holds */

static const struct edges {
    const char *text;
    rlp_time_t since;
    rlp_time_t first; /* the latest edge that is not after since, in seconds */
    rlp_time_t second;
    rlp_time_t usual; /* days */
} tables[] = {
    { "day", NOW, 1699920000, 1700006400, 1 },
    { "Days@utc", INT64_C(1699920000) * RLP_SECOND, 1699920000, 1700006400, 1 },
    { "day", INT64_C(1699920000) * RLP_SECOND - 1, 1699833600, 1699920000, 1 },
    { "week", NOW, 1699833600, 1700438400, 7 }, /* Monday */
    { "WEEKS", INT64_C(1699833600) * RLP_SECOND, 1699833600, 1700438400, 7 },
    { "week", INT64_C(1699833600) * RLP_SECOND - 1, 1699228800, 1699833600, 7 },
    { "month", NOW, 1698796800, 1701388800, 30 },
    { "months", INT64_C(951782400) * RLP_SECOND, 949363200, 951868800, 30 }, /* 2000-02-29 */
    { "year", NOW, 1672531200, 1704067200, 365 },
    { "year", INT64_C(1672531200) * RLP_SECOND - 1, 1640995200, 1672531200, 365 },
    { "day", 1, 0, 86400, 1 },
    { "day", 0, 0, 86400, 1 },
    { "day", -DAY, 0, 86400, 1 }, /* before the epoch nothing was counted */
    { "week", 1, -259200, 345600, 7 },
    { "year", 1, 0, 31536000, 365 },
    { "month", 1, 0, 2678400, 30 },
    { "day", NOW + 99 * DAY, 1699920000, 1700006400, 1 }, /* a since that is to come is none */
};

static void test_edges(void **state)
{
    const struct edges *row = unit_row(state);
    const rlp_plan_source_t source = { .since = row->since, .wall = NOW };
    const rlp_calendar_t *calendar = NULL;
    rlp_time_t usual = 0;

    assert_null(calendar_parse(&calendar, &usual, row->text, &source, new_pool()));
    assert_int_equal(usual, row->usual * DAY);
    assert_string_equal(calendar->zone, "UTC");
    assert_int_equal(calendar->edges[0],
                     row->since < 0 ? calendar->edges[0] : row->first * RLP_SECOND);
    const rlp_time_t last = calendar->edges[calendar->n - 1];

    assert_int_equal(calendar->mean, (last - calendar->edges[0]) / (calendar->n - 1));
    assert_in_range(last - NOW, INT64_C(20) * 366 * DAY, INT64_C(23) * 366 * DAY);
    if (row->since >= 0) {
        assert_int_equal(calendar->edges[1], row->second * RLP_SECOND);
    } else {
        assert_true(calendar->edges[0] <= row->since);
    }
    for (int i = 1; i < calendar->n; i++) {
        const rlp_time_t days = (calendar->edges[i] - calendar->edges[i - 1]) / DAY;

        assert_in_range(days, row->usual - (row->usual == 30 ? 2 : 0), row->usual + 1);
    }
}

/* --- who shares one */

static void test_reach(void **state)
{
    apr_pool_t *pool = new_pool();
    const rlp_calendar_t *first = table_of("day", NOW - DAY, NOW, pool);
    const rlp_time_t last = first->edges[first->n - 1];

    (void)state;
    assert_ptr_equal(table_of("day", NOW - DAY, NOW, pool), first);
    assert_ptr_equal(table_of("day", NOW, NOW + DAY, pool), first);
    assert_ptr_equal(table_of("day", 0, NOW, pool), first); /* nobody asks from when on */
    assert_ptr_equal(table_of("day", first->edges[0], NOW, pool), first);
    assert_ptr_equal(table_of("day", NOW, last - INT64_C(20) * 366 * DAY, pool), first);
    assert_ptr_not_equal(table_of("week", NOW - DAY, NOW, pool), first);
    assert_ptr_not_equal(table_of("day@local", NOW - DAY, NOW, pool), first);
    assert_ptr_not_equal(table_of("day", NOW - DAY, NOW, new_pool()), first);

    const rlp_calendar_t *earlier = table_of("day", first->edges[0] - 1, NOW, pool);

    assert_ptr_not_equal(earlier, first);
    assert_true(earlier->edges[0] < first->edges[0]);
    const rlp_calendar_t *later = table_of("day", NOW, last - INT64_C(20) * 366 * DAY + 1, pool);

    assert_ptr_not_equal(later, earlier);
    assert_true(later->edges[later->n - 1] > last);
}

/* What is read while requests are served finds the tables of the server, and makes none. */
static void test_known(void **state)
{
    apr_pool_t *server = new_pool();
    const rlp_calendar_t *known = table_of("week", NOW, NOW, server);
    const rlp_plan_source_t source = { .wall = NOW, .tables = server };
    const rlp_calendar_t *calendar = NULL;
    rlp_time_t usual = 0;

    (void)state;
    assert_null(calendar_parse(&calendar, &usual, "week", &source, new_pool()));
    assert_ptr_equal(calendar, known);
    assert_int_equal(usual, 7 * DAY);
    assert_string_equal(calendar_parse(&calendar, &usual, "day", &source, new_pool()),
                        "expected a period and a time zone that a plan of the server has, or "
                        "@UTC, got \"day\"");
    assert_null(calendar);
}

/* --- words */

static void test_words(void **state)
{
    static const char *const words[] = { "",     "da",      "dayss",  "dayx",    "days2",
                                         "hour", "daylong", "week s", "monthly", "@UTC" };
    const rlp_plan_source_t source = { .wall = NOW };
    const rlp_calendar_t *calendar = NULL;
    rlp_time_t usual = 0;

    (void)state;
    for (size_t i = 0; i < UNIT_N(words); i++) {
        assert_string_equal(calendar_parse(&calendar, &usual, words[i], &source, unit_pool()),
                            apr_psprintf(unit_pool(),
                                         "expected day, week, month or year (for any other period, "
                                         "rate=COUNT/PERIOD algorithm=fixed-window), got \"%s\"",
                                         words[i]));
    }
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = { "day", "week", "month", "year" };
        static const int usuals[] = { 1, 7, 30, 365 };

        assert_string_equal(calendar_unit(usuals[i] * DAY), names[i]);
    }
}

/* --- zones, in a directory of ours: the file of a zone, one that is none, and one too short */

static char zones[] = "/tmp/rlp-zones-XXXXXX";

static const char *zone_file(const char *name)
{
    return apr_pstrcat(unit_pool(), zones, "/", name, NULL);
}

static void zone_write(const char *name, const char *text, size_t len)
{
    FILE *file = fopen(zone_file(name), "we");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    fclose(file);
}

static bool zone_taken(const char *name)
{
    const rlp_plan_source_t source = { .wall = NOW };
    const rlp_calendar_t *calendar = NULL;
    rlp_time_t usual = 0;
    const char *text = apr_pstrcat(unit_pool(), "day@", name, NULL);
    const char *error = calendar_parse(&calendar, &usual, text, &source, new_pool());

    assert_true(error != NULL || strcmp(calendar->zone, name) == 0);
    return error == NULL;
}

static void test_zones(void **state)
{
    /* a whole hour east of Greenwich, since ever: RFC 8536, version 1 */
    static const char file[] =
        "TZif\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        "\0\0\0\1\0\0\0\4\0\0\x0e\x10\0\0ONE";
    const char *longest = apr_psprintf(unit_pool(), "%064d", 7);
    const char *longer = apr_psprintf(unit_pool(), "%065d", 7);
    const char *const names[] = { longest, longer, "One", "other", "short", "a.b" };

    (void)state;
    assert_non_null(mkdtemp(zones));
    setenv("TZDIR", zones, 1);
    for (size_t i = 0; i < UNIT_N(names); i++) {
        zone_write(names[i], file, sizeof(file));
    }
    zone_write("other", "TZIF2", 5);
    zone_write("short", "TZi", 3);
    assert_true(zone_taken("One"));
    assert_true(zone_taken(longest));
    assert_false(zone_taken(longer));
    assert_false(zone_taken("other"));
    assert_false(zone_taken("short"));
    assert_false(zone_taken("a.b"));
    assert_false(zone_taken("/One"));
    assert_false(zone_taken("/"));
    assert_false(zone_taken(""));
    assert_false(zone_taken("none"));
    const rlp_calendar_t *one = table_of("day@One", NOW, NOW, new_pool());

    assert_int_equal(one->edges[0], (INT64_C(1699920000) - 3600) * RLP_SECOND);
    assert_int_equal(one->mean, DAY);
    setenv("TZDIR", "", 1); /* as if it were not set */
    assert_false(zone_taken("One"));
    unsetenv("TZDIR");
    for (size_t i = 0; i < UNIT_N(names); i++) {
        assert_int_equal(unlink(zone_file(names[i])), 0);
    }
    assert_int_equal(rmdir(zones), 0);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(tables); i++) {
        unit_add_case("Q-02",
                      apr_psprintf(unit_pool(), "%s from %" APR_INT64_T_FMT, tables[i].text,
                                   tables[i].since),
                      test_edges, &tables[i]);
    }
    unit_add("how far a table reaches", test_reach, NULL);
    unit_add("the server's tables", test_known, NULL);
    unit_add("V-13: words that are no period", test_words, NULL);
    unit_add("V-13: the files of zones", test_zones, NULL);
    return unit_run();
}
