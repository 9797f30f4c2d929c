/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "json.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

/* --- reading */

typedef struct {
    const char *begin;
    const char *at;
    const char *end;
    apr_pool_t *pool;
    const char *error;
} json_in_t;

static bool json_fail(json_in_t *in, const char *expected)
{
    in->error = apr_psprintf(in->pool, "expected %s at byte %" APR_SIZE_T_FMT " of the JSON",
                             expected, (apr_size_t)(in->at - in->begin));
    return false;
}

static void json_skip(json_in_t *in)
{
    while (in->at < in->end && *in->at != '\0' && strchr(" \t\r\n", *in->at) != NULL) {
        in->at++;
    }
}

/* The next sign, behind blanks; 0 at the end. */
static char json_next(json_in_t *in)
{
    json_skip(in);
    if (in->at == in->end) {
        return '\0';
    }
    return *in->at;
}

static bool json_take(json_in_t *in, const char *word)
{
    const size_t len = strlen(word);

    if ((size_t)(in->end - in->at) < len || memcmp(in->at, word, len) != 0) {
        return false;
    }
    in->at += len;
    return true;
}

/* Four hexadecimal digits; -1 if they are none. */
static int json_hex(json_in_t *in)
{
    int number = 0;

    if (in->end - in->at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++, in->at++) {
        const char c = *in->at;

        if (!apr_isxdigit(c)) {
            return -1;
        }
        number = number * 16 + (apr_isdigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return number;
}

static char *json_put_utf8(char *to, unsigned code)
{
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *to++ = (char)(0xe0 | code >> 12);
        } else {
            *to++ = (char)(0xf0 | code >> 18);
            *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    }
    *to++ = (char)(0x80 | (code & 0x3f));
    return to;
}

/* What stands behind \u; 0 for what is no character, or is NUL. */
static unsigned json_code(json_in_t *in)
{
    const int high = json_hex(in);

    if (high < 0xd800 || high > 0xdfff) {
        return high > 0 ? (unsigned)high : 0;
    }
    const int low = high < 0xdc00 && json_take(in, "\\u") ? json_hex(in) : -1;

    return low >= 0xdc00 && low <= 0xdfff
               ? 0x10000U + ((unsigned)(high - 0xd800) << 10) + (unsigned)(low - 0xdc00)
               : 0;
}

/* One escape, its backslash behind us. NULL: it is none. */
static char *json_escape(json_in_t *in, char *to)
{
    static const char signs[] = "\"\\/bfnrt";
    static const char meant[] = "\"\\/\b\f\n\r\t";
    const char *sign = in->at < in->end && *in->at != '\0' ? strchr(signs, *in->at) : NULL;

    if (sign != NULL) {
        in->at++;
        *to = meant[sign - signs];
        return to + 1;
    }
    if (!json_take(in, "u")) {
        return NULL;
    }
    const unsigned code = json_code(in);

    return code ? json_put_utf8(to, code) : NULL;
}

/* A string is never longer without its escapes. */
static bool json_read_string(json_in_t *in, const char **text)
{
    if (json_next(in) != '"') {
        return json_fail(in, "a string in double quotes");
    }
    in->at++;
    const char *quote = in->at;

    while (quote < in->end && *quote != '"') {
        quote += *quote == '\\' && quote + 1 < in->end ? 2 : 1;
    }
    char *to = apr_palloc(in->pool, (apr_size_t)(quote - in->at) + 1);

    *text = to;
    while (in->at < in->end && *in->at != '"') {
        if ((unsigned char)*in->at < ' ') {
            return json_fail(in, "an escape in the place of a control character");
        }
        if (*in->at != '\\') {
            *to++ = *in->at++;
            continue;
        }
        in->at++;
        to = json_escape(in, to);
        if (to == NULL) {
            return json_fail(in, "an escape of JSON other than \\u0000");
        }
    }
    *to = '\0';
    return json_take(in, "\"") || json_fail(in, "the end of a string");
}

static void json_digits(json_in_t *in)
{
    while (in->at < in->end && apr_isdigit(*in->at)) {
        in->at++;
    }
}

static bool json_digits_due(json_in_t *in)
{
    const char *from = in->at;

    json_digits(in);
    return in->at > from;
}

static bool json_read_number(json_in_t *in, json_t *value)
{
    const char *from = in->at;

    (void)json_take(in, "-");
    bool whole = json_take(in, "0") || json_digits_due(in);

    if (whole && json_take(in, ".")) {
        whole = json_digits_due(in);
    }
    if (whole && (json_take(in, "e") || json_take(in, "E"))) {
        (void)(json_take(in, "+") || json_take(in, "-"));
        whole = json_digits_due(in);
    }
    value->kind = JSON_NUMBER;
    value->text = apr_pstrmemdup(in->pool, from, (apr_size_t)(in->at - from));
    return whole || json_fail(in, "a value");
}

static bool json_read(json_in_t *in, json_t *value, int depth);

static bool json_read_name(json_in_t *in, const json_t *object, json_t *item)
{
    if (!json_read_string(in, &item->name)) {
        return false;
    }
    if (json_member(object, item->name) != NULL) {
        return json_fail(in, "each name once, and another one");
    }
    if (json_next(in) != ':') {
        return json_fail(in, "\":\"");
    }
    in->at++;
    return true;
}

/* The items of an array or the members of an object; its first sign is behind us. */
/* NOLINTNEXTLINE(misc-no-recursion): depth bounds it */
static bool json_read_items(json_in_t *in, json_t *value, int depth)
{
    const bool object = value->kind == JSON_OBJECT;
    const char end = object ? '}' : ']';

    value->items = apr_array_make(in->pool, 4, sizeof(json_t));
    if (json_next(in) == end) {
        in->at++;
        return true;
    }
    while (true) {
        json_t item = { .kind = JSON_NULL };

        if ((object && !json_read_name(in, value, &item)) || !json_read(in, &item, depth)) {
            return false;
        }
        APR_ARRAY_PUSH(value->items, json_t) = item;
        const char next = json_next(in);

        if (next != ',' && next != end) {
            return json_fail(in, object ? "\",\" or \"}\"" : "\",\" or \"]\"");
        }
        in->at++;
        if (next == end) {
            return true;
        }
    }
}

static bool json_read_word(json_in_t *in, json_t *value)
{
    static const struct {
        const char *word;
        json_kind_t kind;
    } words[] = { { "null", JSON_NULL }, { "false", JSON_FALSE }, { "true", JSON_TRUE } };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (json_take(in, words[i].word)) {
            value->kind = words[i].kind;
            return true;
        }
    }
    return json_read_number(in, value);
}

/* NOLINTNEXTLINE(misc-no-recursion): JSON_DEPTH_MAX bounds it */
static bool json_read(json_in_t *in, json_t *value, int depth)
{
    const char next = json_next(in);

    if (next == '"') {
        value->kind = JSON_STRING;
        return json_read_string(in, &value->text);
    }
    if (next != '{' && next != '[') {
        return json_read_word(in, value);
    }
    if (depth == 0) {
        return json_fail(in, "nothing so deep");
    }
    in->at++;
    value->kind = next == '{' ? JSON_OBJECT : JSON_ARRAY;
    return json_read_items(in, value, depth - 1);
}

const char *json_parse(const json_t **value, const char *text, size_t len, apr_pool_t *pool)
{
    json_in_t in = { .begin = text, .at = text, .end = text + len, .pool = pool };
    json_t *read = apr_pcalloc(pool, sizeof(*read));

    *value = read;
    if (json_read(&in, read, JSON_DEPTH_MAX) && (json_next(&in) != '\0' || in.at < in.end)) {
        (void)json_fail(&in, "nothing more");
    }
    return in.error;
}

const json_t *json_member(const json_t *object, const char *name)
{
    for (int i = 0; object->kind == JSON_OBJECT && i < object->items->nelts; i++) {
        const json_t *item = &APR_ARRAY_IDX(object->items, i, const json_t);

        if (strcmp(item->name, name) == 0) {
            return item;
        }
    }
    return NULL;
}

/* --- writing */

json_out_t json_out(apr_pool_t *pool)
{
    return (json_out_t){ .pool = pool, .text = apr_palloc(pool, 1024), .room = 1024 };
}

static void json_put(json_out_t *out, const char *text, size_t len)
{
    if (out->room - out->len < len) {
        char *text_before = out->text;

        out->room = 2 * (out->room + len);
        out->text = apr_palloc(out->pool, out->room);
        memcpy(out->text, text_before, out->len);
    }
    memcpy(out->text + out->len, text, len);
    out->len += len;
}

static void json_put_word(json_out_t *out, const char *word)
{
    json_put(out, word, strlen(word));
}

/* The bytes of the character of UTF-8 that the text begins with; 0: it is none. */
static size_t json_utf8(const unsigned char *text)
{
    static const struct {
        unsigned char low, high; /* of the first byte */
        unsigned char from, to;  /* of the second */
        size_t len;
    } forms[] = { { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
                  { 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 },
                  { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
                  { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 } };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (text[0] < forms[i].low || text[0] > forms[i].high) {
            continue;
        }
        if (text[1] < forms[i].from || text[1] > forms[i].to) {
            return 0;
        }
        size_t len = 2;

        while (len < forms[i].len && (text[len] & 0xc0) == 0x80) {
            len++;
        }
        return len == forms[i].len ? len : 0;
    }
    return 0;
}

/* One character; how many bytes of the text it was. Signs of HTML are escaped, too: whoever takes
   the answer for a page finds none. */
static size_t json_put_character(json_out_t *out, const char *text)
{
    const unsigned char c = (unsigned char)*text;

    if (c >= 0x80) {
        const size_t len = json_utf8((const unsigned char *)text);

        if (len > 0 || out->raw) {
            json_put(out, text, len ? len : 1);
        } else {
            json_put(out, "\xef\xbf\xbd", 3);
        }
        return len ? len : 1;
    }
    if (c < ' ' || c == 0x7f || c == '<' || c == '>' || c == '&') {
        json_put(out, apr_psprintf(out->pool, "\\u%04x", c), 6);
        return 1;
    }
    if (c == '"' || c == '\\') {
        json_put(out, "\\", 1);
    }
    json_put(out, text, 1);
    return 1;
}

static void json_put_string(json_out_t *out, const char *text)
{
    json_put(out, "\"", 1);
    while (*text != '\0') {
        text += json_put_character(out, text);
    }
    json_put(out, "\"", 1);
}

/* What stands before a value. */
static void json_begin_value(json_out_t *out, const char *name)
{
    if (out->more) {
        json_put(out, ",", 1);
    }
    out->more = true;
    if (name != NULL) {
        json_put_string(out, name);
        json_put(out, ":", 1);
    }
}

void json_open(json_out_t *out, const char *name, char open)
{
    json_begin_value(out, name);
    json_put(out, &open, 1);
    out->more = false;
}

void json_close(json_out_t *out, char close)
{
    json_put(out, &close, 1);
    out->more = true;
}

void json_string(json_out_t *out, const char *name, const char *value)
{
    json_begin_value(out, name);
    if (value == NULL) {
        json_put_word(out, "null");
    } else {
        json_put_string(out, value);
    }
}

void json_number(json_out_t *out, const char *name, int64_t value)
{
    json_begin_value(out, name);
    json_put_word(out, apr_psprintf(out->pool, "%" APR_INT64_T_FMT, value));
}

void json_bool(json_out_t *out, const char *name, bool value)
{
    json_begin_value(out, name);
    json_put_word(out, value ? "true" : "false");
}

void json_figure(json_out_t *out, const char *name, const char *digits)
{
    json_begin_value(out, name);
    json_put_word(out, digits);
}
