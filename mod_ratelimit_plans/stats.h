/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef STATS_H
#define STATS_H

/*
 * What became of requests, in numbers that all children share and that live as long as the store's
 * counters: for each rule under each plan, and who was refused most.
 */

#include "decide.h"
#include "stats_area.h"

#pragma GCC visibility push(hidden)

/* The numbers of one rule under one plan, as they are read. */
typedef struct {
    char rule[STATS_NAME_MAX]; /* its name with its scope; "(other)": without a row of its own */
    char plan[STATS_PLAN_MAX]; /* empty: no plan was looked for */
    uint64_t counts[STATS_KINDS];
    uint32_t minutes[STATS_SERIES][STATS_MINUTES]; /* the last is the current one */
} stats_row_t;

/* Somebody who was refused, in this hour and the one before. */
typedef struct {
    char identity[STATS_WHO_MAX]; /* as RateLimitKeyLog has it */
    char rule[STATS_NAME_MAX];
    uint64_t refused; /* at most this many, */
    uint64_t error;   /* and this many less at least */
} stats_top_t;

/* A plan map whose file is read again when it changes. */
typedef struct {
    char type[STATS_PLAN_MAX];
    char path[STATS_NAME_MAX];
    uint64_t reloads;
    uint64_t failures; /* it stays as it was */
} stats_map_t;

typedef struct {
    rlp_time_t begun; /* wall clock; when counting began */
    uint64_t crowded; /* rules under plans that found no room of their own */
    int n;
    stats_row_t *rows; /* by rule and plan; those without room last */
    int n_top;
    stats_top_t *top; /* the most refused first */
    int n_maps;
    stats_map_t maps[STATS_MAPS];
} stats_t;

/* The counters of a rule under a plan, by stats_kind_t; variant: NULL for requests of which no plan
   is known. */
uint64_t *stats_counts(const rule_t *rule, const variant_t *variant);

/* One more. */
static inline void stats_add(uint64_t *counts, stats_kind_t kind)
{
    (void)__atomic_fetch_add(&counts[kind], 1, __ATOMIC_RELAXED);
}

/* Takes note of who is refused. */
void stats_note(const verdict_t *verdict, const server_conf_t *server, apr_pool_t *pool);

/* Takes note that a map's file was read again, or could not be. */
void stats_note_map(const char *type, const char *path, bool sound);

/* Makes ready what is kept, in the parent. */
void stats_open(const server_rec *servers);

/* Closes a minute that is over, for the chart. Any process may; the parent does now and then. */
void stats_tick(void);

/* All there is, from the pool. */
stats_t *stats_read(apr_pool_t *pool);

/* --- tally.c: what became of the charges of one question, for their rules */

/* All are made. */
void tally_passed(const decide_t *d);

/* None is. kind: STATS_REFUSED or STATS_WOULD_REFUSE; tightest: rlp_answer_t.tightest. */
void tally_refused(const decide_t *d, stats_kind_t kind, int tightest);

/* The store could not be asked. */
void tally_failed(const decide_t *d);

/* The store of some rules could not be asked; those of the others let the request pass. */
void tally_unasked(const decide_t *d);

/* These rules, a bit each, found nobody to count. */
void tally_unidentified(const decide_t *d, uint64_t rules);

/* The rules of a section that speak of a request that is exempt. */
void tally_exempt(request_rec *r, const dir_conf_t *conf);

#pragma GCC visibility pop

#endif
