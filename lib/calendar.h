/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef CALENDAR_H
#define CALENDAR_H

#include "rlp.h"

/* Makes the calendar of a period such as "day", "months@local" or "week@Europe/Berlin", or finds
   the one that the pool already has, and says how long its periods usually are. NULL, or what was
   expected. For zones other than UTC, TZ is changed for the time of the call: not while other
   threads run. */
const char *calendar_parse(const rlp_calendar_t **calendar, rlp_time_t *usual, const char *text,
                           const rlp_plan_source_t *source, apr_pool_t *pool);

/* "day", "week", "month" or "year", by the usual length. */
const char *calendar_unit(rlp_time_t usual);

#endif
