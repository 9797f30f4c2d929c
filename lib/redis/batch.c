/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/batch.h"

#include "rlp.h"

#include <stdlib.h>
#include <time.h>

bool redis_condition_make(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    if (pthread_condattr_init(&attributes) != 0) {
        return false;
    }
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    const bool made = pthread_cond_init(condition, &attributes) == 0;

    pthread_condattr_destroy(&attributes);
    return made;
}

struct timespec redis_condition_until(rlp_time_t deadline)
{
    return (struct timespec){ .tv_sec = deadline / RLP_SECOND,
                              .tv_nsec = deadline % RLP_SECOND * 1000 };
}

void redis_batch_free(redis_batch_t *batch)
{
    for (int i = 0; i < batch->n; i++) {
        redisFreeCommand(batch->commands[i].bytes);
        if (batch->commands[i].reply != NULL) {
            freeReplyObject(batch->commands[i].reply);
        }
    }
    pthread_cond_destroy(&batch->changed);
    free(batch);
}

static bool batch_format(redis_command_t *command, int argc, const char **argv, const size_t *len)
{
    const long long bytes = redisFormatCommandArgv(&command->bytes, argc, argv, len);

    command->len = bytes < 0 ? 0 : (size_t)bytes;
    return bytes >= 0;
}

/* The same with EVAL, and the script for its digest. */
static bool batch_format_eval(redis_command_t *command, const redis_call_t *call)
{
    const size_t argc = (size_t)call->argc;
    const char **argv = malloc(argc * sizeof(*argv));
    size_t *len = malloc(argc * sizeof(*len));
    const bool room = argv != NULL && len != NULL;

    for (size_t i = 2; room && i < argc; i++) {
        argv[i] = call->argv[i];
        len[i] = call->argv_len[i];
    }
    if (room) {
        argv[0] = "EVAL";
        len[0] = 4;
        argv[1] = call->script;
        len[1] = call->script_len;
    }
    const bool formatted = room && batch_format(command, call->argc, argv, len);

    free(argv);
    free(len);
    return formatted;
}

redis_batch_t *redis_batch_make(redis_call_t *const calls[], int n)
{
    redis_batch_t *batch = calloc(1, sizeof(*batch) + (size_t)n * sizeof(batch->commands[0]));

    if (batch == NULL || !redis_condition_make(&batch->changed)) {
        free(batch);
        return NULL;
    }
    while (batch->n < n) {
        const redis_call_t *call = calls[batch->n];
        redis_command_t *command = &batch->commands[batch->n];

        if (call->fault == REDIS_FAULT_NOSCRIPT
                ? !batch_format_eval(command, call)
                : !batch_format(command, call->argc, call->argv, call->argv_len)) {
            redis_batch_free(batch);
            return NULL;
        }
        batch->n++;
    }
    return batch;
}

void redis_batch_take(redis_batch_t *batch, redis_call_t *const calls[])
{
    for (int i = 0; i < batch->n; i++) {
        calls[i]->fault = batch->commands[i].fault;
        calls[i]->reply = batch->commands[i].reply;
        batch->commands[i].reply = NULL;
    }
}
