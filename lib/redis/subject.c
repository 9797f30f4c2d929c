/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/subject.h"

#include <stdlib.h>
#include <string.h>

redis_subject_t *redis_subject_copy(const rlp_charge_t *charge)
{
    const rlp_key_t *key = &charge->entry.key;
    const char *rule = charge->rule ? charge->rule : "";
    redis_subject_t *subject = malloc(sizeof(*subject) + key->identity_len + strlen(rule) + 1);

    if (subject == NULL) {
        return NULL;
    }
    *subject = (redis_subject_t){ .limit = *charge->limit,
                                  .signature = key->signature,
                                  .identity_len = key->identity_len,
                                  .rule = subject->bytes + key->identity_len };
    memcpy(subject->bytes, key->identity, key->identity_len);
    memcpy(subject->rule, rule, strlen(rule) + 1);
    return subject;
}

bool redis_subject_is(const redis_subject_t *subject, const rlp_charge_t *charge)
{
    const rlp_key_t *key = &charge->entry.key;

    return subject->signature == key->signature && subject->limit.count == charge->limit->count &&
           subject->limit.burst == charge->limit->burst &&
           subject->identity_len == key->identity_len &&
           memcmp(subject->bytes, key->identity, key->identity_len) == 0;
}

void redis_subject_charge(rlp_charge_t *charge, const redis_subject_t *subject)
{
    rlp_charge_init(charge, subject->bytes, subject->identity_len, subject->signature,
                    &subject->limit);
    charge->rule = subject->rule;
}
