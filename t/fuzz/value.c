/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The text of identities: escapes that can be taken back, cookies beside a plain reading of them,
 * networks. The first line is the name of a cookie, or two numbers of bits; the rest is the value.
 */

#include "value.h"
#include "fuzz.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

const char fuzz_name[] = "value";

/* Of the signs an identity is made of. */
static bool value_is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!apr_isalnum(text[i]) && strchr("_.:@-%", text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

static char *value_unescape(const char *text, size_t len, apr_pool_t *pool)
{
    char *value = apr_palloc(pool, len + 1);
    size_t n = 0;

    for (size_t i = 0; i < len; i++, n++) {
        value[n] = text[i];
        if (text[i] == '%') {
            const char digits[] = { text[i + 1], text[i + 2], '\0' };

            value[n] = (char)strtol(digits, NULL, 16);
            i += 2;
        }
    }
    value[n] = '\0';
    return value;
}

static void value_try_escape(const char *value, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, 3 * strlen(value) + 1);
    const size_t len = value_escape(text, value);

    text[len] = '\0'; /* behind what it has room for, or the sanitizer tells */
    fuzz_expect(value_is_plain(text, len), "an escaped value has no strange signs");
    fuzz_expect(strcmp(value_unescape(text, len, pool), value) == 0, "escapes can be taken back");
}

/* Pair by pair: blanks around one are no part of it. */
static const char *value_plain_cookie(const char *field, const char *name, apr_pool_t *pool)
{
    const char *begin = apr_pstrcat(pool, name, "=", NULL);
    char *rest = NULL;

    for (char *pair = apr_strtok(apr_pstrdup(pool, field), ";", &rest); pair;
         pair = apr_strtok(NULL, ";", &rest)) {
        pair += strspn(pair, " \t");
        if (strncmp(pair, begin, strlen(begin)) == 0) {
            char *value = pair + strlen(begin);
            size_t n = strlen(value);

            while (n > 0 && strchr(" \t", value[n - 1]) != NULL) {
                value[--n] = '\0';
            }
            return value;
        }
    }
    return NULL;
}

static void value_try_cookie(const char *field, const char *name, apr_pool_t *pool)
{
    size_t len = 0;
    const char *value = value_cookie(field, name, &len);
    const char *plain = value_plain_cookie(field, name, pool);

    fuzz_expect((value == NULL) == (plain == NULL), "a cookie is found where there is one");
    if (value != NULL && plain != NULL) {
        fuzz_expect(strcmp(apr_pstrmemdup(pool, value, len), plain) == 0, "its value is its value");
    }
}

/* What a network says of itself is the same network. */
static void value_try_address(const char *address, int bits4, int bits6, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, VALUE_ADDRESS_MAX + 1);
    char again[VALUE_ADDRESS_MAX + 1];
    const size_t len = value_address(text, address, bits4, bits6);

    text[len] = '\0';
    fuzz_expect(value_is_plain(text, len), "an address has no strange signs");
    if (len > 0) {
        const size_t n = value_address(again, value_unescape(text, len, pool), bits4, bits6);

        fuzz_expect(n == len && memcmp(again, text, n) == 0, "a network is in itself");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_pool_t *pool = fuzz_pool();
    char *first = apr_pstrmemdup(pool, (const char *)data, size);
    char *value = strchr(first, '\n');

    if (value == NULL) {
        return 0;
    }
    *value++ = '\0';
    value_try_escape(value, pool);
    if (*first != '\0' && strpbrk(first, "=; \t") == NULL) {
        value_try_cookie(value, first, pool);
    }
    char *bits6 = first;
    const long bits4 = strtol(first, &bits6, 10);

    if (bits4 >= 1 && bits4 <= 32 && *bits6 == ',') {
        value_try_address(value, (int)bits4, 1 + abs(atoi(bits6 + 1) % 128), pool);
    }
    return 0;
}
