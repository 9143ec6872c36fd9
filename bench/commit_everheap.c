/* commit_everheap.c -- the records as blocks of a durable heap. */
#include "commit_store.h"

#include <stdlib.h>
#include <string.h>

/* A block for each record and an array of refs to them: a value is reached by following its ref. */
struct everheap {
    evh_heap *heap;
    const evh_ref *refs;
};

struct everheap_root {
    uint64_t record_count;
    evh_ref refs;
};

static void everheap_fill(struct store *store, evh_heap *heap)
{
    struct everheap_root *const root = evh_root(heap, "records", sizeof *root);
    bench_require(root != NULL, "everheap: root");
    evh_ref *const refs = evh_malloc(heap, store->record_count * sizeof *refs);
    bench_require(refs != NULL, "everheap: array");
    root->record_count = store->record_count;
    root->refs = evh_ref_to(heap, refs);
    for (uint64_t i = 0; i < store->record_count; i++) {
        struct store_record *const record = evh_malloc(heap, sizeof *record);
        bench_require(record != NULL, "everheap: record");
        store_record_fill(record, i);
        refs[i] = evh_ref_to(heap, record);
        if (i % 65536 == 65535) bench_require(evh_commit(heap) == EVH_OK, "everheap: commit");
    }
    bench_require(evh_commit(heap) == EVH_OK, "everheap: commit");
}

static void everheap_open(struct store *store, bool create)
{
    struct everheap *const everheap = bench_memory(1, sizeof *everheap);
    store->state = everheap;
    const evh_options options = {.guards = store->variant == STORE_GUARDS};
    if (create) {
        evh_heap *const heap = evh_open(store->path, &options);
        bench_require(heap != NULL, "everheap: open");
        everheap_fill(store, heap);
        bench_require(evh_close(heap) == EVH_OK, "everheap: close");
    }
    evh_heap *const heap = evh_open(store->path, &options);
    bench_require(heap != NULL, "everheap: open");
    const struct everheap_root *const root = evh_root_find(heap, "records", NULL);
    bench_require(root != NULL, "everheap: root");
    everheap->heap = heap;
    everheap->refs = evh_at(heap, root->refs);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < store->record_count; i++) {
        const struct store_record *const record = evh_at(heap, everheap->refs[i]);
        sum += record->body[STORE_BODY_WORDS - 1] + record->value;
    }
    __asm__ volatile("" : : "r"(sum));
    snprintf(store->note, sizeof store->note, "everheap %s, %s%s", evh_version(),
             bench_detect_name(store_everheap_detect(store)), options.guards ? ", guards" : "");
}

static void everheap_close(struct store *store)
{
    struct everheap *const everheap = store->state;
    bench_require(evh_close(everheap->heap) == EVH_OK, "everheap: close");
    free(everheap);
}

static void everheap_begin(struct store *store, unsigned thread)
{
    (void)thread;
    struct everheap *const everheap = store->state;
    if (store->thread_count > 1) evh_enter(everheap->heap);
}

static void everheap_update(struct store *store, unsigned thread, uint64_t record, uint64_t value)
{
    (void)thread;
    struct everheap *const everheap = store->state;
    struct store_record *const target = evh_at(everheap->heap, everheap->refs[record]);
    target->value = value;
}

static void everheap_commit(struct store *store, unsigned thread)
{
    (void)thread;
    struct everheap *const everheap = store->state;
    if (store->thread_count > 1) evh_leave(everheap->heap);
    bench_require(evh_commit(everheap->heap) == EVH_OK, "everheap: commit");
}

static void everheap_settle(struct store *store)
{
    struct everheap *const everheap = store->state;
    bench_require(evh_checkpoint(everheap->heap) == EVH_OK, "everheap: checkpoint");
}

static evh_info everheap_info(const struct store *store)
{
    const struct everheap *const everheap = store->state;
    evh_info info;
    bench_require(evh_get_info(everheap->heap, &info) == EVH_OK, "everheap: info");
    return info;
}

static uint64_t everheap_checkpoints(struct store *store)
{
    return everheap_info(store).checkpoints;
}

static uint64_t everheap_pages(struct store *store)
{
    return everheap_info(store).pages_committed;
}

evh_detect store_everheap_detect(const struct store *store)
{
    return everheap_info(store).detect;
}

static uint64_t everheap_commit_begin(struct store *store)
{
    struct everheap *const everheap = store->state;
    evh_ticket ticket;
    bench_require(evh_commit_begin(everheap->heap, &ticket) == EVH_OK, "everheap: commit_begin");
    return ticket;
}

static void everheap_commit_wait(struct store *store, uint64_t ticket)
{
    struct everheap *const everheap = store->state;
    bench_require(evh_commit_wait(everheap->heap, ticket) == EVH_OK, "everheap: commit_wait");
}

static void everheap_read(struct store *store, uint64_t record, struct store_record *content)
{
    struct everheap *const everheap = store->state;
    memcpy(content, evh_at(everheap->heap, everheap->refs[record]), sizeof *content);
}

const struct store_calls store_everheap_calls = {
    .open = everheap_open,
    .close = everheap_close,
    .begin = everheap_begin,
    .update = everheap_update,
    .commit = everheap_commit,
    .settle = everheap_settle,
    .checkpoints = everheap_checkpoints,
    .pages = everheap_pages,
    .commit_begin = everheap_commit_begin,
    .commit_wait = everheap_commit_wait,
    .read = everheap_read,
};
