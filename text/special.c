/* A sorted list, narrowed byte by byte. */
#include "text/special.h"

#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

int special_add(struct special_set *set, const struct special *special, struct err *err)
{
    if ((set->n & (set->n - 1)) == 0) { /* grows at powers of two */
        size_t room = set->n ? (size_t)set->n * 2 : 1;
        struct special *list = realloc(set->list, room * sizeof *list);
        if (!list)
            return err_set(err, ERR_MEMORY, "tokenizer: no memory left");
        set->list = list;
    }
    set->list[set->n++] = *special;
    return 0;
}

static int compare_text(const struct special *a, const char *text, size_t len)
{
    int order = memcmp(a->text, text, a->len < len ? a->len : len);
    return order ? order : a->len < len ? -1 : a->len > len;
}

/* The highest id first among equals. */
static int compare(const void *a, const void *b)
{
    const struct special *x = a, *y = b;
    int order = compare_text(x, y->text, y->len);
    return order ? order : (x->id < y->id) - (x->id > y->id);
}

void special_sort(struct special_set *set)
{
    int n = 0;
    if (set->n)
        qsort(set->list, (size_t)set->n, sizeof *set->list, compare);
    for (int i = 0; i < set->n; i++)
        if (!n || compare_text(&set->list[n - 1], set->list[i].text, set->list[i].len))
            set->list[n++] = set->list[i];
    set->n = n;
    for (int byte = 0, i = 0; byte <= 256; byte++) {
        while (i < n && (unsigned char)set->list[i].text[0] < byte)
            i++;
        set->first[byte] = i;
    }
}

void special_release(struct special_set *set)
{
    free(set->list);
    memset(set, 0, sizeof *set);
}

const struct special *special_get(const struct special_set *set, const char *text, size_t len)
{
    int low = 0, high = set->n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = compare_text(&set->list[middle], text, len);
        if (!order)
            return &set->list[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* The first of low..high whose byte at `depth` is not below `byte`. */
static int bound(const struct special_set *set, int low, int high, size_t depth, unsigned byte)
{
    while (low < high) {
        int middle = low + (high - low) / 2;
        if ((unsigned char)set->list[middle].text[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first literal range that ends behind `at`, NULL for none. */
static const struct text_range *range_behind(const struct special_scope *scope, size_t at)
{
    size_t low = 0, high = scope->n_literal;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (scope->literal[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low < scope->n_literal ? &scope->literal[low] : NULL;
}

bool special_touches(const struct special_scope *scope, size_t begin, size_t end)
{
    const struct text_range *range = range_behind(scope, begin + scope->offset);
    return range && range->begin < end + scope->offset && range->begin < range->end;
}

static bool inside(const struct special_scope *scope, size_t begin, size_t end)
{
    const struct text_range *range = range_behind(scope, begin + scope->offset);
    return range && range->begin <= begin + scope->offset && end + scope->offset <= range->end;
}

/* One that is part literal and part not is not there: a shorter one may be. */
static bool may_match(const struct special *special, const struct special_scope *scope, size_t at)
{
    size_t end = at + special->len;
    return special->added || !scope->parse || !special_touches(scope, at, end) ||
           inside(scope, at, end);
}

static const struct special *longest_at(const struct special_set *set, const char *text, size_t len,
                                        const struct special_scope *scope, size_t at)
{
    const struct special *best = NULL;
    unsigned byte = (unsigned char)text[at];
    int low = set->first[byte], high = set->first[byte + 1];
    for (size_t depth = 1; low < high; depth++) {
        if (set->list[low].len == depth) {
            if (may_match(&set->list[low], scope, at))
                best = &set->list[low];
            low++;
        }
        if (at + depth >= len)
            break;
        byte = (unsigned char)text[at + depth];
        low = bound(set, low, high, depth, byte);
        high = bound(set, low, high, depth, byte + 1);
    }
    return best;
}

/* The whole character before `at`; false where there is none. */
static bool before(const char *text, size_t at, uint32_t *code, size_t *length)
{
    for (*length = 1; *length <= 4 && *length <= at; ++*length)
        if (utf8_decode(text + at - *length, *length, code) == (int)*length)
            return true;
    return false;
}

static bool behind(const char *text, size_t len, size_t at, uint32_t *code, size_t *length)
{
    int n = at < len ? utf8_decode(text + at, len - at, code) : 0;
    *length = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static bool in_word(const char *text, size_t len, size_t begin, size_t end)
{
    uint32_t code;
    size_t length;
    return (before(text, begin, &code, &length) && utf8_is_word(code)) ||
           (behind(text, len, end, &code, &length) && utf8_is_word(code));
}

static void take_space(const struct special *special, const char *text, size_t len,
                       const struct special_cursor *cursor, struct special_match *match)
{
    uint32_t code;
    size_t length;
    while (special->lstrip && match->begin > cursor->text_end &&
           before(text, match->begin, &code, &length) && utf8_is_space(code))
        match->begin -= length;
    if (special->lstrip && match->begin < cursor->text_end)
        match->begin = cursor->text_end;
    while (special->rstrip && behind(text, len, match->end, &code, &length) && utf8_is_space(code))
        match->end += length;
}

/* A token that is found in the white space that the one before took along counts as well, and the
 * text goes on behind it: so says the reference. */
bool special_next(const struct special_set *set, const char *text, size_t len,
                  const struct special_scope *scope, struct special_cursor *cursor,
                  struct special_match *match)
{
    size_t at = cursor->from;
    while (set->n && at < len) {
        unsigned byte = (unsigned char)text[at];
        const struct special *special =
            set->first[byte] == set->first[byte + 1] ? NULL : longest_at(set, text, len, scope, at);
        if (!special) {
            at++;
            continue;
        }
        size_t end = at + special->len;
        /* What is text here is passed over whole, with whatever it contains. */
        if ((special->added || (scope->parse && !special_touches(scope, at, end))) &&
            !(special->single_word && in_word(text, len, at, end))) {
            *match = (struct special_match){at, end, special->id};
            take_space(special, text, len, cursor, match);
            cursor->from = end;
            cursor->text_end = match->end;
            return true;
        }
        at = end;
    }
    return false;
}
