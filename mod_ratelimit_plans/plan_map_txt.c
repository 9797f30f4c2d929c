/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Text files of "VALUE PLAN" lines, as a table in memory that all children share. A million values
 * of 32 bytes take 48 MB: a record of 8 + 32 bytes each, and two offsets of 4 bytes.
 */

#include "plan_map.h"

#include <apr_atomic.h>
#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TXT_LINE_MAX 8190
#define TXT_BOM "\xef\xbb\xbf" /* of UTF-8 */
#define TXT_BOM_LEN 3
#define TXT_BUFFER 65536 /* bytes read at once; longer than a line */
#define TXT_FILE_MAX ((apr_off_t)1 << 30)
#define TXT_UNIT 4 /* bytes; records begin at multiples of it */
#define TXT_CHANGED "expected a file that nobody changes while it is read"
#define TXT_DIGEST "sha256:"
#define TXT_DIGEST_LEN (sizeof(TXT_DIGEST) - 1)
#define TXT_STEP                                                                                 \
    1024              /* lines, half a millisecond of work, after which requests have their turn \
                       */
#define TXT_PAUSE 500 /* microseconds */
#define TXT_PIECE                                                                  \
    ((size_t)1 << 20) /* bytes given back at once, or others wait for their memory \
                       */

typedef struct {
    uint32_t plan; /* plan_t.index */
    uint16_t len;
    uint16_t digest; /* 1: value is a digest */
    char value[];
} txt_record_t;

_Static_assert(sizeof(txt_record_t) == 8, "8 bytes before each value");

/* The table begins with this; behind the slots there are the records. No pointers. */
struct txt_t {
    uint64_t size;    /* of all of it, in bytes */
    uint32_t mask;    /* of slots, a power of two of which at most half are in use */
    uint32_t used;    /* of records, in units; the first is left free */
    uint32_t room;    /* for records, in units */
    uint32_t digests; /* 1: there are some */
    uint32_t slots[]; /* where a record begins, in units; 0: none */
};

typedef struct {
    const char *at;
    size_t len;
} txt_word_t;

/* A file, read line by line. */
typedef struct {
    apr_file_t *file;
    apr_status_t rv;
    size_t at;  /* of buffer: where the next line begins */
    size_t len; /* bytes in it */
    char buffer[TXT_BUFFER];
} txt_reader_t;

/* --- the table */

static const txt_record_t *txt_record(const txt_t *txt, uint32_t unit)
{
    const uint32_t *records = &txt->slots[txt->mask + (size_t)1];

    return (const void *)&records[unit]; /* a unit is 4 bytes */
}

/* FNV-1a. Values come from the file alone, so nobody can aim at a slot. */
static uint32_t txt_hash(const char *value, size_t len)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (uint8_t)value[i]) * UINT64_C(0x100000001b3);
    }
    return (uint32_t)(hash ^ hash >> 32);
}

/* The index of the slot of the value, or the free one where it would be. */
static uint32_t txt_slot(const txt_t *txt, const char *value, size_t len, bool digest)
{
    uint32_t at = txt_hash(value, len) & txt->mask;

    for (; txt->slots[at] != 0; at = (at + 1) & txt->mask) {
        const txt_record_t *record = txt_record(txt, txt->slots[at]);

        if (record->len == len && record->digest == digest &&
            memcmp(record->value, value, len) == 0) {
            break;
        }
    }
    return at;
}

static const plan_t *txt_plan(const txt_t *txt, uint32_t at)
{
    const uint32_t unit = txt->slots[at];

    return unit == 0 ? NULL
                     : APR_ARRAY_IDX(rlp_world->plan_list, txt_record(txt, unit)->plan - 1,
                                     const plan_t *);
}

const plan_t *txt_find(const txt_t *txt, const char *value)
{
    const size_t len = strlen(value);
    uint8_t digest[RLP_DIGEST_SIZE];

    if (len <= TXT_LINE_MAX) {
        const plan_t *plan = txt_plan(txt, txt_slot(txt, value, len, false));

        if (plan != NULL) {
            return plan;
        }
    }
    if (!txt->digests) {
        return NULL;
    }
    rlp_digest(digest, value, len);
    return txt_plan(txt, txt_slot(txt, (const char *)digest, sizeof(digest), true));
}

void txt_count_plans(const txt_t *txt, uint32_t counts[])
{
    for (size_t at = 0; at <= txt->mask; at++) {
        if (txt->slots[at] != 0) {
            counts[txt_record(txt, txt->slots[at])->plan]++;
        }
    }
}

/* --- the file */

/* The value is new. False: there is no room, since the file has grown. */
static bool txt_add(txt_t *txt, uint32_t at, txt_word_t value, bool digest, const plan_t *plan)
{
    const uint32_t units = (uint32_t)((sizeof(txt_record_t) + value.len + TXT_UNIT - 1) / TXT_UNIT);

    if (txt->room - txt->used < units) {
        return false;
    }
    txt_record_t *record = (void *)&txt->slots[txt->mask + (size_t)1 + txt->used];

    record->plan = (uint32_t)plan->index;
    record->len = (uint16_t)value.len;
    record->digest = digest;
    memcpy(record->value, value.at, value.len);
    txt->slots[at] = txt->used;
    txt->used += units;
    txt->digests |= digest;
    return true;
}

static bool txt_is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Takes the next word from what is left of a line; empty at its end. */
static txt_word_t txt_word(txt_word_t *rest)
{
    txt_word_t word;

    while (rest->len > 0 && txt_is_blank(*rest->at)) {
        rest->at++;
        rest->len--;
    }
    word = (txt_word_t){ .at = rest->at };
    while (rest->len > 0 && !txt_is_blank(*rest->at)) {
        rest->at++;
        rest->len--;
        word.len++;
    }
    return word;
}

static int txt_hex(char c)
{
    if (apr_isdigit(c)) {
        return c - '0';
    }
    return apr_isxdigit(c) ? apr_tolower(c) - 'a' + 10 : -1;
}

/* The digest that a value beginning with "sha256:" stands for. NULL, or what was expected. */
static const char *txt_digest(uint8_t digest[RLP_DIGEST_SIZE], txt_word_t value)
{
    const char *hex = value.at + TXT_DIGEST_LEN;
    const bool fits = value.len == TXT_DIGEST_LEN + (size_t)2 * RLP_DIGEST_SIZE;

    for (size_t i = 0; fits && i < RLP_DIGEST_SIZE; i++) {
        const int high = txt_hex(hex[2 * i]);
        const int low = txt_hex(hex[2 * i + 1]);

        if (high < 0 || low < 0) {
            return "expected 64 hexadecimal digits behind sha256:";
        }
        digest[i] = (uint8_t)(high << 4 | low);
    }
    return fits ? NULL : "expected 64 hexadecimal digits behind sha256:";
}

static const char *txt_put(txt_t *txt, txt_word_t value, const plan_t *plan)
{
    const bool digest =
        value.len >= TXT_DIGEST_LEN && memcmp(value.at, TXT_DIGEST, TXT_DIGEST_LEN) == 0;
    uint8_t bytes[RLP_DIGEST_SIZE];

    if (digest) {
        const char *error = txt_digest(bytes, value);

        if (error != NULL) {
            return error;
        }
        value = (txt_word_t){ .at = (const char *)bytes, .len = sizeof(bytes) };
    }
    const uint32_t at = txt_slot(txt, value.at, value.len, digest);

    if (txt->slots[at] != 0) {
        return "expected each value once";
    }
    return txt_add(txt, at, value, digest, plan) ? NULL : TXT_CHANGED;
}

/* One line, without its end. NULL, or what was expected. */
static const char *txt_line(txt_t *txt, txt_word_t line)
{
    if (line.len > TXT_LINE_MAX) {
        return "expected lines of less than 8 kB";
    }
    const txt_word_t value = txt_word(&line);

    if (value.len == 0 || *value.at == '#') {
        return NULL;
    }
    if (value.len >= TXT_BOM_LEN && memcmp(value.at, TXT_BOM, TXT_BOM_LEN) == 0) {
        return "expected a value, got the byte order mark that an editor has put there";
    }
    const txt_word_t name = txt_word(&line);
    const txt_word_t more = txt_word(&line);

    if (name.len == 0 || (more.len != 0 && *more.at != '#')) {
        return "expected \"VALUE PLAN\"";
    }
    const plan_t *plan = apr_hash_get(rlp_world->plans, name.at, (apr_ssize_t)name.len);

    if (plan == NULL) { /* who swaps the two shows a secret: the word stays out of the message */
        return "expected the name of a plan behind the value";
    }
    return txt_put(txt, value, plan);
}

/* --- reading */

/* Makes the buffer begin with the line at hand, and fills it. False at the end of the file. */
static bool txt_fill(txt_reader_t *reader)
{
    size_t more = 0;

    memmove(reader->buffer, reader->buffer + reader->at, reader->len - reader->at);
    reader->len -= reader->at;
    reader->at = 0;
    if (reader->rv == APR_SUCCESS) {
        reader->rv = apr_file_read_full(reader->file, reader->buffer + reader->len,
                                        TXT_BUFFER - reader->len, &more);
    }
    reader->len += more;
    return more > 0;
}

/* The next line, without its end; one that is too long comes in pieces. False at the end. */
static bool txt_next(txt_reader_t *reader, txt_word_t *line)
{
    const char *end = memchr(reader->buffer + reader->at, '\n', reader->len - reader->at);

    if (end == NULL && reader->len - reader->at <= TXT_LINE_MAX && txt_fill(reader)) {
        end = memchr(reader->buffer, '\n', reader->len);
    }
    line->at = reader->buffer + reader->at;
    line->len = end ? (size_t)(end - line->at) : reader->len - reader->at;
    reader->at += line->len + (end != NULL);
    return end != NULL || line->len > 0;
}

static const char *txt_failed(const char *what, const char *path, apr_status_t rv, apr_pool_t *pool)
{
    char reason[120];

    return apr_psprintf(pool, "cannot %s %s: %s", what, path,
                        apr_strerror(rv, reason, sizeof(reason)));
}

/* In a child, reading is to be noticed by nobody: it pauses as long as it works. True: stop it. */
static bool txt_stops(const txt_request_t *request, size_t line)
{
    if (line % TXT_STEP != 0 || request->stop == NULL) {
        return false;
    }
    apr_sleep(TXT_PAUSE);
    return apr_atomic_read32(request->stop) != 0;
}

/* How many lines there are, then back to the first. NULL, or what is wrong. */
static const char *txt_count_lines(size_t *lines, txt_reader_t *reader,
                                   const txt_request_t *request, apr_pool_t *pool)
{
    apr_off_t start = 0;
    txt_word_t line;

    *lines = 0;
    while (txt_next(reader, &line)) {
        if (txt_stops(request, ++*lines)) {
            return "";
        }
    }
    if (reader->rv != APR_SUCCESS && !APR_STATUS_IS_EOF(reader->rv)) {
        return txt_failed("read", request->path, reader->rv, pool);
    }
    reader->at = reader->len = 0;
    reader->rv = apr_file_seek(reader->file, APR_SET, &start);
    return NULL;
}

/* An empty table with room for so many lines of a file of so many bytes, in the shared memory
   behind a descriptor. NULL: there is not so much memory. */
static txt_t *txt_create(int fd, size_t lines, size_t bytes)
{
    const size_t units = 1 + bytes / TXT_UNIT + lines * (sizeof(txt_record_t) / TXT_UNIT + 1);
    size_t slots = 2;

    while (slots < 2 * lines) {
        slots *= 2;
    }
    const size_t size = sizeof(txt_t) + (slots + units) * sizeof(uint32_t);

    if (ftruncate(fd, 0) != 0 || ftruncate(fd, (off_t)size) != 0) {
        return NULL;
    }
    txt_t *txt = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (txt == MAP_FAILED) {
        return NULL;
    }
    txt->size = size;
    txt->mask = (uint32_t)slots - 1;
    txt->room = (uint32_t)units;
    txt->used = 1;
    return txt;
}

/* As many lines as were counted: for more there may be no free slot. NULL, or what is wrong; ""
   when it was told to stop. */
static const char *txt_lines(txt_t *txt, size_t lines, txt_reader_t *reader,
                             const txt_request_t *request, apr_pool_t *pool)
{
    txt_word_t line;

    for (size_t n = 1; txt_next(reader, &line); n++) {
        const char *error = n > lines ? TXT_CHANGED : txt_line(txt, line);

        if (error != NULL) {
            return apr_psprintf(pool, "line %" APR_SIZE_T_FMT " of %s: %s", n, request->path,
                                error);
        }
        if (txt_stops(request, n)) {
            return "";
        }
    }
    return reader->rv == APR_SUCCESS || APR_STATUS_IS_EOF(reader->rv)
               ? NULL
               : txt_failed("read", request->path, reader->rv, pool);
}

/* NULL, or what is wrong; "" when it was told to stop. */
static const char *txt_load(txt_t **txt, txt_reader_t *reader, apr_off_t size,
                            const txt_request_t *request, apr_pool_t *pool)
{
    size_t lines;

    if (size >= TXT_FILE_MAX) {
        return apr_psprintf(pool, "expected a file of less than 1 GB: %s", request->path);
    }
    const char *error = txt_count_lines(&lines, reader, request, pool);

    if (error != NULL) {
        return error;
    }
    *txt = txt_create(request->fd, lines, (size_t)size);
    if (*txt == NULL) {
        return txt_failed("get memory for", request->path, errno, pool);
    }
    error = txt_lines(*txt, lines, reader, request, pool);
    if (error != NULL) {
        txt_close(*txt, (*txt)->size);
        *txt = NULL;
    }
    return error;
}

static const char *txt_open_file(apr_file_t **file, const char *path, apr_pool_t *pool)
{
    apr_finfo_t info;
    apr_status_t rv = apr_stat(&info, path, APR_FINFO_TYPE, pool);

    if (rv == APR_SUCCESS && info.filetype != APR_REG) { /* to open a pipe may take for ever */
        return apr_psprintf(pool, "expected a file: %s", path);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_file_open(file, path, APR_FOPEN_READ, APR_OS_DEFAULT, pool);
    }
    return rv == APR_SUCCESS ? NULL : txt_failed("open", path, rv, pool);
}

const char *txt_read(const txt_t **txt, file_mark_t *mark, const txt_request_t *request,
                     apr_pool_t *pool)
{
    txt_reader_t *reader = apr_palloc(pool, sizeof(*reader));
    apr_finfo_t info;
    txt_t *made = NULL;
    const char *error = txt_open_file(&reader->file, request->path, pool);

    if (error != NULL) {
        return error;
    }
    reader->at = reader->len = 0;
    reader->rv = apr_file_info_get(&info, FILE_MARK_WANTED, reader->file);
    if (reader->rv == APR_SUCCESS) {
        error = txt_load(&made, reader, info.size, request, pool);
        *mark = file_mark(&info);
    } else {
        error = txt_failed("read", request->path, reader->rv, pool);
    }
    apr_file_close(reader->file);
    *txt = made;
    return error;
}

const txt_t *txt_open(int fd)
{
    struct stat info;

    if (fstat(fd, &info) != 0 || (size_t)info.st_size < sizeof(txt_t)) {
        return NULL;
    }
    const txt_t *txt = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);

    return txt == MAP_FAILED ? NULL : txt;
}

size_t txt_size(const txt_t *txt)
{
    return txt->size;
}

void txt_close(const txt_t *txt, size_t size)
{
    char *const at = (char *)(uintptr_t)txt;

    for (size_t done = 0; done < size; done += TXT_PIECE) {
        (void)munmap(at + done, size - done < TXT_PIECE ? size - done : TXT_PIECE);
    }
}
