/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef ANNEX_H
#define ANNEX_H

/*
 * What the module keeps that is no counter of a limit: memory shared by all children that lives as
 * long as the store. Without httpd, so that a tool finds its way in a store's file.
 *
 * annex: [ heads, a page | who waits, 8 kB | statistics ... | overrides, from 768 kB on ]
 *
 * It may hold anything: what is read from it is never used as an index unchecked.
 */

#include "rlp_store.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum { ANNEX_STATISTICS, ANNEX_OVERRIDES, ANNEX_WAITING, ANNEX_AREAS } annex_area_t;

#define ANNEX_PAGE 4096
#define ANNEX_OVERRIDES_AT ((size_t)768 * 1024)
#define ANNEX_WAITING_SIZE (sizeof(rlp_hold_t) * RLP_OWNERS_MAX)
#define ANNEX_STATISTICS_AT (ANNEX_PAGE + ANNEX_WAITING_SIZE)

/* Beside an area: what it is, and room for what its owner keeps of all of it. */
typedef struct {
    char magic[8];
    uint32_t version;
    uint32_t size;      /* of the area, bytes */
    uint64_t room[126]; /* the owner's; all zero at first */
} annex_head_t;

_Static_assert(sizeof(annex_head_t) == 1024, "an area's head is 1 kB");
_Static_assert(sizeof(annex_head_t) * ANNEX_AREAS <= ANNEX_PAGE, "the heads are in the first page");

/* Where an area lies; version: 32 bits that change with the layout of it or of its head. */
static const struct {
    char magic[8];
    uint32_t version;
    uint32_t at;
    uint32_t size;
} annex_areas[ANNEX_AREAS] = {
    [ANNEX_STATISTICS] = { "RLPSTAT", 2, ANNEX_STATISTICS_AT,
                           ANNEX_OVERRIDES_AT - ANNEX_STATISTICS_AT },
    [ANNEX_OVERRIDES] = { "RLPOVER", 2, ANNEX_OVERRIDES_AT, RLP_ANNEX_SIZE - ANNEX_OVERRIDES_AT },
    [ANNEX_WAITING] = { "RLPWAIT", 1, ANNEX_PAGE, ANNEX_WAITING_SIZE },
};

/* The head of an area of an annex, whatever it holds. */
static inline annex_head_t *annex_head(void *annex, annex_area_t area)
{
    return (annex_head_t *)annex + area;
}

/* The area, at a page's begin and annex_areas[area].size bytes; NULL if what is there is
   foreign. */
static inline void *annex_area(void *annex, annex_area_t area)
{
    const annex_head_t *head = annex_head(annex, area);

    return memcmp(head->magic, annex_areas[area].magic, sizeof(head->magic)) == 0 &&
                   head->version == annex_areas[area].version &&
                   head->size == annex_areas[area].size
               ? (char *)annex + annex_areas[area].at
               : NULL;
}

/* Makes an area, all zero. Its magic is written last: one that is cut off is foreign. */
static inline void annex_begin(void *annex, annex_area_t area)
{
    annex_head_t *head = annex_head(annex, area);

    memset(head, 0, sizeof(*head));
    memset((char *)annex + annex_areas[area].at, 0, annex_areas[area].size);
    head->version = annex_areas[area].version;
    head->size = annex_areas[area].size;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memcpy(head->magic, annex_areas[area].magic, sizeof(head->magic));
}

#pragma GCC visibility push(hidden)

/* The annex of the store in use, with all areas in order: those that are foreign are begun anew,
   all zero. In the parent, each time the store was opened. NULL: no memory. */
void *annex_open(void);

/* The store that it lies in: what is kept there, of whichever store, has its time and its
   secret. */
const rlp_store_t *annex_store(void);

/* The time in it, now. */
rlp_time_t annex_now(void);

#pragma GCC visibility pop

#endif
