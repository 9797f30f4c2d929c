/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * dump and load of a Redis.
 */

#include "dump.h"
#include "redis_ctl.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define VALUE_MAX ((size_t)1 << 20) /* servers answer no more (lib/redis/wire.h) */
#define KEY_MAX 4096
#define KEY_HEAD "rlp:{"

/* --- what keys and values look like (docs/redis-format.md) */

/* A sign of a key, or %XX; how many bytes that is. 0: neither. */
static size_t key_sign(const char *at, const char *end)
{
    if (*at == '%') {
        return end - at > 2 && apr_isxdigit(at[1]) && apr_isxdigit(at[2]) ? 3 : 0;
    }
    return *at > ' ' && *at < 0x7f && *at != '{' && *at != '}' ? 1 : 0;
}

/* Signs up to something else. */
static const char *key_signs(const char *at, const char *end)
{
    size_t len;

    while (at < end && (len = key_sign(at, end)) > 0) {
        at += len;
    }
    return at;
}

/* Is it rlp:{IDENTITY}:RULE? */
static bool key_is_ours(const char *key, size_t len)
{
    const size_t head = strlen(KEY_HEAD);
    const char *end = key + len;

    if (len > KEY_MAX || len < head || memcmp(key, KEY_HEAD, head) != 0) {
        return false;
    }
    const char *at = key_signs(key + head, end);

    return at > key + head && end - at > 2 && at[0] == '}' && at[1] == ':' &&
           key_signs(at + 2, end) == end;
}

static size_t value_size(const unsigned char *at)
{
    return at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16 | (size_t)at[3] << 24;
}

/* Is it limits with their states, or the state of another module's algorithm? */
static bool value_is_ours(const unsigned char *value, size_t len)
{
    size_t at = 4;

    if (len >= 12 && memcmp(value, "rlc1", 4) == 0) {
        return true;
    }
    if (len < 24 || memcmp(value, "rlp1", 4) != 0) {
        return false;
    }
    while (at < len) {
        if (len - at < 20 || value_size(value + at + 8) > len - at - 20) {
            return false;
        }
        at += 20 + value_size(value + at + 8);
    }
    return true;
}

/* --- dump */

typedef struct {
    dump_out_t *out;
    redis_ctl_t *ctl;
    uint64_t foreign;
} writer_t;

/* A call of one word, about a key or about its server. */
static void call_make(redis_call_t *call, const char *word, const script_key_t *key, bool about,
                      apr_pool_t *pool)
{
    const char **argv = apr_palloc(pool, sizeof(*argv) * 2);
    size_t *lens = apr_palloc(pool, sizeof(*lens) * 2);

    argv[0] = word;
    lens[0] = strlen(word);
    argv[1] = key->bytes;
    lens[1] = key->len;
    *call = (redis_call_t){ .key = key->bytes,
                            .key_len = key->len,
                            .argc = about ? 2 : 1,
                            .argv = argv,
                            .argv_len = lens };
}

static void write_counter(writer_t *writer, const script_key_t *key, const redisReply *value,
                          const redisReply *left, rlp_time_t now)
{
    const size_t prefix = strlen(writer->ctl->prefix);

    if (value->type == REDIS_REPLY_NIL ||
        (left->type == REDIS_REPLY_INTEGER && left->integer == -2)) {
        return; /* its life has ended */
    }
    if (value->type != REDIS_REPLY_STRING || left->type != REDIS_REPLY_INTEGER ||
        left->integer < 0 || left->integer > (DUMP_NUMBER_MAX - now) / 1000 ||
        !key_is_ours(key->bytes + prefix, key->len - prefix) ||
        !value_is_ours((const unsigned char *)value->str, (size_t)value->len)) {
        writer->foreign++;
        return;
    }
    json_out_t line = dump_begin_line(writer->out, "counter");

    json_string(&line, "key", apr_pstrmemdup(line.pool, key->bytes + prefix, key->len - prefix));
    json_number(&line, "expires", now + left->integer * 1000);
    dump_put_bytes(&line, "value", value->str, (size_t)value->len);
    dump_end_line(writer->out, &line);
    writer->out->counters++;
}

/* What a server answers in the place of a value; another type under the key is no error. */
static const char *write_refused(const redisReply *reply, apr_pool_t *pool)
{
    static const char other[] = "WRONGTYPE ";
    const char *error = redis_ctl_error(reply, pool);

    return error != NULL && strncmp(reply->str, other, strlen(other)) == 0 ? NULL : error;
}

/* Of a few keys of one server: the time there, and of each its value and the rest of its life. */
static const char *write_few(writer_t *writer, const script_key_t keys[], int n, apr_pool_t *pool)
{
    redis_call_t calls[REDIS_CALLS_MAX];

    call_make(&calls[0], "TIME", &keys[0], false, pool);
    for (int i = 0; i < n; i++) {
        call_make(&calls[2 * i + 1], "GET", &keys[i], true, pool);
        call_make(&calls[2 * i + 2], "PTTL", &keys[i], true, pool);
    }
    const char *error = redis_ctl_ask(writer->ctl, calls, 2 * n + 1, pool);
    const rlp_time_t now = error == NULL ? redis_reply_time(calls[0].reply) : -1;

    for (int i = 0; error == NULL && i < 2 * n + 1; i++) {
        error = write_refused(calls[i].reply, pool);
    }
    if (error == NULL && now < 0) {
        error = "Redis: expected seconds and microseconds of TIME";
    }
    for (int i = 0; error == NULL && i < n; i++) {
        write_counter(writer, &keys[i], calls[2 * i + 1].reply, calls[2 * i + 2].reply, now);
    }
    redis_ctl_free(calls, 2 * n + 1);
    return error;
}

#define WRITE_FEW ((REDIS_CALLS_MAX - 1) / 2)

static const char *write_keys(void *baton, const script_key_t keys[], int n, apr_pool_t *pool)
{
    writer_t *writer = baton;
    const char *error = NULL;

    for (int i = 0; error == NULL && i < n; i += WRITE_FEW) {
        error = write_few(writer, keys + i, n - i < WRITE_FEW ? n - i : WRITE_FEW, pool);
    }
    return error;
}

static void write_header(dump_out_t *out)
{
    json_out_t line = dump_begin_line(out, "dump");

    json_number(&line, "version", DUMP_VERSION);
    json_string(&line, "store", "redis");
    json_number(&line, "wall", rlp_clock_wall());
    dump_end_line(out, &line);
}

const char *dump_redis(const dump_job_t *job, dump_out_t *out, int *status)
{
    writer_t writer = { .out = out };
    const char *error = redis_ctl_open(&writer.ctl, &job->place, job->pool);

    *status = EX_USAGE;
    if (error != NULL) {
        return error;
    }
    write_header(out);
    error = redis_ctl_scan(writer.ctl, redis_ctl_pattern(writer.ctl->prefix, KEY_HEAD, job->pool),
                           write_keys, &writer, job->pool);
    *status = EX_UNAVAILABLE;
    if (writer.foreign > 0) {
        fprintf(stderr,
                "rlpctl: left out %" APR_UINT64_T_FMT " keys that hold something else than "
                "counters\n",
                writer.foreign);
    }
    return error;
}

/* --- load */

/* What a dump says, and where it goes: several at once. */
typedef struct {
    const dump_job_t *job;
    dump_sum_t *sum;
    redis_ctl_t *ctl; /* NULL: it is only read */
    rlp_time_t ahead; /* the server's clock less the monotonic one */
    redis_call_t calls[REDIS_CALLS_MAX];
    int n;
    size_t bytes;
    bool unreachable;
    apr_pool_t *batch;
} reader_t;

#define READ_BYTES ((size_t)4 << 20) /* that wait to be sent, and no more than one value above */

/* reply: NULL where none came. */
static const char *read_answer(reader_t *reader, const redisReply *reply)
{
    const char *error = redis_ctl_error(reply, reader->job->pool);

    if (reply != NULL && error == NULL) {
        ++*(reply->type == REDIS_REPLY_NIL ? &reader->sum->kept : &reader->sum->loaded);
    }
    return error;
}

/* Sends what waits. */
static const char *read_flush(reader_t *reader)
{
    const char *error = NULL;

    if (reader->n > 0) {
        error = redis_ctl_ask(reader->ctl, reader->calls, reader->n, reader->job->pool);
    }
    for (int i = 0; i < reader->n; i++) {
        const char *refused = read_answer(reader, reader->calls[i].reply);

        error = error ? error : refused;
    }
    redis_ctl_free(reader->calls, reader->n);
    reader->unreachable = error != NULL;
    reader->n = 0;
    reader->bytes = 0;
    apr_pool_clear(reader->batch);
    return error;
}

/* SET KEY VALUE PX MS [NX] */
static const char *read_set(reader_t *reader, const char *key, const unsigned char *value,
                            size_t len, rlp_time_t left)
{
    enum { KEY = 1, VALUE, SPAN = 4, WORDS = 6 };
    const char **argv = apr_palloc(reader->batch, sizeof(*argv) * WORDS);
    size_t *lens = apr_palloc(reader->batch, sizeof(*lens) * WORDS);
    const char *const words[WORDS] = { "SET",
                                       apr_pstrcat(reader->batch, reader->ctl->prefix, key, NULL),
                                       "",
                                       "PX",
                                       apr_psprintf(reader->batch, "%" APR_INT64_T_FMT,
                                                    (apr_int64_t)((left + 999) / 1000)),
                                       "NX" };

    for (int i = 0; i < WORDS; i++) {
        argv[i] = words[i];
        lens[i] = strlen(words[i]);
    }
    argv[VALUE] = apr_pmemdup(reader->batch, value, len);
    lens[VALUE] = len;
    reader->calls[reader->n++] = (redis_call_t){ .key = argv[KEY],
                                                 .key_len = lens[KEY],
                                                 .argc = reader->job->replaces ? 5 : 6,
                                                 .argv = argv,
                                                 .argv_len = lens };
    reader->bytes += len;
    return reader->n == REDIS_CALLS_MAX || reader->bytes >= READ_BYTES ? read_flush(reader) : NULL;
}

static const char *read_counter(void *baton, const json_t *object, apr_pool_t *line)
{
    static const char *const names[] = { "type", "key", "expires", "value", NULL };
    reader_t *reader = baton;
    unsigned char *value = NULL;
    const char *key = "";
    int64_t expires = 0;
    size_t len = 0;
    const char *error = dump_members(object, names, line);

    error = error ? error : dump_get_text(object, "key", &key, line);
    error = error ? error : dump_get_number(object, "expires", &expires, line);
    error = error ? error : dump_get_bytes(object, "value", VALUE_MAX, &value, &len, line);
    if (error != NULL) {
        return error;
    }
    if (!key_is_ours(key, strlen(key))) {
        return "\"key\": expected rlp:{TYPE:VALUE}:RULE";
    }
    if (!value_is_ours(value, len)) {
        return "\"value\": expected what servers write, as docs/redis-format.md has it";
    }
    if (reader->ctl == NULL) {
        return NULL;
    }
    const rlp_time_t left = expires - (rlp_clock_monotonic() + reader->ahead);

    if (left <= 0) {
        reader->sum->over++;
        return NULL;
    }
    return read_set(reader, key, value, len, left);
}

static const char *read_header(void *baton, const json_t *object, apr_pool_t *line)
{
    static const char *const names[] = { "type", "version", "store", "wall", NULL };
    const char *store = "";
    int64_t wall = 0;
    const char *error = dump_get_text(object, "store", &store, line);

    (void)baton;
    if (error == NULL && strcmp(store, "redis") != 0) {
        return "\"store\": expected redis, since the counters of a file do not fit there";
    }
    error = error ? error : dump_members(object, names, line);
    return error ? error : dump_get_number(object, "wall", &wall, line);
}

/* How far the server's clock is from ours. */
static const char *read_clock(reader_t *reader)
{
    const script_key_t any = { .bytes = "", .len = 0 };
    redis_call_t call;

    call_make(&call, "TIME", &any, false, reader->job->pool);
    const char *error = redis_ctl_ask(reader->ctl, &call, 1, reader->job->pool);

    error = error ? error : redis_ctl_error(call.reply, reader->job->pool);
    const rlp_time_t now = error == NULL ? redis_reply_time(call.reply) : -1;

    if (error == NULL && now < 0) {
        error = "Redis: expected seconds and microseconds of TIME";
    }
    reader->ahead = now - rlp_clock_monotonic();
    redis_ctl_free(&call, 1);
    return error;
}

const char *load_redis(const dump_job_t *job, dump_in_t *in, dump_sum_t *sum, int *status)
{
    reader_t *reader = apr_pcalloc(job->pool, sizeof(*reader));
    const dump_taker_t taker = { .header = read_header, .counter = read_counter, .baton = reader };
    redis_ctl_t *ctl = NULL;

    reader->job = job;
    reader->sum = sum;
    apr_pool_create(&reader->batch, job->pool);
    const char *error = redis_ctl_open(&ctl, &job->place, job->pool);

    *status = EX_USAGE;
    if (error != NULL) {
        return error;
    }
    *status = EX_DATAERR;
    error = dump_read(in, &taker);
    if (error != NULL || job->checks) {
        return error;
    }
    reader->ctl = ctl;
    error = read_clock(reader);
    if (error != NULL) {
        *status = EX_UNAVAILABLE;
        return error;
    }
    error = dump_read(in, &taker);
    error = error ? error : read_flush(reader);
    *status = reader->unreachable ? EX_UNAVAILABLE : EX_DATAERR;
    return error;
}
