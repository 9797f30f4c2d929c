/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Load for servers on 127.0.0.1: HTTP/1.1, one small GET after the other on each connection.
 *
 *   load -a PORT [-b PORT] [-x PIDS] [-y PIDS] [-p PAIRS] [-t MILLISECONDS] [-c CONNECTIONS]
 *        [-r RATE] [-w FIRST]
 *   load -a PORT -n REQUESTS [-w FIRST]
 *
 * Slices of load by turns, a b b a a b b a: what drifts by and by meets both sides of a pair. One
 * line a slice: side, requests a second, CPU microseconds of a request in the processes of -x (a)
 * or -y (b), and the latency in microseconds that half and 99 % of the requests do not exceed.
 * The last line: answers of 2xx, 4xx, 5xx, and connections that the server ended.
 *
 * Without -r each connection always waits for an answer. With it so many requests a second fall
 * due, and latency counts from the moment at which one was due, whatever came before it.
 * -w  each request is from a client never seen, on a connection of its own: addresses in 127/8
 *     from the FIRST on.
 * -n  only so many requests, over one connection, and the last line.
 */

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 256
#define ANSWER_MAX 16384
#define SECOND UINT64_C(1000000000)
#define PATIENCE (20 * SECOND)
#define WARM (SECOND / 2)
#define PAUSE (5 * SECOND / 1000) /* before each counted request: the server is idle */

static const char request_text[] = "GET /t.txt HTTP/1.1\r\nHost: localhost\r\n\r\n";

typedef struct {
    int fd;
    bool busy;
    uint64_t due; /* nanoseconds */
    size_t filled;
    char in[ANSWER_MAX];
} connection_t;

typedef struct {
    char name;
    uint16_t port;
    const char *pids; /* a comma between two; NULL: CPU time is not read */
    connection_t *connections;
} side_t;

typedef struct {
    side_t sides[2];
    int connections;
    int pairs;
    uint64_t length; /* nanoseconds of a slice */
    uint64_t rate;   /* 0: closed loop */
    uint64_t requests;
    bool strangers;      /* each request is from a new client */
    uint32_t stranger;   /* the next one */
    uint64_t answers[6]; /* by the first digit of the status */
    uint64_t ended;
    uint32_t *latencies; /* tenths of a microsecond */
    size_t room;
} load_t;

/* A slice as it goes. */
typedef struct {
    uint64_t begin;
    uint64_t end;
    uint64_t sent;
    uint64_t done;
    uint64_t wanted; /* open loop: how many in all */
    int busy;
} slice_t;

static uint64_t load_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

__attribute__((noreturn)) static void load_fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void load_pause(void)
{
    const struct timespec span = { .tv_nsec = (long)PAUSE };

    (void)nanosleep(&span, NULL);
}

/* --- CPU time of the server */

static uint64_t cpu_thread(const char *pid, const char *thread)
{
    char name[128];
    char text[64] = "";

    (void)snprintf(name, sizeof(name), "/proc/%.20s/task/%.20s/schedstat", pid, thread);
    const int fd = open(name, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return 0; /* it has ended */
    }
    const ssize_t n = read(fd, text, sizeof(text) - 1);

    (void)close(fd);
    return n > 0 ? strtoull(text, NULL, 10) : 0;
}

static uint64_t cpu_process(const char *pid)
{
    char name[64];
    uint64_t sum = 0;

    (void)snprintf(name, sizeof(name), "/proc/%.20s/task", pid);
    DIR *threads = opendir(name);

    if (threads == NULL) {
        return 0;
    }
    for (const struct dirent *entry = readdir(threads); entry; entry = readdir(threads)) {
        sum += entry->d_name[0] == '.' ? 0 : cpu_thread(pid, entry->d_name);
    }
    (void)closedir(threads);
    return sum;
}

static uint64_t cpu_side(const side_t *side)
{
    uint64_t sum = 0;

    if (side->pids == NULL) {
        return 0;
    }
    char *list = strdup(side->pids);
    char *rest = NULL;

    for (const char *pid = strtok_r(list, ",", &rest); pid; pid = strtok_r(NULL, ",", &rest)) {
        sum += cpu_process(pid);
    }
    free(list);
    return sum;
}

/* --- one connection */

static void connection_bind(int fd, uint32_t stranger)
{
    const struct sockaddr_in from = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(UINT32_C(0x7f010000) + stranger % UINT32_C(0xfe0000)),
    };
    const struct linger at_once = { .l_onoff = 1 }; /* no address stays in TIME_WAIT */
    const int on = 1;

    (void)setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    if (bind(fd, (const struct sockaddr *)&from, sizeof(from)) != 0) {
        load_fail("bind");
    }
}

static void connection_open(load_t *load, const side_t *side, connection_t *connection)
{
    const struct sockaddr_in to = { .sin_family = AF_INET,
                                    .sin_port = htons(side->port),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const int on = 1;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        load_fail("socket");
    }
    if (load->strangers) {
        connection_bind(fd, load->stranger++);
    }
    if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0) {
        load_fail("connect");
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    connection->fd = fd;
    connection->busy = false;
    connection->filled = 0;
}

static void connection_renew(load_t *load, const side_t *side, connection_t *connection)
{
    (void)close(connection->fd);
    connection_open(load, side, connection);
}

/* What cannot be sent is found by who reads: the server has hung up. */
static void connection_send(connection_t *connection, uint64_t due)
{
    (void)send(connection->fd, request_text, sizeof(request_text) - 1, MSG_NOSIGNAL);
    connection->busy = true;
    connection->due = due;
}

/* Bytes of the answer, 0 while it is not whole. */
static size_t connection_answer(const connection_t *connection, bool *last)
{
    const char *end = strstr(connection->in, "\r\n\r\n");
    const char *length = strcasestr(connection->in, "\r\nContent-Length:");
    const char *hangs_up = strcasestr(connection->in, "\r\nConnection: close");

    if (end == NULL) {
        return 0;
    }
    if (length == NULL || length > end) {
        errno = EPROTO;
        load_fail("an answer without Content-Length");
    }
    *last = hangs_up != NULL && hangs_up < end;
    const size_t whole = (size_t)(end - connection->in) + 4 +
                         strtoull(length + strlen("\r\nContent-Length:"), NULL, 10);

    if (whole >= ANSWER_MAX) {
        errno = EMSGSIZE;
        load_fail("an answer");
    }
    return connection->filled >= whole ? whole : 0;
}

static void load_note(load_t *load, const connection_t *connection, const slice_t *slice)
{
    const int class = connection->in[9] - '0';
    const uint64_t took = (load_now() - connection->due) / 100;

    if (class >= 0 && class < 6) {
        load->answers[class]++;
    }
    if (slice->done < load->room) {
        load->latencies[slice->done] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
    }
}

/* Reads what there is; true when an answer is whole or will never be. */
static bool connection_read(load_t *load, const side_t *side, connection_t *connection,
                            slice_t *slice)
{
    bool last = false;
    const ssize_t n = recv(connection->fd, connection->in + connection->filled,
                           ANSWER_MAX - 1 - connection->filled, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    connection->filled += n > 0 ? (size_t)n : 0;
    connection->in[connection->filled] = '\0';
    const size_t whole = connection_answer(connection, &last);

    if (whole == 0 && n > 0) {
        return false;
    }
    connection->busy = false;
    if (whole > 0) {
        load_note(load, connection, slice);
        slice->done++;
    }
    connection->filled = 0;
    if (load->strangers) {
        connection_renew(load, side, connection);
    } else if (whole == 0 || last) {
        load->ended++;
        connection_renew(load, side, connection);
    }
    return true;
}

/* --- a slice */

static uint64_t slice_due(const slice_t *slice, const load_t *load)
{
    return slice->begin + slice->sent * SECOND / load->rate;
}

static bool slice_wants(const slice_t *slice, const load_t *load, uint64_t now)
{
    if (load->requests > 0) {
        return slice->sent < load->requests;
    }
    return load->rate > 0 ? slice->sent < slice->wanted : now < slice->end;
}

/* Sends what is due over connections that wait for nothing. */
static void slice_send(slice_t *slice, const load_t *load, const side_t *side)
{
    for (int i = 0; i < load->connections; i++) {
        connection_t *connection = &side->connections[i];

        if (connection->busy) {
            continue;
        }
        const uint64_t now = load_now();

        if (!slice_wants(slice, load, now) || (load->rate > 0 && slice_due(slice, load) > now)) {
            return;
        }
        if (load->requests > 0) {
            load_pause();
        }
        connection_send(connection, load->rate > 0 ? slice_due(slice, load) : now);
        slice->sent++;
        slice->busy++;
    }
}

static void slice_wait(const slice_t *slice, const load_t *load, const side_t *side,
                       struct pollfd polled[])
{
    const uint64_t now = load_now();
    uint64_t until = now + SECOND / 10;

    if (load->rate > 0 && slice->sent < slice->wanted && slice->busy < load->connections) {
        const uint64_t due = slice_due(slice, load);

        until = due > now ? due : now;
    }
    const struct timespec span = { .tv_sec = (time_t)((until - now) / SECOND),
                                   .tv_nsec = (long)((until - now) % SECOND) };

    for (int i = 0; i < load->connections; i++) {
        polled[i] = (struct pollfd){ .fd = side->connections[i].fd, .events = POLLIN };
    }
    if (ppoll(polled, (nfds_t)load->connections, &span, NULL) < 0 && errno != EINTR) {
        load_fail("poll");
    }
    if (now > slice->end + PATIENCE && load->requests == 0) {
        errno = ETIMEDOUT;
        load_fail("the server");
    }
}

static slice_t slice_run(load_t *load, side_t *side, uint64_t length)
{
    struct pollfd polled[CONNECTIONS_MAX];
    const uint64_t begin = load_now();
    slice_t slice = { .begin = begin,
                      .end = begin + length,
                      .wanted = load->rate * length / SECOND };

    while (slice.busy > 0 || slice_wants(&slice, load, load_now())) {
        slice_send(&slice, load, side);
        slice_wait(&slice, load, side, polled);
        for (int i = 0; i < load->connections; i++) {
            connection_t *connection = &side->connections[i];
            const bool busy = connection->busy;

            if (polled[i].revents != 0 && connection_read(load, side, connection, &slice) && busy) {
                slice.busy--;
                slice_send(&slice, load, side); /* at once: not in step with the server */
            }
        }
    }
    slice.end = load_now();
    return slice;
}

static int slice_order(const void *a, const void *b)
{
    const uint32_t left = *(const uint32_t *)a;
    const uint32_t right = *(const uint32_t *)b;

    return (left > right) - (left < right);
}

/* Microseconds that so many hundredths of the latencies do not exceed. */
static double slice_latency(const load_t *load, const slice_t *slice, size_t hundredths)
{
    const size_t n = slice->done < load->room ? slice->done : load->room;

    const size_t which = n > 0 ? (n - 1) * hundredths / 100 : 0;

    return n > 0 ? (double)load->latencies[which] / 10.0 : 0;
}

static void slice_measure(load_t *load, side_t *side)
{
    const uint64_t cpu = cpu_side(side);
    const slice_t slice = slice_run(load, side, load->length);
    const uint64_t used = cpu_side(side) - cpu;
    const double done = slice.done > 0 ? (double)slice.done : 1;

    qsort(load->latencies, slice.done < load->room ? slice.done : load->room,
          sizeof(*load->latencies), slice_order);
    printf("%c %.1f %.3f %.1f %.1f\n", side->name,
           (double)slice.done * 1e9 / (double)(slice.end - slice.begin), (double)used / 1e3 / done,
           slice_latency(load, &slice, 50), slice_latency(load, &slice, 99));
}

/* --- all of it */

static void load_connect(load_t *load, side_t *side)
{
    side->connections = calloc((size_t)load->connections, sizeof(*side->connections));
    for (int i = 0; i < load->connections; i++) {
        connection_open(load, side, &side->connections[i]);
    }
}

static void load_run(load_t *load)
{
    const int sides = load->sides[1].port > 0 ? 2 : 1;

    load->room = 1U << 20;
    load->latencies = calloc(load->room, sizeof(*load->latencies));
    for (int i = 0; i < sides; i++) {
        load_connect(load, &load->sides[i]);
    }
    if (load->requests > 0) {
        (void)slice_run(load, &load->sides[0], 0);
        return;
    }
    for (int i = 0; i < sides; i++) {
        (void)slice_run(load, &load->sides[i], WARM);
    }
    memset(load->answers, 0, sizeof(load->answers));
    load->ended = 0;
    for (int pair = 0; pair < load->pairs; pair++) {
        for (int i = 0; i < sides; i++) {
            slice_measure(load, &load->sides[sides == 2 ? (i ^ (pair & 1)) : 0]);
        }
    }
}

static void load_option(load_t *load, int option)
{
    const uint64_t number = strtoull(optarg, NULL, 10);

    switch (option) {
    case 'a':
    case 'b':
        load->sides[option - 'a'].port = (uint16_t)number;
        break;
    case 'x':
    case 'y':
        load->sides[option - 'x'].pids = optarg;
        break;
    case 'p':
        load->pairs = (int)number;
        break;
    case 't':
        load->length = number * 1000000;
        break;
    case 'c':
        load->connections = (int)number;
        break;
    case 'r':
        load->rate = number;
        break;
    case 'n':
        load->requests = number;
        break;
    default:
        load->strangers = true;
        load->stranger = (uint32_t)number;
        break;
    }
}

int main(int argc, char *argv[])
{
    load_t load = { .sides = { { .name = 'a' }, { .name = 'b' } },
                    .connections = 32,
                    .pairs = 20,
                    .length = SECOND / 10 };
    int option;

    while ((option = getopt(argc, argv, "a:b:x:y:p:t:c:r:n:w:")) != -1 && option != '?') {
        load_option(&load, option);
    }
    if (load.requests > 0) {
        load.connections = 1;
    }
    if (option == '?' || load.sides[0].port == 0 || load.connections < 1 ||
        load.connections > CONNECTIONS_MAX) {
        fputs("usage: load -a PORT [-b PORT] [-x PIDS] [-y PIDS] [-p PAIRS] [-t MILLISECONDS]\n"
              "            [-c CONNECTIONS] [-r RATE] [-n REQUESTS] [-w FIRST]\n",
              stderr);
        return 64;
    }
    (void)prctl(PR_SET_TIMERSLACK, 1);
    load_run(&load);
    printf("answers %llu %llu %llu ended %llu\n", (unsigned long long)load.answers[2],
           (unsigned long long)load.answers[4], (unsigned long long)load.answers[5],
           (unsigned long long)load.ended);
    return 0;
}
