/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/session.h"

#include "rlp.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSION_WORDS_MAX 4

redis_fault_t redis_reply_fault(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ERROR ? redis_fault_of(reply->str, (size_t)reply->len)
                                            : REDIS_FAULT_NONE;
}

void redis_reply_why(const redisReply *reply, char why[REDIS_WHY_MAX])
{
    apr_cpystrn(why, reply->str, REDIS_WHY_MAX);
    char *words = strstr(why, ", with args beginning with");

    if (words != NULL) {
        *words = '\0';
    }
    for (; *why != '\0'; why++) {
        *why = (char)(*why < ' ' || *why > '~' ? '?' : *why);
    }
}

/* As the script's: doubles hold it. */
#define SESSION_TIME_MAX (INT64_C(1) << 53)

rlp_time_t redis_reply_time(const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 ||
        reply->element[0]->type != REDIS_REPLY_STRING ||
        reply->element[1]->type != REDIS_REPLY_STRING) {
        return -1;
    }
    const long long seconds = strtoll(reply->element[0]->str, NULL, 10);
    const long long rest = strtoll(reply->element[1]->str, NULL, 10);

    return seconds < 0 || seconds >= SESSION_TIME_MAX / RLP_SECOND || rest < 0 || rest >= RLP_SECOND
               ? -1
               : seconds * RLP_SECOND + rest;
}

static redis_fault_t session_say(redis_wire_t *wire, const char *a, const char *b, const char *c,
                                 rlp_time_t deadline)
{
    const char *words[] = { a, b, c };

    return redis_wire_command(wire, b == NULL ? 1 : c == NULL ? 2 : 3, words, deadline);
}

/* Sends all it takes to begin; how many replies are due is in *n. */
static redis_fault_t session_greet(redis_wire_t *wire, const redis_session_t *session,
                                   rlp_time_t deadline, int *n)
{
    redis_fault_t fault = REDIS_FAULT_NONE;
    char db[16];

    *n = 0;
    if (session->login.password != NULL) {
        const char *user = session->login.user;

        fault = session_say(wire, "AUTH", user == NULL ? session->login.password : user,
                            user == NULL ? NULL : session->login.password, deadline);
        *n += 1;
    }
    if (session->db > 0 && fault == REDIS_FAULT_NONE) {
        snprintf(db, sizeof(db), "%d", session->db);
        fault = session_say(wire, "SELECT", db, NULL, deadline);
        *n += 1;
    }
    for (int i = 0; i < session->n_scripts && fault == REDIS_FAULT_NONE; i++) {
        fault = session_say(wire, "SCRIPT", "LOAD", session->scripts[i], deadline);
        *n += 1;
    }
    if (session->master && fault == REDIS_FAULT_NONE) {
        fault = session_say(wire, "ROLE", NULL, NULL, deadline);
        *n += 1;
    }
    return fault;
}

static bool session_is_master(const redisReply *role)
{
    return role->type == REDIS_REPLY_ARRAY && role->elements > 0 &&
           role->element[0]->type == REDIS_REPLY_STRING && role->element[0]->len == 6 &&
           memcmp(role->element[0]->str, "master", 6) == 0;
}

/* One of the replies to the greeting. */
static redis_fault_t session_reply(redis_wire_t *wire, bool role, rlp_time_t deadline,
                                   char why[REDIS_WHY_MAX])
{
    redisReply *reply = NULL;
    redis_fault_t fault = redis_wire_receive(wire, &reply, deadline);

    if (fault != REDIS_FAULT_NONE) {
        return fault;
    }
    fault = redis_reply_fault(reply);
    if (fault != REDIS_FAULT_NONE) {
        redis_reply_why(reply, why);
        /* a redirection and the like are about a command, and nobody has sent one yet */
        fault = redis_remedy(fault)->counts ? fault : REDIS_FAULT_CONNECT;
    } else if (role && !session_is_master(reply)) {
        apr_cpystrn(why, "the server is no master (yet)", REDIS_WHY_MAX);
        fault = REDIS_FAULT_READONLY;
    }
    freeReplyObject(reply);
    return fault;
}

static redis_fault_t session_begin(redis_wire_t *wire, const redis_session_t *session,
                                   rlp_time_t deadline, char why[REDIS_WHY_MAX])
{
    int n;
    redis_fault_t fault = session_greet(wire, session, deadline, &n);

    for (int i = 0; i < n && fault == REDIS_FAULT_NONE; i++) {
        fault = session_reply(wire, session->master && i == n - 1, deadline, why);
    }
    return fault;
}

redis_fault_t redis_session_open(redis_wire_t *wire, redis_addresses_t *addresses,
                                 const redis_session_t *session, rlp_time_t deadline,
                                 char why[REDIS_WHY_MAX])
{
    const rlp_time_t most = rlp_clock_monotonic() + session->connect;
    const rlp_time_t until = deadline < most ? deadline : most;

    why[0] = '\0';
    redis_fault_t fault = redis_wire_open(wire, addresses, until);

    if (fault == REDIS_FAULT_NONE && session->tls != NULL) {
        fault = redis_wire_secure(wire, session->tls, addresses->host, until, why, REDIS_WHY_MAX);
    }
    if (fault == REDIS_FAULT_NONE) {
        fault = session_begin(wire, session, until, why);
    }
    if (fault != REDIS_FAULT_NONE && why[0] == '\0') {
        redis_wire_why(wire, fault, why, REDIS_WHY_MAX);
    }
    if (fault != REDIS_FAULT_NONE) {
        redis_wire_close(wire);
    }
    return fault;
}

redis_fault_t redis_session_ask(const redis_address_t *address, const redis_session_t *session,
                                const char *const words[], int n, redisReply **reply,
                                char why[REDIS_WHY_MAX])
{
    const rlp_time_t deadline = rlp_clock_monotonic() + 2 * session->connect;
    const char *argv[SESSION_WORDS_MAX];
    redis_addresses_t addresses;
    redis_wire_t wire;

    *reply = NULL;
    apr_cpystrn(why, redis_remedy(REDIS_FAULT_NAME)->text, REDIS_WHY_MAX);
    if (!redis_addresses_find(&addresses, address, true)) {
        return REDIS_FAULT_NAME;
    }
    redis_fault_t fault = redis_session_open(&wire, &addresses, session, deadline, why);

    if (fault != REDIS_FAULT_NONE) {
        return fault;
    }
    for (int i = 0; i < n && i < SESSION_WORDS_MAX; i++) {
        argv[i] = words[i];
    }
    fault = redis_wire_command(&wire, n, argv, deadline);
    if (fault == REDIS_FAULT_NONE) {
        fault = redis_wire_receive(&wire, reply, deadline);
    }
    redis_wire_close(&wire);
    if (fault == REDIS_FAULT_NONE) {
        fault = redis_reply_fault(*reply);
    }
    if (*reply != NULL && fault != REDIS_FAULT_NONE) {
        redis_reply_why(*reply, why);
    } else if (fault != REDIS_FAULT_NONE) {
        apr_cpystrn(why, redis_remedy(fault)->text, REDIS_WHY_MAX);
    }
    return fault;
}
