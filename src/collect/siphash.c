/* siphash.c -- SipHash-1-3, and keys for it that nobody can guess. */
#include "collect/collect.h"
#include "os/os.h"

/*
 * The random numbers of a thread: from the system once, then SipHash of a counter under that
 * secret, because a call of the system for each small map would cost more than the map.
 */
struct siphash_secret {
    uint64_t key[2];
    uint64_t counter; /* 0: no secret yet */
};

static _Thread_local struct siphash_secret siphash_secret;

void collect_new_key(uint64_t key[2])
{
    struct siphash_secret *const secret = &siphash_secret;
    assert(key != NULL);
    if (secret->counter == 0) os->random(secret->key, sizeof secret->key);
    for (int i = 0; i < 2; i++) {
        secret->counter++;
        key[i] = collect_hash_bytes(secret->key, &secret->counter, sizeof secret->counter);
    }
    key[1] |= 1; /* it multiplies: collect_hash_number() */
    assert(secret->counter >= 2);
}

static inline uint64_t siphash_rotate(uint64_t x, unsigned bits)
{
    assert(bits > 0);
    assert(bits < 64);
    return x << bits | x >> (64 - bits);
}

static inline void siphash_round(uint64_t v[4])
{
    assert(v != NULL);
    v[0] += v[1];
    v[1] = siphash_rotate(v[1], 13) ^ v[0];
    v[0] = siphash_rotate(v[0], 32);
    v[2] += v[3];
    v[3] = siphash_rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = siphash_rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = siphash_rotate(v[1], 17) ^ v[2];
    v[2] = siphash_rotate(v[2], 32);
}

static inline void siphash_word(uint64_t v[4], uint64_t word)
{
    assert(v != NULL);
    v[3] ^= word;
    siphash_round(v);
    v[0] ^= word;
}

uint64_t collect_hash_bytes(const uint64_t key[2], const void *bytes, size_t size)
{
    assert(key != NULL);
    assert(bytes != NULL || size == 0);
    const unsigned char *at = bytes;
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    uint64_t word;
    for (size_t words = size / 8; words > 0; words--, at += 8) {
        memcpy(&word, at, sizeof word);
        siphash_word(v, word);
    }
    word = (uint64_t)size << 56;
    for (size_t i = 0; i < size % 8; i++) word |= (uint64_t)at[i] << (8 * i);
    siphash_word(v, word);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++) siphash_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
