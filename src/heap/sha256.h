/* sha256.h -- the hash of evh_digest(): SHA-256 (FIPS 180-4). */
#ifndef EVERHEAP_HEAP_SHA256_H
#define EVERHEAP_HEAP_SHA256_H

#include "base/base.h"

enum { SHA256_BYTES = 32, SHA256_BLOCK_BYTES = 64 };

struct sha256 {
    uint32_t state[8];
    uint64_t size_bytes;
    unsigned char block[SHA256_BLOCK_BYTES]; /* what does not fill a block yet */
};

EVH_INTERNAL void sha256_begin(struct sha256 *hash);
EVH_INTERNAL void sha256_add(struct sha256 *hash, const void *data, size_t size);
/** The hash of everything added. `hash` is to be begun again before its next use. */
EVH_INTERNAL void sha256_end(struct sha256 *hash, unsigned char digest[SHA256_BYTES]);

#endif
