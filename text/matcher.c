/* Masks of tokens by walking the vocabulary's tree: see matcher.h. */
#include "text/matcher.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define HISTORY (MATCHER_POPS_MAX + 1)
#define PLACES (HISTORY + TOKEN_TRIE_DEPTH + 1)

/* ---- life ---- */

static void forget_masks(struct matcher *m)
{
    memset(m->mask_of, 0xff, POSITIONS_MAX * sizeof *m->mask_of);
    for (int i = 0; i < MATCHER_MASKS; i++)
        m->mask_at[i] = POSITION_NONE;
}

int matcher_init(struct matcher *m, const struct automaton *a, const struct token_trie *trie,
                 int vocab, int32_t before, bool never_ends, struct err *err)
{
    *m = (struct matcher){.trie = trie,
                          .words = ((size_t)vocab + 63) / 64,
                          .never_ends = never_ends,
                          .seconds = MATCHER_SECONDS};
    int rc = positions_init(&m->positions, a, err);
    if (rc)
        return rc;
    m->masks = calloc((MATCHER_MASKS + 1) * m->words, sizeof *m->masks);
    m->mask_of = malloc(POSITIONS_MAX * sizeof *m->mask_of);
    if (!m->masks || !m->mask_of) {
        matcher_release(m);
        return err_set(err, ERR_MEMORY, "no memory left for masks of %d tokens", vocab);
    }
    m->store = mask_store_of(a, trie, m->words);
    forget_masks(m);
    for (int i = 0; i < PLACES; i++)
        m->at[i] = POSITION_NONE;
    m->at[0] = positions_start(&m->positions);
    m->token[0] = before;
    return 0;
}

void matcher_release(struct matcher *m)
{
    positions_release(&m->positions);
    free(m->masks);
    free(m->mask_of);
    *m = (struct matcher){0};
}

/* ---- steps ---- */

static void fail(struct matcher *m, const char *why)
{
    m->failed = why;
    for (int i = 0; i < PLACES; i++)
        m->at[i] = POSITION_NONE;
}

/* One byte on from the position at[from] to at[to]. Where there is no room for another, all
 * positions that nobody stands at are forgotten. */
static int32_t step(struct matcher *m, int from, int to, uint8_t byte)
{
    int32_t next =
        m->at[from] < 0 ? POSITION_NONE : positions_step(&m->positions, m->at[from], byte);
    if (next == POSITION_FULL) {
        forget_masks(m);
        next = positions_collect(&m->positions, m->at, PLACES)
                   ? positions_step(&m->positions, m->at[from], byte)
                   : POSITION_FULL;
        if (next == POSITION_FULL)
            fail(m, "has more possibilities than there is memory for");
    }
    return m->at[to] = m->failed ? POSITION_NONE : next;
}

static bool is_end(const struct matcher *m, int32_t token)
{
    int n;
    const int32_t *ends = tokenizer_ends(m->trie->tokenizer, &n);
    for (int i = 0; i < n; i++)
        if (ends[i] == token)
            return true;
    return false;
}

void matcher_push(struct matcher *m, int32_t token)
{
    int from = (int)(m->n % HISTORY), to = (int)(++m->n % HISTORY);
    m->seconds += MATCHER_SECONDS_A_PUSH;
    size_t len;
    const char *bytes = tokenizer_bytes(m->trie->tokenizer, m->token[from], token, &len);
    m->at[to] = m->at[from];
    m->token[to] = token;
    if (!len || is_end(m, token))
        m->at[to] = POSITION_NONE;
    for (size_t i = 0; i < len && m->at[to] >= 0; i++)
        step(m, to, to, (uint8_t)bytes[i]);
}

void matcher_pop(struct matcher *m)
{
    assert(m->n > 0);
    m->n--;
}

int matcher_admits(struct matcher *m, const int32_t *tokens, int n)
{
    int pushed = 0;
    while (pushed < n && pushed < MATCHER_POPS_MAX) {
        matcher_push(m, tokens[pushed++]);
        if (m->at[m->n % HISTORY] < 0) {
            matcher_pop(m);
            pushed--;
            break;
        }
    }
    for (int i = 0; i < pushed; i++)
        matcher_pop(m);
    return pushed;
}

bool matcher_complete(const struct matcher *m)
{
    int32_t at = m->at[m->n % HISTORY];
    return positions_accepts(&m->positions, at) && !positions_goes_on(&m->positions, at);
}

/* ---- masks ---- */

static void set(uint64_t *mask, int32_t token)
{
    mask[token / 64] |= (uint64_t)1 << token % 64;
}

/* A position that is not known yet, with a look at the clock now and then. */
static int32_t make(struct matcher *m, int from, int to, uint8_t byte)
{
    if (++m->made % 256 == 0 && clock_thread_seconds() - m->began > m->seconds)
        fail(m, "takes too long to follow");
    return step(m, from, to, byte);
}

/* Sets the tokens of the subtree at `top` whose bytes may follow the position of its parent, which
 * is in at[HISTORY + depth]. Returns whether there are some. */
static bool walk(struct matcher *m, uint32_t top, uint64_t *mask)
{
    const struct token_trie *trie = m->trie;
    bool any = false;
    for (uint32_t i = top, end = trie->nodes[top].end; i < end;) {
        const struct trie_node *node = &trie->nodes[i];
        int at = HISTORY + node->depth;
        int32_t before = m->at[at - 1];
        int32_t next =
            before < 0 ? POSITION_NONE : positions_known(&m->positions, before, node->byte);
        if (next == POSITION_UNKNOWN)
            next = make(m, at - 1, at, node->byte);
        m->at[at] = next;
        if (next < 0) {
            i = node->end;
            continue;
        }
        for (uint32_t k = node->token; k < trie->nodes[i + 1].token; k++, any = true)
            set(mask, trie->tokens[k]);
        i++;
    }
    return any;
}

/* All subtrees of a node, as if its own byte had not been there; those that begin with a space
 * are left to the other call where the space before a text's first word is no part of it. */
static bool walk_below(struct matcher *m, uint32_t parent, int32_t token_before, uint64_t *mask)
{
    const struct token_trie *trie = m->trie;
    bool strips = tokenizer_strips(trie->tokenizer, token_before), any = false;
    for (uint32_t i = parent + 1; i < trie->nodes[parent].end; i = trie->nodes[i].end) {
        m->at[HISTORY + trie->nodes[parent].depth] = m->at[m->n % HISTORY];
        if (!strips || parent || trie->nodes[i].byte != ' ')
            any |= walk(m, i, mask);
        else
            any |= walk_below(m, i, token_before, mask);
    }
    return any;
}

static void fill(struct matcher *m, uint64_t *mask)
{
    unsigned now = m->n % HISTORY;
    m->began = clock_thread_seconds();
    memset(mask, 0, m->words * sizeof *mask);
    bool any = walk_below(m, 0, m->token[now], mask);
    if (positions_accepts(&m->positions, m->at[now]) && !(any && m->never_ends)) {
        int n;
        const int32_t *ends = tokenizer_ends(m->trie->tokenizer, &n);
        for (int i = 0; i < n; i++)
            set(mask, ends[i]);
    }
    if (m->failed)
        memset(mask, 0, m->words * sizeof *mask);
    m->seconds -= clock_thread_seconds() - m->began;
}

/* From others, or for them. */
static void share(struct matcher *m, uint64_t *mask)
{
    int32_t key[MASK_STORE_KEY];
    key[0] = m->never_ends;
    int n = m->store ? positions_describe(&m->positions, m->at[m->n % HISTORY], key + 1,
                                          MASK_STORE_KEY - 1)
                     : 0;
    if (n && mask_store_get(m->store, key, n + 1, mask))
        return;
    fill(m, mask);
    if (n && !m->failed)
        mask_store_put(m->store, key, n + 1, mask);
}

const uint64_t *matcher_mask(struct matcher *m)
{
    unsigned now = m->n % HISTORY;
    uint64_t *spare = m->masks + MATCHER_MASKS * m->words;
    if (m->failed || m->at[now] < 0 || matcher_complete(m))
        return memset(spare, 0, m->words * sizeof *spare);
    if (tokenizer_strips(m->trie->tokenizer, m->token[now])) {
        fill(m, spare);
        return spare;
    }
    if (m->mask_of[m->at[now]] >= 0)
        return m->masks + (size_t)m->mask_of[m->at[now]] * m->words;
    int place = m->next_mask;
    m->next_mask = (place + 1) % MATCHER_MASKS;
    if (m->mask_at[place] >= 0)
        m->mask_of[m->mask_at[place]] = -1;
    m->mask_at[place] = POSITION_NONE;
    uint64_t *mask = m->masks + (size_t)place * m->words;
    share(m, mask);
    if (!m->failed) { /* positions may have new numbers now */
        m->mask_at[place] = m->at[now];
        m->mask_of[m->at[now]] = (int8_t)place;
    }
    return mask;
}
