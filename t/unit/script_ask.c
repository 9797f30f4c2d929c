/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "script_ask.h"

#include <string.h>

char ask_sha[SCRIPT_SHA_SIZE];

void ask_init(ask_t *ask, const char *words)
{
    const rlp_plan_t *plan = unit_plan(words);

    *ask = (ask_t){ .now = NOW };
    ask->call = (script_call_t){ .charges = ask->pointers, .keys = ask->keys, .n = plan->n };
    for (int i = 0; i < plan->n; i++) {
        const rlp_limit_t *limit = &plan->limits[i];

        rlp_charge_init(&ask->charges[i], "user:42", 7, rlp_signature("api", NULL, limit), limit);
        ask->pointers[i] = &ask->charges[i];
        ask->keys[i] = (script_key_t){ .bytes = KEY, .len = strlen(KEY) };
    }
}

void ask_pack(ask_t *ask, script_packet_t *packet)
{
    ask->call.clock = ask->now != 0 ? &ask->now : NULL;
    ask->call.wall = ask->call.wall != 0 ? ask->call.wall : NOW;
    assert_true(script_pack(packet, &ask->call, ask_sha));
}

redisReply *ask_reply(redisContext *context, const script_packet_t *packet)
{
    return redisCommandArgv(context, packet->argc, (const char **)(uintptr_t)packet->argv,
                            packet->lens);
}

/* Asks; the first limit's decision. */
static rlp_decision_t ask_on(redisContext *context, ask_t *ask, script_op_t op)
{
    static script_packet_t packet;

    ask->call.op = op;
    ask_pack(ask, &packet);
    redisReply *reply = ask_reply(context, &packet);

    assert_non_null(reply);
    if (reply->type != REDIS_REPLY_STRING) {
        fail_msg("%s", reply->str);
    }
    assert_true(script_unpack(&ask->call, reply->str, reply->len, &ask->answer));
    freeReplyObject(reply);
    return ask->charges[0].decision;
}

rlp_decision_t ask_for(ask_t *ask, script_op_t op)
{
    return ask_on(redis_server(), ask, op);
}

int64_t server_integer(const char *command)
{
    redisReply *reply = redis_server_ask(command);
    const int64_t value = reply->integer;

    assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
    freeReplyObject(reply);
    return value;
}

int server_fresh(void **state)
{
    size_t len;
    const char *text = script_text(&len);

    (void)state;
    freeReplyObject(redis_server_ask("FLUSHALL"));
    freeReplyObject(redis_server_ask("SCRIPT LOAD %b", text, len));
    script_sha(ask_sha);
    return 0;
}
