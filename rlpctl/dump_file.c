/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * dump and load of a store's file.
 */

#include "dump.h"
#include "override.h"

#include <apr_strings.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#define FILE_SIZE_USUAL ((size_t)16 << 20)
#define FILE_ID 16 /* bytes */

/* The bytes of a number in memory. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FILE_ORDER "little-endian"
#else
#define FILE_ORDER "big-endian"
#endif

/* A segment at work. */
typedef struct {
    rlp_segment_t segment;
    rlp_store_t *store;
    override_table_t table;
    bool has_table;
    bool shared; /* with a server */
    bool made;
    rlp_clock_t clock;
    rlp_origin_t origin;
} file_t;

/* What a key is known by to those who may not know it. */
static void file_id(unsigned char id[RLP_DIGEST_SIZE], const unsigned char key[RLP_SEGMENT_KEY])
{
    static const char label[] = "rlpctl dump key";
    unsigned char text[sizeof(label) + RLP_SEGMENT_KEY];

    memcpy(text, label, sizeof(label));
    memcpy(text + sizeof(label), key, RLP_SEGMENT_KEY);
    rlp_digest(id, text, sizeof(text));
}

/* What belongs to a segment that is mapped. */
static const char *file_attach(file_t *file, apr_pool_t *pool)
{
    if (rlp_shm_create(&file->store, &file->segment, pool) != APR_SUCCESS ||
        rlp_segment_origin(&file->segment, &file->origin) != APR_SUCCESS) {
        rlp_segment_close(&file->segment);
        return "the store in the file is damaged";
    }
    file->has_table = override_attach(&file->table, rlp_segment_annex(&file->segment));
    return NULL;
}

static const char *file_open(file_t *file, const dump_job_t *job)
{
    const char *error = NULL;

    rlp_clock_read(&file->clock);
    return rlp_segment_join(&file->segment, job->place.file, &file->clock, &file->shared, &error,
                            job->pool) == APR_SUCCESS
               ? file_attach(file, job->pool)
               : error;
}

static rlp_time_t file_now(const file_t *file)
{
    return rlp_store_time(file->store, file->clock.monotonic);
}

/* --- dump */

typedef struct {
    dump_out_t *out;
    const file_t *file;
    uint64_t damaged;
} writer_t;

/* No server has made it, and load would refuse the whole dump for it. */
static bool write_is_damaged(writer_t *writer, rlp_time_t end)
{
    const bool damaged = end != RLP_TIME_NEVER && end > DUMP_NUMBER_MAX;

    writer->damaged += damaged;
    return damaged;
}

static void write_tell(const writer_t *writer)
{
    if (writer->damaged > 0) {
        fprintf(stderr,
                "rlpctl: left out %" APR_UINT64_T_FMT " counters, bans or plans that are damaged\n",
                writer->damaged);
    }
}

static void write_header(const writer_t *writer, bool with_key)
{
    const file_t *file = writer->file;
    unsigned char id[RLP_DIGEST_SIZE];
    json_out_t line = dump_begin_line(writer->out, "dump");

    file_id(id, file->origin.key);
    json_number(&line, "version", DUMP_VERSION);
    json_string(&line, "store", "shm");
    json_string(&line, "byte_order", FILE_ORDER);
    dump_put_bytes(&line, "key_id", id, FILE_ID);
    if (with_key) {
        dump_put_bytes(&line, "key", file->origin.key, RLP_SEGMENT_KEY);
    }
    json_number(&line, "wall", file->clock.wall);
    json_number(&line, "time", file_now(file));
    dump_end_line(writer->out, &line);
}

/* Zeros at the end are left out. */
static size_t write_length(const unsigned char *state, size_t len)
{
    while (len > 0 && state[len - 1] == 0) {
        len--;
    }
    return len;
}

static bool write_counter(void *baton, const rlp_counter_t *counter)
{
    writer_t *writer = baton;
    const size_t len = write_length(counter->state, counter->size);

    if (len == 0 || write_is_damaged(writer, counter->expires)) {
        return true; /* with nothing in it, it is as good as new */
    }
    json_out_t line = dump_begin_line(writer->out, "counter");

    dump_put_word(&line, "fingerprint", counter->fingerprint);
    dump_put_word(&line, "signature", counter->signature);
    dump_put_time(&line, "expires", counter->expires);
    json_number(&line, "loss", counter->loss);
    json_bool(&line, "lasting", counter->lasting);
    json_number(&line, "size", counter->size);
    dump_put_bytes(&line, "state", counter->state, len);
    dump_end_line(writer->out, &line);
    writer->out->counters++;
    return !ferror(writer->out->file);
}

/* What holds on all hosts comes from Redis, and ends there: loaded, it would be of one host, where
   no other could end it. */
static void write_override(void *baton, const override_key_t *key, const char *shown,
                           const override_t *found)
{
    writer_t *writer = baton;

    if (found->brought || write_is_damaged(writer, found->ban) ||
        write_is_damaged(writer, found->until)) {
        return;
    }
    json_out_t line = dump_begin_line(writer->out, "override");

    dump_put_word(&line, "fingerprint", key->fingerprint);
    dump_put_word(&line, "digest", key->digest);
    json_string(&line, "identity", shown);
    dump_put_time(&line, "banned_until", found->ban ? found->ban : RLP_TIME_NEVER);
    if (found->plan != 0) {
        dump_put_word(&line, "plan", found->plan);
    } else {
        json_string(&line, "plan", NULL);
    }
    dump_put_time(&line, "plan_until", found->plan ? found->until : RLP_TIME_NEVER);
    dump_end_line(writer->out, &line);
    writer->out->overrides++;
}

const char *dump_file(const dump_job_t *job, dump_out_t *out, int *status)
{
    file_t file = { .made = false };
    writer_t writer = { .out = out, .file = &file };
    const char *error = file_open(&file, job);

    *status = EX_DATAERR;
    if (error != NULL) {
        return error;
    }
    write_header(&writer, job->with_key);
    if (rlp_segment_visit(&file.segment, file.clock.monotonic, write_counter, &writer, job->pool) !=
        APR_SUCCESS) {
        error = "the store in the file is damaged";
    } else if (file.has_table) {
        override_visit(&file.table, file_now(&file), write_override, &writer);
    }
    write_tell(&writer);
    rlp_segment_close(&file.segment);
    return error;
}

/* --- load: reading */

/* What a dump says, and where it goes. */
typedef struct {
    const dump_job_t *job;
    dump_sum_t *sum;
    file_t *file; /* NULL: it is only read */
    unsigned char id[FILE_ID];
    bool has_key;
    unsigned char key[RLP_SEGMENT_KEY];
    rlp_time_t wall;
    rlp_time_t time;
} reader_t;

/* Bytes of exactly that length. */
static const char *read_exactly(const json_t *object, const char *name, void *to, size_t wanted,
                                apr_pool_t *line)
{
    unsigned char *bytes = NULL;
    size_t len = 0;
    const char *error = dump_get_bytes(object, name, wanted, &bytes, &len, line);

    if (error == NULL && len != wanted) {
        error = apr_psprintf(line, "\"%s\": expected %d digits", name, (int)(2 * wanted));
    }
    if (error == NULL) {
        memcpy(to, bytes, wanted);
    }
    return error;
}

static const char *read_key(reader_t *reader, const json_t *object, apr_pool_t *line)
{
    unsigned char id[RLP_DIGEST_SIZE];
    const char *error = read_exactly(object, "key", reader->key, sizeof(reader->key), line);

    file_id(id, reader->key);
    if (error == NULL && memcmp(id, reader->id, FILE_ID) != 0) {
        error = "\"key\": expected the one that \"key_id\" stands for";
    }
    reader->has_key = true;
    return error;
}

static const char *read_header(void *baton, const json_t *object, apr_pool_t *line)
{
    static const char *const names[] = { "type", "version", "store", "byte_order", "key_id",
                                         "?key", "wall",    "time",  NULL };
    reader_t *reader = baton;
    const char *store = "";
    const char *order = "";
    const char *error = dump_get_text(object, "store", &store, line);

    if (error == NULL && strcmp(store, "shm") != 0) {
        return "\"store\": expected shm, since the counters of others do not fit into a file";
    }
    error = error ? error : dump_members(object, names, line);
    error = error ? error : dump_get_text(object, "byte_order", &order, line);
    if (error == NULL && strcmp(order, FILE_ORDER) != 0) {
        return "\"byte_order\": expected " FILE_ORDER ", as this machine has it";
    }
    error = error ? error : read_exactly(object, "key_id", reader->id, FILE_ID, line);
    error = error ? error : dump_get_number(object, "wall", &reader->wall, line);
    error = error ? error : dump_get_number(object, "time", &reader->time, line);
    return error == NULL && json_member(object, "key") != NULL ? read_key(reader, object, line)
                                                               : error;
}

static void read_put(const reader_t *reader, const rlp_counter_t *counter, apr_pool_t *line)
{
    const file_t *file = reader->file;
    uint64_t *const sums[] = { [RLP_PUT_DONE] = &reader->sum->loaded,
                               [RLP_PUT_KEPT] = &reader->sum->kept,
                               [RLP_PUT_OVER] = &reader->sum->over,
                               [RLP_PUT_CROWDED] = &reader->sum->crowded,
                               [RLP_PUT_FAILED] = &reader->sum->crowded };

    ++*sums[rlp_segment_put(&file->segment, counter, reader->job->replaces, file->clock.monotonic,
                            line)];
}

static const char *read_counter(void *baton, const json_t *object, apr_pool_t *line)
{
    static const char *const names[] = { "type",    "fingerprint", "signature", "expires", "loss",
                                         "lasting", "size",        "state",     NULL };
    const reader_t *reader = baton;
    rlp_counter_t counter = { .size = 0 };
    unsigned char *state = NULL;
    size_t len = 0;
    int64_t loss = 0;
    int64_t size = 0;
    const char *error = dump_members(object, names, line);

    error = error ? error : dump_get_word(object, "fingerprint", &counter.fingerprint, line);
    error = error ? error : dump_get_word(object, "signature", &counter.signature, line);
    error = error ? error : dump_get_time(object, "expires", &counter.expires, line);
    error = error ? error : dump_get_number(object, "loss", &loss, line);
    error = error ? error : dump_get_number(object, "size", &size, line);
    error = error ? error : dump_get_bool(object, "lasting", &counter.lasting, line);
    if (error != NULL) {
        return error;
    }
    counter.size = size < UINT32_MAX ? (uint32_t)size : 0;
    counter.loss = (uint32_t)loss;
    if (loss > UINT32_MAX) {
        return "\"loss\": expected a whole number from 0 to 4294967295";
    }
    if (!rlp_counter_sound(&counter)) {
        return "expected a \"fingerprint\" above 0, and a \"size\" that slots of a store have";
    }
    error = dump_get_bytes(object, "state", counter.size, &state, &len, line);
    if (error == NULL && write_length(state, len) == 0) {
        error = "\"state\": expected one that is not all zero";
    }
    if (error == NULL && reader->file != NULL) {
        counter.state = memcpy(apr_pcalloc(line, counter.size), state, len);
        read_put(reader, &counter, line);
    }
    return error;
}

/* One that is in force, if the identity has one of its own: that stays. */
static const char *read_order(const reader_t *reader, const override_key_t *key,
                              const override_t *wanted, const char *shown)
{
    const file_t *file = reader->file;
    const rlp_time_t now = file_now(file);
    override_t found;

    if (wanted->ban <= now && wanted->until <= now) {
        reader->sum->over++;
        return NULL;
    }
    if (!reader->job->replaces && override_find(&file->table, key, now, &found)) {
        reader->sum->overrides_kept++;
        return NULL;
    }
    switch (override_set(&file->table, key, wanted, shown, now)) {
    case OVERRIDE_FULL:
        reader->sum->crowded++;
        return NULL;
    case OVERRIDE_BUSY:
        return "expected no other change of bans and plans under way";
    default:
        reader->sum->overrides_loaded++;
        return NULL;
    }
}

static const char *read_override(void *baton, const json_t *object, apr_pool_t *line)
{
    static const char *const names[] = { "type",         "fingerprint", "digest",     "identity",
                                         "banned_until", "plan",        "plan_until", NULL };
    const reader_t *reader = baton;
    override_key_t key = { .fingerprint = 0 };
    override_t wanted = { .ban = 0 };
    const char *shown = "";
    const char *error = dump_members(object, names, line);
    const json_t *plan = json_member(object, "plan");

    error = error ? error : dump_get_word(object, "fingerprint", &key.fingerprint, line);
    error = error ? error : dump_get_word(object, "digest", &key.digest, line);
    error = error ? error : dump_get_text(object, "identity", &shown, line);
    error = error ? error : dump_get_time(object, "banned_until", &wanted.ban, line);
    error = error ? error : dump_get_time(object, "plan_until", &wanted.until, line);
    if (error == NULL && plan->kind != JSON_NULL) {
        error = dump_get_word(object, "plan", &wanted.plan, line);
    }
    if (error != NULL) {
        return error;
    }
    wanted.ban = wanted.ban == RLP_TIME_NEVER ? 0 : wanted.ban;
    wanted.until = wanted.until == RLP_TIME_NEVER ? 0 : wanted.until;
    if (key.fingerprint < 2 || (wanted.plan != 0) != (wanted.until != 0) ||
        (wanted.ban == 0 && wanted.plan == 0)) {
        return "expected a \"fingerprint\" above 1, and \"banned_until\", or both \"plan\" and "
               "\"plan_until\"";
    }
    return reader->file == NULL ? NULL : read_order(reader, &key, &wanted, shown);
}

/* --- load: the file it goes into */

static bool take_one(void *baton, const rlp_counter_t *counter)
{
    (void)counter;
    *(bool *)baton = true;
    return false;
}

static void take_order(void *baton, const override_key_t *key, const char *shown,
                       const override_t *found)
{
    (void)key;
    (void)shown;
    (void)found;
    *(bool *)baton = true;
}

/* Is anything counted there, or in force? */
static bool file_in_use(const file_t *file, apr_pool_t *pool)
{
    bool used = false;

    (void)rlp_segment_visit(&file->segment, file->clock.monotonic, take_one, &used, pool);
    if (file->has_table) {
        override_visit(&file->table, file_now(file), take_order, &used);
    }
    return used;
}

/* The file gets the key of the dump, and its time goes on from there: as much as went by on the
   wall clock. */
static const char *file_adopt(file_t *file, const reader_t *reader, apr_pool_t *pool)
{
    const rlp_time_t passed = file->clock.wall - reader->wall;
    rlp_origin_t origin = { .offset =
                                reader->time + (passed > 0 ? passed : 0) - file->clock.monotonic };

    memcpy(origin.key, reader->key, sizeof(origin.key));
    if (rlp_segment_adopt(&file->segment, &origin, &file->clock) != APR_SUCCESS) {
        return "the store in the file is damaged";
    }
    return file_attach(file, pool);
}

/* Only what is counted by the same key fits. */
static const char *file_match(file_t *file, const reader_t *reader, apr_pool_t *pool)
{
    unsigned char id[RLP_DIGEST_SIZE];

    file_id(id, file->origin.key);
    if (memcmp(id, reader->id, FILE_ID) == 0) {
        return NULL;
    }
    if (!reader->has_key) {
        return "the dump is of a file with another key, and does not have it: expected one of "
               "rlpctl dump --with-key";
    }
    if (file->shared) {
        return "the dump is of a file with another key, and a server has this one open: stop it "
               "first";
    }
    return file_in_use(file, pool) ? "the dump is of a file with another key, and in this one "
                                     "something is counted already: expected a new one"
                                   : file_adopt(file, reader, pool);
}

/* Is there something? An empty file is what a full disk leaves of one that could not be made. */
static bool file_is_there(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0 ? !S_ISREG(info.st_mode) || info.st_size > 0 : errno != ENOENT;
}

/* Makes the file, or opens the one that is there. */
static const char *file_make(file_t *file, const dump_job_t *job, bool has_key)
{
    const char *error = NULL;

    if (file_is_there(job->place.file)) {
        return job->size > 0 ? "expected no --size=: the file is there, and has its size"
                             : file_open(file, job);
    }
    if (!has_key) {
        return "expected a dump of rlpctl dump --with-key, since the file is not there";
    }
    rlp_clock_read(&file->clock);
    if (rlp_segment_open(&file->segment, job->place.file, job->size ? job->size : FILE_SIZE_USUAL,
                         &file->clock, &error, job->pool) != APR_SUCCESS) {
        return error;
    }
    file->made = true;
    return file_attach(file, job->pool);
}

static const char *file_fill(file_t *file, dump_in_t *in, const dump_taker_t *taker)
{
    reader_t *reader = taker->baton;
    const char *error = file_match(file, reader, reader->job->pool);

    if (error != NULL) {
        return error;
    }
    if (!file->has_table) {
        annex_begin(rlp_segment_annex(&file->segment), ANNEX_OVERRIDES);
        file->has_table = override_attach(&file->table, rlp_segment_annex(&file->segment));
    }
    const uint64_t before = rlp_segment_look(&file->segment, file->clock.monotonic).evicted;

    reader->file = file;
    error = dump_read(in, taker);
    reader->sum->evicted = rlp_segment_look(&file->segment, file->clock.monotonic).evicted - before;
    return error;
}

const char *load_file(const dump_job_t *job, dump_in_t *in, dump_sum_t *sum, int *status)
{
    reader_t reader = { .job = job, .sum = sum };
    const dump_taker_t taker = {
        .header = read_header, .counter = read_counter, .override = read_override, .baton = &reader
    };
    file_t file = { .made = false };
    const char *error = dump_read(in, &taker);

    *status = EX_DATAERR;
    if (error != NULL || job->checks) {
        return error;
    }
    error = file_make(&file, job, reader.has_key);
    if (error != NULL) {
        return error;
    }
    error = file_fill(&file, in, &taker);
    rlp_segment_close(&file.segment);
    if (error != NULL && file.made) {
        (void)unlink(job->place.file);
    }
    return error;
}
