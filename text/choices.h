/* A text out of a list, as a tree in which texts share their beginnings. Any thread. */
#ifndef TEXT_CHOICES_H
#define TEXT_CHOICES_H

#include <stddef.h>

#include "text/automaton.h"

#define CHOICES_MAX 4096

struct choice_text {
    const char *bytes;
    size_t len;
};

/* Draws them behind `from`, and returns the state behind all; the list is sorted. */
int32_t choices_draw(struct automaton_draft *draft, struct choice_text *list, int n, int32_t from);

/* The automaton of these texts. ERR_INVALID, ERR_MEMORY. */
int choices_compile(struct choice_text *list, int n, struct automaton **automaton, struct err *err);

#endif
