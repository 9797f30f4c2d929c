/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef PLAN_MAP_H
#define PLAN_MAP_H

/*
 * What the files of plan maps share.
 */

#include "private.h"

#include <apr_file_info.h>

#pragma GCC visibility push(hidden)

/* Which version of a file; all zero when there is none. */
typedef struct {
    apr_time_t changed;
    apr_time_t modified;
    apr_off_t size;
    apr_ino_t inode;
} file_mark_t;

#define FILE_MARK_WANTED \
    (APR_FINFO_CTIME | APR_FINFO_MTIME | APR_FINFO_SIZE | APR_FINFO_INODE | APR_FINFO_TYPE)

/* Of a file looked at with FILE_MARK_WANTED. */
static inline file_mark_t file_mark(const apr_finfo_t *info)
{
    return (file_mark_t){
        .changed = info->ctime, .modified = info->mtime, .size = info->size, .inode = info->inode
    };
}

/* --- plan_map_txt.c */

/* The values of a text file and their plans, in one block and a table of offsets. Read-only, with
   memory of its own. */
typedef struct txt_t txt_t;

/* Reads a file; mark is the version that was read. NULL, or what is wrong, without a word of the
   file: a value may be a secret. */
const char *txt_read(txt_t **txt, file_mark_t *mark, const char *path, apr_pool_t *pool);

/* The plan of a value that stands there in clear text or as its digest; NULL: unknown. */
const plan_t *txt_find(const txt_t *txt, const char *value);

/* Adds how many values have each plan to counts, by plan_t.index. */
void txt_count(const txt_t *txt, uint32_t counts[]);

/* Gives its memory back. */
void txt_free(txt_t *txt);

#pragma GCC visibility pop

#endif
