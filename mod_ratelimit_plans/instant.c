/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "instant.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdbool.h>

#define INSTANT_SHAPE "0000-00-00T00:00:00Z"

/* Digits where the shape has a 0, else its signs. */
static bool instant_is_shaped(const char *text)
{
    const char *shape = INSTANT_SHAPE;

    while (*shape != '\0' && (*shape == '0' ? apr_isdigit(*text) != 0 : *text == *shape)) {
        text++;
        shape++;
    }
    return *shape == '\0' && *text == '\0';
}

/* The number of n digits. */
static int instant_number(const char *text, int n)
{
    int number = 0;

    for (int i = 0; i < n; i++) {
        number = number * 10 + (text[i] - '0');
    }
    return number;
}

apr_time_t instant_read(const char *text)
{
    apr_time_exp_t back;
    apr_time_t moment = 0;

    if (!instant_is_shaped(text)) {
        return 0;
    }
    apr_time_exp_t parts = { .tm_year = instant_number(text, 4) - 1900,
                             .tm_mon = instant_number(text + 5, 2) - 1,
                             .tm_mday = instant_number(text + 8, 2),
                             .tm_hour = instant_number(text + 11, 2),
                             .tm_min = instant_number(text + 14, 2) };
    const int seconds = instant_number(text + 17, 2);

    if (parts.tm_year < 70 || parts.tm_mon < 0 || parts.tm_mon > 11 || seconds > 60 ||
        apr_time_exp_gmt_get(&moment, &parts) != APR_SUCCESS) {
        return 0;
    }
    apr_time_exp_gmt(&back, moment); /* a day or an hour that there is not has become another */
    return back.tm_mday == parts.tm_mday && back.tm_hour == parts.tm_hour &&
                   back.tm_min == parts.tm_min
               ? moment + apr_time_from_sec(seconds)
               : 0;
}

const char *instant_write(apr_time_t moment, apr_pool_t *pool)
{
    apr_time_exp_t parts;

    apr_time_exp_gmt(&parts, moment + APR_USEC_PER_SEC / 2);
    return apr_psprintf(pool, "%04d-%02d-%02dT%02d:%02d:%02dZ", parts.tm_year + 1900,
                        parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}
