/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Text files of "VALUE PLAN" lines. A million values of 32 bytes take 48 MB: a record of 8 + 32
 * bytes each, and two offsets of 4 bytes.
 */

#include "plan_map.h"

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

#define TXT_LINE_MAX 8190
#define TXT_FILE_MAX ((apr_off_t)1 << 30)
#define TXT_UNIT 4 /* bytes; records begin at multiples of it */
#define TXT_DIGEST "sha256:"
#define TXT_DIGEST_LEN (sizeof(TXT_DIGEST) - 1)

typedef struct {
    uint32_t plan; /* plan_t.index */
    uint16_t len;
    uint16_t digest; /* 1: value is a digest */
    char value[];
} txt_record_t;

_Static_assert(sizeof(txt_record_t) == 8, "8 bytes before each value");

struct txt_t {
    apr_pool_t *pool;
    uint32_t mask;   /* of slots, a power of two of which at most half are in use */
    uint32_t *slots; /* where a record begins, in units; 0: none */
    char *records;
    uint32_t used; /* of records, in units; the first is left free */
    bool digests;  /* there are some */
};

typedef struct {
    const char *at;
    size_t len;
} txt_word_t;

/* --- the table */

static const txt_record_t *txt_record(const txt_t *txt, uint32_t unit)
{
    return (const txt_record_t *)(const void *)(txt->records + (size_t)unit * TXT_UNIT);
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

/* The slot of the value, or the free one where it would be. */
static uint32_t *txt_slot(const txt_t *txt, const char *value, size_t len, bool digest)
{
    uint32_t at = txt_hash(value, len) & txt->mask;

    for (; txt->slots[at] != 0; at = (at + 1) & txt->mask) {
        const txt_record_t *record = txt_record(txt, txt->slots[at]);

        if (record->len == len && record->digest == digest &&
            memcmp(record->value, value, len) == 0) {
            break;
        }
    }
    return &txt->slots[at];
}

static const plan_t *txt_plan(const txt_t *txt, uint32_t slot)
{
    return slot == 0 ? NULL
                     : APR_ARRAY_IDX(rlp_world->plan_list, txt_record(txt, slot)->plan - 1,
                                     const plan_t *);
}

const plan_t *txt_find(const txt_t *txt, const char *value)
{
    const size_t len = strlen(value);
    uint8_t digest[RLP_DIGEST_SIZE];

    if (len <= TXT_LINE_MAX) {
        const plan_t *plan = txt_plan(txt, *txt_slot(txt, value, len, false));

        if (plan != NULL) {
            return plan;
        }
    }
    if (!txt->digests) {
        return NULL;
    }
    rlp_digest(digest, value, len);
    return txt_plan(txt, *txt_slot(txt, (const char *)digest, sizeof(digest), true));
}

void txt_count(const txt_t *txt, uint32_t counts[])
{
    for (size_t at = 0; at <= txt->mask; at++) {
        if (txt->slots[at] != 0) {
            counts[txt_record(txt, txt->slots[at])->plan]++;
        }
    }
}

/* --- the file */

/* The value is new, and there is room for it. */
static void txt_add(txt_t *txt, uint32_t *slot, txt_word_t value, bool digest, const plan_t *plan)
{
    txt_record_t *record = (void *)(txt->records + (size_t)txt->used * TXT_UNIT);

    record->plan = (uint32_t)plan->index;
    record->len = (uint16_t)value.len;
    record->digest = digest;
    memcpy(record->value, value.at, value.len);
    *slot = txt->used;
    txt->used += (uint32_t)((sizeof(*record) + value.len + TXT_UNIT - 1) / TXT_UNIT);
    txt->digests |= digest;
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
    uint32_t *slot = txt_slot(txt, value.at, value.len, digest);

    if (*slot != 0) {
        return "expected each value once";
    }
    txt_add(txt, slot, value, digest, plan);
    return NULL;
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

static size_t txt_count_lines(txt_word_t text)
{
    const char *const end = text.at + text.len;
    size_t n = 1;

    for (const char *at = text.at; at < end && (at = memchr(at, '\n', (size_t)(end - at))); at++) {
        n++;
    }
    return n;
}

/* An empty table with room for all values that there can be. */
static txt_t *txt_create(txt_word_t text, apr_pool_t *pool)
{
    const size_t lines = txt_count_lines(text);
    txt_t *txt = apr_pcalloc(pool, sizeof(*txt));
    size_t slots = 2;

    while (slots < 2 * lines) {
        slots *= 2;
    }
    txt->pool = pool;
    txt->mask = (uint32_t)slots - 1;
    txt->slots = apr_pcalloc(pool, slots * sizeof(*txt->slots));
    txt->records =
        apr_palloc(pool, TXT_UNIT + text.len + lines * (sizeof(txt_record_t) + TXT_UNIT));
    txt->used = 1;
    return txt;
}

static const char *txt_lines(txt_t *txt, txt_word_t text, const char *path, apr_pool_t *pool)
{
    const char *const end = text.at + text.len;
    const char *next = NULL;
    int n = 1;

    for (const char *at = text.at; at < end; at = next + 1, n++) {
        next = memchr(at, '\n', (size_t)(end - at));
        next = next ? next : end;
        const char *error = txt_line(txt, (txt_word_t){ .at = at, .len = (size_t)(next - at) });

        if (error != NULL) {
            return apr_psprintf(pool, "line %d of %s: %s", n, path, error);
        }
    }
    return NULL;
}

static const char *txt_failed(const char *what, const char *path, apr_status_t rv, apr_pool_t *pool)
{
    char reason[120];

    return apr_psprintf(pool, "cannot %s %s: %s", what, path,
                        apr_strerror(rv, reason, sizeof(reason)));
}

/* All of an open file. NULL, or what is wrong. */
static const char *txt_content(txt_word_t *text, apr_file_t *file, const apr_finfo_t *info,
                               const char *path, apr_pool_t *pool)
{
    if (info->size >= TXT_FILE_MAX) {
        return apr_psprintf(pool, "expected a file of less than 1 GB: %s", path);
    }
    text->len = (size_t)info->size;
    char *at = apr_palloc(pool, text->len + 1);
    const apr_status_t rv = apr_file_read_full(file, at, text->len, &text->len);

    text->at = at;
    return rv == APR_SUCCESS || APR_STATUS_IS_EOF(rv) ? NULL : txt_failed("read", path, rv, pool);
}

/* The content of the file by that name. NULL, or what is wrong. */
static const char *txt_load(txt_word_t *text, file_mark_t *mark, const char *path, apr_pool_t *pool)
{
    apr_file_t *file;
    apr_finfo_t info;
    apr_status_t rv = apr_stat(&info, path, APR_FINFO_TYPE, pool);

    if (rv == APR_SUCCESS && info.filetype != APR_REG) { /* to open a pipe may take for ever */
        return apr_psprintf(pool, "expected a file: %s", path);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_file_open(&file, path, APR_FOPEN_READ, APR_OS_DEFAULT, pool);
    }
    if (rv != APR_SUCCESS) {
        return txt_failed("open", path, rv, pool);
    }
    rv = apr_file_info_get(&info, FILE_MARK_WANTED, file);
    const char *error = rv == APR_SUCCESS ? txt_content(text, file, &info, path, pool)
                                          : txt_failed("read", path, rv, pool);

    apr_file_close(file);
    *mark = file_mark(&info);
    return error;
}

const char *txt_read(txt_t **txt, file_mark_t *mark, const char *path, apr_pool_t *pool)
{
    apr_pool_t *scratch;
    apr_pool_t *own;
    txt_word_t text = { .len = 0 };
    txt_t *made = NULL;

    if (apr_pool_create_unmanaged_ex(&scratch, NULL, NULL) != APR_SUCCESS) {
        return "out of memory";
    }
    if (apr_pool_create_unmanaged_ex(&own, NULL, NULL) != APR_SUCCESS) {
        apr_pool_destroy(scratch);
        return "out of memory";
    }
    const char *error = txt_load(&text, mark, path, scratch);

    if (error == NULL) {
        made = txt_create(text, own);
        error = txt_lines(made, text, path, scratch);
    }
    if (error != NULL) {
        error = apr_pstrdup(pool, error);
        apr_pool_destroy(own);
    } else {
        *txt = made;
    }
    apr_pool_destroy(scratch);
    return error;
}

void txt_free(txt_t *txt)
{
    apr_pool_destroy(txt->pool);
}
