/* malloc_single.c -- programs of one thread whose time goes into allocation. */
#include "malloc_programs.h"

#include "bench.h"

#include <stdlib.h>
#include <string.h>

/*
 * The patterns are those of mimalloc-bench (D. Leijen and others) and of the papers that it
 * collects; the programs are our own. Each writes what it allocates and reads it again, as programs
 * do. What they keep beside their blocks comes from the same allocator.
 */

/* A number below `limit`. */
static uint64_t below(uint64_t *random, uint64_t limit)
{
    return (uint64_t)(((unsigned __int128)bench_random(random) * limit) >> 64);
}

static void *get(size_t size)
{
    void *const block = malloc(size);
    if (!block) bench_die("no memory");
    return block;
}

static void *zeroed(size_t count, size_t size)
{
    void *const block = calloc(count, size);
    if (!block) bench_die("no memory");
    return block;
}

static void *resized(void *block, size_t size)
{
    void *const moved = realloc(block, size);
    if (!moved) bench_die("no memory");
    return moved;
}

/* ---- tiny blocks that live for moments: cfrac ---- */

struct number {
    uint32_t count;
    uint32_t digits[];
};

static struct number *number_new(uint32_t count)
{
    struct number *const made = get(sizeof *made + count * sizeof made->digits[0]);
    made->count = count;
    return made;
}

static struct number *number_add(const struct number *a, const struct number *b)
{
    const uint32_t count = a->count > b->count ? a->count : b->count;
    struct number *const sum = number_new(count + 1);
    uint64_t carry = 0;
    for (uint32_t i = 0; i < count; i++) {
        carry += (uint64_t)(i < a->count ? a->digits[i] : 0) + (i < b->count ? b->digits[i] : 0);
        sum->digits[i] = (uint32_t)carry;
        carry >>= 32;
    }
    sum->digits[count] = (uint32_t)carry;
    while (sum->count > 1 && sum->digits[sum->count - 1] == 0) sum->count--;
    return sum;
}

static struct number *number_multiply(const struct number *a, uint32_t factor)
{
    struct number *const product = number_new(a->count + 1);
    uint64_t carry = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        carry += (uint64_t)a->digits[i] * factor;
        product->digits[i] = (uint32_t)carry;
        carry >>= 32;
    }
    product->digits[a->count] = (uint32_t)carry;
    while (product->count > 1 && product->digits[product->count - 1] == 0) product->count--;
    return product;
}

static uint32_t number_modulo(const struct number *a, uint32_t divisor)
{
    uint64_t rest = 0;
    for (uint32_t i = a->count; i > 0; i--) rest = (rest << 32 | a->digits[i - 1]) % divisor;
    return (uint32_t)rest;
}

/* Continued fractions of big numbers: every intermediate result is a new block of 8 to 40 bytes. */
static uint64_t run_fractions(uint64_t scale)
{
    enum { TABLE = 512 };
    struct number *table[TABLE] = {0};
    uint64_t random = 1, sum = 0;
    for (unsigned i = 0; i < TABLE; i++) {
        table[i] = number_new(1 + i % 4);
        for (uint32_t k = 0; k < table[i]->count; k++)
            table[i]->digits[k] = (uint32_t)bench_random(&random) | 1;
    }
    for (uint64_t i = 0; i < scale * 6000; i++) {
        struct number **const slot = &table[below(&random, TABLE)];
        struct number *const product = number_multiply(*slot, (uint32_t)i | 1);
        struct number *const total = number_add(product, table[i % TABLE]);
        free(product);
        const uint32_t rest = number_modulo(total, 1000003);
        struct number *const small = number_new(1);
        small->digits[0] = rest;
        struct number *const next = number_add(small, table[(i + 7) % TABLE]);
        free(small);
        free(total);
        sum += rest;
        if (next->count > 4 || rest % 8) {
            free(next);
        } else {
            free(*slot);
            *slot = next;
        }
    }
    for (unsigned i = 0; i < TABLE; i++) free(table[i]);
    return sum;
}

/* ---- sets of bits in lists, grown, merged and dropped: espresso ---- */

struct cube {
    struct cube *next;
    uint32_t words;
    uint64_t bits[];
};

static struct cube *cube_new(uint32_t words, struct cube *next)
{
    struct cube *const made = get(sizeof *made + words * sizeof made->bits[0]);
    made->words = words;
    made->next = next;
    return made;
}

static struct cube *cover_make(uint64_t *random, uint32_t words, unsigned count)
{
    struct cube *cover = NULL;
    for (unsigned i = 0; i < count; i++) {
        cover = cube_new(words, cover);
        for (uint32_t k = 0; k < words; k++) cover->bits[k] = bench_random(random);
    }
    return cover;
}

static void cover_free(struct cube *cover)
{
    while (cover) {
        struct cube *const next = cover->next;
        free(cover);
        cover = next;
    }
}

/* The cubes that two neighbours have in common. */
static struct cube *cover_intersect(const struct cube *cover)
{
    struct cube *made = NULL;
    for (; cover && cover->next; cover = cover->next) {
        uint64_t any = 0;
        for (uint32_t k = 0; k < cover->words; k++) any |= cover->bits[k] & cover->next->bits[k];
        if (!(any & 7)) continue;
        made = cube_new(cover->words, made);
        for (uint32_t k = 0; k < cover->words; k++)
            made->bits[k] = cover->bits[k] & cover->next->bits[k];
    }
    return made;
}

static uint64_t run_covers(uint64_t scale)
{
    uint64_t random = 2, sum = 0;
    struct cube *kept[64] = {0};
    for (uint64_t i = 0; i < scale * 80; i++) {
        const uint32_t words = 1 + (uint32_t)below(&random, 12);
        struct cube *const cover = cover_make(&random, words, 20 + (unsigned)below(&random, 150));
        struct cube *const once = cover_intersect(cover);
        struct cube *const twice = cover_intersect(once);
        const uint64_t slot = below(&random, 64);
        for (const struct cube *c = twice; c; c = c->next) sum += c->bits[0] & 1;
        cover_free(kept[slot]);
        kept[slot] = once;
        cover_free(cover);
        cover_free(twice);
    }
    for (unsigned i = 0; i < 64; i++) cover_free(kept[i]);
    return sum;
}

/* ---- a compiler: trees per function, growing vectors, symbols that stay ---- */

struct node {
    struct node *left, *right;
    char *text;
    uint64_t value;
    unsigned char more[];
};

static struct node *tree_make(uint64_t *random, unsigned depth)
{
    static const uint16_t more[] = {0, 0, 8, 8, 24, 40, 40, 72, 136, 264};
    struct node *const made = get(sizeof *made + more[below(random, 10)]);
    made->value = bench_random(random) >> 40;
    made->text = NULL;
    if (made->value % 4 == 0) {
        const size_t size = 3 + below(random, 20);
        made->text = get(size);
        memset(made->text, 'a', size);
    }
    const bool is_leaf = depth == 0 || below(random, 8) == 0;
    made->left = is_leaf ? NULL : tree_make(random, depth - 1);
    made->right = is_leaf ? NULL : tree_make(random, depth - 1);
    return made;
}

static uint64_t tree_end(struct node *node)
{
    if (!node) return 0;
    const uint64_t sum = node->value + tree_end(node->left) + tree_end(node->right);
    free(node->text);
    free(node);
    return sum;
}

/* Instructions in a vector that doubles, then some are dropped. */
static uint64_t emit(const struct node *node, uint64_t **code, size_t *count, size_t *capacity)
{
    if (!node) return 0;
    if (*count == *capacity) {
        *capacity = *capacity ? *capacity * 2 : 4;
        *code = resized(*code, *capacity * sizeof **code);
    }
    (*code)[(*count)++] = node->value;
    return emit(node->left, code, count, capacity) + emit(node->right, code, count, capacity) + 1;
}

static uint64_t run_compiler(uint64_t scale)
{
    enum { SYMBOLS = 1 << 15 };
    char **const symbols = zeroed(SYMBOLS, sizeof *symbols);
    uint64_t random = 3, sum = 0;
    for (uint64_t function = 0; function < scale * 24; function++) {
        struct node *const tree = tree_make(&random, 9);
        uint64_t *code = NULL;
        size_t count = 0, capacity = 0;
        sum += emit(tree, &code, &count, &capacity);
        for (unsigned i = 0; i < 8; i++) {
            char **const slot = &symbols[below(&random, SYMBOLS)];
            const size_t size = 4 + below(&random, 40);
            free(*slot);
            *slot = memset(get(size), 's', size);
        }
        sum += tree_end(tree) + code[count / 2];
        free(code);
    }
    for (unsigned i = 0; i < SYMBOLS; i++) free(symbols[i]);
    free(symbols);
    return sum;
}

/* ---- a random block is replaced by one of another size: rptest, alloc-test ---- */

static uint64_t replace(uint64_t scale, size_t slots, size_t largest, uint64_t rounds)
{
    unsigned char **const blocks = zeroed(slots, sizeof *blocks);
    uint64_t random = 4, sum = 0;
    for (uint64_t i = 0; i < scale * rounds; i++) {
        unsigned char **const slot = &blocks[below(&random, slots)];
        if (*slot) {
            sum += **slot;
            free(*slot);
        }
        const size_t size = 1 + below(&random, largest);
        *slot = get(size);
        for (size_t at = 0; at < size; at += 4096) (*slot)[at] = (unsigned char)size;
        (*slot)[size - 1] = (unsigned char)size;
    }
    for (size_t i = 0; i < slots; i++) free(blocks[i]);
    free(blocks);
    return sum;
}

static uint64_t run_replace_small(uint64_t scale)
{
    return replace(scale, 20000, 1000, 12000);
}

static uint64_t run_replace_cold(uint64_t scale)
{
    return replace(scale, 400000, 1000, 2000);
}

static uint64_t run_replace_wide(uint64_t scale)
{
    return replace(scale, 4000, 40000, 4000);
}

/* ---- batches freed in another order: sh6bench ---- */

static uint64_t run_batches(uint64_t scale)
{
    enum { BATCH = 4000, KEPT = 20 };
    void **const batch = zeroed(BATCH, sizeof *batch);
    void *kept[KEPT] = {0};
    uint64_t sum = 0;
    for (uint64_t round = 0; round < scale * 12; round++) {
        const size_t step = 1 + round % 7;
        for (size_t i = 0; i < BATCH; i++) {
            const size_t size = 1 + (i * step + round) % (i % 10 ? 100 : 1000);
            batch[i] = get(size);
            *(unsigned char *)batch[i] = (unsigned char)i;
        }
        free(kept[round % KEPT]);
        kept[round % KEPT] = batch[round % BATCH];
        batch[round % BATCH] = NULL;
        /* Forwards, backwards, then every other one. */
        for (size_t i = 0; i < BATCH / 3; i++) free(batch[i]);
        for (size_t i = BATCH; i > BATCH * 2 / 3; i--) free(batch[i - 1]);
        for (size_t odd = 0; odd < 2; odd++)
            for (size_t i = BATCH / 3 + odd; i < BATCH * 2 / 3; i += 2) free(batch[i]);
        sum += round;
    }
    for (unsigned i = 0; i < KEPT; i++) free(kept[i]);
    free(batch);
    return sum;
}

/* ---- large blocks: malloc-large ---- */

static uint64_t run_large(uint64_t scale)
{
    enum { SLOTS = 20, MIB = 1 << 20 };
    unsigned char *blocks[SLOTS] = {0};
    uint64_t random = 5, sum = 0;
    for (uint64_t i = 0; i < scale / 2 + 20; i++) {
        unsigned char **const slot = &blocks[below(&random, SLOTS)];
        const size_t size = 5 * MIB + below(&random, 20 * MIB);
        free(*slot);
        *slot = get(size);
        for (size_t at = 0; at < size; at += 4096) (*slot)[at] = (unsigned char)at;
        sum += (*slot)[size / 8192 * 4096];
    }
    for (unsigned i = 0; i < SLOTS; i++) free(blocks[i]);
    return sum;
}

/* ---- strings and vectors that grow by realloc ---- */

static uint64_t run_growth(uint64_t scale)
{
    enum { VECTORS = 64 };
    struct {
        unsigned char *bytes;
        size_t size, capacity;
    } vectors[VECTORS] = {0};
    uint64_t random = 6, sum = 0;
    for (uint64_t i = 0; i < scale * 130; i++) {
        const uint64_t k = below(&random, VECTORS);
        const size_t limit = (size_t)1 << (8 + k / 4);
        const size_t added = 1 + below(&random, limit / 32 + 16);
        if (vectors[k].size + added > vectors[k].capacity) {
            /* A third of them grow by what is needed, the others by half. */
            vectors[k].capacity = vectors[k].size + added;
            if (k % 3) vectors[k].capacity += vectors[k].capacity / 2;
            vectors[k].bytes = resized(vectors[k].bytes, vectors[k].capacity);
        }
        memset(vectors[k].bytes + vectors[k].size, (int)k, added);
        vectors[k].size += added;
        sum += vectors[k].bytes[vectors[k].size / 2];
        if (vectors[k].size < limit) continue;
        free(vectors[k].bytes);
        vectors[k].bytes = NULL;
        vectors[k].size = vectors[k].capacity = 0;
    }
    for (unsigned k = 0; k < VECTORS; k++) free(vectors[k].bytes);
    return sum;
}

/* ---- a hash table of strings that is written, read and rehashed: redis ---- */

struct entry {
    struct entry *next;
    char *value;
    uint64_t key;
};

struct table {
    struct entry **buckets;
    size_t count, capacity;
};

static void table_grow(struct table *table)
{
    const size_t capacity = table->capacity ? table->capacity * 2 : 16;
    struct entry **const buckets = zeroed(capacity, sizeof(struct entry *));
    for (size_t i = 0; i < table->capacity; i++)
        for (struct entry *e = table->buckets[i], *next; e; e = next) {
            next = e->next;
            e->next = buckets[e->key % capacity];
            buckets[e->key % capacity] = e;
        }
    free(table->buckets);
    table->buckets = buckets;
    table->capacity = capacity;
}

static struct entry **table_find(struct table *table, uint64_t key)
{
    struct entry **link = &table->buckets[key % table->capacity];
    while (*link && (*link)->key != key) link = &(*link)->next;
    return link;
}

static char *table_string(uint64_t *random)
{
    const size_t size = below(random, 16) ? 10 + below(random, 90) : 100 + below(random, 3000);
    return memset(get(size), 'v', size);
}

static uint64_t run_table(uint64_t scale)
{
    struct table table = {0};
    uint64_t random = 7, sum = 0;
    for (uint64_t i = 0; i < scale * 3500; i++) {
        if (table.count >= table.capacity) table_grow(&table);
        const uint64_t key = below(&random, 150000);
        struct entry **const link = table_find(&table, key);
        const uint64_t choice = below(&random, 10);
        if (choice < 5 && *link) {
            sum += (uint64_t)(*link)->value[0];
        } else if (choice < 9 && *link) {
            free((*link)->value);
            (*link)->value = table_string(&random);
        } else if (*link) {
            struct entry *const gone = *link;
            *link = gone->next;
            free(gone->value);
            free(gone);
            table.count--;
        } else {
            *link = get(sizeof **link);
            **link = (struct entry){.value = table_string(&random), .key = key};
            table.count++;
        }
    }
    for (size_t i = 0; i < table.capacity; i++)
        for (struct entry *e = table.buckets[i], *next; e; e = next) {
            next = e->next;
            free(e->value);
            free(e);
        }
    free(table.buckets);
    return sum;
}

/* ---- complete trees, built and dropped beside one that lives: GCBench ---- */

static struct node *full_tree(unsigned depth)
{
    struct node *const made = get(sizeof *made);
    made->text = NULL;
    made->value = depth;
    made->left = depth ? full_tree(depth - 1) : NULL;
    made->right = depth ? full_tree(depth - 1) : NULL;
    return made;
}

static uint64_t run_trees(uint64_t scale)
{
    struct node *const lasting = full_tree(16);
    uint64_t sum = 0;
    for (unsigned depth = 4; depth <= 16; depth += 4)
        for (uint64_t i = 0; i < (scale << 14) / 1000 << (16 - depth) >> 8; i++)
            sum += tree_end(full_tree(depth));
    return sum + tree_end(lasting);
}

/* ---- the table ---- */

const struct malloc_program malloc_single_programs[] = {
    {"fractions", "tiny blocks that live for moments (cfrac)", false, run_fractions},
    {"covers", "lists of bit sets, merged and dropped (espresso)", false, run_covers},
    {"compiler", "trees, vectors, symbols; batches of lifetimes", false, run_compiler},
    {"replace-1K", "random replace, 1 to 1000 bytes, 20,000 live (rptest)", false,
     run_replace_small},
    {"replace-cold", "the same, 400,000 live (alloc-test)", false, run_replace_cold},
    {"replace-40K", "random replace, 1 to 40,000 bytes, 4000 live", false, run_replace_wide},
    {"batches", "batches freed in other orders (sh6bench)", false, run_batches},
    {"large", "blocks of 5 to 25 MiB (malloc-large)", false, run_large},
    {"growth", "strings and vectors that grow by realloc", false, run_growth},
    {"table", "a hash table of strings (redis)", false, run_table},
    {"trees", "trees of one size, built and dropped (GCBench)", false, run_trees},
    {0},
};
