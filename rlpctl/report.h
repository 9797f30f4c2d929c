/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REPORT_H
#define REPORT_H

/*
 * What a replay has found, for people and for programs.
 */

#include "simulate.h"

#define REPORT_LEVELS 6 /* of identities: 50, 90, 95, 99, 99.9 and 100 % */
#define REPORT_TOP 10   /* identities that are named */

/* The fewest and the most; the same where times are exact. */
typedef struct {
    uint64_t fewest;
    uint64_t most;
} report_range_t;

/* Text, to be read in a terminal. */
void report_text(const simulate_t *simulate, FILE *out);

/* One JSON object; docs/rlpctl.1 has its members. */
void report_json(const simulate_t *simulate, FILE *out);

/* One page without outside resources. */
void report_html(const simulate_t *simulate, FILE *out);

/* --- figures of all of them */

/* Thousandths of the identities that each level has, and its name. */
extern const struct report_level_t {
    int thousandths;
    const char *name;
} report_levels[REPORT_LEVELS];

/* The requests of identities: as many have at most so many at each level. */
void report_requests(const replay_t *replay, uint64_t requests[REPORT_LEVELS]);

/* The same of what they cost, in thousandths of units. */
void report_units(const replay_t *replay, uint64_t units[REPORT_LEVELS]);

/* Is that something else than their number? */
bool report_costs(const replay_t *replay);

/* The refused share of the requests of identities, 0 to 1, at each level, under a plan in a run. */
void report_shares(const replay_t *replay, int plan, int run, double shares[REPORT_LEVELS]);

/* The first plan that refuses none of the requests of so many identities, in a run; -1: none
   does. */
int report_fit(const replay_t *replay, int run, int level);

/* The name of a plan; "none" for -1, which may be so of either run where they are no bounds. */
const char *report_plan(const replay_t *replay, int plan);

/* The numbers of the identities that have the most requests refused, most first; how many. */
int report_top(const replay_t *replay, int plan, uint32_t numbers[REPORT_TOP]);

/* The hour with the most refused requests, then delayed ones; NULL if there is none. */
const replay_hour_t *report_worst(const replay_t *replay, int plan);

/* The range of what both runs have found. */
report_range_t report_refused(const replay_t *replay, const replay_sum_t sums[REPLAY_RUNS]);
report_range_t report_delayed(const replay_t *replay, const replay_sum_t sums[REPLAY_RUNS]);
report_range_t report_identities(const replay_t *replay, const replay_sum_t sums[REPLAY_RUNS]);
report_range_t report_slowed(const replay_t *replay, const replay_sum_t sums[REPLAY_RUNS]);
report_range_t report_use_refused(const replay_t *replay, uint32_t number, int plan);
report_range_t report_use_delayed(const replay_t *replay, uint32_t number, int plan);

/* --- words of all of them; all from the pool */

/* 1234567 as "1 234 567". */
const char *report_number(uint64_t number, apr_pool_t *pool);

/* "1 line" or "12 lines". */
const char *report_count(uint64_t n, const char *one, const char *many, apr_pool_t *pool);

/* Thousandths as "1 234" or "1 234.5". */
const char *report_decimal(uint64_t thousandths, apr_pool_t *pool);

/* "12" or "12 to 15". */
const char *report_range(report_range_t range, apr_pool_t *pool);

/* part of whole as "9.7 %". */
const char *report_percent(double part, double whole, apr_pool_t *pool);

/* "2026-11-21 13:15:59" of microseconds since the epoch, without its last characters. */
const char *report_time(rlp_time_t at, int len, apr_pool_t *pool);

/* Bytes as they may be shown anywhere: what is no UTF-8, moves a terminal or turns the direction of
   text is written \xhh. */
const char *report_plain(const char *text, apr_pool_t *pool);

/* The identity of a number, to be shown. */
const char *report_identity(const simulate_t *simulate, uint32_t number, apr_pool_t *pool);

#endif
