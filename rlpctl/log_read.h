/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef LOG_READ_H
#define LOG_READ_H

/*
 * Lines of files and of standard input, compressed with gzip or not.
 */

#include <apr_pools.h>

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *name;
    uint64_t lines; /* read so far: the number of the last */
    int64_t size;   /* bytes of the file; 0: not known */
    void *file;     /* zlib's */
    char *room;
    size_t begin;
    size_t filled;
    bool ended;
    bool failed; /* could not be read to its end */
} log_read_t;

/* Opens a file, or standard input by the name "-". NULL, or why not. Closed by the pool. */
const char *log_read_open(log_read_t *reader, const char *name, apr_pool_t *pool);

/* The next line without its end, valid until the next call; NULL at the end. What is longer than
   any line of a log comes in pieces. */
const char *log_read_line(log_read_t *reader, size_t *len);

/* Bytes of the file, compressed if it is, that have been read. */
int64_t log_read_done(const log_read_t *reader);

#endif
