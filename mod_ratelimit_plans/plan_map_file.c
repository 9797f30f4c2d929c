/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A text file as it changes: one child reads a new version into memory that all of them share, the
 * others map it. There are two such memories, in use by turns. A child has a lock for reading on
 * the one it looks values up in; who has read a new version into the other had it locked for
 * writing. These locks go with the process, however it ends.
 */

#include "plan_map.h"
#include "stats.h"

#include <http_log.h>
#include <http_main.h>

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

APLOG_USE_MODULE(ratelimit_plans);

/* Shared by all children of a generation. */
typedef struct {
    uint32_t version; /* the latest; version % 2 is its memory */
    uint32_t looked;  /* the second in which somebody looked last */
    file_mark_t seen; /* what was looked at last, good or not; of who has the lock to read */
} versions_common_t;

typedef struct {
    const char *type; /* of identity, for the log */
    const char *path;
    int fds[2]; /* the memories; -1: none */
    int fd;     /* who reads has it locked */
    versions_common_t *common;
    server_rec *server;  /* for the log; NULL: not in a child yet */
    uint32_t version;    /* of this process; version % 2 says which of these: */
    uint32_t readers[2]; /* threads in it */
    const txt_t *txt[2];
    size_t sizes[2]; /* of the tables: what nobody looks into may be gone */
} versions_t;

/* --- locks between processes */

/* Locks for reading (F_RDLCK) or writing (F_WRLCK), or unlocks (F_UNLCK); false: not now. */
static bool versions_lock(int fd, short kind)
{
    struct flock lock = { .l_type = kind, .l_whence = SEEK_SET, .l_len = 1 };

    return fcntl(fd, F_SETLK, &lock) == 0;
}

static void versions_close(versions_t *versions, uint32_t i)
{
    if (versions->txt[i] != NULL) {
        txt_close(versions->txt[i], versions->sizes[i]);
        versions->txt[i] = NULL;
    }
}

/* --- the parent */

static apr_status_t versions_end(void *data)
{
    versions_t *versions = data;

    for (uint32_t i = 0; i < 2; i++) {
        versions_close(versions, i);
        if (versions->fds[i] >= 0) {
            (void)close(versions->fds[i]);
        }
    }
    if (versions->common != NULL) {
        (void)munmap(versions->common, sizeof(*versions->common));
    }
    if (versions->fd >= 0) {
        (void)close(versions->fd);
    }
    return APR_SUCCESS;
}

/* The memory that all share. False: there is none. */
static bool versions_share(versions_t *versions)
{
    versions->fd = memfd_create("ratelimit plan map", MFD_CLOEXEC);
    versions->fds[0] = memfd_create("ratelimit plan map 0", MFD_CLOEXEC);
    versions->fds[1] = memfd_create("ratelimit plan map 1", MFD_CLOEXEC);
    if (versions->fd < 0 || versions->fds[0] < 0 || versions->fds[1] < 0 ||
        ftruncate(versions->fd, sizeof(*versions->common)) != 0) {
        return false;
    }
    void *common =
        mmap(NULL, sizeof(*versions->common), PROT_READ | PROT_WRITE, MAP_SHARED, versions->fd, 0);

    versions->common = common == MAP_FAILED ? NULL : common;
    return versions->common != NULL;
}

static const char *versions_configure(void **settings, const rlp_plan_map_words_t *words,
                                      cmd_parms *cmd)
{
    versions_t *made = apr_pcalloc(cmd->pool, sizeof(*made));

    made->type = words->type;
    made->path = *words->argument ? ap_server_root_relative(cmd->pool, words->argument) : NULL;
    *settings = made;
    return made->path ? NULL
                      : apr_psprintf(cmd->pool, "expected txt:FILE with a path, got \"txt:%s\"",
                                     words->argument);
}

static const char *versions_describe(void *settings)
{
    const versions_t *versions = settings;

    return versions->path;
}

/* Reads the first version. */
static const char *versions_open(void *settings, apr_pool_t *pool)
{
    versions_t *made = settings;
    apr_pool_t *scratch;

    made->fd = made->fds[0] = made->fds[1] = -1;
    apr_pool_cleanup_register(pool, made, versions_end, apr_pool_cleanup_null);
    if (!versions_share(made) || apr_pool_create(&scratch, pool) != APR_SUCCESS) {
        return "cannot get memory that children share";
    }
    const txt_request_t request = { .path = made->path, .fd = made->fds[0] };
    const char *error = txt_read(&made->txt[0], &made->common->seen, &request, scratch);

    if (error == NULL) {
        made->sizes[0] = txt_size(made->txt[0]);
    } else {
        error = apr_pstrdup(pool, error);
    }
    apr_pool_destroy(scratch);
    return error;
}

static void versions_count(void *settings, rlp_plan_map_count_fn *count, void *baton,
                           apr_pool_t *pool)
{
    const versions_t *versions = settings;
    const apr_array_header_t *plans = rlp_world->plan_list;
    uint32_t *counts = apr_pcalloc(pool, sizeof(*counts) * ((apr_size_t)plans->nelts + 1));

    txt_count_plans(versions->txt[0], counts);
    for (int i = 1; i <= plans->nelts; i++) {
        count(baton, APR_ARRAY_IDX(plans, i - 1, const plan_t *)->limits->name, counts[i]);
    }
}

/* --- in a child, one version after the other */

/* From here on values are looked up in the table given, of a version that this process has locked.
   The threads that are still in the one before are waited for. */
static void versions_switch(versions_t *versions, uint32_t version, const txt_t *txt)
{
    const uint32_t before = versions->version % 2;

    versions->sizes[version % 2] = txt_size(txt);
    __atomic_store_n(&versions->txt[version % 2], txt, __ATOMIC_SEQ_CST);
    __atomic_store_n(&versions->version, version, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&versions->readers[before], __ATOMIC_SEQ_CST) != 0) {
        apr_sleep(1000);
    }
    versions_close(versions, before);
    (void)versions_lock(versions->fds[before], F_UNLCK);
}

/* Takes the latest version over. A lock that came too late is given back. */
static void versions_adopt(versions_t *versions)
{
    versions_common_t *common = versions->common;
    const uint32_t version = __atomic_load_n(&common->version, __ATOMIC_ACQUIRE);
    const int fd = versions->fds[version % 2];

    if (version == versions->version || !versions_lock(fd, F_RDLCK)) {
        return;
    }
    const txt_t *txt =
        __atomic_load_n(&common->version, __ATOMIC_ACQUIRE) == version ? txt_open(fd) : NULL;

    if (txt != NULL) {
        versions_switch(versions, version, txt);
    } else {
        (void)versions_lock(fd, F_UNLCK);
    }
}

/* In a new child: the parent's version is gone. */
static void versions_start(versions_t *versions, uint32_t version)
{
    const uint32_t i = version % 2;

    versions_close(versions, 0);
    versions->txt[i] = txt_open(versions->fds[i]);
    versions->sizes[i] = versions->txt[i] ? txt_size(versions->txt[i]) : 0;
    versions->version = version;
}

/* A child begins with the parent's version if that is the latest, and locks it before anybody can
   read another into its place. */
static apr_status_t versions_child(void *settings, apr_pool_t *pchild)
{
    versions_t *versions = settings;
    const versions_common_t *common = versions->common;

    (void)pchild;
    versions->server = ap_server_conf;
    while (true) {
        const uint32_t version = __atomic_load_n(&common->version, __ATOMIC_ACQUIRE);
        const int fd = versions->fds[version % 2];

        if (!versions_lock(fd, F_RDLCK)) {
            apr_sleep(1000); /* it is just being replaced */
            continue;
        }
        if (__atomic_load_n(&common->version, __ATOMIC_ACQUIRE) != version) {
            (void)versions_lock(fd, F_UNLCK);
            continue;
        }
        if (version != 0) {
            versions_start(versions, version);
        }
        return APR_SUCCESS;
    }
}

/* --- a new version, read by one child for all */

/* Gives the memory back that no process uses; this one has it locked. */
static void versions_reclaim(int fd)
{
    struct stat info;

    const bool empty = fstat(fd, &info) == 0 && (info.st_size == 0 || ftruncate(fd, 0) == 0);

    (void)empty; /* else it stays for the next version */
    (void)versions_lock(fd, F_UNLCK);
}

/* Reads into the memory that nobody uses, which this process has locked. What was looked at counts
   as seen at the end alone: who is stopped or killed in between leaves it to another process. */
static void versions_read(versions_t *versions, file_mark_t seen, volatile apr_uint32_t *stop,
                          apr_pool_t *pool)
{
    versions_common_t *common = versions->common;
    const uint32_t next = common->version + 1;
    const txt_request_t request = { .path = versions->path,
                                    .fd = versions->fds[next % 2],
                                    .stop = stop };
    const txt_t *txt = NULL;
    const char *error = txt_read(&txt, &seen, &request, pool);

    if (error != NULL) {
        versions_reclaim(request.fd);
        if (*error != '\0') {
            common->seen = seen;
            stats_note_map(versions->type, versions->path, false);
            ap_log_error(APLOG_MARK, APLOG_ERR, 0, versions->server,
                         "RLP012: plan map of %s: %s; what was read before stays in force",
                         versions->type, error);
        }
        return;
    }
    (void)versions_lock(request.fd, F_RDLCK);
    common->seen = seen;
    __atomic_store_n(&common->version, next, __ATOMIC_RELEASE);
    versions_switch(versions, next, txt);
    stats_note_map(versions->type, versions->path, true);
    ap_log_error(APLOG_MARK, APLOG_INFO, 0, versions->server,
                 "RLP013: plan map of %s: read again: %s", versions->type, versions->path);
}

/* With the lock to read. */
static void versions_look(versions_t *versions, volatile apr_uint32_t *stop)
{
    versions_common_t *common = versions->common;
    const int spare = versions->fds[(common->version + 1) % 2];
    apr_pool_t *pool;

    if (versions->version != common->version || !versions_lock(spare, F_WRLCK)) {
        return; /* somebody has not left the version before */
    }
    if (apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS) {
        (void)versions_lock(spare, F_UNLCK);
        return;
    }
    const file_mark_t mark = plan_map_mark(versions->path, pool);

    if (!plan_map_same(&mark, &common->seen) && plan_map_settled(&mark)) {
        versions_read(versions, mark, stop, pool);
    } else {
        versions_reclaim(spare);
    }
    apr_pool_destroy(pool);
}

/* Looks for a new version, reads it for all children if nobody else does, and takes it over. */
static void versions_refresh(void *settings, volatile apr_uint32_t *stop)
{
    versions_t *versions = settings;
    versions_common_t *common = versions->common;
    const uint32_t now = (uint32_t)(rlp_clock_monotonic() / RLP_SECOND);
    uint32_t looked = __atomic_load_n(&common->looked, __ATOMIC_RELAXED);

    versions_adopt(versions);
    if (looked == now || !__atomic_compare_exchange_n(&common->looked, &looked, now, false,
                                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        return; /* once a second is enough, whoever does it */
    }
    if (versions_lock(versions->fd, F_WRLCK)) {
        versions_look(versions, stop);
        (void)versions_lock(versions->fd, F_UNLCK);
    }
}

static const char *versions_find(const char **plan, void *settings, const char *value,
                                 request_rec *r, apr_pool_t *pool)
{
    versions_t *versions = settings;
    uint32_t version;
    uint32_t *readers;

    (void)r;
    (void)pool;
    while (true) {
        version = __atomic_load_n(&versions->version, __ATOMIC_SEQ_CST);
        readers = &versions->readers[version % 2];
        __atomic_add_fetch(readers, 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&versions->version, __ATOMIC_SEQ_CST) == version) {
            break;
        }
        __atomic_sub_fetch(readers, 1, __ATOMIC_RELEASE);
    }
    const txt_t *txt = versions->txt[version % 2];
    const plan_t *found = txt ? txt_find(txt, value) : NULL;

    __atomic_sub_fetch(readers, 1, __ATOMIC_RELEASE);
    *plan = found ? found->limits->name : NULL;
    return NULL;
}

const rlp_plan_map_provider_t versions_provider = {
    .argument = "FILE",
    .anew = true,
    .no_ttl = "the file is in memory, and is read again when it changes",
    .no_timeout = "the file is in memory",
    .configure = versions_configure,
    .describe = versions_describe,
    .open = versions_open,
    .count = versions_count,
    .child = versions_child,
    .refresh = versions_refresh,
    .find = versions_find,
};
