/* fork.c -- the locks of arenas, pools and stacks are held by whoever forks.
 *
 * In a forked child the other threads are gone, with the locks that they held and the changes that
 * they were in the middle of. So fork() waits until nobody is: before it, all locks are taken,
 * those of the registries first, then those of the objects, which is the order of whoever takes
 * both; after it, parent and child drop them. Nobody takes the list's lock who holds another.
 *
 * What other threads kept for themselves, magazines and pieces, is lost to the child.
 */
#include "arena/arena.h"

static struct heap_lock fork_list_lock;
static struct fork_node *fork_first; /* registries first */

static void fork_prepare(void)
{
    heap_lock_take(&fork_list_lock);
    assert(heap_lock_is_taken(&fork_list_lock));
    for (struct fork_node *node = fork_first; node; node = node->next) {
        assert(node->lock != NULL);
        heap_lock_take(node->lock);
    }
}

static void fork_finish(void)
{
    assert(heap_lock_is_taken(&fork_list_lock));
    for (struct fork_node *node = fork_first; node; node = node->next) {
        assert(heap_lock_is_taken(node->lock));
        heap_lock_drop(node->lock);
    }
    heap_lock_drop(&fork_list_lock);
}

void fork_add(struct fork_node *node, struct heap_lock *lock)
{
    assert(node != NULL);
    assert(lock != NULL);
    os_at_fork(fork_prepare, fork_finish, fork_finish);
    heap_lock_take(&fork_list_lock);
    if (!node->lock) {
        struct fork_node **link = &fork_first;
        while (*link && (*link)->is_registry) link = &(*link)->next;
        node->lock = lock;
        node->next = *link;
        node->link = link;
        if (*link) (*link)->link = &node->next;
        *link = node;
    }
    heap_lock_drop(&fork_list_lock);
}

void fork_remove(struct fork_node *node)
{
    assert(node != NULL);
    assert(!node->is_registry);
    heap_lock_take(&fork_list_lock);
    if (node->lock) {
        *node->link = node->next;
        if (node->next) node->next->link = node->link;
        node->lock = NULL;
    }
    heap_lock_drop(&fork_list_lock);
}
