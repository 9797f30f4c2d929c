/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Calendars: the edges of days, weeks, months and years in a time zone, tabled when the
 * configuration is read, so that requests only compare.
 *
 * A period begins at the first instant that has its date: a midnight that does not exist (clocks
 * that go from 00:00 to 01:00) begins at the instant after the gap, one that comes twice begins at
 * the first, and a day that does not exist (Pacific/Apia, 2011-12-30) is no period. glibc reads the
 * zone; all that is asked of it is the offset at an instant.
 */

#include "calendar.h"

#include <apr_strings.h>
#include <apr_tables.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#define CALENDAR_DAY INT64_C(86400)                       /* all times below are in seconds */
#define CALENDAR_AHEAD (INT64_C(20) * 366 * CALENDAR_DAY) /* from the time of day */
#define CALENDAR_MARGIN (INT64_C(370) * CALENDAR_DAY)     /* more than any period and any offset */
#define CALENDAR_STEP                                                          \
    (INT64_C(6) * 3600) /* no zone changes its offset twice in so short a time \
                         */
#define CALENDAR_ZONE_MAX 64
#define CALENDAR_ZONE_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+/-"

enum { CALENDAR_DAYS, CALENDAR_WEEKS, CALENDAR_MONTHS, CALENDAR_YEARS, CALENDAR_UNITS };

static const struct {
    const char *name;
    int64_t usual; /* days */
    int64_t most;
} calendar_units[CALENDAR_UNITS] = {
    [CALENDAR_DAYS] = { "day", 1, 1 },
    [CALENDAR_WEEKS] = { "week", 7, 7 },
    [CALENDAR_MONTHS] = { "month", 30, 31 },
    [CALENDAR_YEARS] = { "year", 365, 366 },
};

/* A zone: its name as counters are told apart by it, and the file that glibc is to read. */
typedef struct {
    const char *name;
    const char *file; /* NULL: the process's own zone, or UTC */
    bool utc;
} zone_t;

/* A table in the making. */
typedef struct {
    zone_t zone;
    int unit;
    int64_t from;
    int64_t to;
    apr_array_header_t *edges; /* of rlp_time_t */
} maker_t;

/* --- dates, in the local time of wherever: a number of days or periods since 1970 */

/* The day on which a month begins. The year is reckoned from March, so that the leap day is its
   last; month 0 is January 1970. */
static int64_t calendar_month(int64_t month)
{
    const int64_t march = month + INT64_C(1970) * 12 - 2;
    const int64_t year = march / 12;

    return year * 365 + year / 4 - year / 100 + year / 400 + (153 * (march % 12) + 2) / 5 -
           INT64_C(719468);
}

/* The local second with which a period begins. Weeks begin on Monday, and 1970 on a Thursday. */
static int64_t calendar_begin(int unit, int64_t number)
{
    switch (unit) {
    case CALENDAR_DAYS:
        return number * CALENDAR_DAY;
    case CALENDAR_WEEKS:
        return (number * 7 - 3) * CALENDAR_DAY;
    case CALENDAR_MONTHS:
        return calendar_month(number) * CALENDAR_DAY;
    default:
        return calendar_month(number * 12) * CALENDAR_DAY;
    }
}

/* The first period that begins after the local second, which is after 1968. */
static int64_t calendar_next(int unit, int64_t local)
{
    int64_t number = local / (calendar_units[unit].most * CALENDAR_DAY) - 3;

    while (calendar_begin(unit, number) <= local) {
        number++;
    }
    return number;
}

/* --- the table */

static int64_t calendar_offset(const maker_t *maker, int64_t at)
{
    const time_t instant = (time_t)at;
    struct tm tm;

    return maker->zone.utc || localtime_r(&instant, &tm) == NULL ? 0 : tm.tm_gmtoff;
}

/* The first instant after this one with another offset, or the end of the table. */
static int64_t calendar_change(const maker_t *maker, int64_t at)
{
    const int64_t offset = calendar_offset(maker, at);
    int64_t low = at;

    while (low < maker->to && calendar_offset(maker, low + CALENDAR_STEP) == offset) {
        low += CALENDAR_STEP;
    }
    if (low >= maker->to) {
        return maker->to;
    }
    int64_t high = low + CALENDAR_STEP;

    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;

        if (calendar_offset(maker, middle) == offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return high;
}

/* An edge; one at the same instant as the one before ends a period that does not exist. */
static void calendar_push(maker_t *maker, int64_t at)
{
    const rlp_time_t edge = at * RLP_SECOND;
    const rlp_time_t *last = (const rlp_time_t *)maker->edges->elts + maker->edges->nelts - 1;

    if (maker->edges->nelts == 0 || *last < edge) {
        APR_ARRAY_PUSH(maker->edges, rlp_time_t) = edge;
    }
}

/* Goes through the spans of one offset each. */
static void calendar_fill(maker_t *maker)
{
    int64_t at = maker->from;
    int64_t number = calendar_next(maker->unit, at + calendar_offset(maker, at));

    while (at < maker->to) {
        const int64_t offset = calendar_offset(maker, at);
        const int64_t next = maker->zone.utc ? maker->to : calendar_change(maker, at);

        for (; calendar_begin(maker->unit, number) - offset < next; number++) {
            const int64_t edge = calendar_begin(maker->unit, number) - offset;

            calendar_push(maker, edge > at ? edge : at);
        }
        at = next;
    }
}

/* Fills the table with TZ set to the zone. */
static void calendar_fill_zone(maker_t *maker, apr_pool_t *pool)
{
    const char *file = maker->zone.file;
    const char *before = file && getenv("TZ") ? apr_pstrdup(pool, getenv("TZ")) : NULL;

    if (file != NULL) {
        setenv("TZ", apr_pstrcat(pool, ":", file, NULL), 1);
    }
    if (!maker->zone.utc) {
        tzset();
    }
    calendar_fill(maker);
    if (file == NULL) {
        return;
    }
    if (before != NULL) {
        setenv("TZ", before, 1);
    } else {
        unsetenv("TZ");
    }
    tzset();
}

static const rlp_calendar_t *calendar_make(const zone_t *zone, int unit,
                                           const rlp_plan_source_t *source, apr_pool_t *pool)
{
    const rlp_time_t since = source->since < source->wall ? source->since : source->wall;
    maker_t maker = { .zone = *zone,
                      .unit = unit,
                      .from = (since > 0 ? since / RLP_SECOND : 0) - CALENDAR_MARGIN,
                      .to = source->wall / RLP_SECOND + CALENDAR_AHEAD + CALENDAR_MARGIN };
    const int64_t days = (maker.to - maker.from) / CALENDAR_DAY;
    rlp_calendar_t *calendar = apr_pcalloc(pool, sizeof(*calendar));

    maker.edges =
        apr_array_make(pool, (int)(days / calendar_units[unit].usual) + 2, sizeof(rlp_time_t));
    calendar_fill_zone(&maker, pool);
    calendar->zone = zone->name;
    calendar->edges = (const rlp_time_t *)maker.edges->elts;
    calendar->n = maker.edges->nelts;
    while (calendar->n > 2 && calendar->edges[1] <= since) {
        calendar->edges++;
        calendar->n--;
    }
    calendar->mean = (calendar->edges[calendar->n - 1] - calendar->edges[0]) / (calendar->n - 1);
    return calendar;
}

static const char *calendar_key(const zone_t *zone, int unit, apr_pool_t *pool)
{
    return apr_pstrcat(pool, "rlp_calendar ", calendar_units[unit].name, "@", zone->name, NULL);
}

/* The pool's own table of this unit and zone; made where there is none that reaches far enough. */
static const rlp_calendar_t *calendar_shared(const zone_t *zone, int unit,
                                             const rlp_plan_source_t *source, apr_pool_t *pool)
{
    const char *key = calendar_key(zone, unit, pool);
    void *kept = NULL;

    apr_pool_userdata_get(&kept, key, pool);
    const rlp_calendar_t *calendar = kept;

    if (calendar == NULL || (calendar->edges[0] > source->since && source->since > 0) ||
        calendar->edges[calendar->n - 1] < source->wall + CALENDAR_AHEAD * RLP_SECOND) {
        calendar = calendar_make(zone, unit, source, pool);
        apr_pool_userdata_setn(calendar, key, NULL, pool);
    }
    return calendar;
}

/* The table made in another pool, or NULL. */
static const rlp_calendar_t *calendar_known(const zone_t *zone, int unit, apr_pool_t *tables,
                                            apr_pool_t *pool)
{
    void *kept = NULL;

    apr_pool_userdata_get(&kept, calendar_key(zone, unit, pool), tables);
    return kept;
}

/* --- reading */

/* Does the file begin as compiled zones do (RFC 8536)? glibc takes any other for UTC. */
static bool calendar_compiled(const char *path)
{
    FILE *file = fopen(path, "re");
    char magic[4] = { 0 };

    if (file == NULL) {
        return false;
    }
    const bool read = fread(magic, 1, sizeof(magic), file) == sizeof(magic);

    fclose(file);
    return read && memcmp(magic, "TZif", sizeof(magic)) == 0;
}

/* A name with one spelling below the directory, and none above it. */
static bool calendar_name(const char *name)
{
    const size_t len = strlen(name);

    return len > 0 && len <= CALENDAR_ZONE_MAX && strspn(name, CALENDAR_ZONE_CHARS) == len &&
           name[0] != '/' && strstr(name, "//") == NULL;
}

static const char *calendar_zone(zone_t *zone, const char *name, apr_pool_t *pool)
{
    const char *dir = getenv("TZDIR");
    struct stat there;

    if (strcasecmp(name, "UTC") == 0) {
        *zone = (zone_t){ .name = "UTC", .utc = true };
        return NULL;
    }
    if (strcasecmp(name, "local") == 0) {
        *zone = (zone_t){ .name = "local" };
        return NULL;
    }
    dir = dir != NULL && *dir != '\0' ? dir : "/usr/share/zoneinfo";
    *zone = (zone_t){ .name = apr_pstrdup(pool, name),
                      .file = apr_pstrcat(pool, dir, "/", name, NULL) };
    if (calendar_name(name) && calendar_compiled(zone->file)) {
        return NULL;
    }
    if (stat(dir, &there) != 0) {
        return apr_psprintf(pool,
                            "expected @UTC, or the system's time zones in %s (Debian's package is "
                            "tzdata), got \"@%s\"",
                            dir, name);
    }
    return apr_psprintf(pool,
                        "expected @UTC, @local or a time zone of %s such as @Europe/Berlin, got "
                        "\"@%s\"",
                        dir, name);
}

/* Which unit stands before the zone; CALENDAR_UNITS for none. */
static int calendar_find_unit(const char *text, size_t len)
{
    int unit = 0;

    for (; unit < CALENDAR_UNITS; unit++) {
        const char *name = calendar_units[unit].name;
        const size_t singular = strlen(name);

        if (strncasecmp(text, name, singular) == 0 &&
            (len == singular ||
             (len == singular + 1 && strncasecmp(text + singular, "s", 1) == 0))) {
            break;
        }
    }
    return unit;
}

const char *calendar_parse(const rlp_calendar_t **calendar, rlp_time_t *usual, const char *text,
                           const rlp_plan_source_t *source, apr_pool_t *pool)
{
    const size_t len = strcspn(text, "@");
    const int unit = calendar_find_unit(text, len);
    zone_t zone;

    if (unit == CALENDAR_UNITS) {
        return apr_psprintf(pool,
                            "expected day, week, month or year (for any other period, "
                            "rate=COUNT/PERIOD algorithm=fixed-window), got \"%s\"",
                            text);
    }
    const char *error = calendar_zone(&zone, text[len] ? text + len + 1 : "UTC", pool);

    if (error != NULL) {
        return error;
    }
    *usual = calendar_units[unit].usual * CALENDAR_DAY * RLP_SECOND;
    *calendar = source->tables ? calendar_known(&zone, unit, source->tables, pool)
                               : calendar_shared(&zone, unit, source, pool);
    return *calendar ? NULL
                     : apr_psprintf(pool,
                                    "expected a period and a time zone that a plan of the server "
                                    "has, or @UTC, got \"%s\"",
                                    text);
}

const char *calendar_unit(rlp_time_t usual)
{
    int unit = CALENDAR_DAYS;

    while (calendar_units[unit].usual * CALENDAR_DAY * RLP_SECOND != usual) {
        unit++;
    }
    return calendar_units[unit].name;
}
