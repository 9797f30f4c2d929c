/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "rlp_store.h"
#include "slab.h"

#include <apr_general.h>
#include <apr_siphash.h>
#include <apr_strings.h>
#include <apr_time.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    rlp_store_t head;
    slab_t slab;
    unsigned char key[32];
    rlp_time_t offset; /* of the slab's time line from the monotonic clock */
} shm_t;

/* What opening a segment needs all along its way. */
typedef struct {
    const char *path;
    size_t size;
    const rlp_clock_t *clock;
    const char **message;
    apr_pool_t *pool;
} shm_job_t;

#define SHM_TIME_MAX (INT64_C(1) << 60)
#define SHM_BLOCK 512 /* bytes; of stat.st_blocks */

static apr_status_t shm_fail(const shm_job_t *job, const char *what, apr_status_t rv)
{
    char reason[120];

    apr_strerror(rv, reason, sizeof(reason));
    *job->message = apr_psprintf(job->pool, "%s %s: %s", what, job->path, reason);
    return rv;
}

/* Locks are of the open file description: inherited by fork, gone with the last process that has
   it. The first byte stands for who has the store; all behind it for who makes the store's own
   locks anew, alone, or works beside who has it, together. */
typedef enum { SHM_ALL, SHM_HAS, SHM_BESIDE } shm_part_t;

static apr_status_t shm_lock(int fd, short type, shm_part_t part)
{
    struct flock lock = { .l_type = type,
                          .l_whence = SEEK_SET,
                          .l_start = part == SHM_BESIDE,
                          .l_len = part == SHM_HAS };
    const apr_status_t rv = fcntl(fd, F_OFD_SETLK, &lock) == 0 ? APR_SUCCESS : errno;

    return rv == EACCES ? EAGAIN : rv;
}

/* Tools are quick, and so is who makes locks anew. */
#define SHM_NAP (RLP_SECOND / 200)
#define SHM_NAPS 400

static apr_status_t shm_await(int fd, short type, shm_part_t part)
{
    apr_status_t rv = shm_lock(fd, type, part);

    for (int naps = 0; rv == EAGAIN && naps < SHM_NAPS; naps++) {
        apr_sleep(SHM_NAP);
        rv = shm_lock(fd, type, part);
    }
    return rv;
}

/* For a server: against all others, and tools are waited for, those that have the store as well as
   those beside it. One beside it that takes its time does not keep a server from starting. */
static apr_status_t shm_take_lock(const shm_job_t *job, int fd)
{
    apr_status_t rv = shm_lock(fd, F_WRLCK, SHM_ALL);

    if (rv == EAGAIN) {
        (void)shm_await(fd, F_RDLCK, SHM_BESIDE); /* which a tool has, too, but no server at work */
        rv = shm_lock(fd, F_WRLCK, SHM_HAS);
        if (rv == APR_SUCCESS) {
            (void)shm_await(fd, F_WRLCK, SHM_ALL);
        }
    }
    if (rv == EAGAIN) {
        *job->message = apr_psprintf(job->pool,
                                     "the store file %s is in use by another server or by rlpctl; "
                                     "give a second server a file= of its own",
                                     job->path);
        return EBUSY;
    }
    return rv == APR_SUCCESS ? rv : shm_fail(job, "cannot lock the store file", rv);
}

/* size: of the slab, behind which the annex lies. */
static apr_status_t shm_map(const shm_job_t *job, rlp_segment_t *segment, size_t size)
{
    void *memory =
        mmap(NULL, size + RLP_ANNEX_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd, 0);

    if (memory == MAP_FAILED) {
        return shm_fail(job, "cannot map the store file", errno);
    }
    segment->memory = memory;
    segment->size = size;
    return APR_SUCCESS;
}

/* The PID namespace of this process; 0: the system does not say. */
static uint64_t shm_numbers(void)
{
    struct stat info;

    return stat("/proc/self/ns/pid", &info) == 0 ? (uint64_t)info.st_ino : 0;
}

/* From outside, or from another container, a process that has a lock would look dead, and the lock
   would be taken from it. */
static bool shm_is_outside(const slab_t *slab)
{
    const uint64_t numbers = *slab_numbers(slab);

    return numbers != 0 && numbers != shm_numbers();
}

/* The slab's time line begins at the wall clock, so that windows are aligned to the epoch. */
static void shm_begin_time(slab_base_t *base, const rlp_clock_t *clock)
{
    base->offset = clock->wall - clock->monotonic;
    base->wall_offset = 0;
    memcpy(base->boot_id, clock->boot_id, sizeof(base->boot_id));
}

/* Carries the time line on. After a reboot the monotonic clock began anew, and the wall clock tells
   how much time went by; where that was set back, time goes on from the latest instant seen. */
static void shm_resume_time(const slab_t *slab, const rlp_clock_t *clock)
{
    slab_base_t *base = slab_base(slab);
    const rlp_time_t last = slab_last(slab);
    const bool same_boot = clock->boot_id[0] != '\0' &&
                           strncmp(base->boot_id, clock->boot_id, sizeof(base->boot_id)) == 0;

    if (base->offset < -SHM_TIME_MAX || base->offset > SHM_TIME_MAX ||
        base->wall_offset < -SHM_TIME_MAX || base->wall_offset > SHM_TIME_MAX || last < 0 ||
        last > SHM_TIME_MAX) {
        shm_begin_time(base, clock);
        return;
    }
    rlp_time_t now = same_boot ? clock->monotonic + base->offset : clock->wall - base->wall_offset;

    if (now < last) {
        now = last;
    }
    base->offset = now - clock->monotonic;
    base->wall_offset = clock->wall - now;
    memcpy(base->boot_id, clock->boot_id, sizeof(base->boot_id));
}

/* All blocks of the file are allocated now: a full disk met later would be a SIGBUS in a child. */
static apr_status_t shm_allocate(const shm_job_t *job, int fd, size_t size)
{
    const apr_status_t rv = posix_fallocate(fd, 0, (off_t)size);

    return rv == APR_SUCCESS ? rv
                             : shm_fail(job,
                                        apr_psprintf(job->pool,
                                                     "cannot allocate %" APR_SIZE_T_FMT
                                                     " bytes for the store file",
                                                     size),
                                        rv);
}

/* Fills an empty file that is open and locked. */
static apr_status_t shm_fill(const shm_job_t *job, rlp_segment_t *segment)
{
    unsigned char key[32];
    slab_t slab;

    if (fchmod(segment->fd, 0600) != 0) {
        return shm_fail(job, "cannot change the mode of the store file", errno);
    }
    apr_status_t rv = shm_allocate(job, segment->fd, job->size + RLP_ANNEX_SIZE);

    if (rv != APR_SUCCESS) {
        (void)!ftruncate(segment->fd, 0);
        return rv;
    }
    rv = shm_map(job, segment, job->size);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_generate_random_bytes(key, sizeof(key));
    if (rv != APR_SUCCESS) {
        return shm_fail(job, "no random bytes for the key of the store file", rv);
    }
    slab_format(segment->memory, job->size, key);
    (void)slab_attach(&slab, segment->memory, job->size);
    shm_begin_time(slab_base(&slab), job->clock);
    return APR_SUCCESS;
}

/* Moves a store into a fresh segment of another size: its key, its time line, its counters, its
   annex. */
static void shm_move(const shm_job_t *job, const rlp_segment_t *segment, const slab_t *old)
{
    slab_t slab;

    slab_format(segment->memory, segment->size, slab_key(old));
    (void)slab_attach(&slab, segment->memory, segment->size);
    *slab_base(&slab) = *slab_base(old);
    slab_rehash(&slab, old, job->clock->monotonic + slab_base(old)->offset);
    memcpy(slab.base + slab.size, old->base + old->size, RLP_ANNEX_SIZE);
}

/* Puts a file made from nothing in the place of the one that is there. old: a usable store of
   another size whose counters move over, or NULL. */
static apr_status_t shm_replace(const shm_job_t *job, rlp_segment_t *segment, const slab_t *old)
{
    const char *name = apr_pstrcat(job->pool, job->path, ".new", NULL);
    rlp_segment_t made = { .fd = -1 };

    (void)unlink(name);
    made.fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (made.fd < 0) {
        return shm_fail(job, "cannot make a new store file beside", errno);
    }
    apr_status_t rv = shm_take_lock(job, made.fd);

    if (rv == APR_SUCCESS) {
        rv = shm_fill(job, &made);
    }
    if (rv == APR_SUCCESS && old != NULL) {
        shm_move(job, &made, old);
    }
    if (rv == APR_SUCCESS && rename(name, job->path) != 0) {
        rv = shm_fail(job, "cannot replace the store file", errno);
    }
    if (rv != APR_SUCCESS) {
        (void)unlink(name);
        rlp_segment_close(&made);
        return rv;
    }
    rlp_segment_close(segment);
    *segment = made;
    return APR_SUCCESS;
}

/* Why a file cannot be trusted by its looks, or NULL. */
static const char *shm_distrust(const struct stat *info)
{
    if (info->st_uid != geteuid()) {
        return "it belongs to another user";
    }
    if (info->st_mode & (S_IRWXG | S_IRWXO)) {
        return "other users have access to it";
    }
    if (info->st_nlink != 1) {
        return "it has a second name";
    }
    return NULL;
}

/* Who has copied the file here, or restored it, may have left holes in it. */
static apr_status_t shm_fill_holes(const shm_job_t *job, int fd, const struct stat *info)
{
    return info->st_blocks < info->st_size / SHM_BLOCK
               ? shm_allocate(job, fd, (size_t)info->st_size)
               : APR_SUCCESS;
}

/* The file is open and locked: use it as it is, rehash it, or begin anew. */
static apr_status_t shm_take(const shm_job_t *job, rlp_segment_t *segment, const struct stat *info)
{
    const char *reason = shm_distrust(info);
    slab_t slab;

    if (reason == NULL && info->st_size == 0) {
        return shm_fill(job, segment);
    }
    if (reason == NULL && info->st_size < RLP_ANNEX_SIZE) {
        reason = "it is not a store of this module";
    }
    if (reason == NULL) {
        const apr_status_t rv = shm_map(job, segment, (size_t)info->st_size - RLP_ANNEX_SIZE);

        if (rv != APR_SUCCESS) {
            return rv;
        }
        reason = slab_attach(&slab, segment->memory, segment->size);
    }
    if (reason != NULL) {
        *job->message =
            apr_psprintf(job->pool,
                         "the store file %s is unusable (%s): starting with an empty one",
                         job->path, reason);
        return shm_replace(job, segment, NULL);
    }
    const apr_status_t rv = shm_fill_holes(job, segment->fd, info);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (shm_lock(segment->fd, F_WRLCK, SHM_ALL) == APR_SUCCESS) {
        slab_unlock_all(&slab);
    } else { /* a tool takes its time */
        slab_unlock_dead(&slab);
    }
    shm_resume_time(&slab, job->clock);
    return segment->size == job->size ? APR_SUCCESS : shm_replace(job, segment, &slab);
}

/* Is the open file still the one that has the path's name? */
static bool shm_named(const shm_job_t *job, const rlp_segment_t *segment, struct stat *info)
{
    struct stat named;

    return fstat(segment->fd, info) == 0 && lstat(job->path, &named) == 0 &&
           named.st_ino == info->st_ino && named.st_dev == info->st_dev;
}

/* Opens and locks the file that has the path's name; APR_EAGAIN if it lost that name meanwhile. */
static apr_status_t shm_open_locked(const shm_job_t *job, rlp_segment_t *segment, struct stat *info)
{
    segment->fd = open(job->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    if (segment->fd < 0) {
        return shm_fail(job,
                        errno == ELOOP ? "will not follow the symbolic link"
                                       : "cannot open the store file",
                        errno);
    }
    if (fstat(segment->fd, info) != 0) {
        return shm_fail(job, "cannot look at the store file", errno);
    }
    if (!S_ISREG(info->st_mode)) {
        return shm_fail(job, "not a regular file:", EINVAL);
    }
    const apr_status_t rv = shm_take_lock(job, segment->fd);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (!shm_named(job, segment, info)) {
        (void)shm_fail(job, "another process replaces the store file", EBUSY);
        return APR_EAGAIN;
    }
    return APR_SUCCESS;
}

apr_status_t rlp_segment_open(rlp_segment_t *segment, const char *path, size_t size,
                              const rlp_clock_t *clock, const char **message, apr_pool_t *pool)
{
    const shm_job_t job = {
        .path = path, .size = size, .clock = clock, .message = message, .pool = pool
    };
    struct stat info = { 0 };
    apr_status_t rv = APR_EAGAIN;

    *segment = (rlp_segment_t){ .fd = -1 };
    if (size < RLP_SEGMENT_MIN || size % 4096 != 0) {
        return shm_fail(&job, "not a whole number of pages from 1 MB up, for the store file",
                        EINVAL);
    }
    for (int tries = 0; tries < 3 && rv == APR_EAGAIN; tries++) {
        rlp_segment_close(segment);
        rv = shm_open_locked(&job, segment, &info);
    }
    if (rv == APR_SUCCESS) {
        *message = NULL;
        rv = shm_take(&job, segment, &info);
    }
    if (rv != APR_SUCCESS) {
        rlp_segment_close(segment);
        return rv;
    }
    *slab_numbers(&(slab_t){ .base = segment->memory }) = shm_numbers();
    return shm_lock(segment->fd, F_UNLCK, SHM_BESIDE); /* tools may come */
}

/* Maps the file of a store, which is open and locked; what is none is refused. mine: nobody else
   has it. */
static apr_status_t shm_borrow_file(const shm_job_t *job, rlp_segment_t *segment, bool mine)
{
    struct stat info;
    slab_t slab;

    if (fstat(segment->fd, &info) != 0) {
        return shm_fail(job, "cannot look at the store file", errno);
    }
    if (!S_ISREG(info.st_mode) || info.st_size < RLP_ANNEX_SIZE + RLP_SEGMENT_MIN) {
        return shm_fail(job, "not a store of this module:", EINVAL);
    }
    const apr_status_t rv = shm_map(job, segment, (size_t)info.st_size - RLP_ANNEX_SIZE);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    const char *reason = slab_attach(&slab, segment->memory, segment->size);

    if (reason != NULL) {
        *job->message =
            apr_psprintf(job->pool, "the store file %s is unusable: %s", job->path, reason);
        return APR_EINVAL;
    }
    if (mine) {
        slab_unlock_all(&slab);
        shm_resume_time(&slab, job->clock);
    } else if (shm_is_outside(&slab)) {
        *job->message =
            apr_psprintf(job->pool,
                         "the store file %s is in use in another PID namespace: run this "
                         "in the container of its server",
                         job->path);
        return APR_EINVAL;
    }
    return APR_SUCCESS;
}

/* Opens the file for a tool, locked as far as its type says; EAGAIN: somebody has it. */
static apr_status_t shm_open_borrowed(const shm_job_t *job, rlp_segment_t *segment, bool mine)
{
    struct stat info;

    *segment =
        (rlp_segment_t){ .fd = open(job->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK) };
    if (segment->fd < 0) {
        return shm_fail(job, "cannot open the store file", errno);
    }
    const apr_status_t rv = mine ? shm_lock(segment->fd, F_WRLCK, SHM_ALL)
                                 : shm_await(segment->fd, F_RDLCK, SHM_BESIDE);

    if (rv == EAGAIN) {
        *job->message =
            apr_psprintf(job->pool, "the store file %s is in use by another process", job->path);
        return rv;
    }
    if (rv != APR_SUCCESS) {
        return shm_fail(job, "cannot lock the store file", rv);
    }
    return shm_named(job, segment, &info)
               ? shm_borrow_file(job, segment, mine)
               : shm_fail(job, "another process replaces the store file", EBUSY);
}

static apr_status_t shm_borrow(const shm_job_t *job, rlp_segment_t *segment, bool mine)
{
    const apr_status_t rv = shm_open_borrowed(job, segment, mine);

    if (rv != APR_SUCCESS) {
        rlp_segment_close(segment);
    }
    return rv;
}

apr_status_t rlp_segment_borrow(rlp_segment_t *segment, const char *path, const rlp_clock_t *clock,
                                const char **message, apr_pool_t *pool)
{
    const shm_job_t job = { .path = path, .clock = clock, .message = message, .pool = pool };

    return shm_borrow(&job, segment, true);
}

apr_status_t rlp_segment_join(rlp_segment_t *segment, const char *path, const rlp_clock_t *clock,
                              bool *shared, const char **message, apr_pool_t *pool)
{
    const shm_job_t job = { .path = path, .clock = clock, .message = message, .pool = pool };
    const apr_status_t rv = shm_borrow(&job, segment, true);

    *shared = rv == EAGAIN;
    if (!*shared) {
        return rv;
    }
    *message = NULL;
    return shm_borrow(&job, segment, false);
}

void *rlp_segment_annex(const rlp_segment_t *segment)
{
    return (char *)segment->memory + segment->size;
}

size_t rlp_segment_room(size_t size, uint32_t state)
{
    return slab_room(size, state);
}

rlp_segment_look_t rlp_segment_look(const rlp_segment_t *segment, rlp_time_t now)
{
    slab_t slab;

    if (slab_attach(&slab, segment->memory, segment->size) != NULL) {
        return (rlp_segment_look_t){ 0 };
    }
    const slab_look_t look = slab_look(&slab, now + slab_base(&slab)->offset);

    return (rlp_segment_look_t){ .slots = look.slots, .used = look.used, .evicted = look.evicted };
}

void rlp_segment_close(rlp_segment_t *segment)
{
    if (segment->memory != NULL) {
        (void)munmap(segment->memory, segment->size + RLP_ANNEX_SIZE);
    }
    if (segment->fd >= 0) {
        (void)shm_lock(segment->fd, F_UNLCK, SHM_ALL); /* children may have it open, too */
        (void)close(segment->fd);
    }
    *segment = (rlp_segment_t){ .fd = -1 };
}

static uint64_t shm_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    const uint64_t fingerprint = apr_siphash24(identity, len, ((const shm_t *)store)->key);

    return fingerprint ? fingerprint : 1; /* 0 marks a slot never used */
}

/* The keys of one request are mostly those of one identity. */
static void shm_identify(const rlp_store_t *store, rlp_entry_t *entries[], int n)
{
    for (int i = 0; i < n; i++) {
        rlp_key_t *key = &entries[i]->key;

        if (key->fingerprint != 0) {
            continue;
        }
        if (i > 0 && key->identity == entries[i - 1]->key.identity &&
            key->identity_len == entries[i - 1]->key.identity_len) {
            key->fingerprint = entries[i - 1]->key.fingerprint;
        } else {
            key->fingerprint = shm_fingerprint(store, key->identity, key->identity_len);
        }
    }
}

__attribute__((noinline)) static apr_status_t shm_update_all(shm_t *shm, rlp_entry_t *entries[],
                                                             int n, rlp_time_t now,
                                                             rlp_update_fn *fn, void *baton)
{
    shm_identify(&shm->head, entries, n);
    return slab_update(&shm->slab, entries, n, now + shm->offset, fn, baton);
}

static apr_status_t shm_update(rlp_store_t *store, rlp_entry_t *entries[], int n, rlp_time_t now,
                               rlp_update_fn *fn, void *baton)
{
    shm_t *shm = (shm_t *)store;

    if (n != 1 || entries[0]->key.fingerprint == 0) {
        return shm_update_all(shm, entries, n, now, fn, baton);
    }
    return slab_update(&shm->slab, entries, n, now + shm->offset, fn, baton);
}

static rlp_time_t shm_time(const rlp_store_t *store, rlp_time_t now)
{
    return now + ((const shm_t *)store)->offset;
}

static const rlp_store_type_t shm_type = {
    .name = "shm",
    .update = shm_update,
    .time = shm_time,
    .fingerprint = shm_fingerprint,
};

apr_status_t rlp_shm_create(rlp_store_t **store, const rlp_segment_t *segment, apr_pool_t *pool)
{
    shm_t *shm = apr_pcalloc(pool, sizeof(*shm));

    if (slab_attach(&shm->slab, segment->memory, segment->size) != NULL) {
        return APR_EINVAL;
    }
    shm->head.type = &shm_type;
    shm->head.owners = slab_owners(&shm->slab);
    shm->offset = slab_base(&shm->slab)->offset;
    memcpy(shm->key, slab_key(&shm->slab), sizeof(shm->key));
    shm->head.secret = shm->key + APR_SIPHASH_KSIZE;
    *store = &shm->head;
    return APR_SUCCESS;
}

uint64_t rlp_shm_forget(rlp_store_t *store, const char *identity, size_t len)
{
    return slab_forget(&((shm_t *)store)->slab, shm_fingerprint(store, identity, len));
}

uint32_t rlp_shm_state_max(const rlp_store_t *store)
{
    (void)store;
    return slab_fit_max();
}
