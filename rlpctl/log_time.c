/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Moments as access logs tell them: httpd's own form, and what %{FORMAT}t makes of strftime().
 */

#include "log_time.h"

#include <string.h>

#define TIME_DIGITS_MAX 17 /* as many fit into 64 bits */
#define TIME_MAX (INT64_C(1) << 60)

/* Up to so many digits; behind them, or NULL if there are fewer than least. */
static const char *time_digits(int64_t *number, const char *text, const char *end, int least,
                               int most)
{
    const char *at = text;

    *number = 0;
    for (; at < end && at < text + most && *at >= '0' && *at <= '9'; at++) {
        *number = *number * 10 + (*at - '0');
    }
    return at - text >= least ? at : NULL;
}

/* A number of two digits that is not above most. */
static const char *time_two(int *number, const char *text, const char *end, int most)
{
    int64_t value;
    const char *behind = time_digits(&value, text, end, 2, 2);

    *number = (int)value;
    return value <= most ? behind : NULL;
}

/* 1 to 12, or 0. */
static int time_month(const char *name)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (int i = 0; i < 12; i++) {
        if (memcmp(names + 3 * (size_t)i, name, 3) == 0) {
            return i + 1;
        }
    }
    return 0;
}

static const char *time_month_name(log_time_t *time, const char *text, const char *end)
{
    time->month = end - text < 3 ? 0 : time_month(text);
    return time->month ? text + 3 : NULL;
}

/* +0100 */
static const char *time_zone(log_time_t *time, const char *text, const char *end)
{
    int hours;
    int minutes;

    if (end - text < 5 || (*text != '+' && *text != '-') ||
        time_two(&hours, text + 1, end, 23) == NULL ||
        time_two(&minutes, text + 3, end, 59) == NULL) {
        return NULL;
    }
    time->zone = (hours * 60 + minutes) * (*text == '-' ? -60 : 60);
    return text + 5;
}

/* Days from the epoch to a date of the Gregorian calendar. */
static int64_t time_days(int year, int month, int day)
{
    const int64_t y =
        month > 2 ? year : year - 1; /* years begin in March, and leap days end them */
    const int64_t m = (month + 9) % 12;

    return y * 365 + y / 4 - y / 100 + y / 400 + (m * 306 + 5) / 10 + day - 1 - 719468;
}

static int time_month_length(int year, int month)
{
    static const int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return lengths[month - 1] + (month == 2 && leap);
}

rlp_time_t log_time_since(const log_time_t *time)
{
    if (time->year < 1970 || time->month < 1 || time->month > 12 || time->day < 1 ||
        time->day > time_month_length(time->year, time->month)) {
        return -1;
    }
    const int64_t days = time_days(time->year, time->month, time->day);
    const int64_t minutes = (days * 24 + time->hour) * 60 + time->minute;
    const int64_t seconds = minutes * 60 + time->second - time->zone;

    return seconds < 0 ? -1 : seconds * RLP_SECOND;
}

/* 21/Nov/2026:13:15:59 +0100, of which the separators have been looked at */
static bool time_clf_parse(log_time_t *time, const char *text)
{
    const char *end = text + 26;
    int64_t year = 0;

    time->month = time_month(text + 3);
    if (time_two(&time->day, text, end, 31) == NULL || time->month == 0 ||
        time_digits(&year, text + 7, end, 4, 4) == NULL ||
        time_two(&time->hour, text + 12, end, 23) == NULL ||
        time_two(&time->minute, text + 15, end, 59) == NULL ||
        time_two(&time->second, text + 18, end, 60) == NULL) {
        return false;
    }
    time->year = (int)year;
    return time_zone(time, text + 21, end) != NULL;
}

static const char *time_clf(log_time_t *time, const char *text, const char *end,
                            log_time_seen_t *seen)
{
    if (end - text < (ptrdiff_t)sizeof(seen->text)) {
        return NULL;
    }
    if (memcmp(text, seen->text, sizeof(seen->text)) != 0) {
        if (text[0] != '[' || text[3] != '/' || text[7] != '/' || text[12] != ':' ||
            text[15] != ':' || text[18] != ':' || text[21] != ' ' || text[27] != ']' ||
            !time_clf_parse(time, text + 1) || log_time_since(time) < 0) {
            return NULL;
        }
        memcpy(seen->text, text, sizeof(seen->text));
        seen->since = log_time_since(time);
    }
    time->since = seen->since;
    return text + sizeof(seen->text);
}

/* A number of so many microseconds each. */
static const char *time_epoch(rlp_time_t *since, const char *text, const char *end, rlp_time_t each)
{
    const char *behind = time_digits(since, text, end, 1, TIME_DIGITS_MAX);

    if (behind == NULL || *since > TIME_MAX / each) {
        return NULL;
    }
    *since *= each;
    return behind;
}

/* Variables that are not set are a dash in logs. */
static const char *time_decided(log_time_t *time, const char *text, const char *end)
{
    return text < end && *text == '-' ? text + 1 : time_epoch(&time->decided, text, end, 1);
}

static const char *time_fraction(log_time_t *time, const char *text, const char *end, int digits)
{
    const char *behind = time_digits(&time->fraction, text, end, digits, digits);

    time->fraction *= digits == 3 ? 1000 : 1;
    return behind;
}

static const char *time_year(log_time_t *time, const char *text, const char *end)
{
    int64_t year;
    const char *behind = time_digits(&year, text, end, 4, 4);

    time->year = (int)year;
    return behind;
}

/* 69 to 99 are of the last century, as strptime() has it. */
static const char *time_short_year(log_time_t *time, const char *text, const char *end)
{
    const char *behind = time_two(&time->year, text, end, 99);

    time->year += time->year < 69 ? 2000 : 1900;
    return behind;
}

/* %e has a blank for the first digit. */
static const char *time_day(log_time_t *time, const char *text, const char *end)
{
    if (text < end && *text == ' ') {
        int64_t day;
        const char *behind = time_digits(&day, text + 1, end, 1, 1);

        time->day = (int)day;
        return behind;
    }
    return time_two(&time->day, text, end, 31);
}

static const char *time_read_date(log_time_t *time, log_time_part_t part, const char *text,
                                  const char *end)
{
    switch (part) {
    case LOG_TIME_YEAR:
        return time_year(time, text, end);
    case LOG_TIME_SHORT_YEAR:
        return time_short_year(time, text, end);
    case LOG_TIME_MONTH:
        return time_two(&time->month, text, end, 12);
    case LOG_TIME_MONTH_NAME:
        return time_month_name(time, text, end);
    case LOG_TIME_DAY:
        return time_day(time, text, end);
    case LOG_TIME_HOUR:
        return time_two(&time->hour, text, end, 23);
    case LOG_TIME_MINUTE:
        return time_two(&time->minute, text, end, 59);
    case LOG_TIME_SECOND:
        return time_two(&time->second, text, end, 60);
    default:
        return time_zone(time, text, end);
    }
}

const char *log_time_read(log_time_t *time, log_time_part_t part, const char *text, const char *end,
                          log_time_seen_t *seen)
{
    switch (part) {
    case LOG_TIME_CLF:
        return time_clf(time, text, end, seen);
    case LOG_TIME_SEC:
        return time_epoch(&time->since, text, end, RLP_SECOND);
    case LOG_TIME_MSEC:
        return time_epoch(&time->since, text, end, 1000);
    case LOG_TIME_USEC:
        return time_epoch(&time->since, text, end, 1);
    case LOG_TIME_MSEC_FRAC:
        return time_fraction(time, text, end, 3);
    case LOG_TIME_USEC_FRAC:
        return time_fraction(time, text, end, 6);
    case LOG_TIME_DECIDED:
        return time_decided(time, text, end);
    default:
        return time_read_date(time, part, text, end);
    }
}

const log_time_part_t *log_time_letter(char letter, char *between)
{
    static const struct {
        char letter;
        char between;
        log_time_part_t parts[4];
    } letters[] = {
        { 'Y', 0, { LOG_TIME_YEAR } },
        { 'y', 0, { LOG_TIME_SHORT_YEAR } },
        { 'm', 0, { LOG_TIME_MONTH } },
        { 'b', 0, { LOG_TIME_MONTH_NAME } },
        { 'h', 0, { LOG_TIME_MONTH_NAME } },
        { 'd', 0, { LOG_TIME_DAY } },
        { 'e', 0, { LOG_TIME_DAY } },
        { 'H', 0, { LOG_TIME_HOUR } },
        { 'M', 0, { LOG_TIME_MINUTE } },
        { 'S', 0, { LOG_TIME_SECOND } },
        { 's', 0, { LOG_TIME_SEC } },
        { 'z', 0, { LOG_TIME_ZONE } },
        { 'T', ':', { LOG_TIME_HOUR, LOG_TIME_MINUTE, LOG_TIME_SECOND } },
        { 'R', ':', { LOG_TIME_HOUR, LOG_TIME_MINUTE } },
        { 'F', '-', { LOG_TIME_YEAR, LOG_TIME_MONTH, LOG_TIME_DAY } },
        { 'D', '/', { LOG_TIME_MONTH, LOG_TIME_DAY, LOG_TIME_SHORT_YEAR } },
    };

    for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
        if (letters[i].letter == letter) {
            *between = letters[i].between;
            return letters[i].parts;
        }
    }
    return NULL;
}
