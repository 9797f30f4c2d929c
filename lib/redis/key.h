/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_KEY_H
#define REDIS_KEY_H

/*
 * What a counter is called in Redis.
 */

#include "redis/script.h"

/* Room for the key of a charge, whatever it is made of, in bytes. */
size_t redis_key_room(const char *prefix, const rlp_charge_t *charge);

/* Writes "PREFIXrlp:{TYPE:VALUE}:RULE" at a place with so much room; where it ends. */
char *redis_key_make(script_key_t *key, char *at, const char *prefix, const rlp_charge_t *charge);

/* Writes the bytes as they stand in keys, up to three signs each; where that ends. */
char *redis_key_escape(char *at, const char *bytes, size_t len);

/* Puts them back in place. False: it is no such text, or of nothing; it may then be changed. */
bool redis_key_unescape(char *text);

#endif
