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

/* Are its answers kept in the cache? */
static inline bool plan_map_keeps(const plan_map_t *map)
{
    return map->provider->blocks || map->provider->kept;
}

/* --- plan_map.c */

/* The version of the file by that name. */
file_mark_t plan_map_mark(const char *path, apr_pool_t *pool);

/* Are they the same version? */
bool plan_map_same(const file_mark_t *a, const file_mark_t *b);

/* Who writes may not be done yet: a version counts when it is a second old. */
bool plan_map_settled(const file_mark_t *mark);

/* The plan by the name that a source says the value has. Tells of one that is none; an empty name
   is no plan. */
const plan_t *plan_map_named(const plan_map_t *map, const char *name);

/* The plan that the provider names for the value, NULL for one that is unknown; r as for
   rlp_plan_map_provider_t. False: it has failed. */
bool plan_map_ask(const plan_t **plan, const plan_map_t *map, const char *value, request_rec *r,
                  apr_pool_t *pool);

/* Tells that a source has failed, once a minute. Nothing of the value may be in the text. */
void plan_map_failed(const plan_map_t *map, const char *text);

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

/* Adds how many values have each plan to counts, by plan_t.index. */
void txt_count_plans(const txt_t *txt, uint32_t counts[]);

/* --- plan_map_cache.c */

/* What slow sources have answered: one for the whole server, kept across restarts. */

/* The digest of a value, keyed, for one source. */
typedef struct {
    uint64_t high;
    uint64_t low;
} cache_key_t;

typedef enum {
    CACHE_NONE,
    CACHE_FRESH, /* the plan, or NULL for a value that is unknown */
    CACHE_OLD    /* the plan that was known, to be asked again */
} cache_found_t;

/* The one that there is, in the parent. NULL: no memory. */
cache_t *cache_open(void);

/* What stands for a source, or for one version of it, by a text. */
uint64_t cache_source(const cache_t *cache, const char *text);

/* What stands for a value of a source. */
cache_key_t cache_key(const cache_t *cache, uint64_t source, const char *value);

/* What is known of a key. */
cache_found_t cache_get(cache_t *cache, const cache_key_t *key, const plan_t **plan);

/* Who finds an old answer and asks again says so: others take it for a second. */
void cache_hold(cache_t *cache, const cache_key_t *key, const plan_t *plan);

/* Keeps an answer; NULL: the source does not know the value. */
void cache_put(cache_t *cache, const cache_key_t *key, const plan_t *plan, rlp_time_t ttl);

/* The source has failed: nobody waits for this value again within a second. */
void cache_put_failed(cache_t *cache, const cache_key_t *key);

/* May the client of the request ask for one more value that is not known? */
bool cache_may_ask(cache_t *cache, const request_rec *r);

/* --- plan_map_ask.c */

/* Starts the threads of a child that ask sources that block, on behalf of all maps. */
void ask_begin(apr_pool_t *pchild, server_rec *server);

/* Asks for a value; the answer goes into the cache, even if it comes too late. *plan is NULL for a
   value that is unknown. False: there is no answer. */
bool ask_find(const plan_t **plan, const plan_map_t *map, const char *value,
              const cache_key_t *key);

/* --- plan_map_file.c, plan_map_dbm.c, plan_map_dbd.c, plan_map_expr.c */

/* The sources. */
extern const rlp_plan_map_provider_t versions_provider;
extern const rlp_plan_map_provider_t dbm_provider;
extern const rlp_plan_map_provider_t dbd_provider;
extern const rlp_plan_map_provider_t expr_provider;
extern const rlp_plan_map_provider_t redis_map_provider; /* where it was built with Redis */

#pragma GCC visibility pop

#endif
