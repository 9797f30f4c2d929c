/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef PLAN_MAP_H
#define PLAN_MAP_H

/*
 * What the files of plan maps share.
 */

#include "private.h"

#include <apr_file_info.h>
#include <apr_thread_proc.h>

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

/* --- plan_map.c */

/* The version of the file by that name. */
file_mark_t plan_map_mark(const char *path, apr_pool_t *pool);

bool plan_map_same(const file_mark_t *a, const file_mark_t *b);

/* Who writes may not be done yet: a version counts when it is a second old. */
bool plan_map_settled(const file_mark_t *mark);

/* Starts a thread to which no signals go: those are for the threads of the MPM. */
apr_status_t plan_map_thread(apr_thread_t **thread, apr_thread_start_t run, void *data,
                             apr_pool_t *pool);

/* --- plan_map_txt.c */

/* The values of a text file and their plans, in shared memory, with offsets for pointers. */
typedef struct txt_t txt_t;

/* What to read, and into what. */
typedef struct {
    const char *path;
    int fd;                      /* of shared memory, which the table fills */
    volatile apr_uint32_t *stop; /* not 0: give up; NULL: never */
} txt_request_t;

/* Reads a file; mark is the version that was read. NULL, or what is wrong, without a word of the
   file: a value may be a secret. "" when it was told to stop. */
const char *txt_read(const txt_t **txt, file_mark_t *mark, const txt_request_t *request,
                     apr_pool_t *pool);

/* Maps what another process has read; NULL: there is nothing. */
const txt_t *txt_open(int fd);

/* Its bytes, while the memory is there. */
size_t txt_size(const txt_t *txt);

/* Unmaps a table of so many bytes; it need not be there any more. */
void txt_close(const txt_t *txt, size_t size);

/* The plan of a value that stands there in clear text or as its digest; NULL: unknown. */
const plan_t *txt_find(const txt_t *txt, const char *value);

/* --- plan_map_file.c: text files as they change */

/* The versions of one text file that there are. */
typedef struct versions_t versions_t;

/* Reads the first version, in the parent. NULL, or what is wrong. */
const char *versions_load(versions_t **versions, const char *path, apr_pool_t *pool);

/* Makes ready for a child, which has the latest version from here on. */
void versions_begin(versions_t *versions, server_rec *server);

/* Looks for a new version, reads it for all children if nobody else does, and takes it over. type
   is for the log; stop as in txt_request_t. */
void versions_refresh(versions_t *versions, const char *type, volatile apr_uint32_t *stop);

/* As txt_find(), in the latest version. */
const plan_t *versions_find(versions_t *versions, const char *value);

#pragma GCC visibility pop

#endif
