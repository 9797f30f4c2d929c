/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/wire.h"

#include "rlp.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define WIRE_CHUNK 16384
#define WIRE_DEPTH_MAX 7
#define WIRE_TICK                                                                   \
    5000 /* microseconds: the socket's own patience, a system call less than poll() \
          */

/* how hiredis counts elements */
#if HIREDIS_MAJOR >= 1
typedef size_t wire_elements_t;
#else
typedef int wire_elements_t;
#endif

static bool addresses_path(redis_addresses_t *addresses, const char *path)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof(un.sun_path)) {
        return false;
    }
    memcpy(un.sun_path, path, strlen(path));
    *addresses = (redis_addresses_t){ .n = 1 };
    memcpy(&addresses->address[0].at, &un, sizeof(un));
    addresses->address[0].len = sizeof(un);
    return true;
}

bool redis_addresses_find(redis_addresses_t *addresses, const redis_address_t *address, bool names)
{
    const struct addrinfo hints = { .ai_family = AF_UNSPEC,
                                    .ai_socktype = SOCK_STREAM,
                                    .ai_flags = AI_NUMERICSERV | (names ? 0 : AI_NUMERICHOST) };
    struct addrinfo *found;
    char port[8];

    if (address->path != NULL) {
        return addresses_path(addresses, address->path);
    }
    snprintf(port, sizeof(port), "%u", (unsigned)address->port);
    if (strlen(address->host) >= REDIS_HOST_MAX ||
        getaddrinfo(address->host, port, &hints, &found) != 0) {
        return false;
    }
    memset(addresses, 0, sizeof(*addresses));
    memcpy(addresses->host, address->host, strlen(address->host));
    for (const struct addrinfo *i = found; i != NULL && addresses->n < REDIS_ADDRESSES_MAX;
         i = i->ai_next) {
        memcpy(&addresses->address[addresses->n].at, i->ai_addr, i->ai_addrlen);
        addresses->address[addresses->n++].len = i->ai_addrlen;
    }
    freeaddrinfo(found);
    return true;
}

static bool addresses_have(const redis_addresses_t *addresses, const struct sockaddr_storage *at,
                           socklen_t len)
{
    for (int i = 0; i < addresses->n; i++) {
        if (addresses->address[i].len == len && memcmp(&addresses->address[i].at, at, len) == 0) {
            return true;
        }
    }
    return false;
}

bool redis_addresses_equal(const redis_addresses_t *a, const redis_addresses_t *b)
{
    for (int i = 0; i < a->n; i++) {
        if (!addresses_have(b, &a->address[i].at, a->address[i].len)) {
            return false;
        }
    }
    return a->n == b->n;
}

/* Milliseconds for poll(), rounded up. */
static int wire_left(rlp_time_t deadline)
{
    const rlp_time_t left = deadline - rlp_clock_monotonic();

    if (left <= 0) {
        return 0;
    }
    return left > 60 * RLP_SECOND ? 60000 : (int)((left + 999) / 1000);
}

static redis_fault_t wire_wait(int fd, short events, rlp_time_t deadline)
{
    struct pollfd poller = { .fd = fd, .events = events };

    for (;;) {
        const int left = wire_left(deadline);
        const int n = left == 0 ? 0 : poll(&poller, 1, left);

        if (n > 0) {
            return REDIS_FAULT_NONE;
        }
        if (left == 0) {
            return REDIS_FAULT_TIMEOUT;
        }
        if (n < 0 && errno != EINTR) {
            return REDIS_FAULT_CLOSED;
        }
    }
}

/* From now on the socket blocks, for a moment, where it is not told otherwise. */
static bool wire_be_patient(int fd)
{
    const struct timeval tick = { .tv_usec = WIRE_TICK };
    const int flags = fcntl(fd, F_GETFL);

    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof(tick)) == 0 && flags >= 0 &&
           fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
}

/* The socket, or -1 and why. */
static int wire_connect(const struct sockaddr_storage *at, socklen_t len, rlp_time_t deadline,
                        redis_fault_t *fault)
{
    const int fd = socket(at->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    int error = 0;
    socklen_t size = sizeof(error);

    *fault = REDIS_FAULT_CONNECT;
    if (fd < 0) {
        return -1;
    }
    if (at->ss_family != AF_UNIX) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    if (connect(fd, (const struct sockaddr *)at, len) == 0) {
        *fault = REDIS_FAULT_NONE;
    } else if (errno == EINPROGRESS || errno == EINTR) {
        *fault = wire_wait(fd, POLLOUT, deadline);
        if (*fault == REDIS_FAULT_NONE &&
            (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)) {
            *fault = REDIS_FAULT_CONNECT;
        }
    }
    if (*fault == REDIS_FAULT_NONE && wire_be_patient(fd)) {
        return fd;
    }
    close(fd);
    return -1;
}

/* Is it inside too many others? hiredis before 1.0 has a limit of its own; later ones would free
   what is nested without end by as deep a recursion. */
static bool wire_too_deep(const redisReadTask *task)
{
    int depth = 0;

    for (const redisReadTask *parent = task->parent; parent != NULL; parent = parent->parent) {
        depth++;
    }
    return depth >= WIRE_DEPTH_MAX;
}

/* hiredis asks for memory for as many elements as the server announces. */
static void *wire_create_array(const redisReadTask *task, wire_elements_t n)
{
    const redis_functions_t *functions = task->privdata;

    return n > REDIS_ELEMENTS_MAX || wire_too_deep(task) ? NULL
                                                         : functions->usual->createArray(task, n);
}

static bool wire_bind(redis_wire_t *wire, redisReader *reader)
{
    wire->reader = reader;
    wire->functions = malloc(sizeof(*wire->functions));
    if (wire->reader == NULL || wire->functions == NULL) {
        return false;
    }
    wire->functions->usual = wire->reader->fn;
    wire->functions->ours = *wire->reader->fn;
    wire->functions->ours.createArray = wire_create_array;
    wire->reader->fn = &wire->functions->ours;
    wire->reader->privdata = wire->functions;
    return true;
}

redis_fault_t redis_wire_open(redis_wire_t *wire, redis_addresses_t *addresses, rlp_time_t deadline)
{
    redis_fault_t fault = REDIS_FAULT_NAME;

    *wire = (redis_wire_t){ .fd = -1 };
    for (int i = 0; i < addresses->n && wire->fd < 0; i++) {
        const int which = (addresses->first + i) % addresses->n;
        const rlp_time_t now = rlp_clock_monotonic();

        wire->fd = wire_connect(&addresses->address[which].at, addresses->address[which].len,
                                now + (deadline - now) / (addresses->n - i), &fault);
        if (wire->fd >= 0) {
            addresses->first = which;
        }
    }
    if (wire->fd >= 0 && !wire_bind(wire, redisReaderCreate())) {
        redis_wire_close(wire);
        return REDIS_FAULT_LOCAL;
    }
    return fault;
}

redis_fault_t redis_wire_secure(redis_wire_t *wire, const redis_tls_t *tls, const char *host,
                                rlp_time_t deadline, char *why, size_t size)
{
    short events = POLLOUT;
    redis_fault_t fault = redis_tls_open(&wire->link, tls, host, wire->fd, why, size);

    if (fault != REDIS_FAULT_NONE) {
        return fault;
    }
    redisReaderFree(wire->reader);
    free(wire->functions);
    if (!wire_bind(wire, redis_tls_reader(wire->link))) {
        return REDIS_FAULT_LOCAL;
    }
    while (events != 0 && fault == REDIS_FAULT_NONE) {
        fault = wire_wait(wire->fd, events, deadline);
        if (fault == REDIS_FAULT_NONE) {
            fault = redis_tls_shake(wire->link, &events, why, size);
        }
    }
    if (fault == REDIS_FAULT_TIMEOUT) {
        snprintf(why, size, "TLS: no answer");
    }
    return fault;
}

void redis_wire_why(const redis_wire_t *wire, redis_fault_t fault, char *why, size_t size)
{
    const char *reason = wire->link == NULL ? NULL : redis_tls_reason(wire->link);

    snprintf(why, size, "%s%s",
             reason == NULL ? "" : "TLS: ", reason == NULL ? redis_remedy(fault)->text : reason);
}

void redis_wire_close(redis_wire_t *wire)
{
    if (wire->link != NULL) {
        redis_tls_close(wire->link);
        wire->reader = NULL;
    } else if (wire->fd >= 0) {
        close(wire->fd);
    }
    if (wire->reader != NULL) {
        redisReaderFree(wire->reader);
    }
    free(wire->functions);
    *wire = (redis_wire_t){ .fd = -1 };
}

bool redis_wire_idle(const redis_wire_t *wire)
{
    char byte;

    return recv(wire->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* The same by TLS, without waiting. */
static redis_fault_t wire_feed_tls(redis_wire_t *wire)
{
    size_t n = 0;
    const redis_fault_t fault = redis_tls_read(wire->link, &n);

    wire->unread += n;
    return fault == REDIS_FAULT_NONE && wire->unread > REDIS_REPLY_MAX ? REDIS_FAULT_PROTOCOL
                                                                       : fault;
}

/* Hands what has come to the reader; without MSG_DONTWAIT in flags it waits for a moment. */
static redis_fault_t wire_feed(redis_wire_t *wire, int flags)
{
    if (wire->link != NULL) {
        return wire_feed_tls(wire);
    }
    char chunk[WIRE_CHUNK];
    const ssize_t n = recv(wire->fd, chunk, sizeof(chunk), flags);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        return REDIS_FAULT_NONE;
    }
    if (n <= 0) {
        return REDIS_FAULT_CLOSED;
    }
    wire->unread += (size_t)n;
    if (wire->unread > REDIS_REPLY_MAX || redisReaderFeed(wire->reader, chunk, (size_t)n) != 0) {
        return REDIS_FAULT_PROTOCOL;
    }
    return REDIS_FAULT_NONE;
}

/* The socket is full: the server may want its replies taken first. */
static redis_fault_t wire_make_room(redis_wire_t *wire, rlp_time_t deadline)
{
    const redis_fault_t fault = wire_wait(wire->fd, POLLIN | POLLOUT, deadline);

    return fault == REDIS_FAULT_NONE ? wire_feed(wire, MSG_DONTWAIT) : fault;
}

/* Waits for more, and feeds it. */
static redis_fault_t wire_read(redis_wire_t *wire, rlp_time_t deadline)
{
    if (wire->link == NULL && deadline - rlp_clock_monotonic() > (rlp_time_t)2 * WIRE_TICK) {
        return wire_feed(wire, 0);
    }
    /* what TLS has taken from the socket already, poll() does not see; but a record fits into what
       hiredis reads at once */
    const redis_fault_t fault = wire_wait(wire->fd, POLLIN, deadline);

    return fault == REDIS_FAULT_NONE ? wire_feed(wire, MSG_DONTWAIT) : fault;
}

/* Takes n bytes off the buffers; how many of these are done with. */
static int wire_skip(struct iovec buffers[], int n, size_t sent)
{
    int done = 0;

    while (done < n && sent >= buffers[done].iov_len) {
        sent -= buffers[done++].iov_len;
    }
    if (done < n) {
        buffers[done].iov_base = (char *)buffers[done].iov_base + sent;
        buffers[done].iov_len -= sent;
    }
    return done;
}

static redis_fault_t wire_send_tls(redis_wire_t *wire, const struct iovec buffers[], int n,
                                   rlp_time_t deadline)
{
    redis_fault_t fault = redis_tls_append(wire->link, buffers, n);
    bool done = false;

    while (fault == REDIS_FAULT_NONE) {
        fault = redis_tls_write(wire->link, &done);
        if (fault != REDIS_FAULT_NONE || done) {
            return fault;
        }
        fault = wire_make_room(wire, deadline);
    }
    return fault;
}

redis_fault_t redis_wire_send(redis_wire_t *wire, struct iovec buffers[], int n,
                              rlp_time_t deadline)
{
    if (wire->link != NULL) {
        return wire_send_tls(wire, buffers, n, deadline);
    }
    while (n > 0) {
        const struct msghdr message = { .msg_iov = buffers, .msg_iovlen = (size_t)n };
        const ssize_t sent = sendmsg(wire->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        redis_fault_t fault = REDIS_FAULT_NONE;

        if (sent >= 0) {
            const int done = wire_skip(buffers, n, (size_t)sent);

            buffers += done;
            n -= done;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            fault = wire_make_room(wire, deadline);
        } else if (errno != EINTR) {
            fault = REDIS_FAULT_CLOSED;
        }
        if (fault != REDIS_FAULT_NONE) {
            return fault;
        }
    }
    return REDIS_FAULT_NONE;
}

redis_fault_t redis_wire_receive(redis_wire_t *wire, redisReply **reply, rlp_time_t deadline)
{
    for (;;) {
        void *got = NULL;

        if (redisReaderGetReply(wire->reader, &got) != REDIS_OK) {
            return REDIS_FAULT_PROTOCOL;
        }
        if (got != NULL) {
            wire->unread = wire->reader->len - wire->reader->pos;
            *reply = got;
            return REDIS_FAULT_NONE;
        }
        const redis_fault_t fault = wire_read(wire, deadline);

        if (fault != REDIS_FAULT_NONE) {
            return fault;
        }
    }
}

redis_fault_t redis_wire_command(redis_wire_t *wire, int argc, const char **argv,
                                 rlp_time_t deadline)
{
    char *bytes;
    const long long len = redisFormatCommandArgv(&bytes, argc, argv, NULL);

    if (len < 0) {
        return REDIS_FAULT_LOCAL;
    }
    struct iovec buffer = { .iov_base = bytes, .iov_len = (size_t)len };
    const redis_fault_t fault = redis_wire_send(wire, &buffer, 1, deadline);

    redisFreeCommand(bytes);
    return fault;
}
