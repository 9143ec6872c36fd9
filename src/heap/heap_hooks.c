/* heap_hooks.c -- who is told before a heap is committed, and after it was rolled back.
 *
 * The layer above keeps state outside the image that belongs into it: the cursor of an arena, say,
 * which is written there only when a commit needs it. A hook is memory of its owner, linked into
 * the heap. Hooks run one after the other while every writer is still (the gate is closed); they
 * may store into the heap and free blocks of it, and must neither allocate in it nor wait for a
 * thread that uses it. A rollback takes back what a hook stored before a commit that failed.
 */
#include "heap/heap.h"

void heap_hook_add(evh_heap *heap, struct heap_hook *hook)
{
    assert(hook != NULL);
    assert(hook->run != NULL);
    assert(hook->next == NULL);
    heap_lock_take(&heap->hooks_lock);
    assert(heap->hooks != hook);
    hook->next = heap->hooks;
    heap->hooks = hook;
    heap_lock_drop(&heap->hooks_lock);
}

void heap_hook_remove(evh_heap *heap, struct heap_hook *hook)
{
    assert(hook != NULL);
    assert(heap != NULL);
    heap_lock_take(&heap->hooks_lock);
    struct heap_hook **link = &heap->hooks;
    while (*link && *link != hook) link = &(*link)->next;
    if (*link) *link = hook->next;
    hook->next = NULL;
    heap_lock_drop(&heap->hooks_lock);
}

void heap_run_hooks(evh_heap *heap, enum heap_event event)
{
    assert(heap != NULL);
    assert(event <= HEAP_CLOSING);
    heap_lock_take(&heap->hooks_lock);
    struct heap_hook *next = NULL;
    for (struct heap_hook *hook = heap->hooks; hook; hook = next) {
        assert(hook->run != NULL);
        next = hook->next; /* a hook that is told of the close may end itself */
        hook->run(hook, heap, event);
    }
    if (event == HEAP_CLOSING) heap->hooks = NULL;
    heap_lock_drop(&heap->hooks_lock);
}
