/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis_client.h"

#include <apr_strings.h>

#include <stdio.h>
#include <string.h>

static void client_report(void *baton, const char *server, redis_change_t change, const char *why)
{
    client_t *client = baton;

    assert_int_not_equal(change.from, change.to);
    assert_non_null(server);
    assert_non_null(why);
    atomic_fetch_add(&client->transitions, 1);
}

void client_open(client_t *client, int port)
{
    const redis_address_t address = { .host = "127.0.0.1", .port = (uint16_t)port };

    client->breaker = (redis_breaker_t){ 0 };
    atomic_store(&client->transitions, 0);
    client->settings.session.connect = PATIENCE;
    client->settings.breaker = (redis_breaker_settings_t){ .threshold = 3,
                                                           .recovery = 600 * RLP_SECOND,
                                                           .longest = 600 * RLP_SECOND,
                                                           .probe = RLP_SECOND };
    client->settings.report = client_report;
    client->settings.baton = client;
    client->connection =
        redis_connection_create("test", &address, &client->settings, &client->breaker);
    assert_non_null(client->connection);
}

void client_close(client_t *client)
{
    redis_connection_destroy(client->connection);
    memset(&client->settings.session, 0, sizeof(client->settings.session));
}

redis_breaker_look_t client_look(const client_t *client)
{
    return redis_breaker_look(&client->breaker, rlp_clock_monotonic());
}

redis_fault_t client_echo_by(client_t *client, const char *word, char got[32], rlp_time_t deadline)
{
    const char *argv[] = { "ECHO", word };
    const size_t len[] = { 4, strlen(word) };
    redis_call_t call = { .argc = 2, .argv = argv, .argv_len = len };
    redis_call_t *const calls[] = { &call };

    redis_connection_exchange(client->connection, calls, 1, deadline);
    got[0] = '\0';
    if (call.reply != NULL) {
        apr_cpystrn(got, call.reply->str == NULL ? "" : call.reply->str, 32);
        freeReplyObject(call.reply);
    }
    return call.fault;
}

redis_fault_t client_echo(client_t *client, const char *word, char got[32])
{
    return client_echo_by(client, word, got, rlp_clock_monotonic() + PATIENCE);
}

bool client_serve_echo(peer_t *peer, int fd, const redisReply *command)
{
    char text[64];

    (void)peer;
    if (command == NULL) {
        return true;
    }
    if (!peer_is(command, "ECHO")) {
        return peer_say(fd, "+OK\r\n");
    }
    snprintf(text, sizeof(text), "$%zu\r\n%s\r\n", (size_t)command->element[1]->len,
             command->element[1]->str);
    return peer_say(fd, text);
}
