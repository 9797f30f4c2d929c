/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef JSON_H
#define JSON_H

/*
 * JSON (RFC 8259), read and written. Without httpd: the tool has it, too.
 */

#include <apr_pools.h>
#include <apr_tables.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX 8

typedef enum {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_OBJECT,
    JSON_ARRAY
} json_kind_t;

/* One value. */
typedef struct {
    json_kind_t kind;
    const char *name;          /* as a member of an object; else NULL */
    const char *text;          /* of a string, without escapes; of a number, as it came */
    apr_array_header_t *items; /* json_t: of an object or an array */
} json_t;

/* Text that is being written. */
typedef struct {
    apr_pool_t *pool;
    char *text;
    size_t len;
    size_t room;
    bool more; /* a value stands before the next one */
    bool raw;  /* bytes that are no UTF-8 stay as they are */
} json_out_t;

#pragma GCC visibility push(hidden)

/* Reads one value and nothing behind it. No string has a NUL, no object a name twice, and nothing
   lies deeper than JSON_DEPTH_MAX. NULL, or what was expected, and at which byte. */
const char *json_parse(const json_t **value, const char *text, size_t len, apr_pool_t *pool);

/* A member of an object; NULL: it has none of that name, or is no object. */
const json_t *json_member(const json_t *object, const char *name);

/* Begins a text. */
json_out_t json_out(apr_pool_t *pool);

/* Members of an object, or with the name NULL items of an array. open is '{' or '['. Strings may
   hold any bytes; what is no UTF-8 is replaced. NULL is null. */
void json_open(json_out_t *out, const char *name, char open);
void json_close(json_out_t *out, char close);
void json_string(json_out_t *out, const char *name, const char *value);
void json_number(json_out_t *out, const char *name, int64_t value);
void json_bool(json_out_t *out, const char *name, bool value);

/* A number as it is written. */
void json_figure(json_out_t *out, const char *name, const char *digits);

#pragma GCC visibility pop

#endif
