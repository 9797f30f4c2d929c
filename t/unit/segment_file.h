/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef SEGMENT_FILE_H
#define SEGMENT_FILE_H

/*
 * What the tests of the file of a shared-memory store share: a file of their own, a counter in it,
 * and large states.
 */

#include "unit.h"

#define MB ((size_t)1024 * 1024)
#define WALL (INT64_C(1700000000) * RLP_SECOND)
#define UPTIME (1000 * RLP_SECOND)

extern const rlp_clock_t segment_first_boot;

/* One attempt to open the file. */
typedef struct {
    apr_status_t rv;
    const char *warning;
    const char *error;
    rlp_segment_t segment;
} opened_t;

/* Large states: the largest lives almost as long as a unit of the limit takes to come back, the
   other has no end. */
#define LOG_SIZE 65640
#define QUOTA_SIZE 16000

extern const rlp_key_t big_log_key;
extern const rlp_key_t big_quota_key;

/* One of them. */
typedef struct {
    rlp_time_t life; /* 0: puts nothing */
    bool held;
    bool found; /* every word is its own number, and one */
} big_t;

/* A name in a new directory, which the system forgets with the rest of its temporary files. */
const char *segment_path(void);

/* Removes it, with its directory. */
void segment_forget(const char *path);

/* Opens it. */
opened_t segment_open_at(const char *path, size_t size, const rlp_clock_t *clock);

/* Opens it and expects no complaint. */
rlp_segment_t segment_open_well(const char *path, size_t size, const rlp_clock_t *clock);

/* Asks n times for one unit of 10 a minute; what the last is told. */
rlp_decision_t segment_spend(const rlp_segment_t *segment, int n, rlp_time_t now);

/* Puts it there; was it there before? */
bool big_visit(const rlp_segment_t *segment, const rlp_key_t *key, big_t big, rlp_time_t now);

/* Is it there? */
bool big_find(const rlp_segment_t *segment, const rlp_key_t *key, rlp_time_t now);

/* A store with all of it spent, and closed. */
void segment_make_spent(const char *path);

#endif
