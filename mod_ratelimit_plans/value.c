/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The text of identities: signs that are no part of a name, networks, cookies.
 */

#include "value.h"

#include <apr_lib.h>

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

size_t value_escape(char *to, const char *value)
{
    static const char hex[] = "0123456789ABCDEF";
    const char *begin = to;

    for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
        if (apr_isalnum(*c) || strchr("_.:@-", *c) != NULL) {
            *to++ = (char)*c;
        } else {
            *to++ = '%';
            *to++ = hex[*c >> 4];
            *to++ = hex[*c & 15];
        }
    }
    return (size_t)(to - begin);
}

static void value_mask(unsigned char *address, int bytes, int bits)
{
    for (int i = 0; i < bytes; i++, bits -= 8) {
        if (bits < 8) {
            address[i] &= (unsigned char)(bits <= 0 ? 0 : 0xff << (8 - bits));
        }
    }
}

/* A v4 address inside v6 is a v4 address. httpd writes it as that; people may not. */
static bool value_is_mapped(const unsigned char *address)
{
    static const unsigned char mapped[] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

    return memcmp(address, mapped, sizeof(mapped)) == 0;
}

/* httpd has written the zone behind a link-local address: that is no part of the bits. */
size_t value_address(char *to, const char *address, int bits4, int bits6)
{
    unsigned char bytes[16] = { 0 };
    char text[INET6_ADDRSTRLEN] = "";
    const size_t len = strcspn(address, "%");
    bool v6 = memchr(address, ':', len) != NULL;

    if (len >= sizeof(text) || strlen(address + len) > VALUE_ZONE_MAX) {
        return 0;
    }
    memcpy(text, address, len);
    if (inet_pton(v6 ? AF_INET6 : AF_INET, text, bytes) != 1) {
        return 0;
    }
    if (v6 && value_is_mapped(bytes)) {
        memmove(bytes, bytes + 12, 4);
        v6 = false;
    }
    value_mask(bytes, v6 ? 16 : 4, v6 ? bits6 : bits4);
    inet_ntop(v6 ? AF_INET6 : AF_INET, bytes, to, INET6_ADDRSTRLEN);
    const size_t written = strlen(to);

    return written + value_escape(to + written, address + len);
}

static size_t value_cookie_len(const char *value)
{
    size_t n = strcspn(value, ";");

    while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t')) {
        n--;
    }
    return n;
}

const char *value_cookie(const char *field, const char *name, size_t *len)
{
    const size_t name_len = strlen(name);

    for (const char *pair = field; *pair != '\0'; pair += strcspn(pair, ";")) {
        pair += strspn(pair, "; \t");
        if (strncmp(pair, name, name_len) == 0 && pair[name_len] == '=') {
            *len = value_cookie_len(pair + name_len + 1);
            return pair + name_len + 1;
        }
    }
    return NULL;
}
