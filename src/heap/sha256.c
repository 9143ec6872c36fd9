/* sha256.c -- SHA-256, as FIPS 180-4 section 6.2 writes it down. Tested with its examples. */
#include "heap/sha256.h"

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t sha256_rotate(uint32_t x, unsigned count)
{
    assert(count > 0);
    assert(count < 32);
    return x >> count | x << (32 - count);
}

static void sha256_schedule(const unsigned char *block, uint32_t words[64])
{
    assert(block != NULL);
    assert(words != NULL);
    for (unsigned t = 0; t < 16; t++)
        words[t] = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 |
                   (uint32_t)block[4 * t + 2] << 8 | block[4 * t + 3];
    for (unsigned t = 16; t < 64; t++) {
        const uint32_t x = words[t - 15];
        const uint32_t y = words[t - 2];
        const uint32_t sigma0 = sha256_rotate(x, 7) ^ sha256_rotate(x, 18) ^ x >> 3;
        const uint32_t sigma1 = sha256_rotate(y, 17) ^ sha256_rotate(y, 19) ^ y >> 10;
        words[t] = sigma1 + words[t - 7] + sigma0 + words[t - 16];
    }
}

static void sha256_compress(uint32_t state[8], const unsigned char *block)
{
    assert(state != NULL);
    assert(block != NULL);
    uint32_t words[64];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    sha256_schedule(block, words);
    for (unsigned t = 0; t < 64; t++) {
        const uint32_t sum1 = sha256_rotate(e, 6) ^ sha256_rotate(e, 11) ^ sha256_rotate(e, 25);
        const uint32_t sum0 = sha256_rotate(a, 2) ^ sha256_rotate(a, 13) ^ sha256_rotate(a, 22);
        const uint32_t choice = (e & f) ^ (~e & g);
        const uint32_t majority = (a & b) ^ (a & c) ^ (b & c);
        const uint32_t t1 = h + sum1 + choice + sha256_constants[t] + words[t];
        const uint32_t t2 = sum0 + majority;
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

void sha256_begin(struct sha256 *hash)
{
    assert(hash != NULL);
    /* The first 32 bits of the fractional parts of the square roots of the first 8 primes. */
    *hash = (struct sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                      0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void sha256_add(struct sha256 *hash, const void *data, size_t size)
{
    assert(hash != NULL);
    assert(data != NULL || size == 0);
    const unsigned char *bytes = data;
    while (size > 0) {
        const size_t filled = hash->size_bytes % SHA256_BLOCK_BYTES;
        const size_t room = SHA256_BLOCK_BYTES - filled;
        const size_t part = size < room ? size : room;
        if (part == SHA256_BLOCK_BYTES) {
            sha256_compress(hash->state, bytes);
        } else {
            memcpy(hash->block + filled, bytes, part);
            if (part == room) sha256_compress(hash->state, hash->block);
        }
        hash->size_bytes += part;
        bytes += part;
        size -= part;
    }
}

void sha256_end(struct sha256 *hash, unsigned char digest[SHA256_BYTES])
{
    assert(digest != NULL);
    static const unsigned char padding[SHA256_BLOCK_BYTES] = {0x80};
    unsigned char length[8];
    const uint64_t bits = hash->size_bytes * 8;
    for (unsigned i = 0; i < 8; i++) length[i] = (unsigned char)(bits >> (56 - 8 * i));
    const size_t filled = hash->size_bytes % SHA256_BLOCK_BYTES;
    sha256_add(hash, padding, (filled < 56 ? 56 : 120) - filled);
    sha256_add(hash, length, sizeof length);
    assert(hash->size_bytes % SHA256_BLOCK_BYTES == 0);
    for (unsigned i = 0; i < SHA256_BYTES; i++)
        digest[i] = (unsigned char)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}
