/*
 * memory_tree.h: an ordered set of nodes that live inside the rows they order.
 *
 * A treap (Aragon and Seidel, 1989): a search tree that stays shallow because each node's rank in
 * it is drawn by lot; the lot is drawn from its address, so that nothing has to be kept.  The
 * order is the caller's: total, and of what does not change while a node is in the tree.
 */
#ifndef BELAY_DB_MEMORY_TREE_H
#define BELAY_DB_MEMORY_TREE_H

#include <stdbool.h>
#include <stdint.h>

struct memory_tree_node {
	struct memory_tree_node *left, *right;
};

/* All zero: an empty tree. */
struct memory_tree {
	struct memory_tree_node *root;
};

/* Below, at or above 0: the key is before, the same as, or behind that of the node. */
typedef int memory_tree_order(const void *key, const struct memory_tree_node *node);
/* false ends the walk. */
typedef bool memory_tree_cb(void *arg, struct memory_tree_node *node);

/* No node of that key may be there. */
void memory_tree_put(struct memory_tree *t, memory_tree_order *order, const void *key,
    struct memory_tree_node *node);
/* The node must be there, under that key. */
void memory_tree_remove(struct memory_tree *t, memory_tree_order *order, const void *key,
    struct memory_tree_node *node);
struct memory_tree_node *memory_tree_find(const struct memory_tree *t, memory_tree_order *order,
    const void *key);
/* The first node behind the key; NULL key: the first of all.  NULL: there is none. */
struct memory_tree_node *memory_tree_after(const struct memory_tree *t, memory_tree_order *order,
    const void *key);
/* Calls cb for all nodes behind the key (NULL: for all), in order; false when cb ended it. */
bool memory_tree_walk(const struct memory_tree *t, memory_tree_order *order, const void *key,
    memory_tree_cb *cb, void *arg);

/* What happens at a time: a node ordered by that time, and among those of one time by a number. */
struct memory_due {
	struct memory_tree_node node;
	int64_t at, number;
};

/* The tree must hold nothing but such nodes; the number is one that no other of that time has. */
void memory_due_put(struct memory_tree *t, struct memory_due *due, int64_t at, int64_t number);
/* It must be in the tree. */
void memory_due_remove(struct memory_tree *t, struct memory_due *due);
/* The earliest, and the one after it; NULL: there is none. */
struct memory_due *memory_due_first(const struct memory_tree *t);
struct memory_due *memory_due_next(const struct memory_tree *t, const struct memory_due *due);
/* The latest that is before that time, or of it and with a smaller number; NULL: there is none. */
struct memory_due *memory_due_before(const struct memory_tree *t, int64_t at, int64_t number);

#endif
