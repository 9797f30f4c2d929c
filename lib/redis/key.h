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

#endif
