/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Where a connection's server is, and opening it there.
 */

#include "redis/connection_state.h"

#include "rlp.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void connection_own(redis_connection_t *connection)
{
    const pid_t pid = getpid();

    if (connection->pid == pid) {
        return;
    }
    if (connection->pid != 0) {
        redis_wire_close(&connection->wire);
        connection->queue = NULL;
        connection->led = false;
    }
    connection->pid = pid;
}

redis_fault_t connection_dial(redis_connection_t *connection, redis_wire_t *wire,
                              rlp_time_t deadline, char why[REDIS_WHY_MAX])
{
    pthread_mutex_lock(&connection->mutex);
    redis_addresses_t addresses = connection->addresses;
    char lost[REDIS_WHY_MAX];

    memcpy(lost, connection->lost, sizeof(lost));
    pthread_mutex_unlock(&connection->mutex);
    const redis_fault_t fault =
        redis_session_open(wire, &addresses, &connection->settings->session, deadline, why);

    if (fault == REDIS_FAULT_NAME && lost[0] != '\0') {
        memcpy(why, lost, sizeof(lost));
    }
    if (fault == REDIS_FAULT_NONE) {
        pthread_mutex_lock(&connection->mutex);
        connection->addresses.first =
            redis_addresses_equal(&connection->addresses, &addresses) ? addresses.first : 0;
        pthread_mutex_unlock(&connection->mutex);
    }
    return fault;
}

void connection_locate(redis_connection_t *connection, rlp_time_t deadline)
{
    const struct timespec until = redis_condition_until(deadline);
    int rv = 0;

    pthread_mutex_lock(&connection->mutex);
    while (connection->addresses.n == 0 && rv == 0) {
        rv = pthread_cond_timedwait(&connection->located, &connection->mutex, &until);
        connection->moved &= connection->addresses.n == 0; /* it is from there that it is opened */
    }
    pthread_mutex_unlock(&connection->mutex);
}

static bool connection_set(redis_connection_t *connection, const redis_address_t *address)
{
    char *host = address->host == NULL ? NULL : strdup(address->host);
    char *path = address->path == NULL ? NULL : strdup(address->path);

    if ((host == NULL) != (address->host == NULL) || (path == NULL) != (address->path == NULL)) {
        free(host);
        free(path);
        return false;
    }
    free((char *)(uintptr_t)connection->address.host);
    free((char *)(uintptr_t)connection->address.path);
    connection->address = (redis_address_t){ .host = host, .port = address->port, .path = path };
    connection->addresses.n = 0;
    connection->lost[0] = '\0';
    (void)redis_addresses_find(&connection->addresses, &connection->address, false);
    pthread_cond_signal(&connection->located);
    return true;
}

redis_connection_t *redis_connection_create(const char *name, const redis_address_t *address,
                                            const redis_settings_t *settings,
                                            redis_breaker_t *breaker)
{
    redis_connection_t *connection = calloc(1, sizeof(*connection));

    if (connection == NULL) {
        return NULL;
    }
    connection->settings = settings;
    connection->breaker = breaker;
    connection->wire.fd = -1;
    connection->name = strdup(name);
    pthread_mutex_init(&connection->mutex, NULL);
    if (!redis_condition_make(&connection->located) || connection->name == NULL ||
        !connection_set(connection, address)) {
        redis_connection_destroy(connection);
        return NULL;
    }
    return connection;
}

void redis_connection_destroy(redis_connection_t *connection)
{
    redis_wire_close(&connection->wire);
    free((char *)(uintptr_t)connection->address.host);
    free((char *)(uintptr_t)connection->address.path);
    free(connection->name);
    pthread_cond_destroy(&connection->located);
    pthread_mutex_destroy(&connection->mutex);
    free(connection);
}

static bool connection_is_at(const redis_address_t *a, const redis_address_t *b)
{
    return a->host != NULL && b->host != NULL && a->port == b->port &&
           strcmp(a->host, b->host) == 0;
}

bool redis_connection_move(redis_connection_t *connection, const redis_address_t *address)
{
    bool moved = true;

    pthread_mutex_lock(&connection->mutex);
    if (!connection_is_at(&connection->address, address)) {
        moved = connection_set(connection, address);
        connection->moved |= moved;
    }
    pthread_mutex_unlock(&connection->mutex);
    return moved;
}

void redis_connection_resolve(redis_connection_t *connection)
{
    char host[REDIS_HOST_MAX] = "";
    redis_address_t address = { .host = host };
    redis_addresses_t found;

    pthread_mutex_lock(&connection->mutex);
    address.port = connection->address.port;
    if (connection->address.host != NULL) {
        apr_cpystrn(host, connection->address.host, sizeof(host));
    }
    pthread_mutex_unlock(&connection->mutex);
    if (host[0] == '\0' || !redis_addresses_find(&found, &address, true)) {
        return;
    }
    pthread_mutex_lock(&connection->mutex);
    if (connection_is_at(&connection->address, &address) &&
        !redis_addresses_equal(&connection->addresses, &found)) {
        connection->moved |= connection->addresses.n > 0;
        connection->addresses = found;
        pthread_cond_signal(&connection->located);
    }
    pthread_mutex_unlock(&connection->mutex);
}

void redis_connection_lose(redis_connection_t *connection, const char *why)
{
    pthread_mutex_lock(&connection->mutex);
    apr_snprintf(connection->lost, sizeof(connection->lost), "Sentinel: %s", why);
    pthread_mutex_unlock(&connection->mutex);
}

bool redis_connection_resolved(redis_connection_t *connection)
{
    pthread_mutex_lock(&connection->mutex);
    const bool resolved = connection->addresses.n > 0;

    pthread_mutex_unlock(&connection->mutex);
    return resolved;
}

/* Puts a wire in place where there is none; what is left in *wire is to be closed. */
static void connection_install(redis_connection_t *connection, redis_wire_t *wire)
{
    const redis_wire_t none = { .fd = -1 };

    pthread_mutex_lock(&connection->mutex);
    connection_own(connection);
    if (!connection->led && (connection->wire.fd < 0 || connection->moved)) {
        const redis_wire_t old = connection->wire;

        connection->wire = *wire;
        connection->used = rlp_clock_monotonic();
        connection->moved = false;
        *wire = old.fd < 0 ? none : old;
    }
    pthread_mutex_unlock(&connection->mutex);
}

/* Would redis_connection_open() have anything to do? */
static bool connection_wanted(redis_connection_t *connection)
{
    pthread_mutex_lock(&connection->mutex);
    connection_own(connection);
    const bool wanted = !connection->led && (connection->wire.fd < 0 || connection->moved);

    pthread_mutex_unlock(&connection->mutex);
    return wanted;
}

redis_fault_t redis_connection_open(redis_connection_t *connection)
{
    char why[REDIS_WHY_MAX];
    redis_wire_t wire;

    if (!connection_wanted(connection)) {
        return REDIS_FAULT_NONE;
    }
    const redis_fault_t fault = connection_dial(connection, &wire, RLP_TIME_NEVER, why);

    if (fault == REDIS_FAULT_NONE) {
        connection_install(connection, &wire);
        redis_wire_close(&wire);
        return fault;
    }
    pthread_mutex_lock(&connection->mutex);
    memcpy(connection->why, why, sizeof(why));
    pthread_mutex_unlock(&connection->mutex);
    return fault;
}
