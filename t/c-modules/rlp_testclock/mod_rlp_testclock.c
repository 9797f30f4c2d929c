/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A clock that a test sets: RlpTestClockFile PATH names a file of two int64, the monotonic and the
 * wall time in microseconds. It is mapped, so what the test writes is the time at once. To be
 * loaded behind mod_ratelimit_plans, since the last clock registered is the one that is asked.
 */

#include "mod_ratelimit_plans.h"

#include <httpd.h>

#include <ap_provider.h>
#include <http_config.h>

#include <apr_mmap.h>
#include <apr_strings.h>

typedef struct {
    int64_t monotonic;
    int64_t wall;
} times_t;

extern module AP_MODULE_DECLARE_DATA rlp_testclock_module;

static const volatile times_t *testclock_times;

static rlp_time_t testclock_monotonic(void)
{
    return testclock_times->monotonic;
}

static rlp_time_t testclock_wall(void)
{
    return testclock_times->wall;
}

static const rlp_clock_provider_t testclock = { .monotonic = testclock_monotonic,
                                                .wall = testclock_wall };

static const char *testclock_file(cmd_parms *cmd, void *dir, const char *path)
{
    apr_file_t *file;
    apr_mmap_t *map;
    apr_status_t rv = apr_file_open(&file, path, APR_READ, APR_OS_DEFAULT, cmd->pool);

    (void)dir;
    if (rv == APR_SUCCESS) {
        rv = apr_mmap_create(&map, file, 0, sizeof(times_t), APR_MMAP_READ, cmd->pool);
    }
    if (rv != APR_SUCCESS) {
        return apr_psprintf(cmd->pool, "RlpTestClockFile: cannot map %s: error %d", path, rv);
    }
    testclock_times = map->mm;
    ap_register_provider(cmd->pool, RLP_CLOCK_GROUP, RLP_CLOCK_NAME, RLP_CLOCK_VERSION, &testclock);
    return NULL;
}

static const command_rec testclock_commands[] = {
    AP_INIT_TAKE1("RlpTestClockFile", testclock_file, NULL, RSRC_CONF, "file of the two times"),
    { .name = NULL }
};

module AP_MODULE_DECLARE_DATA rlp_testclock_module = {
    STANDARD20_MODULE_STUFF,
    .cmds = testclock_commands,
};
