/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef STATS_AREA_H
#define STATS_AREA_H

/*
 * The area of statistics in the annex. Without httpd: a tool reads it, too.
 *
 * [ head | row x 512: name, numbers, an hour of minutes | crowd: a row | identity x 256 | map x 32
 * ]
 */

#include "annex.h"

typedef enum {
    STATS_ADMITTED,
    STATS_DELAYED, /* admitted after a wait */
    STATS_REFUSED,
    STATS_WOULD_REFUSE, /* by a rule that refuses nobody */
    STATS_FAILED,       /* the store could not be asked */
    STATS_EXEMPT,
    STATS_UNIDENTIFIED, /* nobody whom the rule would count */
    STATS_KINDS
} stats_kind_t;

#define STATS_MINUTES 60
#define STATS_SERIES 3     /* of a minute: admitted with delayed, refused, would be refused */
#define STATS_NAME_MAX 172 /* of a rule with its scope, with the NUL */
#define STATS_PLAN_MAX 65
#define STATS_TOP 256 /* identities */
#define STATS_WHO_MAX 160

#define STATS_ROWS 512 /* a power of two */
#define STATS_SETS 32  /* of identities */
#define STATS_WAYS (STATS_TOP / STATS_SETS)
#define STATS_MINUTE (60 * RLP_SECOND)
#define STATS_HOUR ((uint64_t)60 * STATS_MINUTE)
#define STATS_MAPS 32

typedef struct {
    uint64_t digest; /* of its names; 0: free */
    uint32_t named;  /* they are there */
    char rule[STATS_NAME_MAX];
    char plan[STATS_PLAN_MAX];
    _Alignas(64) uint64_t counts[STATS_KINDS];
    uint64_t base[STATS_SERIES]; /* of the counts, when the minute began */
    uint32_t minutes[STATS_MINUTES][STATS_SERIES];
} stats_area_row_t;

typedef struct {
    uint64_t digest;    /* of whom and of the rule; 0: free */
    uint64_t hour;      /* of the store's time, that counts[1] is of */
    uint64_t counts[2]; /* in the hour before, and in that one */
    uint64_t error;     /* of both together */
    char rule[STATS_NAME_MAX];
    uint32_t plain; /* the identity is not a digest where it could be */
    char identity[STATS_WHO_MAX];
} stats_area_top_t;

typedef struct {
    uint64_t digest;  /* of its names; 0: free */
    uint64_t read[2]; /* failed; read again */
    uint32_t named;   /* they are there */
    char type[STATS_PLAN_MAX];
    char path[STATS_NAME_MAX];
} stats_area_map_t;

typedef struct {
    uint64_t minute; /* of the store's time, that base[] is from */
    uint64_t begun;
    uint64_t crowded;
    uint64_t dropped; /* refusals that none of top took note of */
    _Alignas(64) stats_area_row_t rows[STATS_ROWS];
    stats_area_row_t crowd;
    struct {
        uint64_t lock; /* 0, or when it was taken */
        stats_area_top_t top[STATS_WAYS];
    } sets[STATS_SETS];
    stats_area_map_t maps[STATS_MAPS];
} stats_area_t;

_Static_assert(sizeof(stats_area_t) <= ANNEX_OVERRIDES_AT - ANNEX_STATISTICS_AT,
               "the area has room for it");

/* Moves on to the hour, of the store's time, unless that is of somebody who comes late. */
static inline void stats_turn(stats_area_top_t *top, uint64_t hour)
{
    if (top->hour == hour || top->hour == hour + 1) {
        return;
    }
    top->counts[0] = top->hour + 1 == hour ? top->counts[1] : 0;
    top->counts[1] = 0;
    top->error = top->error < top->counts[0] ? top->error : top->counts[0];
    top->hour = hour;
}

/* What stands there may be anything: what no name has becomes "?". size: of both. */
static inline void stats_get_name(char *to, const char *from, size_t size)
{
    size_t i = 0;

    for (; i < size - 1 && from[i] != '\0'; i++) {
        to[i] = (char)(from[i] > ' ' && from[i] < 0x7f ? from[i] : '?');
    }
    to[i] = '\0';
}

/* One of all who are refused. */
static inline stats_area_top_t *stats_top_at(stats_area_t *area, int i)
{
    return &area->sets[i / STATS_WAYS].top[i % STATS_WAYS];
}

#endif
