/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "calendar_zones.h"

#include <apr_strings.h>

const char *const calendar_units[UNITS] = { "day", "week", "month", "year" };

bool zones_there(void)
{
    const rlp_plan_t *plan;
    const char *error = unit_parse(&plan, "quota=1/day@Europe/Berlin", NULL);

    if (error != NULL) {
        unit_skip(error);
    }
    return error == NULL;
}

const rlp_limit_t *limit_of(const char *count, const char *unit, const char *zone)
{
    return &unit_plan(apr_pstrcat(unit_pool(), "quota=", count, "/", unit, "@", zone, NULL))
                ->limits[0];
}

int period_of(const rlp_calendar_t *calendar, rlp_time_t at)
{
    int i = 0;

    for (int step = 1 << 20; step > 0; step /= 2) {
        i += i + step < calendar->n && calendar->edges[i + step] <= at ? step : 0;
    }
    return i;
}
