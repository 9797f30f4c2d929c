/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * SHA-256: the examples of NIST, and every length around the ends of a block.
 */

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEX (2 * RLP_DIGEST_SIZE + 1)

typedef struct {
    const char *name;
    const char *text;
    int times;
    const char *digest;
} example_t;

static const example_t examples[] = {
    { "nothing", "", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { "abc", "abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "448 bits", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
    { "896 bits",
      "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
      "lmnopqrsmnopqrstnopqrstu",
      1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" },
    { "a million times a", "a", 1000000,
      "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0" }
};

static void digest_hex(char hex[HEX], const void *data, size_t len)
{
    uint8_t digest[RLP_DIGEST_SIZE];

    rlp_digest(digest, data, len);
    for (size_t i = 0; i < sizeof(digest); i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
}

static void test_example(void **state)
{
    const example_t *example = unit_row(state);
    const size_t len = strlen(example->text);
    char *data = malloc(len * (size_t)example->times + 1);
    char hex[HEX];

    assert_non_null(data);
    for (int i = 0; i < example->times; i++) {
        memcpy(data + len * (size_t)i, example->text, len);
    }
    digest_hex(hex, data, len * (size_t)example->times);
    free(data);
    assert_string_equal(hex, example->digest);
}

/* The digest of the digests of 0 to 199 bytes "x", as sha256sum says it. */
static void test_lengths(void **state)
{
    char data[200];
    char all[200 * (HEX - 1) + 1];
    char hex[HEX];

    (void)state;
    memset(data, 'x', sizeof(data));
    for (size_t i = 0; i < sizeof(data); i++) {
        digest_hex(all + i * (HEX - 1), data, i);
    }
    digest_hex(hex, all, sizeof(all) - 1);
    assert_string_equal(hex, "f61ffcc417e1f0e59eba2da7fa32fbe05b64e478b68c6bacf990455f00248b98");
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(examples); i++) {
        unit_add(examples[i].name, test_example, &examples[i]);
    }
    unit_add("every length up to 199 bytes", test_lengths, NULL);
    return unit_run();
}
