/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "dump_line.h"

#include <apr_strings.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES ((size_t)4 * 1024 * 1024) /* a value in Redis has 1 MB at most */

static const char line_digits[] = "0123456789abcdef";

/* --- writing */

json_out_t dump_begin_line(const dump_out_t *out, const char *type)
{
    json_out_t line = json_out(out->line);

    json_open(&line, NULL, '{');
    json_string(&line, "type", type);
    return line;
}

void dump_end_line(dump_out_t *out, json_out_t *line)
{
    json_close(line, '}');
    (void)fwrite(line->text, 1, line->len, out->file);
    (void)fputc('\n', out->file);
    apr_pool_clear(out->line);
}

void dump_put_bytes(json_out_t *line, const char *name, const void *bytes, size_t len)
{
    const unsigned char *from = bytes;
    char *text = apr_palloc(line->pool, 2 * len + 1);

    for (size_t i = 0; i < len; i++) {
        text[2 * i] = line_digits[from[i] >> 4];
        text[2 * i + 1] = line_digits[from[i] & 15];
    }
    text[2 * len] = '\0';
    json_string(line, name, text);
}

void dump_put_word(json_out_t *line, const char *name, uint64_t word)
{
    json_string(line, name, apr_psprintf(line->pool, "%016" APR_UINT64_T_HEX_FMT, word));
}

void dump_put_time(json_out_t *line, const char *name, rlp_time_t time)
{
    if (time == RLP_TIME_NEVER) {
        json_string(line, name, NULL);
    } else {
        json_number(line, name, time);
    }
}

void dump_put_end(dump_out_t *out)
{
    json_out_t line = dump_begin_line(out, "end");

    json_number(&line, "counters", (int64_t)out->counters);
    json_number(&line, "overrides", (int64_t)out->overrides);
    dump_end_line(out, &line);
}

/* --- members */

static const char *member_error(const char *name, const char *expected, apr_pool_t *line)
{
    return apr_psprintf(line, "\"%s\": expected %s", name, expected);
}

/* What it is called, whether it may be missing or not. */
static const char *member_name(const char *name)
{
    return name + (*name == '?');
}

static bool member_is_known(const char *const names[], const char *name)
{
    for (int i = 0; names[i] != NULL; i++) {
        if (strcmp(member_name(names[i]), name) == 0) {
            return true;
        }
    }
    return false;
}

const char *dump_members(const json_t *object, const char *const names[], apr_pool_t *line)
{
    const char *list = "";

    for (int i = 0; names[i] != NULL; i++) {
        if (names[i][0] != '?' && json_member(object, names[i]) == NULL) {
            return apr_psprintf(line, "expected a member \"%s\"", names[i]);
        }
        list = apr_pstrcat(line, list, i ? ", " : "", member_name(names[i]), NULL);
    }
    for (int i = 0; i < object->items->nelts; i++) {
        if (!member_is_known(names, APR_ARRAY_IDX(object->items, i, json_t).name)) {
            return apr_psprintf(line, "expected no members but %s", list);
        }
    }
    return NULL;
}

const char *dump_get_text(const json_t *object, const char *name, const char **text,
                          apr_pool_t *line)
{
    const json_t *member = json_member(object, name);

    if (member == NULL || member->kind != JSON_STRING) {
        return member_error(name, "a string", line);
    }
    *text = member->text;
    return NULL;
}

const char *dump_get_word(const json_t *object, const char *name, uint64_t *word, apr_pool_t *line)
{
    const char *text = "";
    const char *error = dump_get_text(object, name, &text, line);

    if (error != NULL || strlen(text) != 16 || strspn(text, line_digits) != 16) {
        return member_error(name, "16 digits, 0 to 9 and a to f", line);
    }
    *word = strtoull(text, NULL, 16);
    return NULL;
}

const char *dump_get_number(const json_t *object, const char *name, int64_t *number,
                            apr_pool_t *line)
{
    const json_t *member = json_member(object, name);
    const char *text = member != NULL && member->kind == JSON_NUMBER ? member->text : "-";

    *number = text[strspn(text, "0123456789")] == '\0' && strlen(text) <= 16
                  ? apr_strtoi64(text, NULL, 10)
                  : -1;
    return *number >= 0 && *number <= DUMP_NUMBER_MAX
               ? NULL
               : member_error(name, "a whole number from 0 to 9007199254740992", line);
}

const char *dump_get_bool(const json_t *object, const char *name, bool *is, apr_pool_t *line)
{
    const json_t *member = json_member(object, name);

    if (member == NULL || (member->kind != JSON_TRUE && member->kind != JSON_FALSE)) {
        return member_error(name, "true or false", line);
    }
    *is = member->kind == JSON_TRUE;
    return NULL;
}

const char *dump_get_time(const json_t *object, const char *name, rlp_time_t *time,
                          apr_pool_t *line)
{
    const json_t *member = json_member(object, name);

    *time = RLP_TIME_NEVER;
    if (member != NULL && member->kind == JSON_NULL) {
        return NULL;
    }
    return dump_get_number(object, name, time, line) == NULL
               ? NULL
               : member_error(name, "null, or microseconds from 0 to 9007199254740992", line);
}

static int line_digit(char c)
{
    const char *at = c == '\0' ? NULL : strchr(line_digits, c);

    return at == NULL ? -1 : (int)(at - line_digits);
}

const char *dump_get_bytes(const json_t *object, const char *name, size_t most,
                           unsigned char **bytes, size_t *len, apr_pool_t *line)
{
    const char *text = "";
    const char *error = dump_get_text(object, name, &text, line);
    const size_t digits = strlen(text);

    if (error != NULL || digits % 2 != 0 || digits / 2 > most) {
        return member_error(name,
                            apr_psprintf(line,
                                         "pairs of digits of at most %" APR_SIZE_T_FMT " bytes",
                                         most),
                            line);
    }
    *len = digits / 2;
    *bytes = apr_palloc(line, *len + 1);
    for (size_t i = 0; i < *len; i++) {
        const int high = line_digit(text[2 * i]);
        const int low = line_digit(text[2 * i + 1]);

        if (high < 0 || low < 0) {
            return member_error(name, "pairs of the digits 0 to 9 and a to f", line);
        }
        (*bytes)[i] = (unsigned char)(high << 4 | low);
    }
    return NULL;
}

/* --- reading */

/* What can be read only once is copied into a file that has no name. */
static const char *in_copy(dump_in_t *in)
{
    FILE *copy = tmpfile();
    char buffer[8192];
    size_t got;
    bool whole = copy != NULL;

    while (whole && (got = fread(buffer, 1, sizeof(buffer), in->file)) > 0) {
        whole = fwrite(buffer, 1, got, copy) == got;
    }
    if (!whole || ferror(in->file) || fflush(copy) != 0) {
        if (copy != NULL) {
            (void)fclose(copy);
        }
        return "cannot copy standard input into a temporary file";
    }
    in->file = copy;
    return NULL;
}

static apr_status_t in_close(void *in)
{
    (void)fclose(in);
    return APR_SUCCESS;
}

const char *dump_open(dump_in_t *in, const char *name, apr_pool_t *pool)
{
    const bool standard = strcmp(name, "-") == 0;
    const char *error = NULL;

    *in = (dump_in_t){ .name = standard ? "standard input" : name,
                       .file = standard ? stdin : fopen(name, "re"),
                       .text = apr_palloc(pool, LINE_MAX_BYTES + 1),
                       .pool = pool };
    apr_pool_create(&in->line, pool);
    if (in->file == NULL) {
        return apr_psprintf(pool, "cannot open %s: %s", name, strerror(errno));
    }
    if (fseek(in->file, 0, SEEK_SET) != 0) {
        error = standard ? in_copy(in) : apr_psprintf(pool, "cannot read %s twice", name);
    }
    if (error == NULL) {
        apr_pool_cleanup_register(pool, in->file, in_close, apr_pool_cleanup_null);
    }
    return error;
}

/* The next line, without its end; its length. false: there is none, or *error says why not. */
static bool in_line(dump_in_t *in, size_t *len, const char **error)
{
    int c;

    *len = 0;
    in->number++;
    apr_pool_clear(in->line);
    while ((c = getc(in->file)) != EOF && c != '\n') {
        if (*len == LINE_MAX_BYTES) {
            *error = "expected a line of at most 4194304 bytes";
            return false;
        }
        in->text[(*len)++] = (char)c;
    }
    if (ferror(in->file)) {
        *error = "it cannot be read";
    } else if (c == EOF && *len > 0) {
        *error = "expected a whole line";
    }
    return *error == NULL && c != EOF;
}

static const char *read_header(const json_t *object, const dump_taker_t *taker, apr_pool_t *line)
{
    int64_t version = 0;
    const char *error = dump_get_number(object, "version", &version, line);

    if (error != NULL || version != DUMP_VERSION) {
        return apr_psprintf(line, "\"version\": expected %d: this program knows no other",
                            DUMP_VERSION);
    }
    return taker->header(taker->baton, object, line);
}

static const char *read_end(dump_in_t *in, const json_t *object)
{
    static const char *const names[] = { "type", "counters", "overrides", NULL };
    int64_t counters = 0;
    int64_t overrides = 0;
    const char *error = dump_members(object, names, in->line);

    error = error ? error : dump_get_number(object, "counters", &counters, in->line);
    error = error ? error : dump_get_number(object, "overrides", &overrides, in->line);
    in->ended = true;
    if (error == NULL &&
        ((uint64_t)counters != in->counters || (uint64_t)overrides != in->overrides)) {
        return "expected as many counters and overrides as there are lines: some are missing, or "
               "too many";
    }
    return error;
}

/* One line behind the first. */
static const char *read_more(dump_in_t *in, const json_t *object, const char *type,
                             const dump_taker_t *taker)
{
    if (strcmp(type, "counter") == 0) {
        in->counters++;
        return taker->counter(taker->baton, object, in->line);
    }
    if (strcmp(type, "override") == 0 && taker->override != NULL) {
        in->overrides++;
        return taker->override(taker->baton, object, in->line);
    }
    return strcmp(type, "end") == 0 ? read_end(in, object)
                                    : member_error("type", "counter, override or end", in->line);
}

#define LINE_COMMAS_MAX 64

/* Members are compared with each other: there are to be few. */
static bool read_is_short(const char *text, size_t len)
{
    int commas = 0;

    for (size_t i = 0; i < len && commas <= LINE_COMMAS_MAX; i++) {
        commas += text[i] == ',';
    }
    return commas <= LINE_COMMAS_MAX;
}

static const char *read_line(dump_in_t *in, size_t len, const dump_taker_t *taker)
{
    const json_t *object;
    const char *type = "";

    if (in->ended) {
        return "expected nothing behind the line of the type \"end\"";
    }
    if (!read_is_short(in->text, len)) {
        return "expected an object of few members";
    }
    const char *error = json_parse(&object, in->text, len, in->line);

    if (error != NULL) {
        return error;
    }
    if (object->kind != JSON_OBJECT) {
        return "expected an object";
    }
    error = dump_get_text(object, "type", &type, in->line);
    if (error != NULL) {
        return error;
    }
    if (in->number == 1) {
        return strcmp(type, "dump") == 0
                   ? read_header(object, taker, in->line)
                   : "\"type\": expected dump, as the first line of what rlpctl dump prints";
    }
    return read_more(in, object, type, taker);
}

const char *dump_read(dump_in_t *in, const dump_taker_t *taker)
{
    const char *error = NULL;
    size_t len = 0;

    in->number = in->counters = in->overrides = 0;
    in->ended = false;
    if (fseek(in->file, 0, SEEK_SET) != 0) {
        error = "it cannot be read";
    }
    while (error == NULL && in_line(in, &len, &error)) {
        error = read_line(in, len, taker);
    }
    if (error == NULL && !in->ended) {
        error = "expected a line of the type \"end\": the dump is cut off";
    }
    return error == NULL ? NULL
                         : apr_psprintf(in->pool, "%s, line %" APR_UINT64_T_FMT ": %s", in->name,
                                        in->number, error);
}
