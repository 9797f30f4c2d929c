/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The keyed digest of a secret.
 */

#include "rlp.h"

#include <apr_siphash.h>
#include <apr_strings.h>

#include <string.h>

_Static_assert(RLP_STORE_SECRET == APR_SIPHASH_KSIZE, "the secret of a store is a key");

/* Two keyed 64-bit hashes, under two keys derived from the one. */
void rlp_store_digest(const rlp_store_t *store, const char *secret, size_t len, char digest[33])
{
    unsigned char key[APR_SIPHASH_KSIZE];

    memcpy(key, store->secret, sizeof(key));
    const apr_uint64_t high = apr_siphash24(secret, len, key);

    key[0] ^= 0x5a;
    const apr_uint64_t low = apr_siphash24(secret, len, key);

    apr_snprintf(digest, 33, "%016" APR_UINT64_T_HEX_FMT "%016" APR_UINT64_T_HEX_FMT, high, low);
}
