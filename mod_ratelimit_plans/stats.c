/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Numbers are added to without a lock, and a killed child leaves each as before or as after. Rows
 * are found by a digest of their names, which whoever finds a free row puts there.
 */

#include "stats.h"

#include <apr_strings.h>

#include <stdlib.h>

#define STATS_PATIENCE (1 * RLP_SECOND) /* after which who holds the lock is taken for dead */

/* annex_open() has seen to what is there. */
static stats_area_t *stats_area(void)
{
    char *annex = rlp_world->annex;

    return (stats_area_t *)(void *)(annex + annex_areas[ANNEX_STATISTICS].at);
}

static uint64_t stats_load(const uint64_t *number)
{
    return __atomic_load_n(number, __ATOMIC_RELAXED);
}

static bool stats_swap(uint64_t *at, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(at, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* --- rows */

/* Never 0. */
static uint64_t stats_digest(const char *a, const char *b)
{
    uint8_t digest[RLP_DIGEST_SIZE];
    char text[1500];
    uint64_t word;

    /* neither has a line's end */
    const int len = apr_snprintf(text, sizeof(text), "%s\n%s", a, b);

    rlp_digest(digest, text, (size_t)len);
    memcpy(&word, digest, sizeof(word));
    return word ? word : 1;
}

/* A name that is too long keeps what tells it from others. */
static void stats_put_name(char *to, size_t size, const char *name, uint64_t digest)
{
    if (strlen(name) < size) {
        apr_cpystrn(to, name, size);
    } else {
        apr_snprintf(to, size, "%.*s-%016" APR_UINT64_T_HEX_FMT, (int)size - 18, name, digest);
    }
}

/* The row of that digest, or a free one that it has from now on; NULL: there is none. */
static stats_area_row_t *stats_find(stats_area_t *area, uint64_t digest)
{
    for (uint64_t i = 0; i < STATS_ROWS; i++) {
        stats_area_row_t *row = &area->rows[(digest + i) % STATS_ROWS];
        const uint64_t there = stats_load(&row->digest);

        if (there == digest || (there == 0 && (stats_swap(&row->digest, 0, digest) ||
                                               stats_load(&row->digest) == digest))) {
            return row;
        }
    }
    return NULL;
}

/* Several may write the names at once: they write the same. */
static uint64_t *stats_row(const char *rule, const char *plan)
{
    stats_area_t *area = stats_area();
    const uint64_t digest = stats_digest(rule, plan);
    stats_area_row_t *row = stats_find(area, digest);

    if (row == NULL) {
        (void)__atomic_fetch_add(&area->crowded, 1, __ATOMIC_RELAXED);
        return area->crowd.counts;
    }
    if (__atomic_load_n(&row->named, __ATOMIC_ACQUIRE) != 1) {
        stats_put_name(row->rule, sizeof(row->rule), rule, digest);
        apr_cpystrn(row->plan, plan, sizeof(row->plan));
        __atomic_store_n(&row->named, 1, __ATOMIC_RELEASE);
    }
    return row->counts;
}

/* The pointer is kept by the process; whoever finds it missing finds the same. */
uint64_t *stats_counts(const rule_t *rule, const variant_t *variant)
{
    uint64_t **kept = (uint64_t **)(uintptr_t)(variant ? &variant->counted : &rule->bystanders);

    uint64_t *counts = __atomic_load_n(kept, __ATOMIC_RELAXED);

    if (counts == NULL) {
        counts = stats_row(rule->scope, variant ? variant->plan_name : "");
        __atomic_store_n(kept, counts, __ATOMIC_RELAXED);
    }
    return counts;
}

/* --- minutes */

static void stats_series(uint64_t to[STATS_SERIES], const stats_area_row_t *row)
{
    to[0] = stats_load(&row->counts[STATS_ADMITTED]) + stats_load(&row->counts[STATS_DELAYED]);
    to[1] = stats_load(&row->counts[STATS_REFUSED]);
    to[2] = stats_load(&row->counts[STATS_WOULD_REFUSE]);
}

static uint32_t stats_less(uint64_t a, uint64_t b)
{
    const uint64_t rest = a > b ? a - b : 0;

    return rest < UINT32_MAX ? (uint32_t)rest : UINT32_MAX;
}

/* Writes down the minute that was the current one, and that nothing happened since. */
static void stats_close_minute(stats_area_row_t *row, uint64_t from, uint64_t to)
{
    uint64_t now[STATS_SERIES];

    stats_series(now, row);
    for (uint64_t minute = from + 1; minute < to && minute <= from + STATS_MINUTES; minute++) {
        memset(row->minutes[minute % STATS_MINUTES], 0, sizeof(row->minutes[0]));
    }
    for (int i = 0; i < STATS_SERIES; i++) {
        row->minutes[from % STATS_MINUTES][i] = stats_less(now[i], row->base[i]);
        row->base[i] = now[i];
    }
}

void stats_tick(void)
{
    if (rlp_world->store == NULL) {
        return;
    }
    stats_area_t *area = stats_area();
    const uint64_t now = (uint64_t)(annex_now() / STATS_MINUTE);
    const uint64_t from = stats_load(&area->minute);

    if (now == from || now + 1 == from || !stats_swap(&area->minute, from, now)) {
        return; /* somebody else has done it, or does */
    }
    for (int i = 0; i <= STATS_ROWS; i++) {
        stats_area_row_t *row = i < STATS_ROWS ? &area->rows[i] : &area->crowd;

        if (i == STATS_ROWS || stats_load(&row->digest) != 0) {
            stats_close_minute(row, from, now);
        }
    }
}

/* --- who is refused */

/* Nobody waits for it: who cannot have it goes without. Who has it may have come a moment later, by
   his clock. */
static bool stats_lock(uint64_t *lock, uint64_t now)
{
    const uint64_t held = stats_load(lock);
    const uint64_t apart = now > held ? now - held : held - now;

    return (held == 0 || apart > STATS_PATIENCE) && stats_swap(lock, held, now);
}

/* Its place in the set, or that of the one refused least. */
static stats_area_top_t *stats_find_top(stats_area_top_t set[], uint64_t digest, uint64_t hour)
{
    stats_area_top_t *least = set;

    for (int i = 0; i < STATS_WAYS; i++) {
        stats_area_top_t *top = &set[i];

        stats_turn(top, hour);
        if (top->digest == digest) {
            return top;
        }
        if (top->counts[0] + top->counts[1] < least->counts[0] + least->counts[1]) {
            least = top;
        }
    }
    return least;
}

/* What was there is forgotten, but not that it may have been the newcomer. */
static void stats_replace(stats_area_top_t *top, uint64_t digest, const verdict_t *verdict,
                          bool plain, apr_pool_t *pool)
{
    const rule_t *rule = verdict->outcomes[0].rule;
    const char *who = identity_logged(verdict->identity, plain, pool);

    top->error = top->counts[0] + top->counts[1];
    top->plain = plain;
    stats_put_name(top->rule, sizeof(top->rule), rule->scope, digest);
    stats_put_name(top->identity, sizeof(top->identity), who, stats_digest(who, ""));
    top->digest = digest;
}

/* Whom and by what rule; never 0. */
static uint64_t stats_who(const verdict_t *verdict, bool plain)
{
    const char *scope = verdict->outcomes[0].rule->scope;
    const uint64_t who =
        rlp_store_fingerprint(rlp_world->store, verdict->identity, strlen(verdict->identity)) +
        rlp_store_fingerprint(rlp_world->store, scope, strlen(scope)) + (uint64_t)plain;

    return who ? who : 1;
}

void stats_note(const verdict_t *verdict, const server_conf_t *server, apr_pool_t *pool)
{
    const bool plain = server->key_plain == 1;
    const uint64_t now = (uint64_t)annex_now();
    const uint64_t who = stats_who(verdict, plain);
    stats_area_t *area = stats_area();
    uint64_t *lock = &area->sets[who % STATS_SETS].lock;

    if (!stats_lock(lock, now)) {
        (void)__atomic_fetch_add(&area->dropped, 1, __ATOMIC_RELAXED);
        return;
    }
    stats_area_top_t *top = stats_find_top(area->sets[who % STATS_SETS].top, who, now / STATS_HOUR);

    if (top->digest != who) {
        stats_replace(top, who, verdict, plain, pool);
    }
    top->counts[1]++;
    (void)stats_swap(lock, now, 0);
}

/* --- plan maps */

/* Where a map is counted; NULL: there is no room for more. */
static stats_area_map_t *stats_find_map(stats_area_t *area, uint64_t digest)
{
    for (int i = 0; i < STATS_MAPS; i++) {
        stats_area_map_t *map = &area->maps[i];

        if (stats_load(&map->digest) == digest || stats_swap(&map->digest, 0, digest) ||
            stats_load(&map->digest) == digest) {
            return map;
        }
    }
    return NULL;
}

void stats_note_map(const char *type, const char *path, bool sound)
{
    const uint64_t digest = stats_digest(type, path);
    stats_area_map_t *map = rlp_world->store ? stats_find_map(stats_area(), digest) : NULL;

    if (map == NULL) {
        return;
    }
    if (__atomic_load_n(&map->named, __ATOMIC_ACQUIRE) != 1) {
        stats_put_name(map->path, sizeof(map->path), path, digest);
        apr_cpystrn(map->type, type, sizeof(map->type));
        __atomic_store_n(&map->named, 1, __ATOMIC_RELEASE);
    }
    (void)__atomic_fetch_add(&map->read[sound], 1, __ATOMIC_RELAXED);
}

/* --- the parent */

/* May users stand in pages as they are, on some host? */
static bool stats_may_be_plain(const server_rec *servers)
{
    bool plain = false;

    for (; servers != NULL; servers = servers->next) {
        const server_conf_t *conf = server_conf(servers);

        plain |= conf->key_plain == 1;
    }
    return plain;
}

void stats_open(const server_rec *servers)
{
    stats_area_t *area = stats_area();
    const bool plain = stats_may_be_plain(servers);

    if (area->begun == 0) {
        area->begun = (uint64_t)rlp_world->clock->wall();
    }
    for (int i = 0; i < STATS_TOP && !plain; i++) {
        stats_area_top_t *top = stats_top_at(area, i);

        if (top->plain) {
            memset(top, 0, sizeof(*top));
        }
    }
    stats_tick();
}

/* --- reading */

static void stats_get_row(stats_row_t *to, const stats_area_row_t *row, uint64_t minute)
{
    uint64_t now[STATS_SERIES];

    stats_get_name(to->rule, row->rule, sizeof(to->rule));
    stats_get_name(to->plan, row->plan, sizeof(to->plan));
    for (int i = 0; i < STATS_KINDS; i++) {
        to->counts[i] = stats_load(&row->counts[i]);
    }
    stats_series(now, row);
    for (int i = 0; i < STATS_SERIES; i++) {
        for (uint64_t k = 1; k < STATS_MINUTES; k++) {
            to->minutes[i][k - 1] = row->minutes[(minute + k) % STATS_MINUTES][i];
        }
        to->minutes[i][STATS_MINUTES - 1] = stats_less(now[i], row->base[i]);
    }
}

static int stats_compare_rows(const void *a, const void *b)
{
    const stats_row_t *one = a;
    const stats_row_t *other = b;
    const int order = strcmp(one->rule, other->rule);

    return order ? order : strcmp(one->plan, other->plan);
}

static void stats_read_rows(stats_t *stats, const stats_area_t *area, apr_pool_t *pool)
{
    const uint64_t minute = stats_load(&area->minute);

    stats->rows = apr_pcalloc(pool, sizeof(*stats->rows) * (STATS_ROWS + 1));
    for (int i = 0; i < STATS_ROWS; i++) {
        if (__atomic_load_n(&area->rows[i].named, __ATOMIC_ACQUIRE) == 1) {
            stats_get_row(&stats->rows[stats->n++], &area->rows[i], minute);
        }
    }
    qsort(stats->rows, (size_t)stats->n, sizeof(*stats->rows), stats_compare_rows);
    stats->crowded = stats_load(&area->crowded);
    if (stats->crowded > 0) {
        stats_get_row(&stats->rows[stats->n], &area->crowd, minute);
        apr_cpystrn(stats->rows[stats->n++].rule, "(other)", STATS_NAME_MAX);
    }
}

static int stats_compare_top(const void *a, const void *b)
{
    const stats_top_t *one = a;
    const stats_top_t *other = b;

    if (one->refused != other->refused) {
        return one->refused < other->refused ? 1 : -1;
    }
    return strcmp(one->identity, other->identity);
}

static void stats_read_top(stats_t *stats, stats_area_t *area, apr_pool_t *pool)
{
    const uint64_t hour = (uint64_t)annex_now() / STATS_HOUR;

    stats->top = apr_pcalloc(pool, sizeof(*stats->top) * STATS_TOP);
    for (int i = 0; i < STATS_TOP; i++) {
        stats_area_top_t top = *stats_top_at(area, i);

        stats_turn(&top, hour);
        if (top.digest == 0 || top.counts[0] + top.counts[1] == 0) {
            continue;
        }
        stats_top_t *to = &stats->top[stats->n_top++];

        to->refused = top.counts[0] + top.counts[1];
        to->error = top.error;
        stats_get_name(to->identity, top.identity, sizeof(to->identity));
        stats_get_name(to->rule, top.rule, sizeof(to->rule));
    }
    qsort(stats->top, (size_t)stats->n_top, sizeof(*stats->top), stats_compare_top);
}

static void stats_read_maps(stats_t *stats, const stats_area_t *area)
{
    for (int i = 0; i < STATS_MAPS; i++) {
        const stats_area_map_t *map = &area->maps[i];
        stats_map_t *to = &stats->maps[stats->n_maps];

        if (__atomic_load_n(&map->named, __ATOMIC_ACQUIRE) != 1) {
            continue;
        }
        stats_get_name(to->type, map->type, sizeof(to->type));
        apr_cpystrn(to->path, map->path, sizeof(to->path)); /* of any signs, which pages escape */
        to->failures = stats_load(&map->read[0]);
        to->reloads = stats_load(&map->read[1]);
        stats->n_maps++;
    }
}

stats_t *stats_read(apr_pool_t *pool)
{
    stats_t *stats = apr_pcalloc(pool, sizeof(*stats));

    if (rlp_world->store == NULL) {
        return stats;
    }
    stats_area_t *area = stats_area();

    stats_tick();
    stats->begun = (rlp_time_t)area->begun;
    stats_read_rows(stats, area, pool);
    stats_read_top(stats, area, pool);
    stats_read_maps(stats, area);
    return stats;
}
