/*
 * memory_tree.c: see memory_tree.h.  Only the storage process; allocates nothing.
 */
#include <stddef.h>

#include "db/memory_tree.h"

static inline uint64_t
lot(const struct memory_tree_node *node)
{
	uint64_t v = (uintptr_t)node;

	v = (v ^ v >> 32) * UINT64_C(0xd6e8feb86659fd93);
	return (v ^ v >> 32) * UINT64_C(0xd6e8feb86659fd93);
}

void
memory_tree_put(struct memory_tree *t, memory_tree_order *order, const void *key,
    struct memory_tree_node *node)
{
	struct memory_tree_node **at = &t->root, *rest, **left = &node->left, **right = &node->right;
	uint64_t mine = lot(node);

	while (*at != NULL && lot(*at) >= mine)
		at = order(key, *at) < 0 ? &(*at)->left : &(*at)->right;
	/* What was below this place is split in two. */
	rest = *at;
	*at = node;
	while (rest != NULL) {
		if (order(key, rest) < 0) {
			*right = rest;
			right = &rest->left;
			rest = rest->left;
		} else {
			*left = rest;
			left = &rest->right;
			rest = rest->right;
		}
	}
	*left = *right = NULL;
}

void
memory_tree_remove(struct memory_tree *t, memory_tree_order *order, const void *key,
    struct memory_tree_node *node)
{
	struct memory_tree_node **at = &t->root, *left = node->left, *right = node->right;

	while (*at != node)
		at = order(key, *at) < 0 ? &(*at)->left : &(*at)->right;
	/* What was below it becomes one again. */
	while (left != NULL && right != NULL) {
		if (lot(left) >= lot(right)) {
			*at = left;
			at = &left->right;
			left = left->right;
		} else {
			*at = right;
			at = &right->left;
			right = right->left;
		}
	}
	*at = left != NULL ? left : right;
}

struct memory_tree_node *
memory_tree_find(const struct memory_tree *t, memory_tree_order *order, const void *key)
{
	struct memory_tree_node *node = t->root;
	int where;

	while (node != NULL && (where = order(key, node)) != 0)
		node = where < 0 ? node->left : node->right;
	return node;
}

struct memory_tree_node *
memory_tree_after(const struct memory_tree *t, memory_tree_order *order, const void *key)
{
	struct memory_tree_node *node = t->root, *best = NULL;

	while (node != NULL) {
		if (key == NULL || order(key, node) < 0) {
			best = node;
			node = node->left;
		} else {
			node = node->right;
		}
	}
	return best;
}

/* As deep as the tree: a few dozen for millions of nodes. */
static bool
walk(struct memory_tree_node *node, memory_tree_order *order, const void *key, memory_tree_cb *cb,
    void *arg)
{
	for (; node != NULL; node = node->right) {
		if (key != NULL && order(key, node) >= 0)
			continue;
		if (!walk(node->left, order, key, cb, arg) || !cb(arg, node))
			return false;
		key = NULL;		/* all to the right is behind it */
	}
	return true;
}

bool
memory_tree_walk(const struct memory_tree *t, memory_tree_order *order, const void *key,
    memory_tree_cb *cb, void *arg)
{
	return walk(t->root, order, key, cb, arg);
}

/* Times */

static int
due_order(const void *key, const struct memory_tree_node *node)
{
	const struct memory_due *a = key, *b = (const struct memory_due *)node;

	if (a->at != b->at)
		return a->at < b->at ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

void
memory_due_put(struct memory_tree *t, struct memory_due *due, int64_t at, int64_t number)
{
	due->at = at;
	due->number = number;
	memory_tree_put(t, due_order, due, &due->node);
}

void
memory_due_remove(struct memory_tree *t, struct memory_due *due)
{
	memory_tree_remove(t, due_order, due, &due->node);
}

struct memory_due *
memory_due_first(const struct memory_tree *t)
{
	return (struct memory_due *)memory_tree_after(t, due_order, NULL);
}

struct memory_due *
memory_due_next(const struct memory_tree *t, const struct memory_due *due)
{
	return (struct memory_due *)memory_tree_after(t, due_order, due);
}

struct memory_due *
memory_due_before(const struct memory_tree *t, int64_t at, int64_t number)
{
	const struct memory_due key = { .at = at, .number = number };
	struct memory_tree_node *node = t->root, *best = NULL;

	while (node != NULL) {
		if (due_order(&key, node) > 0) {
			best = node;
			node = node->right;
		} else {
			node = node->left;
		}
	}
	return (struct memory_due *)best;
}
