/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "offline.h"

#include "instant.h"
#include "option.h"
#include "override.h"
#include "rlp.h"
#include "stats_area.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

/* As with a server, and in Redis. What is further away cannot be said in a dump. */
#define OFFLINE_SPAN (INT64_C(3660) * 86400 * RLP_SECOND)

typedef struct {
    const offline_t *job;
    json_out_t *out;
    rlp_segment_t segment;
    rlp_store_t *store;
    override_table_t table;
    rlp_clock_t clock;
    const char *identity;
} file_t;

static rlp_time_t file_now(const file_t *file)
{
    return rlp_store_time(file->store, file->clock.monotonic);
}

const char *offline_span(rlp_time_t *left, const char *when, rlp_time_t wall, apr_pool_t *pool)
{
    *left = 0;
    if (rlp_duration_parse(left, when, pool) != NULL) {
        *left = instant_read(when);
        *left = *left > 0 ? *left - wall : 0;
    }
    if (*left <= 0) {
        return "expected a span such as 2h, or a moment to come such as 2026-12-31T23:59:59Z";
    }
    return *left > OFFLINE_SPAN ? "expected ten years at most" : NULL;
}

/* The moment on the store's time line. NULL, or what was expected. */
static const char *file_moment(rlp_time_t *moment, const file_t *file)
{
    rlp_time_t left;
    const char *error = offline_span(&left, file->job->when, file->clock.wall, file->job->pool);

    *moment = file_now(file) + left;
    return error;
}

static const char *file_time(const file_t *file, rlp_time_t moment)
{
    return moment == 0
               ? NULL
               : instant_write(file->clock.wall + (moment - file_now(file)), file->job->pool);
}

static override_t file_found(const file_t *file)
{
    const override_key_t key = override_key(file->store, file->identity, strlen(file->identity));
    override_t found;

    return override_find(&file->table, &key, file_now(file), &found) ? found
                                                                     : (override_t){ .ban = 0 };
}

static void file_tell(const file_t *file, const char *shown, const override_t *found)
{
    json_string(file->out, "identity", shown);
    json_string(file->out, "banned_until", file_time(file, found->ban));
    json_bool(file->out, "has_plan", found->plan != 0);
    json_string(file->out, "set_plan_until", file_time(file, found->until));
}

static const char *file_order(const file_t *file, const override_t *wanted)
{
    const override_key_t key = override_key(file->store, file->identity, strlen(file->identity));
    const override_result_t result =
        override_set(&file->table, &key, wanted, file->identity, file_now(file));
    const override_t found = file_found(file);

    json_bool(file->out, "changed", result == OVERRIDE_DONE);
    file_tell(file, file->identity, &found);
    return result == OVERRIDE_FULL   ? "expected fewer than 4096 bans and plans in force"
           : result == OVERRIDE_BUSY ? "expected no other change under way"
                                     : NULL;
}

static const char *file_ban(file_t *file)
{
    override_t wanted = file_found(file);
    const char *error = file_moment(&wanted.ban, file);

    return error ? error : file_order(file, &wanted);
}

static const char *file_unban(file_t *file)
{
    override_t wanted = file_found(file);

    wanted.ban = 0;
    return file_order(file, &wanted);
}

static const char *file_set_plan(file_t *file)
{
    override_t wanted = file_found(file);
    const bool ends = strcmp(file->job->plan, "none") == 0;
    const char *error = ends ? NULL : rlp_name_check(file->job->plan, file->job->pool);

    wanted.plan = ends ? 0 : override_plan_hash(file->job->plan);
    wanted.until = 0;
    if (error == NULL && !ends) {
        error = file_moment(&wanted.until, file);
    }
    return error ? error : file_order(file, &wanted);
}

static const char *file_reset(file_t *file)
{
    json_number(file->out, "forgotten",
                (int64_t)rlp_shm_forget(file->store, file->identity, strlen(file->identity)));
    json_string(file->out, "identity", file->identity);
    return NULL;
}

static void file_list_one(void *baton, const override_key_t *key, const char *shown,
                          const override_t *found)
{
    const file_t *file = baton;

    (void)key;
    json_open(file->out, NULL, '{');
    file_tell(file, shown, found);
    json_close(file->out, '}');
}

static const char *file_list(file_t *file)
{
    json_number(file->out, "room", OVERRIDES_MAX);
    json_open(file->out, "overrides", '[');
    override_visit(&file->table, file_now(file), file_list_one, file);
    json_close(file->out, ']');
    return NULL;
}

/* --- who is refused most */

static uint64_t file_refused(const stats_area_top_t *top)
{
    return top->counts[0] + top->counts[1];
}

static int file_compare(const void *a, const void *b)
{
    const uint64_t one = file_refused(a);
    const uint64_t other = file_refused(b);

    return one != other ? (one < other) - (one > other)
                        : strncmp(((const stats_area_top_t *)a)->identity,
                                  ((const stats_area_top_t *)b)->identity, STATS_WHO_MAX);
}

static void file_tell_top(const file_t *file, const stats_area_top_t *top)
{
    char identity[STATS_WHO_MAX];
    char rule[STATS_NAME_MAX];

    stats_get_name(identity, top->identity, sizeof(identity));
    stats_get_name(rule, top->rule, sizeof(rule));
    json_open(file->out, NULL, '{');
    json_number(file->out, "refused", (int64_t)file_refused(top));
    json_number(file->out, "error", (int64_t)top->error);
    json_string(file->out, "rule", rule);
    json_string(file->out, "identity", identity);
    json_close(file->out, '}');
}

#define FILE_TOP 20

static const char *file_top(file_t *file)
{
    stats_area_t *area = annex_area(rlp_segment_annex(&file->segment), ANNEX_STATISTICS);
    stats_area_top_t *all = apr_pcalloc(file->job->pool, sizeof(*all) * STATS_TOP);
    const uint64_t hour = (uint64_t)file_now(file) / STATS_HOUR;

    for (int i = 0; area != NULL && i < STATS_TOP; i++) {
        all[i] = *stats_top_at(area, i);
        stats_turn(&all[i], hour);
    }
    qsort(all, STATS_TOP, sizeof(*all), file_compare);
    json_open(file->out, "most_refused", '[');
    for (int i = 0; i < FILE_TOP && all[i].digest != 0 && file_refused(&all[i]) > 0; i++) {
        file_tell_top(file, &all[i]);
    }
    json_close(file->out, ']');
    return NULL;
}

static const struct {
    const char *name;
    const char *(*run)(file_t *file);
} file_commands[] = { { "ban", file_ban },           { "unban", file_unban },
                      { "set-plan", file_set_plan }, { "reset", file_reset },
                      { "overrides", file_list },    { "top", file_top } };

/* Whom; a value that a client chooses is counted by its digest. */
static const char *file_identity(file_t *file)
{
    const offline_t *job = file->job;
    char digest[33];

    file->identity = job->identity;
    if (job->secret != NULL) {
        rlp_store_digest(file->store, job->secret, strlen(job->secret), digest);
        file->identity = apr_pstrcat(job->pool, job->identity, ":", digest, NULL);
    }
    return file->identity != NULL ? option_identity_odd(file->identity) : NULL;
}

static const char *file_command(file_t *file)
{
    const char *error = file_identity(file);

    for (size_t i = 0; error == NULL && i < sizeof(file_commands) / sizeof(file_commands[0]); i++) {
        if (strcmp(file->job->command, file_commands[i].name) == 0) {
            error = file_commands[i].run(file);
        }
    }
    return error;
}

const char *offline_run(const offline_t *job, json_out_t *out)
{
    file_t file = { .job = job, .out = out };
    const char *error = NULL;
    bool shared;

    rlp_clock_read(&file.clock);
    if (rlp_segment_join(&file.segment, job->path, &file.clock, &shared, &error, job->pool) !=
        APR_SUCCESS) {
        return error;
    }
    if (rlp_shm_create(&file.store, &file.segment, job->pool) != APR_SUCCESS) {
        error = "the store in the file is damaged";
    } else if (!override_attach(&file.table, rlp_segment_annex(&file.segment))) {
        error = "no server has made its areas in this file yet: start one once";
    } else {
        json_open(out, NULL, '{');
        json_string(out, "action", job->command);
        error = file_command(&file);
        json_close(out, '}');
    }
    rlp_segment_close(&file.segment);
    return error;
}
