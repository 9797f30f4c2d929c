/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/key.h"

#include <string.h>

/* A byte that would be taken for a sign of ours, or not be read well, is written %XX. */
static bool key_is_plain(unsigned char byte)
{
    return byte > ' ' && byte < 0x7f && byte != '{' && byte != '}' && byte != '%';
}

char *redis_key_escape(char *at, const char *bytes, size_t len)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < len; i++) {
        const unsigned char byte = (unsigned char)bytes[i];

        if (key_is_plain(byte)) {
            *at++ = (char)byte;
            continue;
        }
        *at++ = '%';
        *at++ = digits[byte >> 4];
        *at++ = digits[byte & 15];
    }
    return at;
}

/* The value of a hexadecimal digit as they are written here; -1: it is none. */
static int key_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool redis_key_unescape(char *text)
{
    char *to = text;

    for (const char *at = text; *at != '\0'; at++, to++) {
        if (key_is_plain((unsigned char)*at)) {
            *to = *at;
            continue;
        }
        const int high = *at == '%' ? key_digit(at[1]) : -1;
        const int low = high >= 0 ? key_digit(at[2]) : -1;

        if (low < 0 || (high == 0 && low == 0)) {
            return false;
        }
        *to = (char)(high << 4 | low);
        at += 2;
    }
    *to = '\0';
    return to != text;
}

static char *key_put_word(char *at, const char *word)
{
    while (*word != '\0') {
        *at++ = *word++;
    }
    return at;
}

#define KEY_SIGNS 7 /* rlp:{}: and a rule of none */

size_t redis_key_room(const char *prefix, const rlp_charge_t *charge)
{
    return strlen(prefix) + KEY_SIGNS + 3 * charge->entry.key.identity_len +
           (charge->rule != NULL ? 3 * strlen(charge->rule) : 0);
}

char *redis_key_make(script_key_t *key, char *at, const char *prefix, const rlp_charge_t *charge)
{
    key->bytes = at;
    at = key_put_word(at, prefix);
    at = key_put_word(at, "rlp:{");
    at = redis_key_escape(at, charge->entry.key.identity, charge->entry.key.identity_len);
    at = key_put_word(at, "}:");
    if (charge->rule != NULL) {
        at = redis_key_escape(at, charge->rule, strlen(charge->rule));
    }
    key->len = (size_t)(at - key->bytes);
    return at;
}
