/* tree.c -- stub */
#include "collect/collect.h"
uint64_t evh_tree_count(const evh_heap *heap, const evh_tree *tree)
{
    (void)heap;
    (void)tree;
    return 0;
}
evh_key_kind evh_tree_key_kind(const evh_heap *heap, const evh_tree *tree)
{
    (void)heap;
    (void)tree;
    return 0;
}
size_t evh_tree_value_size(const evh_heap *heap, const evh_tree *tree)
{
    (void)heap;
    (void)tree;
    return 0;
}
