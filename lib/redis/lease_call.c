/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a lease's question and its answer are on the wire (docs/redis-format.md). The first argument
 * is that of any call about one charge; it is kept with the lease, so that a renewal needs no
 * charge.
 */

#include "redis/lease_call.h"

#include <string.h>

#define CALL_CLOCK_AT 16 /* bytes: where a call's clock stands */
#define CALL_HEAD 2      /* numbers in front of an answer, */
#define CALL_DECISION 6  /* of its decision */
#define CALL_TOLD 4      /* and behind it */
#define CALL_NUMBERS (CALL_HEAD + CALL_DECISION + CALL_TOLD)
#define CALL_DAMAGED 4 /* flag beside the verdict */
#define CALL_FLAGS_END 8

_Static_assert(sizeof(((lease_packet_t *)0)->numbers) == (size_t)(8 * 8),
               "who asks, and seven numbers");

bool lease_identify(lease_question_t *question, rlp_charge_t *charge, const script_key_t *key,
                    rlp_time_t wall)
{
    script_packet_t packet;
    const script_call_t call = {
        .op = SCRIPT_LEASE, .charges = &charge, .keys = key, .n = 1, .wall = wall
    };

    if (key->len > LEASE_KEY_MAX || !script_pack(&packet, &call, "") ||
        packet.args_len > LEASE_ARGS_MAX) {
        return false;
    }
    question->key_len = key->len;
    question->args_len = packet.args_len;
    memcpy(question->key, key->bytes, key->len);
    memcpy(question->args, packet.args, packet.args_len);
    return true;
}

static void call_put(lease_packet_t *packet, int i, const char *bytes, size_t len)
{
    packet->argv[i] = bytes;
    packet->lens[i] = len;
}

void lease_pack(lease_packet_t *packet, lease_question_t *question, const char *sha,
                const rlp_time_t *clock)
{
    const rlp_time_t soon = question->patience < LEASE_SPAN ? question->patience : LEASE_SPAN;
    const int64_t numbers[] = { question->sequence, question->spent, question->has, question->need,
                                question->want,     LEASE_SPAN,      soon };

    script_write_bytes(packet->numbers, question->id);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        script_write(&packet->numbers[8 + 8 * i], numbers[i]);
    }
    if (clock != NULL) {
        script_write(&question->args[CALL_CLOCK_AT], *clock);
    }
    call_put(packet, 0, "EVALSHA", 7);
    call_put(packet, 1, sha, strlen(sha));
    call_put(packet, 2, "1", 1);
    call_put(packet, 3, question->key, question->key_len);
    call_put(packet, 4, (const char *)question->args, question->args_len);
    call_put(packet, 5, (const char *)packet->numbers, sizeof(packet->numbers));
}

/* Do the parts go together? */
static bool call_plausible(const lease_answer_t *answer, const lease_question_t *question)
{
    const rlp_decision_t *d = &answer->decision;
    const rlp_units_t debt = question->has < 0 ? -question->has : 0;
    const rlp_units_t most = question->want > question->need ? question->want : question->need;

    return d->verdict != RLP_WAIT && (d->retry > 0) == (d->verdict == RLP_DENY) &&
           answer->granted <= debt + most && answer->lasts <= LEASE_SPAN &&
           (answer->lasts == 0 || answer->granted >= debt);
}

bool lease_unpack(lease_answer_t *answer, const lease_question_t *question, const char *bytes,
                  size_t len)
{
    int64_t numbers[CALL_NUMBERS];

    if (len != sizeof(numbers)) {
        return false;
    }
    for (int i = 0; i < CALL_NUMBERS; i++) {
        numbers[i] = script_number(bytes, i);
        if (numbers[i] < 0) {
            return false;
        }
    }
    *answer = (lease_answer_t){ .now = numbers[1],
                                .decision = { .verdict = (rlp_verdict_t)(numbers[2] & 3),
                                              .damaged = numbers[2] & CALL_DAMAGED,
                                              .retry = numbers[4],
                                              .next = script_span(numbers[5]),
                                              .reset = script_span(numbers[6]),
                                              .remaining = numbers[7] },
                                .granted = numbers[8],
                                .lasts = numbers[9],
                                .turns = script_span(numbers[10]),
                                .others = numbers[11] };
    return numbers[0] == 1 && numbers[2] < CALL_FLAGS_END && call_plausible(answer, question);
}
