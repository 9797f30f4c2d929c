/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The status for Prometheus, in its text format 0.0.4. No identity is a label.
 */

#include "status.h"

#include <http_protocol.h>

#include <apr_strings.h>

typedef enum { METRIC_COUNTER, METRIC_GAUGE } metric_kind_t;

static const char *metric_label(const char *text, apr_pool_t *pool)
{
    const char *plain = status_plain(text, pool);
    char *made = apr_palloc(pool, 2 * strlen(plain) + 1);
    char *to = made;

    for (; *plain != '\0'; plain++) {
        if (*plain == '"' || *plain == '\\') {
            *to++ = '\\';
        }
        *to++ = *plain;
    }
    *to = '\0';
    return made;
}

static void metric_begin(request_rec *r, const char *name, metric_kind_t kind, const char *help)
{
    ap_rprintf(r, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
               kind == METRIC_COUNTER ? "counter" : "gauge");
}

/* One without labels. */
static void metric_put(request_rec *r, const char *name, metric_kind_t kind, const char *help,
                       uint64_t value)
{
    metric_begin(r, name, kind, help);
    ap_rprintf(r, "%s %" APR_UINT64_T_FMT "\n", name, value);
}

static void metric_requests(const status_t *status)
{
    request_rec *r = status->r;

    metric_begin(r, "ratelimit_requests_total", METRIC_COUNTER,
                 "Requests judged, by rule, plan and what became of them.");
    for (int i = 0; i < status->stats->n; i++) {
        const stats_row_t *row = &status->stats->rows[i];

        for (int k = 0; k < STATS_KINDS; k++) {
            ap_rprintf(r,
                       "ratelimit_requests_total{rule=\"%s\",plan=\"%s\",action=\"%s\"} "
                       "%" APR_UINT64_T_FMT "\n",
                       metric_label(row->rule, r->pool), metric_label(row->plan, r->pool),
                       status_kinds[k].action, row->counts[k]);
        }
    }
}

static void metric_store(const status_t *status)
{
    request_rec *r = status->r;

    metric_put(r, "ratelimit_store_slots", METRIC_GAUGE,
               "Places for counters in the store in shared memory.", status->look.slots);
    metric_put(r, "ratelimit_store_slots_used", METRIC_GAUGE,
               "Places in use by counters that are not over, estimated from a sample.",
               status->look.used);
    metric_put(r, "ratelimit_store_evictions_total", METRIC_COUNTER,
               "Counters given up before their time, to make room.", status->look.evicted);
}

static void metric_servers(const status_t *status)
{
    request_rec *r = status->r;

    if (status->n_servers == 0) {
        return;
    }
    metric_begin(r, "ratelimit_redis_up", METRIC_GAUGE,
                 "Is the Redis server asked: 1, or 0 while its breaker is open.");
    for (int i = 0; i < status->n_servers; i++) {
        ap_rprintf(r, "ratelimit_redis_up{server=\"%s\"} %d\n",
                   metric_label(status->servers[i].name, r->pool),
                   strcmp(status->servers[i].breaker, "closed") == 0);
    }
}

static void metric_maps(const status_t *status)
{
    request_rec *r = status->r;

    if (status->stats->n_maps == 0) {
        return;
    }
    metric_begin(r, "ratelimit_map_reloads_total", METRIC_COUNTER,
                 "How often files of plan maps were read again, or could not be.");
    for (int i = 0; i < status->stats->n_maps; i++) {
        const stats_map_t *map = &status->stats->maps[i];
        const char *type = metric_label(map->type, r->pool);
        const char *path = metric_label(map->path, r->pool);

        ap_rprintf(r,
                   "ratelimit_map_reloads_total{identity=\"%s\",file=\"%s\",result=\"ok\"} "
                   "%" APR_UINT64_T_FMT "\n"
                   "ratelimit_map_reloads_total{identity=\"%s\",file=\"%s\",result=\"failed\"} "
                   "%" APR_UINT64_T_FMT "\n",
                   type, path, map->reloads, type, path, map->failures);
    }
}

void status_metrics(const status_t *status)
{
    request_rec *r = status->r;

    metric_requests(status);
    metric_put(r, "ratelimit_rules_crowded_total", METRIC_COUNTER,
               "How often a process found no room for a rule under a plan, which counts as "
               "(other).",
               status->stats->crowded);
    metric_put(r, "ratelimit_counting_since_seconds", METRIC_GAUGE,
               "When counting began, seconds since 1970.",
               (uint64_t)(status->stats->begun / RLP_SECOND));
    metric_store(status);
    metric_servers(status);
    metric_maps(status);
}
