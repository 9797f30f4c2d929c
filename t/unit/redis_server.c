/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis_server.h"

#include "unit.h"

#include <apr_strings.h>

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#define SERVER_TRIES 3000 /* of 10 ms */

static struct {
    char dir[64];
    pid_t pid;
    redisContext *context;
} server;

static void server_path(char path[128], const char *file)
{
    snprintf(path, 128, "%s/%s", server.dir, file);
}

/* At the end of the program that started it, not of a child that it forks. */
static void server_stop(void)
{
    static const char *const files[] = { "socket", "log" };
    char path[128];

    if (server.context != NULL) {
        redisFree(server.context);
    }
    kill(server.pid, SIGKILL);
    waitpid(server.pid, NULL, 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        server_path(path, files[i]);
        unlink(path);
    }
    rmdir(server.dir);
}

static void server_run(void)
{
    char path[128];
    char log[128];

    server_path(path, "socket");
    server_path(log, "log");
    if (freopen("/dev/null", "r", stdin) == NULL || freopen("/dev/null", "w", stdout) == NULL ||
        freopen("/dev/null", "w", stderr) == NULL) {
        _exit(126);
    }
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* where the test is killed, too */
#endif
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", path, "--save", "",
           "--appendonly", "no", "--dir", server.dir, "--logfile", log, (char *)NULL);
    _exit(127);
}

static bool server_answers(const char *path)
{
    const struct timeval timeout = { .tv_sec = 30 };
    redisContext *context = redisConnectUnix(path);
    bool answers = false;

    if (context != NULL && context->err == 0) {
        redisSetTimeout(context, timeout);
        redisReply *reply = redisCommand(context, "PING");

        answers = reply != NULL && reply->type == REDIS_REPLY_STATUS;
        freeReplyObject(reply);
    }
    if (answers) {
        server.context = context;
    } else if (context != NULL) {
        redisFree(context);
    }
    return answers;
}

void redis_server_again(void)
{
    char path[128];

    server_path(path, "socket");
    redisFree(server.context);
    server.context = NULL;
    if (!server_answers(path)) {
        fprintf(stderr, "redis-server does not answer any more\n");
        abort();
    }
}

/* NULL, or why not. */
static const char *server_try(void)
{
    char path[128];

    signal(SIGPIPE, SIG_IGN);
    snprintf(server.dir, sizeof(server.dir), "/tmp/rlp-redis-XXXXXX");
    if (mkdtemp(server.dir) == NULL) {
        return "no directory can be made in /tmp";
    }
    server.pid = fork();
    if (server.pid == 0) {
        server_run();
    }
    if (server.pid < 0) {
        rmdir(server.dir);
        return strerror(errno);
    }
    server_path(path, "socket");
    for (int i = 0; i < SERVER_TRIES; i++) {
        if (server_answers(path)) {
            atexit(server_stop);
            return NULL;
        }
        if (waitpid(server.pid, NULL, WNOHANG) == server.pid) {
            break;
        }
        usleep(10000);
    }
    server_stop();
    return "no redis-server could be started (Debian: redis-server)";
}

bool redis_server_start(const char *tests)
{
    const char *why = server_try();

    if (why != NULL) {
        unit_add(tests, unit_skip_row, why);
    }
    return why == NULL;
}

const char *redis_server_path(void)
{
    return server.context->unix_sock.path;
}

redisContext *redis_server(void)
{
    return server.context;
}

redisReply *redis_server_ask(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    redisReply *reply = redisvCommand(server.context, format, args);
    va_end(args);
    if (reply == NULL) {
        fprintf(stderr, "redis-server: %s\n", server.context->errstr);
        abort();
    }
    return reply;
}

redis_endpoint_t *redis_server_endpoint(const char *path, const char *script, rlp_time_t connect)
{
    static redis_breaker_t breakers[4];
    const redis_settings_t settings = { .session = { .scripts = apr_pmemdup(unit_pool(), &script,
                                                                            sizeof(script)),
                                                     .n_scripts = script != NULL,
                                                     .connect = connect },
                                        .breaker = { .threshold = 3,
                                                     .recovery = RLP_SECOND,
                                                     .longest = RLP_SECOND,
                                                     .probe = RLP_SECOND } };
    redis_endpoint_t *endpoint;
    redis_url_t url;

    assert_null(redis_url_parse(&url, apr_pstrcat(unit_pool(), "unix://", path, (char *)NULL), NULL,
                                unit_pool()));
    assert_int_equal(redis_endpoint_create(&endpoint, &url, &settings, breakers, 4, unit_pool()),
                     APR_SUCCESS);
    return endpoint;
}

rlp_store_t *redis_server_told(void)
{
    const rlp_time_t patience = 20 * RLP_SECOND; /* a slow machine may be slow */
    const redis_store_settings_t made = {
        .endpoint =
            redis_server_endpoint(redis_server_path(), redis_store_script(unit_pool()), patience),
        .prefix = "t:",
        .timeout = patience,
        .told_time = true
    };

    return redis_store_create(&made, unit_pool());
}
