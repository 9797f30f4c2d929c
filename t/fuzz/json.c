/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What people send to ratelimit-admin: what is JSON is read, and written it is the same again; what
 * is none is refused with its place.
 */

#include "json.h"
#include "fuzz.h"

#include <apr_strings.h>

#include <string.h>

const char fuzz_name[] = "json";

static void json_write(json_out_t *out, const json_t *value);

/* NOLINTNEXTLINE(misc-no-recursion): JSON_DEPTH_MAX bounds it */
static void json_write_items(json_out_t *out, const json_t *value)
{
    const bool object = value->kind == JSON_OBJECT;

    json_open(out, value->name, object ? '{' : '[');
    for (int i = 0; i < value->items->nelts; i++) {
        json_write(out, &APR_ARRAY_IDX(value->items, i, const json_t));
    }
    json_close(out, object ? '}' : ']');
}

/* Numbers as strings: those that are written are whole. */
/* NOLINTNEXTLINE(misc-no-recursion): JSON_DEPTH_MAX bounds it */
static void json_write(json_out_t *out, const json_t *value)
{
    switch (value->kind) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        json_write_items(out, value);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        json_bool(out, value->name, value->kind == JSON_TRUE);
        break;
    case JSON_NULL:
    case JSON_NUMBER:
    case JSON_STRING:
        json_string(out, value->name, value->kind == JSON_NULL ? NULL : value->text);
        break;
    }
}

static json_out_t json_written(const json_t *value, apr_pool_t *pool)
{
    json_out_t out = json_out(pool);

    json_write(&out, value);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_pool_t *pool = fuzz_pool();
    const json_t *value = NULL;
    const json_t *again = NULL;
    const char *error = json_parse(&value, (const char *)data, size, pool);

    if (error != NULL) {
        fuzz_expect(strncmp(error, "expected ", 9) == 0 && strstr(error, " at byte ") != NULL,
                    "a refusal says what was expected, and where");
        return 0;
    }
    const json_out_t first = json_written(value, pool);

    error = json_parse(&again, first.text, first.len, pool);
    /* of names that are no UTF-8 two may become one */
    if (error != NULL && strstr(error, "each name once") != NULL) {
        return 0;
    }
    fuzz_expect(error == NULL, "what is written can be read");
    const json_out_t second = json_written(again, pool);

    fuzz_expect(first.len == second.len && memcmp(first.text, second.text, first.len) == 0,
                "what is read again is the same");
    fuzz_expect(memchr(first.text, '<', first.len) == NULL, "there is no markup in it");
    return 0;
}
