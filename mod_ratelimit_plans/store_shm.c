/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The store "shm": one segment of shared memory in a file, opened at the full start and kept across
 * restarts.
 */

#include "provider.h"

#include <http_core.h>
#include <http_log.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

#define SHM_PAGE 4096
#define SHM_SIZE ((apr_size_t)16 * 1024 * 1024)
#define SHM_SIZE_MAX (INT64_C(1) << 40)
#define SHM_RETAINED "mod_ratelimit_plans segment %d"

typedef struct {
    const char *name;
    const char *path; /* NULL: in the runtime directory */
    apr_size_t size;
} shm_settings_t;

/* A size with K, M or G, in bytes. NULL, or what was expected. */
static const char *shm_size(apr_size_t *size, const char *text, apr_pool_t *pool)
{
    static const char units[] = "KMG";
    char *end;
    apr_int64_t number = apr_strtoi64(text, &end, 10);
    const char *unit = *end ? strchr(units, apr_toupper(*end)) : NULL;

    if (*text < '0' || *text > '9' || (*end != '\0' && (unit == NULL || end[1] != '\0'))) {
        return apr_psprintf(pool, "expected size=N with K, M or G, got \"size=%s\"", text);
    }
    for (const char *i = units; unit != NULL && i <= unit && number <= SHM_SIZE_MAX; i++) {
        number *= 1024;
    }
    if (number < RLP_SEGMENT_MIN || number > SHM_SIZE_MAX) {
        return apr_psprintf(pool, "expected a size from 1M to 1024G, got \"size=%s\"", text);
    }
    *size = ((apr_size_t)number + SHM_PAGE - 1) / SHM_PAGE * SHM_PAGE;
    return NULL;
}

/* Can there be a file? NULL, or what stands against it. Who tests a configuration may not be
   allowed to look everywhere. */
static const char *shm_check_path(const char *path, apr_pool_t *pool)
{
    apr_finfo_t info;
    char reason[120];

    if (apr_stat(&info, path, APR_FINFO_LINK | APR_FINFO_TYPE, pool) == APR_SUCCESS) {
        return info.filetype == APR_REG
                   ? NULL
                   : apr_pstrcat(pool, "expected a file: ", path,
                                 info.filetype == APR_LNK ? " is a symbolic link" : "", NULL);
    }
    const apr_status_t rv =
        apr_stat(&info, ap_make_dirstr_parent(pool, path), APR_FINFO_TYPE, pool);

    return APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv)
               ? apr_psprintf(pool, "cannot create %s: %s", path,
                              apr_strerror(rv, reason, sizeof(reason)))
               : NULL;
}

static const char *shm_option(shm_settings_t *settings, const char *word, apr_pool_t *pool)
{
    static const char *const names[] = { "size=", "file=", NULL };

    if (ap_cstr_casecmpn(word, "size=", 5) == 0) {
        return shm_size(&settings->size, word + 5, pool);
    }
    if (ap_cstr_casecmpn(word, "file=", 5) == 0 && word[5] != '\0') {
        settings->path = ap_server_root_relative(pool, word + 5);
        return settings->path ? shm_check_path(settings->path, pool)
                              : apr_psprintf(pool, "expected a path, got \"%s\"", word);
    }
    return apr_psprintf(pool, "expected size=SIZE or file=PATH, got \"%s\"%s",
                        config_shown(word, pool), config_near(word, names, pool));
}

static const char *shm_configure(void **made, const char *name, const char *const options[], int n,
                                 apr_pool_t *pool)
{
    shm_settings_t *settings = apr_pcalloc(pool, sizeof(*settings));
    const char *error = NULL;

    settings->name = name;
    settings->size = SHM_SIZE;
    for (int i = 0; i < n && error == NULL; i++) {
        error = shm_option(settings, options[i], pool);
    }
    *made = settings;
    return error;
}

/* What outlives a restart in this process: plain data, since this file is unloaded in between. */
typedef struct {
    rlp_segment_t segment;
    char path[4096];
} retained_t;

const char *store_shm_path(const void *made, apr_pool_t *pool)
{
    const shm_settings_t *settings = made;

    return settings->path ? settings->path
                          : ap_runtime_dir_relative(pool, apr_psprintf(pool, "ratelimit-%s.shm",
                                                                       settings->name));
}

/* A segment of this server process, kept from the full start on. They are numbered from 1, in the
   order in which they were made. NULL: there are not so many. */
static retained_t *shm_retained(int number)
{
    char name[sizeof(SHM_RETAINED) + RLP_NUMBER_MAX];

    apr_snprintf(name, sizeof(name), SHM_RETAINED, number);
    return ap_retained_data_get(name);
}

static retained_t *shm_retain(int number)
{
    char name[sizeof(SHM_RETAINED) + RLP_NUMBER_MAX];

    apr_snprintf(name, sizeof(name), SHM_RETAINED, number);
    retained_t *retained = ap_retained_data_create(name, sizeof(*retained));

    retained->segment.fd = -1;
    return retained;
}

/* Has another store of this configuration taken it? */
static bool shm_is_taken(int number)
{
    bool taken = false;

    for (int i = 0; i < rlp_world->segments->nelts; i++) {
        taken |= APR_ARRAY_IDX(rlp_world->segments, i, int) == number;
    }
    return taken;
}

/* The number of the segment that the store takes: that of its file. Else, since what is counted
   stays when a file changes, the first of a file that no store has any more; else a new one. */
static int shm_choose(const char *path, apr_pool_t *pool)
{
    const retained_t *retained;
    int chosen = 0;
    int number = 1;

    for (; (retained = shm_retained(number)) != NULL; number++) {
        const bool free = !shm_is_taken(number);

        if (free && strcmp(retained->path, path) == 0) {
            return number;
        }
        if (free && chosen == 0 && !stores_have(retained->path, pool)) {
            chosen = number;
        }
    }
    return chosen ? chosen : number;
}

/* Takes it. */
static retained_t *shm_take(int number)
{
    retained_t *retained = shm_retained(number);

    APR_ARRAY_PUSH(rlp_world->segments, int) = number;
    return retained ? retained : shm_retain(number);
}

/* NULL, or what went wrong. */
static const char *shm_open_segment(retained_t *retained, const shm_settings_t *settings,
                                    const rlp_clock_t *clock, server_rec *server, apr_pool_t *pool)
{
    const char *message = NULL;
    const char *path = store_shm_path(settings, pool);

    if (rlp_segment_open(&retained->segment, path, settings->size, clock, &message, pool) !=
        APR_SUCCESS) {
        return message;
    }
    if (message != NULL) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server, "RLP010: %s", message);
    }
    apr_cpystrn(retained->path, path, sizeof(retained->path));
    return NULL;
}

static void shm_stays(const retained_t *retained, const shm_settings_t *settings,
                      server_rec *server, apr_pool_t *pool)
{
    if (strcmp(retained->path, store_shm_path(settings, pool)) != 0 ||
        retained->segment.size != settings->size) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, server,
                     "RLP011: the store stays %s with %" APR_SIZE_T_FMT
                     " bytes until the next stop and start; a graceful restart does not change it",
                     retained->path, retained->segment.size);
    }
}

/* A graceful restart loads this module anew: what is in memory may be of another version. The
   children that have it keep it until they end; from here on the file is opened as at a full
   start. */
static void shm_leave_unusable(retained_t *retained, apr_pool_t *pool)
{
    rlp_store_t *store;

    if (rlp_shm_create(&store, &retained->segment, pool) != APR_SUCCESS) {
        rlp_segment_close(&retained->segment);
    }
}

static const char *shm_open(rlp_store_t **store, void *made, const rlp_clock_t *clock,
                            server_rec *server, apr_pool_t *pool)
{
    const shm_settings_t *settings = made;
    const int number = shm_choose(store_shm_path(settings, pool), pool);
    retained_t *retained = shm_take(number);

    if (retained->segment.memory != NULL) {
        shm_leave_unusable(retained, pool);
    }
    if (retained->segment.memory == NULL) {
        const char *error = shm_open_segment(retained, settings, clock, server, pool);

        if (error != NULL) {
            return error;
        }
    }
    shm_stays(retained, settings, server, pool);
    if (rlp_shm_create(store, &retained->segment, pool) != APR_SUCCESS) {
        return "the store in memory is damaged; stop and start the server";
    }
    if (rlp_world->annexed == NULL || number == 1) { /* the same as before, if it can be */
        rlp_world->annexed = *store;
        rlp_world->annexed_at = number;
    }
    return NULL;
}

const rlp_store_provider_t store_shm_provider = { .options = "[size=SIZE] [file=PATH]",
                                                  .state_max = SHM_STATE_MAX,
                                                  .configure = shm_configure,
                                                  .open = shm_open };

size_t store_shm_size(const void *made)
{
    const shm_settings_t *settings = made;

    return settings->size;
}

void *store_shm_annex(void)
{
    return rlp_world->annexed ? rlp_segment_annex(&shm_retained(rlp_world->annexed_at)->segment)
                              : NULL;
}

rlp_segment_look_t store_shm_look(void)
{
    return rlp_world->annexed ? rlp_segment_look(&shm_retained(rlp_world->annexed_at)->segment,
                                                 rlp_world->clock->monotonic())
                              : (rlp_segment_look_t){ 0 };
}

const char *store_shm_describe(const void *made, apr_pool_t *pool)
{
    const shm_settings_t *settings = made;

    return apr_psprintf(pool, "%" APR_SIZE_T_FMT " kB of shared memory in %s",
                        settings->size / 1024,
                        settings->path ? settings->path : "the runtime directory");
}
