/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef VALUE_H
#define VALUE_H

/*
 * The text of identities, without anything of httpd: what a client has sent, and how it is written.
 */

#include <stddef.h>

#pragma GCC visibility push(hidden)

#define VALUE_ZONE_MAX 16                           /* of an address, with its "%" */
#define VALUE_ADDRESS_MAX (46 + 3 * VALUE_ZONE_MAX) /* what value_address() writes */

/* Writes a value with all but letters, digits and "_.:@-" as %XX, up to three bytes for each. How
   many bytes it wrote; there is no NUL. */
size_t value_escape(char *to, const char *value);

/* Writes an address with so many bits of it, by its family; to has room for VALUE_ADDRESS_MAX. How
   many bytes it wrote; 0: it is none. */
size_t value_address(char *to, const char *address, int bits4, int bits6);

/* The value of the first cookie of that name in a field of them; NULL: there is none. */
const char *value_cookie(const char *field, const char *name, size_t *len);

#pragma GCC visibility pop

#endif
