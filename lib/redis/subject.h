/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_SUBJECT_H
#define REDIS_SUBJECT_H

/*
 * Whom and what a charge was about, when the request it was made for is gone.
 */

#include "rlp.h"

/* One limit of one identity. */
typedef struct {
    rlp_limit_t limit;
    uint64_t signature;
    size_t identity_len;
    char *rule;
    char bytes[]; /* the identity, the rule and a NUL */
} redis_subject_t;

/* That of a charge: the caller's, to free(). NULL: no memory. */
redis_subject_t *redis_subject_copy(const rlp_charge_t *charge);

/* Is it the charge's, whatever the rule is called? */
bool redis_subject_is(const redis_subject_t *subject, const rlp_charge_t *charge);

/* Prepares a charge of it. The subject must live as long as the charge is used. */
void redis_subject_charge(rlp_charge_t *charge, const redis_subject_t *subject);

#endif
