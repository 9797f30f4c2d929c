/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef LOG_TIME_H
#define LOG_TIME_H

/*
 * Moments as access logs tell them.
 */

#include "rlp.h"

#include <stdbool.h>

/* One piece of a moment. */
typedef enum {
    LOG_TIME_NONE,
    LOG_TIME_CLF, /* [21/Nov/2026:13:15:59 +0100] */
    LOG_TIME_SEC,
    LOG_TIME_MSEC,
    LOG_TIME_USEC,
    LOG_TIME_MSEC_FRAC,
    LOG_TIME_USEC_FRAC,
    LOG_TIME_DECIDED, /* RATELIMIT_TIME, or a dash */
    LOG_TIME_YEAR,
    LOG_TIME_SHORT_YEAR,
    LOG_TIME_MONTH,
    LOG_TIME_MONTH_NAME,
    LOG_TIME_DAY,
    LOG_TIME_HOUR,
    LOG_TIME_MINUTE,
    LOG_TIME_SECOND,
    LOG_TIME_ZONE
} log_time_part_t;

/* What the pieces of a line have said; all 0 at its beginning, but day and month. */
typedef struct {
    rlp_time_t since;   /* the epoch, where the line has that */
    rlp_time_t decided; /* the same of the module; 0: it says nothing */
    rlp_time_t fraction;
    int year;
    int month; /* 1 to 12 */
    int day;
    int hour;
    int minute;
    int second;
    int zone; /* seconds east of UTC */
} log_time_t;

/* The last moment in the usual form, since most lines repeat that of the line before. */
typedef struct {
    char text[28];
    rlp_time_t since;
} log_time_seen_t;

/* Reads one piece at the beginning of a text that ends at end; behind it, or NULL if it is none. */
const char *log_time_read(log_time_t *time, log_time_part_t part, const char *text, const char *end,
                          log_time_seen_t *seen);

/* Microseconds since the epoch of a date and a time of day; -1 where there is no such. */
rlp_time_t log_time_since(const log_time_t *time);

/* The pieces that a letter of strftime stands for, ended by LOG_TIME_NONE, with the character that
   parts them; NULL if it is not known here. */
const log_time_part_t *log_time_letter(char letter, char *between);

#endif
