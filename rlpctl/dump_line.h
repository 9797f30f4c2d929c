/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef DUMP_LINE_H
#define DUMP_LINE_H

/*
 * The lines of a dump (docs/dump-format.md): a JSON object each, the first of which says what it is
 * and the last how many there were.
 */

#include "json.h"
#include "rlp.h"

#include <stdio.h>

#define DUMP_VERSION 1
#define DUMP_NUMBER_MAX (INT64_C(1) << 53) /* what any reader of JSON has exactly */

/* --- writing */

typedef struct {
    FILE *file;
    apr_pool_t *line; /* cleared with each */
    uint64_t counters;
    uint64_t overrides;
} dump_out_t;

/* Begins a line of that type, to be ended by dump_end_line(). */
json_out_t dump_begin_line(const dump_out_t *out, const char *type);
void dump_end_line(dump_out_t *out, json_out_t *line);

/* Bytes in hexadecimal digits; a word as a number of 16; an instant, null for RLP_TIME_NEVER. */
void dump_put_bytes(json_out_t *line, const char *name, const void *bytes, size_t len);
void dump_put_word(json_out_t *line, const char *name, uint64_t word);
void dump_put_time(json_out_t *line, const char *name, rlp_time_t time);

/* The last line. */
void dump_put_end(dump_out_t *out);

/* --- reading */

typedef struct {
    FILE *file;
    const char *name;
    char *text;        /* of the line at hand */
    uint64_t number;   /* of that line */
    uint64_t counters; /* lines of that type so far */
    uint64_t overrides;
    bool ended;
    apr_pool_t *line; /* cleared with each */
    apr_pool_t *pool;
} dump_in_t;

/* Takes the object of a line. NULL, or what was expected. */
typedef const char *dump_take_fn(void *baton, const json_t *object, apr_pool_t *line);

/* Who takes what. */
typedef struct {
    dump_take_fn *header;
    dump_take_fn *counter;
    dump_take_fn *override; /* NULL: there is none in such a dump */
    void *baton;
} dump_taker_t;

/* Opens a file, or with "-" standard input, which is copied if it can be read only once. NULL, or
   why not. */
const char *dump_open(dump_in_t *in, const char *name, apr_pool_t *pool);

/* Reads all of it from its beginning. NULL, or what was expected, and in which line. */
const char *dump_read(dump_in_t *in, const dump_taker_t *taker);

/* Has the object these members (ended by NULL) and no others? A name that begins with "?" may be
   missing. NULL, or what was expected. */
const char *dump_members(const json_t *object, const char *const names[], apr_pool_t *line);

/* The members as values; each returns NULL, or what was expected. */
const char *dump_get_text(const json_t *object, const char *name, const char **text,
                          apr_pool_t *line);
const char *dump_get_word(const json_t *object, const char *name, uint64_t *word, apr_pool_t *line);
const char *dump_get_number(const json_t *object, const char *name, int64_t *number,
                            apr_pool_t *line);
const char *dump_get_bool(const json_t *object, const char *name, bool *is, apr_pool_t *line);
const char *dump_get_time(const json_t *object, const char *name, rlp_time_t *time,
                          apr_pool_t *line);

/* At most so many bytes. */
const char *dump_get_bytes(const json_t *object, const char *name, size_t most,
                           unsigned char **bytes, size_t *len, apr_pool_t *line);

#endif
