/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * DBM files of values and plans. Each child opens the file for itself, and again when it changes;
 * its threads take turns.
 */

#include "plan_map.h"
#include "stats.h"

#include <http_log.h>

#include <apr_dbm.h>
#include <apr_file_io.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

#define DBM_DIGEST "sha256:"
#define DBM_NAME_MAX 64 /* of a plan */

/* One opening of the file. */
typedef struct {
    apr_dbm_t *dbm;
    apr_pool_t *pool; /* NULL: not open */
} dbm_file_t;

typedef struct {
    const char *identity; /* whose values they are, and */
    server_rec *server;   /* where, for the log */
    const char *type;
    const char *path;
    const char *parts[2];      /* the files it consists of; the second may be NULL */
    apr_thread_mutex_t *mutex; /* of all below; NULL: not in a child yet */
    dbm_file_t file;
    file_mark_t seen[2]; /* the version that is open */
    bool complained;     /* one could not be opened: */
    file_mark_t failed[2];
    uint32_t looked; /* the second of the last look */
    uint64_t version;
} dbm_state_t;

/* --- the file */

static const char *dbm_problem(const dbm_state_t *state, apr_status_t rv, apr_pool_t *pool)
{
    const bool usual = strcmp(state->type, "default") == 0;
    char reason[120];

    if (APR_STATUS_IS_ENOTIMPL(rv) || APR_STATUS_IS_EDSOOPEN(rv)) {
        return apr_psprintf(pool,
                            "expected a type of DBM file that APR-util has here (such as db, gdbm "
                            "or sdbm), got \"%s\"",
                            state->type);
    }
    if (APR_STATUS_IS_EACCES(rv)) {
        return apr_psprintf(pool, "cannot open %s: %s; the user of httpd's children reads it",
                            state->parts[0], apr_strerror(rv, reason, sizeof(reason)));
    }
    if (APR_STATUS_IS_ENOENT(rv)) {
        return apr_psprintf(pool, "cannot open %s: %s; to make it: httxt2dbm%s%s -i TEXT -o %s",
                            state->parts[0], apr_strerror(rv, reason, sizeof(reason)),
                            usual ? "" : " -f ", usual ? "" : state->type, state->path);
    }
    return apr_psprintf(pool,
                        "cannot use %s: it is damaged, locked by its writer, or no DBM file of the "
                        "type %s: make it anew "
                        "with httxt2dbm, or name its type with dbm=TYPE:FILE",
                        state->parts[0], state->type);
}

static void dbm_close(dbm_file_t *file)
{
    if (file->pool != NULL) {
        apr_dbm_close(file->dbm);
        apr_pool_destroy(file->pool);
        file->pool = NULL;
    }
}

/* Some kinds of DBM wait for who writes the file, with all requests behind them: it is locked for
   reading before they look. They say too little of what is missing, too. */
static apr_status_t dbm_lock(const char *path, apr_pool_t *pool)
{
    apr_file_t *file;
    apr_status_t rv = apr_file_open(&file, path, APR_FOPEN_READ, APR_OS_DEFAULT, pool);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_file_lock(file, APR_FLOCK_SHARED | APR_FLOCK_NONBLOCK);
    return APR_STATUS_IS_EAGAIN(rv) ? rv : APR_SUCCESS; /* else there are no locks */
}

/* Opens the file and asks it something, since not every damage shows when it is opened. */
static apr_status_t dbm_open(dbm_file_t *file, const dbm_state_t *state)
{
    char probe[] = "key";
    const apr_datum_t key = { .dptr = probe, .dsize = strlen(probe) };
    apr_datum_t found = { .dptr = NULL };
    apr_status_t rv = apr_pool_create_unmanaged_ex(&file->pool, NULL, NULL);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = dbm_lock(state->parts[0], file->pool);
    if (rv == APR_SUCCESS) {
        rv = apr_dbm_open_ex(&file->dbm, state->type, state->path, APR_DBM_READONLY, APR_OS_DEFAULT,
                             file->pool);
    }
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(file->pool);
        file->pool = NULL;
        return rv;
    }
    rv = apr_dbm_fetch(file->dbm, key, &found);
    if (rv != APR_SUCCESS) {
        dbm_close(file);
    } else if (found.dptr != NULL) {
        apr_dbm_freedatum(file->dbm, found);
    }
    return rv;
}

static void dbm_marks(file_mark_t marks[2], const dbm_state_t *state, apr_pool_t *pool)
{
    for (int i = 0; i < 2; i++) {
        marks[i] =
            state->parts[i] ? plan_map_mark(state->parts[i], pool) : (file_mark_t){ .size = 0 };
    }
}

static uint64_t dbm_mix(uint64_t version, const file_mark_t *mark)
{
    const uint64_t parts[] = { (uint64_t)mark->changed, (uint64_t)mark->modified,
                               (uint64_t)mark->size, (uint64_t)mark->inode };

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        version = (version ^ parts[i]) * UINT64_C(0x100000001b3);
        version ^= version >> 29;
    }
    return version;
}

static uint64_t dbm_digest(const file_mark_t marks[2])
{
    return dbm_mix(dbm_mix(1, &marks[0]), &marks[1]);
}

static const char *dbm_configure(void **settings, const rlp_plan_map_words_t *words, cmd_parms *cmd)
{
    dbm_state_t *made = apr_pcalloc(cmd->pool, sizeof(*made));

    made->identity = words->type;
    made->server = cmd->server;
    made->type = words->variant ? words->variant : "default";
    made->path = *words->argument ? ap_server_root_relative(cmd->pool, words->argument) : NULL;
    *settings = made;
    return made->path && *made->type ? NULL : "expected dbm:FILE or dbm=TYPE:FILE with a path";
}

static const char *dbm_describe(void *settings)
{
    const dbm_state_t *state = settings;

    return state->path;
}

/* Sees whether the file can be used; what is wrong comes with what to do. */
static const char *dbm_check(void *settings, apr_pool_t *pool)
{
    dbm_state_t *made = settings;
    file_mark_t marks[2];
    dbm_file_t file;

    made->parts[0] = made->path;
    apr_status_t rv =
        apr_dbm_get_usednames_ex(pool, made->type, made->path, &made->parts[0], &made->parts[1]);

    if (rv == APR_SUCCESS) {
        rv = dbm_open(&file, made);
    }
    if (rv != APR_SUCCESS) {
        return dbm_problem(made, rv, pool);
    }
    dbm_close(&file);
    dbm_marks(marks, made, pool);
    made->version = dbm_digest(marks);
    return NULL;
}

/* --- in a child */

static bool dbm_same(const file_mark_t a[2], const file_mark_t b[2])
{
    return plan_map_same(&a[0], &b[0]) && plan_map_same(&a[1], &b[1]);
}

/* Complains of a version once, however often it is tried. */
static void dbm_log_failed(dbm_state_t *state, const file_mark_t marks[2], apr_status_t rv,
                           apr_pool_t *pool)
{
    if (!state->complained || !dbm_same(marks, state->failed)) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, state->server, "RLP012: plan map of %s: %s; %s",
                     state->identity, dbm_problem(state, rv, pool),
                     state->file.pool ? "what was read before stays in force"
                                      : "this process knows none of its values");
    }
    state->complained = true;
    memcpy(state->failed, marks, sizeof(state->failed));
}

/* Opens the file if it has changed. What was open before stays when that fails, and it is tried
   again: somebody may have locked it, or files be short. */
static void dbm_reopen(dbm_state_t *state, apr_pool_t *pool)
{
    file_mark_t marks[2];
    dbm_file_t file;

    dbm_marks(marks, state, pool);
    if ((state->file.pool != NULL && dbm_same(marks, state->seen)) ||
        (state->file.pool != NULL && !plan_map_settled(&marks[0]))) {
        return;
    }
    const apr_status_t rv = dbm_open(&file, state);

    if (rv != APR_SUCCESS || state->file.pool != NULL) {
        stats_note_map(state->identity, state->path, rv == APR_SUCCESS);
    }
    if (rv != APR_SUCCESS) {
        dbm_log_failed(state, marks, rv, pool);
        return;
    }
    state->complained = false;
    memcpy(state->seen, marks, sizeof(marks));
    if (state->file.pool != NULL) {
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, state->server,
                     "RLP013: plan map of %s: read again: %s", state->identity, state->path);
    }
    dbm_close(&state->file);
    state->file = file;
    __atomic_store_n(&state->version, dbm_digest(marks), __ATOMIC_RELAXED);
}

static apr_status_t dbm_end(void *data)
{
    dbm_state_t *state = data;

    dbm_close(&state->file);
    return APR_SUCCESS;
}

/* Opens the file for a child. */
static apr_status_t dbm_child(void *settings, apr_pool_t *pchild)
{
    dbm_state_t *state = settings;
    const apr_status_t rv =
        apr_thread_mutex_create(&state->mutex, APR_THREAD_MUTEX_DEFAULT, pchild);

    if (rv != APR_SUCCESS) {
        state->mutex = NULL;
        return rv;
    }
    apr_pool_cleanup_register(pchild, state, dbm_end, apr_pool_cleanup_null);
    dbm_reopen(state, pchild);
    return APR_SUCCESS;
}

/* What stands for the version that is open; once a second, opens what is new. */
static uint64_t dbm_version(void *settings, apr_pool_t *pool)
{
    dbm_state_t *state = settings;
    const uint32_t now = (uint32_t)(rlp_clock_monotonic() / RLP_SECOND);

    if (__atomic_load_n(&state->looked, __ATOMIC_RELAXED) != now && state->mutex != NULL &&
        apr_thread_mutex_lock(state->mutex) == APR_SUCCESS) {
        if (state->looked != now) {
            dbm_reopen(state, pool);
            __atomic_store_n(&state->looked, now, __ATOMIC_RELAXED);
        }
        apr_thread_mutex_unlock(state->mutex);
    }
    return __atomic_load_n(&state->version, __ATOMIC_RELAXED);
}

/* What stands behind a key, copied; empty for nothing. */
static apr_status_t dbm_fetch(const dbm_state_t *state, const char *key,
                              char name[DBM_NAME_MAX + 1])
{
    union {
        const char *text;
        char *data;
    } wanted = { .text = key }; /* which is not written to */
    const apr_datum_t datum = { .dptr = wanted.data, .dsize = strlen(key) };
    apr_datum_t found = { .dptr = NULL };
    const apr_status_t rv = apr_dbm_fetch(state->file.dbm, datum, &found);

    name[0] = '\0';
    if (rv != APR_SUCCESS || found.dptr == NULL) {
        return rv;
    }
    const size_t len = found.dsize < DBM_NAME_MAX ? found.dsize : DBM_NAME_MAX;

    memcpy(name, found.dptr, len);
    name[len] = '\0';
    name[strcspn(name, " \t\r\n")] = '\0';
    apr_dbm_freedatum(state->file.dbm, found);
    return rv;
}

/* A key in clear text, or else its digest. */
static apr_status_t dbm_fetch_any(const dbm_state_t *state, const char *value,
                                  char name[DBM_NAME_MAX + 1])
{
    static const char hex[] = "0123456789abcdef";
    uint8_t digest[RLP_DIGEST_SIZE];
    char text[sizeof(DBM_DIGEST) + (size_t)2 * RLP_DIGEST_SIZE] = DBM_DIGEST;
    char *at = text + strlen(DBM_DIGEST);

    if (strncmp(value, DBM_DIGEST, strlen(DBM_DIGEST)) == 0) { /* who has read the file has none */
        name[0] = '\0';
        return APR_SUCCESS;
    }
    const apr_status_t rv = dbm_fetch(state, value, name);

    if (rv != APR_SUCCESS || name[0] != '\0') {
        return rv;
    }
    rlp_digest(digest, value, strlen(value));
    for (size_t i = 0; i < RLP_DIGEST_SIZE; i++) {
        *at++ = hex[digest[i] >> 4];
        *at++ = hex[digest[i] & 15];
    }
    *at = '\0';
    return dbm_fetch(state, text, name);
}

static const char *dbm_find(const char **plan, void *settings, const char *value, request_rec *r,
                            apr_pool_t *pool)
{
    dbm_state_t *state = settings;
    char text[DBM_NAME_MAX + 1] = "";
    apr_status_t rv = APR_EGENERAL;

    (void)r;
    if (state->mutex != NULL && apr_thread_mutex_lock(state->mutex) == APR_SUCCESS) {
        rv = state->file.pool ? dbm_fetch_any(state, value, text) : rv;
        apr_thread_mutex_unlock(state->mutex);
    }
    *plan = apr_pstrdup(pool, text);
    return rv == APR_SUCCESS ? NULL : "the file cannot be read";
}

const rlp_plan_map_provider_t dbm_provider = {
    .argument = "FILE",
    .variant = "TYPE",
    .kept = true,
    .common = true,
    .no_timeout = "nobody waits for a file",
    .configure = dbm_configure,
    .describe = dbm_describe,
    .open = dbm_check,
    .child = dbm_child,
    .version = dbm_version,
    .find = dbm_find,
};
