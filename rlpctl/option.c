/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "option.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

const char option_unknown[] = "expected another option";

const char *option_value(const char *word, const char *name)
{
    const size_t len = strlen(name);

    return strncmp(word, name, len) == 0 ? word + len : NULL;
}

/* The one that the word is, and what stands behind its name; NULL: it is none of them. */
static const option_t *option_find(const option_t options[], const char *word, size_t signs,
                                   const char **value)
{
    for (const option_t *option = options; option->name != NULL; option++) {
        *value = option_value(word, option->name);
        if (*value != NULL && (option->flag ? **value == '\0' : strlen(*value) >= signs)) {
            return option;
        }
    }
    return NULL;
}

const char *option_take(const option_t options[], const char *word, size_t signs, void *baton)
{
    const char *value;
    const option_t *option = option_find(options, word, signs, &value);

    if (option == NULL) {
        return option_unknown;
    }
    if (option->take != NULL) {
        return option->take(baton, value);
    }
    if (option->flag != NULL) {
        *option->flag = true;
    } else {
        *option->value = value;
    }
    return NULL;
}

const char *option_redis(option_place_t *place, const char *word, size_t signs)
{
    const option_t options[] = { { .name = "--password=", .value = &place->password },
                                 { .name = "--tls-ca=", .value = &place->tls_ca },
                                 { .name = "--tls-cert=", .value = &place->tls_cert },
                                 { .name = "--tls-key=", .value = &place->tls_key },
                                 { .name = "--tls-name=", .value = &place->tls_name },
                                 { .name = NULL } };

    return option_take(options, word, signs, NULL);
}

const char *option_place(option_place_t *place, const char *word, size_t signs)
{
    const option_t options[] = { { .name = "--file=", .value = &place->file },
                                 { .name = "--store=", .value = &place->url },
                                 { .name = "--prefix=", .value = &place->prefix },
                                 { .name = NULL } };

    return option_take(options, word, signs, NULL) == NULL ? NULL
                                                           : option_redis(place, word, signs);
}

bool option_has_tls(const option_place_t *place)
{
    return place->tls_ca != NULL || place->tls_cert != NULL || place->tls_key != NULL ||
           place->tls_name != NULL;
}

const char *option_place_odd(const option_place_t *place)
{
    if ((place->file != NULL) == (place->url != NULL)) {
        return "expected either --file=PATH or --store=URL";
    }
    if (place->url == NULL &&
        (place->password != NULL || place->prefix != NULL || option_has_tls(place))) {
        return "expected --store=URL with --password=, --prefix= or --tls-...=";
    }
    return NULL;
}

const char *option_prefix_odd(const char *prefix)
{
    return prefix != NULL && prefix[strcspn(prefix, "{}")] != '\0'
               ? "expected a --prefix= without braces"
               : NULL;
}

const char *option_identity_odd(const char *identity)
{
    const char *colon = strchr(identity, ':');

    return colon != NULL && colon != identity && colon[1] != '\0'
               ? NULL
               : "expected TYPE:VALUE as it stands in RATELIMIT_IDENTITY";
}

const char *option_secret_odd(const char *identity)
{
    return identity[0] == '\0' || strchr(identity, ':') != NULL
               ? "expected TYPE alone, such as apikey, with --secret"
               : NULL;
}

int option_fail(const char *error, int status)
{
    fprintf(stderr, "rlpctl: %s\n", error);
    return status;
}

/* What could not be written before may have left nothing to be written now. */
int option_end(int status)
{
    const bool written = fflush(stdout) == 0 && !ferror(stdout);

    return written ? status : option_fail("cannot write", EX_IOERR);
}
