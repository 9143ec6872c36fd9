/* collect_model.c -- runs a kind of collection beside its model. */
#include "support/collect_model.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

evh_heap *collect_open_memory(void)
{
    evh_heap *heap = evh_open_memory(NULL, 0, NULL);
    CHECK(heap);
    return heap;
}

uint64_t collect_live_blocks(evh_heap *heap)
{
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    return info.live_blocks;
}

/* What the heap holds. */
struct root {
    uint64_t done; /* operations since the beginning */
    uint64_t reserved;
    unsigned char collection[];
};

struct run {
    const struct collect_kind *kind;
    const char *path;
    evh_heap *heap;
    struct root *root;
    void *model, *committed; /* the model, and as it was at the last commit */
    uint64_t done, committed_done;
    uint64_t random;
};

static void run_open(struct run *run)
{
    const evh_options options = {
        .no_thread = true,
        .preferred_address = (1 + test_random(&run->random) % 1000) << 36,
    };
    run->heap = evh_open(run->path, &options);
    CHECK(run->heap);
    run->root = evh_root(run->heap, "collection", sizeof *run->root + run->kind->root_bytes);
    CHECK(run->root);
}

static void run_snapshot(struct run *run, bool restores)
{
    memcpy(restores ? run->model : run->committed, restores ? run->committed : run->model,
           run->kind->model_bytes);
    if (restores)
        run->done = run->committed_done;
    else
        run->committed_done = run->done;
}

static void run_commit(struct run *run)
{
    run->root->done = run->done;
    CHECK_EQUAL(evh_commit(run->heap), EVH_OK);
    run_snapshot(run, false);
}

static void run_verify(struct run *run)
{
    CHECK_EQUAL(run->root->done, run->done);
    run->kind->verify(run->heap, run->root->collection, run->model);
    CHECK_EQUAL(run->kind->check(run->heap, run->root->collection), EVH_OK);
}

/* The random number of an operation, the same in the process that is killed and in its parent. */
static uint64_t run_operation_random(uint64_t salt, uint64_t done)
{
    uint64_t state = salt ^ done * 0x9e3779b97f4a7c15u;
    return test_random(&state);
}

/* Another process goes on in the heap, which is closed; it is killed. */
static void run_killed_child(struct run *run)
{
    enum { OPERATIONS_PER_COMMIT = 300, COMMITS_MAX = 200 };
    const uint64_t salt = test_random(&run->random);
    int ends[2];
    CHECK_EQUAL(pipe(ends), 0);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run_open(run);
        for (uint64_t i = 1; i <= (uint64_t)OPERATIONS_PER_COMMIT * COMMITS_MAX; i++) {
            CHECK(run->kind->step(run->heap, run->root->collection, run->model,
                                  run_operation_random(salt, run->done)));
            run->done++;
            if (i % OPERATIONS_PER_COMMIT != 0) continue;
            run_commit(run);
            if (write(ends[1], "", 1) != 1) _exit(1);
        }
        for (;;) pause();
    }
    close(ends[1]);
    char byte;
    for (uint64_t commits = test_random(&run->random) % 8 + 1; commits > 0; commits--)
        CHECK_EQUAL(read(ends[0], &byte, 1), 1);
    kill(child, SIGKILL);
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
    close(ends[0]);

    run_open(run);
    CHECK(run->root->done >= run->done + OPERATIONS_PER_COMMIT);
    while (run->done < run->root->done) {
        run->kind->step(NULL, NULL, run->model, run_operation_random(salt, run->done));
        run->done++;
    }
    run_snapshot(run, false);
}

static uint64_t live_blocks(evh_heap *heap)
{
    evh_info info;
    CHECK_EQUAL(evh_get_info(heap, &info), EVH_OK);
    return info.live_blocks;
}

void collect_model_run(const struct collect_kind *kind, uint64_t operations)
{
    struct run run = {.kind = kind, .random = test_seed(), .path = test_path(kind->name)};
    run.model = calloc(1, kind->model_bytes);
    run.committed = calloc(1, kind->model_bytes);
    CHECK(run.model && run.committed);
    run_open(&run);
    const uint64_t blocks = live_blocks(run.heap);
    CHECK_EQUAL(evh_commit(run.heap), EVH_OK);

    for (uint64_t i = 0; i < operations; i++) {
        const uint64_t r = test_random(&run.random);
        CHECK(kind->step(run.heap, run.root->collection, run.model, test_random(&run.random)));
        run.root->done = ++run.done;
        if (r % 2000 == 0) run_commit(&run);
        if (r % 7000 == 1) {
            CHECK_EQUAL(evh_rollback(run.heap), EVH_OK);
            run_snapshot(&run, true);
            run_verify(&run);
        }
        if (r % 9000 == 2) {
            CHECK_EQUAL(evh_close(run.heap), EVH_OK);
            run_snapshot(&run, true);
            run_open(&run);
            run_verify(&run);
        }
        if (r % 20000 == 3) {
            run_commit(&run);
            CHECK_EQUAL(evh_close(run.heap), EVH_OK);
            run_killed_child(&run);
            run_verify(&run);
        }
    }
    run_verify(&run);
    CHECK_EQUAL(evh_check(run.heap, NULL, NULL), EVH_OK);
    CHECK_EQUAL(kind->clear(run.heap, run.root->collection), EVH_OK);
    CHECK_EQUAL(live_blocks(run.heap), blocks);
    CHECK_EQUAL(evh_close(run.heap), EVH_OK);
    free(run.model);
    free(run.committed);
}

/* ---- a heap that is too small ---- */

void collect_full_run(const struct collect_kind *kind, uint64_t operations, size_t heap_bytes)
{
    uint64_t random = test_seed(), failures = 0, rounds = 0;
    void *const model = calloc(1, kind->model_bytes);
    void *const buffer = aligned_alloc(65536, (heap_bytes + 65535) / 65536 * 65536);
    CHECK(model && buffer);
    evh_heap *heap = evh_open_memory(buffer, heap_bytes, &(evh_options){.must_create = true});
    CHECK(heap);
    void *const root = evh_root(heap, "collection", kind->root_bytes);
    CHECK(root);
    const uint64_t blocks = live_blocks(heap);
    for (uint64_t i = 0; i < operations; i++) {
        const uint64_t r = test_random(&random);
        if (!kind->step(heap, root, model, r)) {
            const evh_status why = evh_last_error()->status; /* LIMIT: more than the whole heap */
            CHECK(why == EVH_FULL || why == EVH_LIMIT);
            if (failures++ % 50 == 0) kind->verify(heap, root, model);
        }
        if (failures < 300 * (rounds + 1)) continue;
        CHECK_EQUAL(kind->check(heap, root), EVH_OK);
        CHECK_EQUAL(kind->clear(heap, root), EVH_OK);
        CHECK_EQUAL(live_blocks(heap), blocks);
        memset(model, 0, kind->model_bytes);
        rounds++;
    }
    CHECK(failures > 0);
    kind->verify(heap, root, model);
    CHECK_EQUAL(evh_close(heap), EVH_OK);
    free(buffer);
    free(model);
}

/* ---- damage ---- */

enum { DAMAGE_BLOCKS = 4096, DAMAGE_HEAP_BYTES = 4 << 20 };

struct damage {
    evh_block blocks[DAMAGE_BLOCKS];
    size_t count;
};

static bool damage_collect(const evh_block *block, void *context)
{
    struct damage *const damage = context;
    if (damage->count < DAMAGE_BLOCKS) damage->blocks[damage->count++] = *block;
    return true;
}

/* Change a few bytes of a block: words become zero, a ref of another block, or anything. */
static void damage_block(const struct damage *damage, uint64_t *random)
{
    const evh_block *const block = &damage->blocks[test_random(random) % damage->count];
    const evh_block *const other = &damage->blocks[test_random(random) % damage->count];
    const size_t part = block->size < 96 || test_random(random) % 2 ? block->size : 96;
    unsigned char *const bytes = block->address;
    const uint64_t words[] = {0, other->ref.offset, test_random(random), UINT64_MAX,
                              other->ref.offset | (test_random(random) & 15)};
    const uint64_t r = test_random(random);
    if (r % 2 == 0) {
        bytes[(r >> 8) % part] ^= (unsigned char)(1u << (r >> 40) % 8);
    } else {
        memcpy(bytes + (r >> 8) % (part / 8) * 8, &words[(r >> 40) % 5], 8);
    }
}

void collect_damage_run(const struct collect_kind *kind, uint64_t rounds)
{
    uint64_t random = test_seed(), found = 0;
    void *const image = aligned_alloc(65536, DAMAGE_HEAP_BYTES);
    void *const buffer = aligned_alloc(65536, DAMAGE_HEAP_BYTES);
    void *const model = calloc(1, kind->model_bytes);
    struct damage *const damage = calloc(1, sizeof *damage);
    CHECK(image && buffer && model && damage);
    evh_heap *heap = evh_open_memory(image, DAMAGE_HEAP_BYTES, &(evh_options){.must_create = true});
    CHECK(heap);
    void *root = evh_root(heap, "collection", kind->root_bytes);
    CHECK(root);
    for (int i = 0; i < 3000; i++) kind->step(heap, root, model, test_random(&random));
    CHECK_EQUAL(evh_close(heap), EVH_OK);

    for (uint64_t i = 0; i < rounds; i++) {
        memcpy(buffer, image, DAMAGE_HEAP_BYTES);
        heap = evh_open_memory(buffer, DAMAGE_HEAP_BYTES, NULL);
        CHECK(heap);
        root = evh_root_find(heap, "collection", NULL);
        CHECK(root);
        damage->count = 0;
        CHECK_EQUAL(evh_walk(heap, damage_collect, damage), EVH_OK);
        CHECK(damage->count > 3);
        /* The first two are the catalog and the roots, which other tests damage. */
        for (size_t k = 0; k < damage->count; k++)
            if (damage->blocks[k].size == 384) damage->blocks[k] = damage->blocks[--damage->count];
        for (uint64_t k = test_random(&random) % 8 + 1; k > 0; k--) damage_block(damage, &random);
        const evh_status status = kind->check(heap, root);
        CHECK(status == EVH_OK || status == EVH_CORRUPT);
        found += status != EVH_OK;
        for (int k = 0; k < 20; k++) kind->exercise(heap, root, test_random(&random));
        (void)kind->clear(heap, root);
        CHECK_EQUAL(evh_close(heap), EVH_OK);
    }
    CHECK(rounds < 10 || found > 0);
    free(damage);
    free(model);
    free(buffer);
    free(image);
}
