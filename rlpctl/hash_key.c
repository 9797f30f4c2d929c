/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * rlpctl hash-key: reads keys, prints what stands for them in a plan map. Keys are never arguments:
 * those show in the list of processes and stay in the history of the shell.
 */

#include "hash_key.h"
#include "rlp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define HASH_KEY_USAGE                                                                             \
    "usage: rlpctl hash-key < KEYS\n"                                                              \
    "\n"                                                                                           \
    "Reads keys from standard input, one a line, and prints sha256:HEX for each, as a text file\n" \
    "of RateLimitPlanMap may have it in the place of the key.\n"

static void hash_key_print(const char *key, size_t len)
{
    uint8_t digest[RLP_DIGEST_SIZE];

    rlp_digest(digest, key, len);
    fputs("sha256:", stdout);
    for (size_t i = 0; i < sizeof(digest); i++) {
        printf("%02x", digest[i]);
    }
    putchar('\n');
}

/* The length without the end of the line. */
static size_t hash_key_length(const char *line, size_t len)
{
    if (len > 0 && line[len - 1] == '\n') {
        len--;
    }
    return len > 0 && line[len - 1] == '\r' ? len - 1 : len;
}

/* What no header field can be compared with is a mistake. NULL, or what was expected. */
static const char *hash_key_check(const char *line, size_t len)
{
    if (len == 0) {
        return "expected a key, got an empty line";
    }
    if (memchr(line, '\0', len) != NULL) {
        return "expected a key, got a NUL byte";
    }
    if (strchr(" \t", line[0]) != NULL || strchr(" \t", line[len - 1]) != NULL) {
        return "expected a key without blanks at its ends";
    }
    return NULL;
}

static int hash_key_run(void)
{
    char *line = NULL;
    size_t size = 0;
    const char *error = NULL;
    ssize_t got;

    for (int n = 1; error == NULL && !ferror(stdout) && (got = getline(&line, &size, stdin)) >= 0;
         n++) {
        const size_t len = hash_key_length(line, (size_t)got);

        error = hash_key_check(line, len);
        if (error != NULL) {
            fprintf(stderr, "rlpctl: line %d: %s\n", n, error);
        } else {
            hash_key_print(line, len);
        }
    }
    free(line);
    if (error != NULL) {
        return EX_DATAERR;
    }
    if (ferror(stdin) || fflush(stdout) != 0 || ferror(stdout)) {
        fputs("rlpctl: cannot read or write\n", stderr);
        return EX_IOERR;
    }
    return EXIT_SUCCESS;
}

int hash_key_main(int argc, const char *const argv[])
{
    if (argc == 0) {
        return hash_key_run();
    }
    if (argc == 1 && strcmp(argv[0], "--help") == 0) {
        fputs(HASH_KEY_USAGE, stdout);
        return EXIT_SUCCESS;
    }
    fputs("rlpctl: expected keys on standard input, and no arguments\n\n" HASH_KEY_USAGE, stderr);
    return EX_USAGE;
}
