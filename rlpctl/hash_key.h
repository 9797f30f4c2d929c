/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef HASH_KEY_H
#define HASH_KEY_H

/*
 * rlpctl hash-key: keys as plan maps may have them.
 */

/* Runs the command with the words behind its name; the exit status. */
int hash_key_main(int argc, const char *const argv[]);

#endif
