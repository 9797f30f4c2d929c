/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef OPTION_H
#define OPTION_H

/*
 * Options of rlpctl: flags, and what is written as --name=VALUE.
 */

#include <stdbool.h>
#include <stddef.h>

/* Takes a value; NULL, or what was expected. */
typedef const char *option_fn(void *baton, const char *value);

/* One option, and one thing that it sets; one without a name ends a list. */
typedef struct {
    const char *name;   /* with its "=", if it has a value */
    bool *flag;         /* that it is said */
    const char **value; /* what is said */
    option_fn *take;
} option_t;

/* What option_take() returns of a word that is none of the options. */
extern const char option_unknown[];

/* What stands behind a name that ends with "="; NULL: the word is another option. */
const char *option_value(const char *word, const char *name);

/* Sets what the word says; a value has so many signs at least. NULL, or what was expected. */
const char *option_take(const option_t options[], const char *word, size_t signs, void *baton);

/* Where counters are: in a file, or in a Redis, and how that is spoken to. NULL: it is not said. */
typedef struct {
    const char *file;
    const char *url;
    const char *prefix;
    const char *password; /* where it is */
    const char *tls_ca;   /* as those of RateLimitStore */
    const char *tls_cert;
    const char *tls_key;
    const char *tls_name;
} option_place_t;

/* The same of the options that say how a Redis is spoken to. */
const char *option_redis(option_place_t *place, const char *word, size_t signs);

/* The same of those, and of the ones that say where counters are. */
const char *option_place(option_place_t *place, const char *word, size_t signs);

/* Is one of the options there that begin with "--tls-"? */
bool option_has_tls(const option_place_t *place);

/* What does not go together; NULL: nothing. */
const char *option_place_odd(const option_place_t *place);

/* What is wrong with a prefix; NULL: nothing, or there is none. */
const char *option_prefix_odd(const char *prefix);

/* What is wrong with an identity, which is TYPE:VALUE with something on both sides of the colon;
   NULL: nothing. */
const char *option_identity_odd(const char *identity);

/* What is wrong with the identity that stands beside --secret; NULL: nothing. */
const char *option_secret_odd(const char *identity);

/* Says why the command ends, with which status: that is returned. */
int option_fail(const char *error, int status);

/* Ends what was printed: the status, or that of what could not be written, which is said. */
int option_end(int status);

#endif
