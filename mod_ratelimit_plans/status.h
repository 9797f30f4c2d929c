/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef STATUS_H
#define STATUS_H

/*
 * What the pages of the handler ratelimit-status and of mod_status have in common.
 */

#include "provider.h"
#include "stats.h"

#pragma GCC visibility push(hidden)

/* All that there is to tell. */
typedef struct {
    request_rec *r;
    rlp_time_t now; /* wall clock */
    stats_t *stats;
    uint64_t totals[STATS_KINDS]; /* of all rows */
    rlp_segment_look_t look;
    int n_servers;
    store_server_t servers[STORE_SERVERS_MAX];
} status_t;

typedef struct {
    const char *action; /* in metrics, as RATELIMIT_ACTION has it */
    const char *member; /* in JSON */
    const char *name;   /* in mod_status' words for programs */
    const char *title;  /* of its column */
    const char *look;   /* classes of its cells, where there are some, each behind a blank */
} status_kind_t;

/* The kinds of numbers, and what each format calls them. */
extern const status_kind_t status_kinds[STATS_KINDS];

/* Text that shows in every format what it is: bytes that are no printable ASCII as %XX. */
const char *status_plain(const char *text, apr_pool_t *pool);

/* An instant of the wall clock as RFC 3339 has it. */
const char *status_time(rlp_time_t time, apr_pool_t *pool);

/* Answers for SetHandler ratelimit-status; DECLINED for others. */
int status_handler(request_rec *r);

/* Adds a section to the page of mod_status, where that is loaded. */
void status_register(void);

/* The formats: what is written behind the header. */
void status_json(const status_t *status);
void status_metrics(const status_t *status);
void status_page(const status_t *status);

#pragma GCC visibility pop

#endif
