/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Many requests, fast: load PORT COUNT [FIRST [CONNECTIONS [DEPTH [SECONDS [own]]]]], with the text
 * of a request from the standard input, in which @ADDRESS@ stands for an address and @N@ for a
 * number of the request's own, both from FIRST on. Of each connection DEPTH requests are on their
 * way at once. With "own" each request comes on a connection of its own, from an address of its own
 * in 127.0.0.0/8. Prints "STATUS how many" for each status, 0 being that of requests that were
 * never answered; "again", how many were asked once more, since their connection was closed before
 * the answer; and "seconds" that it took.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 4096
#define TEXT_MAX 65536
#define SEND_MAX ((size_t)4 * TEXT_MAX)
#define RECEIVE_MAX ((size_t)65536)
#define FAILURES_MAX 1000 /* connections in a row that were closed without an answer */

typedef struct {
    int fd;
    size_t pending;   /* requests on their way */
    size_t send_from; /* what of the text to send has been sent */
    size_t send_len;
    size_t receive_len;
    bool useful; /* something was answered on it */
    char *send;
    char *receive;
} connection_t;

typedef struct {
    uint16_t port;
    size_t count;
    size_t first;
    size_t connections;
    size_t depth;
    double seconds;
    bool own;
    char text[TEXT_MAX];
    size_t len;
    size_t begun;    /* requests that were written */
    size_t answered; /* requests that will not be asked again */
    size_t failures;
    size_t again; /* asked again, since the connection was closed before the answer */
    size_t status[1000];
    connection_t connection[CONNECTIONS_MAX];
} load_t;

static double load_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static _Noreturn void load_die(const char *what)
{
    perror(what);
    exit(2);
}

/* The bytes that a template's word becomes; the length of the word, 0 if there is none here. */
static size_t load_word(const char *text, size_t n, char *into)
{
    if (strncmp(text, "@N@", 3) == 0) {
        sprintf(into, "%zu", n);
        return 3;
    }
    if (strncmp(text, "@ADDRESS@", 9) == 0) {
        sprintf(into, "10.%zu.%zu.%zu", n >> 16 & 255, n >> 8 & 255, n & 255);
        return 9;
    }
    return 0;
}

/* Appends the n-th request. */
static void load_append(const load_t *load, connection_t *connection, size_t n)
{
    char word[64];

    for (size_t i = 0; i < load->len;) {
        const size_t len = load->text[i] == '@' ? load_word(load->text + i, n, word) : 0;

        if (len == 0) {
            connection->send[connection->send_len++] = load->text[i++];
            continue;
        }
        memcpy(connection->send + connection->send_len, word, strlen(word));
        connection->send_len += strlen(word);
        i += len;
    }
}

/* No connection is a request without an answer. */
static void load_refused(load_t *load, connection_t *connection)
{
    const struct timespec while_it_starts = { .tv_nsec = 10000000 };

    close(connection->fd);
    connection->fd = -1;
    load->status[0]++;
    load->begun++;
    load->answered++;
    load->failures++;
    nanosleep(&while_it_starts, NULL);
}

static void load_connect(load_t *load, connection_t *connection)
{
    const int yes = 1;
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(load->port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr_in from = { .sin_family = AF_INET };

    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0) {
        load_die("socket");
    }
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    if (load->own) {
        const uint32_t host = (uint32_t)((load->first + load->begun) & 0xffffff);

        from.sin_addr.s_addr = htonl(0x7f000000U | host);
        if (bind(connection->fd, (struct sockaddr *)&from, sizeof(from)) != 0) {
            load_die("bind");
        }
    }
    if (connect(connection->fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        load_refused(load, connection);
        return;
    }
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    connection->pending = connection->send_from = connection->send_len = 0;
    connection->receive_len = 0;
    connection->useful = false;
}

/* Writes requests until so many are on their way. */
static void load_fill(load_t *load, connection_t *connection)
{
    const size_t most = load->own ? 1 : load->depth;

    if (connection->send_from == connection->send_len) {
        connection->send_from = connection->send_len = 0;
    }
    while (connection->pending < most && load->begun < load->count &&
           connection->send_len + 2 * load->len + 64 < SEND_MAX) {
        load_append(load, connection, load->first + load->begun);
        connection->pending++;
        load->begun++;
    }
}

static void load_send(connection_t *connection)
{
    const ssize_t n = send(connection->fd, connection->send + connection->send_from,
                           connection->send_len - connection->send_from, MSG_NOSIGNAL);

    if (n > 0) {
        connection->send_from += (size_t)n;
    }
}

/* How long the response is at the beginning of what was received; 0 if some of it is missing. */
static size_t load_response(connection_t *connection)
{
    connection->receive[connection->receive_len] = '\0';
    const char *end = strstr(connection->receive, "\r\n\r\n");

    if (end == NULL) {
        return 0;
    }
    const size_t head = (size_t)(end + 4 - connection->receive);
    const char *field = strcasestr(connection->receive, "\r\nContent-Length:");

    if (field != NULL && field < end) {
        const size_t len = head + strtoul(field + 17, NULL, 10);

        return len <= connection->receive_len ? len : 0;
    }
    field = strcasestr(connection->receive, "\r\nTransfer-Encoding: chunked");
    if (field != NULL && field < end) {
        const char *last = strstr(end, "\r\n0\r\n\r\n");

        return last == NULL ? 0 : (size_t)(last + 7 - connection->receive);
    }
    return head;
}

static void load_take(load_t *load, connection_t *connection)
{
    size_t len;

    while (connection->pending > 0 && (len = load_response(connection)) > 0) {
        const unsigned long status = strtoul(connection->receive + 9, NULL, 10);

        load->status[status < 1000 ? status : 0]++;
        load->answered++;
        connection->pending--;
        connection->receive_len -= len;
        memmove(connection->receive, connection->receive + len, connection->receive_len);
    }
}

/* Requests that a server leaves unread when it closes behind an answer are asked again. */
static void load_close(load_t *load, connection_t *connection)
{
    close(connection->fd);
    if (connection->useful) {
        load->begun -= connection->pending;
        load->again += connection->pending;
        load->failures = 0;
    } else {
        load->status[0] += connection->pending;
        load->answered += connection->pending;
        load->failures++;
    }
    connection->fd = -1;
    connection->pending = 0;
}

static void load_receive(load_t *load, connection_t *connection)
{
    const size_t before = load->answered;
    const ssize_t n = recv(connection->fd, connection->receive + connection->receive_len,
                           RECEIVE_MAX - 1 - connection->receive_len, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n > 0) {
        connection->receive_len += (size_t)n;
        load_take(load, connection);
        connection->useful = connection->useful || load->answered > before;
    }
    if (n <= 0 || (load->own && connection->pending == 0)) {
        load_close(load, connection);
    }
}

/* What each connection waits for; how many there are. */
static nfds_t load_prepare(load_t *load, struct pollfd polls[], connection_t *owners[])
{
    nfds_t n = 0;

    for (size_t i = 0; i < load->connections; i++) {
        connection_t *connection = &load->connection[i];

        if (connection->fd < 0 && load->begun < load->count) {
            load_connect(load, connection);
        }
        if (connection->fd < 0) {
            continue;
        }
        load_fill(load, connection);
        if (connection->pending == 0) {
            continue;
        }
        const bool sends = connection->send_from < connection->send_len;

        owners[n] = connection;
        polls[n++] = (struct pollfd){ .fd = connection->fd,
                                      .events = (short)(sends ? POLLIN | POLLOUT : POLLIN) };
    }
    return n;
}

/* One round; false if nothing more will come. */
static bool load_turn(load_t *load)
{
    static struct pollfd polls[CONNECTIONS_MAX];
    static connection_t *owners[CONNECTIONS_MAX];
    const nfds_t n = load_prepare(load, polls, owners);

    if (n == 0) {
        return load->begun < load->count && load->failures < FAILURES_MAX;
    }
    if (poll(polls, n, 30000) <= 0) {
        return false;
    }
    for (nfds_t i = 0; i < n; i++) {
        if (polls[i].revents & POLLOUT) {
            load_send(owners[i]);
        }
        if (polls[i].revents & (POLLIN | POLLHUP | POLLERR)) {
            load_receive(load, owners[i]);
        }
    }
    return load->failures < FAILURES_MAX;
}

static void load_run(load_t *load)
{
    const double begin = load_now();

    while (load->answered < load->count && load_turn(load)) {
        if (load->seconds > 0 && load_now() > begin + load->seconds) {
            load->count = load->begun;
        }
    }
    load->status[0] += load->begun - load->answered;
    for (size_t i = 0; i < 1000; i++) {
        if (load->status[i] > 0) {
            printf("%zu %zu\n", i, load->status[i]);
        }
    }
    printf("again %zu\nseconds %.3f\n", load->again, load_now() - begin);
}

static void load_open(load_t *load)
{
    load->len = fread(load->text, 1, sizeof(load->text) - 1, stdin);
    for (size_t i = 0; i < load->connections; i++) {
        connection_t *connection = &load->connection[i];

        connection->fd = -1;
        connection->send = malloc(SEND_MAX);
        connection->receive = malloc(RECEIVE_MAX);
        if (connection->send == NULL || connection->receive == NULL) {
            load_die("malloc");
        }
    }
}

int main(int argc, char **argv)
{
    static load_t load = { .connections = 16, .depth = 32 };

    if (argc < 3 || argc > 8) {
        fputs("usage: load PORT COUNT [FIRST [CONNECTIONS [DEPTH [SECONDS [own]]]]] <REQUEST\n",
              stderr);
        return 64;
    }
    load.port = (uint16_t)atoi(argv[1]);
    load.count = strtoul(argv[2], NULL, 10);
    load.first = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    load.connections = argc > 4 ? strtoul(argv[4], NULL, 10) : load.connections;
    load.depth = argc > 5 ? strtoul(argv[5], NULL, 10) : load.depth;
    load.seconds = argc > 6 ? strtod(argv[6], NULL) : 0;
    load.own = argc > 7;
    if (load.connections < 1 || load.connections > CONNECTIONS_MAX || load.depth < 1) {
        fputs("load: a number is out of range\n", stderr);
        return 64;
    }
    load_open(&load);
    load_run(&load);
    return 0;
}
