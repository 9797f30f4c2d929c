/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef CALENDAR_ZONES_H
#define CALENDAR_ZONES_H

/*
 * What the tests of calendars, and of quotas that have one, share.
 */

#include "unit.h"

#define STEPS unit_steps()
#define NOW (INT64_C(1700000000) * RLP_SECOND)
#define HOUR INT64_C(3600)
#define DAY (24 * HOUR)
#define UNITS 4

extern const char *const calendar_units[UNITS];

/* False, and said, where the system has no zones. */
bool zones_there(void);

/* The limit of a plan "quota=COUNT/UNIT@ZONE". */
const rlp_limit_t *limit_of(const char *count, const char *unit, const char *zone);

/* The index of the period of an instant within the table. */
int period_of(const rlp_calendar_t *calendar, rlp_time_t at);

#endif
