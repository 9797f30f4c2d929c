/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis_peer.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#define PEER_CLIENTS 32
#define SERVERS_MAX 16
#define SERVER_WORDS_MAX 64
#define SERVER_PATIENCE 60000 /* ms */
#define LOWEST_PORT 12000     /* below those that systems give to whoever asks for any */
#define PORTS 20000
#define PORT_TRIES 1000

typedef struct {
    struct pollfd poll[1 + PEER_CLIENTS]; /* the listener, clients */
    redisReader *readers[1 + PEER_CLIENTS];
    nfds_t n;
} clients_t;

static struct {
    pid_t pids[SERVERS_MAX];
    char directory[64];
} servers;

int64_t peer_ms(void)
{
    return rlp_clock_monotonic() / 1000;
}

/* Has that port of the loopback, 0: any. -1: somebody else has it. */
static int peer_bind(int type, int port)
{
    const struct sockaddr_in at = { .sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)port),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0) {
        return fd;
    }
    close(fd);
    return -1;
}

static int peer_listen(int *port)
{
    struct sockaddr_in at;
    socklen_t len = sizeof(at);
    const int fd = peer_bind(SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

/* As free_port() of the tests in Perl: while its UDP side is kept, which is until this program
   ends, no other call gives the same, here or in a test beside. */
int peer_port(void)
{
    uint64_t random = (uint64_t)rlp_clock_monotonic() ^ (uint64_t)getpid() << 32;

    for (int i = 0; i < PORT_TRIES; i++) {
        const int port = LOWEST_PORT + (int)unit_below(&random, PORTS);
        const int kept = peer_bind(SOCK_DGRAM, port);
        const int tried = kept < 0 ? -1 : peer_bind(SOCK_STREAM, port);

        if (tried >= 0) {
            close(tried);
            return port;
        }
        if (kept >= 0) {
            close(kept);
        }
    }
    fail_msg("no port on 127.0.0.1");
    return 0;
}

bool peer_say(int fd, const char *text)
{
    return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

bool peer_is(const redisReply *command, const char *name)
{
    return command != NULL && command->elements > 0 && strcmp(command->element[0]->str, name) == 0;
}

static void clients_drop(clients_t *clients, nfds_t i)
{
    close(clients->poll[i].fd);
    redisReaderFree(clients->readers[i]);
    clients->n--;
    clients->poll[i] = clients->poll[clients->n];
    clients->readers[i] = clients->readers[clients->n];
}

/* What one client sent; false: it is gone, or to be gone. */
static bool clients_serve(peer_t *peer, int fd, redisReader *reader)
{
    char chunk[4096];
    const ssize_t n = recv(fd, chunk, sizeof(chunk), 0);
    void *command;

    if (n <= 0) {
        return false;
    }
    redisReaderFeed(reader, chunk, (size_t)n);
    while (redisReaderGetReply(reader, &command) == REDIS_OK && command != NULL) {
        atomic_fetch_add(&peer->commands, 1);
        const bool stays = peer->serve(peer, fd, command);

        freeReplyObject(command);
        if (!stays) {
            return false;
        }
    }
    return true;
}

static void clients_accept(peer_t *peer, clients_t *clients)
{
    const int fd = accept(peer->listener, NULL, NULL);
    const int on = 1;

    if (fd < 0 || clients->n > PEER_CLIENTS) {
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    atomic_fetch_add(&peer->clients, 1);
    if (!peer->serve(peer, fd, NULL)) {
        shutdown(fd, SHUT_WR);
        close(fd);
        return;
    }
    clients->poll[clients->n] = (struct pollfd){ .fd = fd, .events = POLLIN };
    clients->readers[clients->n++] = redisReaderCreate();
}

static void *peer_run(void *data)
{
    peer_t *peer = data;
    clients_t clients = { .poll[0] = { .fd = peer->listener, .events = POLLIN }, .n = 1 };

    while (!atomic_load(&peer->stopped)) {
        if (poll(clients.poll, clients.n, 20) <= 0) {
            continue;
        }
        for (nfds_t i = clients.n - 1; i > 0; i--) {
            if (clients.poll[i].revents != 0 &&
                !clients_serve(peer, clients.poll[i].fd, clients.readers[i])) {
                clients_drop(&clients, i);
            }
        }
        if (clients.poll[0].revents != 0) {
            clients_accept(peer, &clients);
        }
    }
    while (clients.n > 1) {
        clients_drop(&clients, clients.n - 1);
    }
    return NULL;
}

void peer_start(peer_t *peer, peer_serve_fn *serve, const void *baton)
{
    memset(peer, 0, sizeof(*peer));
    peer->serve = serve;
    peer->baton = baton;
    peer->listener = peer_listen(&peer->port);
    assert_int_equal(listen(peer->listener, 16), 0);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_run, peer), 0);
}

void peer_stop(peer_t *peer)
{
    atomic_store(&peer->stopped, true);
    pthread_join(peer->thread, NULL);
    close(peer->listener);
}

static int directory_remove(const char *path, const struct stat *status, int type, struct FTW *at)
{
    (void)status;
    (void)type;
    (void)at;
    return remove(path);
}

static void servers_end(void)
{
    for (int i = 0; i < SERVERS_MAX; i++) {
        if (servers.pids[i] > 0) {
            server_kill(servers.pids[i]);
        }
    }
    nftw(servers.directory, directory_remove, 16, FTW_DEPTH | FTW_PHYS);
}

const char *server_directory(void)
{
    const char *temporary = getenv("TMPDIR"); /* a short one: it has sockets in it */

    if (servers.directory[0] == '\0') {
        snprintf(servers.directory, sizeof(servers.directory), "%s/rlp.XXXXXX",
                 temporary == NULL ? P_tmpdir : temporary);
        assert_non_null(mkdtemp(servers.directory));
        atexit(servers_end);
    }
    return servers.directory;
}

static void server_exec(const char *directory, int port, const char *arguments)
{
    const char *program = getenv("REDIS_SERVER");
    char *words[SERVER_WORDS_MAX], *rest = strdup(arguments), number[16], *next;
    int n = 0;
    const int out = open("/dev/null", O_RDWR);

#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    snprintf(number, sizeof(number), "%d", port);
    words[n++] = strdup(program == NULL ? "redis-server" : program);
    for (char *word = strtok_r(rest, " ", &next); word != NULL && n < SERVER_WORDS_MAX - 16;
         word = strtok_r(NULL, " ", &next)) {
        words[n++] = word;
    }
    char *fixed[] = { strdup("--port"),    number,          strdup("--bind"),
                      strdup("127.0.0.1"), strdup("--dir"), strdup(".") };

    for (size_t i = 0; i < UNIT_N(fixed); i++) {
        words[n++] = fixed[i];
    }
    words[n] = NULL;
    dup2(out, 0);
    dup2(out, 1);
    dup2(out, 2);
    if (chdir(directory) == 0) {
        execvp(words[0], words);
    }
    _exit(127);
}

pid_t server_start(int port, const char *arguments)
{
    char directory[128];
    int at = 0;

    snprintf(directory, sizeof(directory), "%s/%d", server_directory(), port);
    (void)mkdir(directory, 0700);
    while (servers.pids[at] != 0) {
        at++;
        assert_in_range(at, 0, SERVERS_MAX - 1);
    }
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        server_exec(directory, port, arguments);
    }
    servers.pids[at] = pid;
    for (int64_t end = peer_ms() + SERVER_PATIENCE; peer_ms() < end; poll(NULL, 0, 10)) {
        if (waitpid(pid, NULL, WNOHANG) == pid) {
            servers.pids[at] = 0;
            return 0;
        }
        if (*server_ask(port, "PING") != '\0') {
            return pid;
        }
    }
    fail_msg("redis-server does not answer");
    return 0;
}

void server_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    for (int i = 0; i < SERVERS_MAX; i++) {
        servers.pids[i] = servers.pids[i] == pid ? 0 : servers.pids[i];
    }
}

static const char *server_text(const redisReply *reply)
{
    switch (reply->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        return apr_pstrdup(unit_pool(), reply->str);
    case REDIS_REPLY_ERROR:
        return apr_pstrcat(unit_pool(), "-", reply->str, (char *)NULL);
    case REDIS_REPLY_INTEGER:
        return apr_psprintf(unit_pool(), "%" APR_INT64_T_FMT, (apr_int64_t)reply->integer);
    default:
        return "";
    }
}

const char *server_ask(int port, const char *command)
{
    const struct timeval patience = { .tv_sec = 20 };
    redisContext *context = redisConnectWithTimeout("127.0.0.1", port, patience);
    const char *argv[16];
    char *rest = apr_pstrdup(unit_pool(), command), *next;
    const char *text = "";
    int argc = 0;

    for (char *word = strtok_r(rest, " ", &next); word != NULL && argc < 16;
         word = strtok_r(NULL, " ", &next)) {
        argv[argc++] = word;
    }
    if (context != NULL && context->err == 0 && redisSetTimeout(context, patience) == REDIS_OK) {
        redisReply *reply = redisCommandArgv(context, argc, argv, NULL);

        text = reply == NULL ? "" : server_text(reply);
        if (reply != NULL) {
            freeReplyObject(reply);
        }
    }
    if (context != NULL) {
        redisFree(context);
    }
    return text;
}

void server_await(int port, const char *command, const char *answer)
{
    const char *got = "";

    for (int64_t end = peer_ms() + SERVER_PATIENCE; peer_ms() < end; poll(NULL, 0, 20)) {
        got = server_ask(port, command);
        if (strstr(got, answer) != NULL) {
            return;
        }
    }
    fail_msg("%s: got \"%s\", not \"%s\"", command, got, answer);
}
