/* Masks of tokens: against PCRE2, asked of each token whether a match can go on with it, and
 * against a walk byte by byte on the vocabularies of real models, with the time that a mask takes;
 * tokens that end a text; pushes taken back; the space before SentencePiece's first word; automata
 * that need more memory than there is. */
#include "tests/unit/random_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <pthread.h>
#include <time.h>

#include "tests/unit/vocabularies.h"
#include "text/json_schema.h"
#include "text/matcher.h"
#include "text/regex.h"
#include "weights/source.h"

static bool allows(const uint64_t *mask, int32_t token)
{
    return mask[token / 64] >> token % 64 & 1;
}

static struct automaton *regex(const char *expression)
{
    struct automaton *a;
    struct err err;
    assert_ok(regex_compile(expression, strlen(expression), &a, &err), err);
    return a;
}

/* A vocabulary with its tree. */
struct words {
    struct tokenizer *tokenizer;
    struct token_trie trie;
    int vocab;
};

static void words_init(struct words *w, struct vocab *vocab)
{
    struct err err;
    w->tokenizer = make(vocab);
    w->vocab = tokenizer_vocab(w->tokenizer);
    assert_ok(token_trie_init(&w->trie, w->tokenizer, &err), err);
}

static void words_release(struct words *w)
{
    token_trie_release(&w->trie);
    tokenizer_free(w->tokenizer);
}

static void matcher_make(struct matcher *m, const struct automaton *a, const struct words *w)
{
    struct err err;
    assert_ok(matcher_init(m, a, &w->trie, w->vocab, -1, false, &err), err);
    automaton_release(a);
}

#define END 264 /* <|im_end|> */
#define TOOL 265

static void small_words(struct words *w)
{
    static const char *const merges[][2] = {{"a", "b"}, {"a", "a"},   {"ab", "c"},
                                            {"1", "1"}, {"b", "c"},   {"aa", "b"},
                                            {"-", "1"}, {"ab", "ab"}, {NULL, NULL}};
    struct vocab vocab;
    byte_level_vocab(&vocab, "gpt-2", merges);
    add_token(&vocab, "<|im_end|>", TOKEN_CONTROL, 0);
    add_token(&vocab, "<tool>", TOKEN_ADDED, 0);
    words_init(w, &vocab);
}

/* ---- against PCRE2 ---- */

/* 2: it matches; 1: it can be the beginning of a match; 0: it can't; -1: it gave up (it tries one
 * way after another, and there may be very many). */
static int pcre_takes(const pcre2_code *code, pcre2_match_data *data, const char *text, size_t len)
{
    int n = pcre2_match(code, (PCRE2_SPTR)text, len, 0, 0, data, NULL);
    if (n >= 0)
        return 2;
    if (n == PCRE2_ERROR_NOMATCH)
        n = pcre2_match(code, (PCRE2_SPTR)text, len, 0, PCRE2_PARTIAL_SOFT, data, NULL);
    return n == PCRE2_ERROR_PARTIAL ? 1 : n == PCRE2_ERROR_NOMATCH ? 0 : -1;
}

/* One row: every token. Returns how many are allowed. */
static int compare(struct matcher *m, const struct words *w, const pcre2_code *code,
                   pcre2_match_data *data, const char *expression, struct text *t)
{
    const uint64_t *mask = matcher_mask(m);
    size_t len = t->len;
    int n = 0;
    bool complete = matcher_complete(m);
    for (int32_t i = 0; i < w->vocab && !complete; i++) {
        size_t more;
        const char *bytes = tokenizer_bytes(w->tokenizer, -1, i, &more);
        memcpy(t->bytes + len, bytes, more);
        int takes = i == END ? pcre_takes(code, data, t->bytes, len) - 1
                             : pcre_takes(code, data, t->bytes, len + more);
        bool want = more || i == END ? takes > 0 : false;
        if (takes >= -(i == END) && allows(mask, i) != want)
            fail_msg("%s: token %d behind '%.*s': PCRE2 says %d", expression, i, (int)len, t->bytes,
                     want);
        n += want && i != END;
    }
    return n;
}

static void test_pcre(void **state)
{
    struct dice d = {5, 0};
    struct words w;
    int rows = 0, ends = 0;
    (void)state;
    small_words(&w);
    for (int i = 0; i < 300; i++) {
        struct text expression = {.len = 0}, t = {.len = 0};
        struct matcher m;
        int number;
        size_t at;
        put_choice(&expression, &d, 2, true);
        struct text whole = {.len = 0};
        put(&whole, "(*LIMIT_MATCH=5000)(?:");
        put(&whole, expression.bytes);
        put(&whole, ")\\z");
        pcre2_code *code =
            pcre2_compile((PCRE2_SPTR)whole.bytes, whole.len,
                          PCRE2_ANCHORED | PCRE2_NO_START_OPTIMIZE, &number, &at, NULL);
        assert_non_null(code);
        pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
        matcher_make(&m, regex(expression.bytes), &w);
        for (int n; t.len < 24 && (n = compare(&m, &w, code, data, expression.bytes, &t)) > 0;
             rows++) {
            int32_t token = 0;
            for (int pick = roll(&d, n) + 1; pick > 0; token++)
                pick -= token != END && allows(matcher_mask(&m), token);
            size_t len;
            const char *bytes = tokenizer_bytes(w.tokenizer, -1, --token, &len);
            memcpy(t.bytes + t.len, bytes, len);
            t.len += len;
            matcher_push(&m, token);
        }
        if (matcher_complete(&m))
            assert_int_equal(pcre_takes(code, data, t.bytes, t.len), 2);
        ends += matcher_complete(&m);
        matcher_release(&m);
        pcre2_match_data_free(data);
        pcre2_code_free(code);
    }
    printf("%d masks as PCRE2 has them, %d texts complete\n", rows, ends);
    assert_true(rows > 800 && ends > 50);
    words_release(&w);
}

/* ---- the cursor ---- */

static void test_ends(void **state)
{
    struct words w;
    struct matcher m;
    struct err err;
    (void)state;
    small_words(&w);
    matcher_make(&m, regex("ab?"), &w);
    assert_false(allows(matcher_mask(&m), END));
    assert_false(allows(matcher_mask(&m), TOOL));
    matcher_push(&m, 'a');
    assert_true(allows(matcher_mask(&m), END));
    assert_false(matcher_complete(&m));
    matcher_push(&m, 'b');
    assert_true(matcher_complete(&m));
    assert_false(allows(matcher_mask(&m), END));
    matcher_push(&m, 'b');
    assert_false(matcher_complete(&m));
    assert_false(allows(matcher_mask(&m), 'b'));
    matcher_pop(&m);
    matcher_pop(&m);
    assert_true(allows(matcher_mask(&m), 'b') && !allows(matcher_mask(&m), 'a'));
    matcher_push(&m, END);
    assert_false(allows(matcher_mask(&m), 'b'));
    matcher_pop(&m);
    assert_int_equal(matcher_admits(&m, (int32_t[]){'b', 'b'}, 2), 1);
    assert_int_equal(matcher_admits(&m, (int32_t[]){END}, 1), 0);
    assert_true(allows(matcher_mask(&m), 'b'));
    matcher_release(&m);
    /* What must not end goes on as long as it can. */
    struct automaton *a = regex("a+|<tool>");
    assert_ok(matcher_init(&m, a, &w.trie, w.vocab, -1, true, &err), err);
    automaton_release(a);
    assert_true(allows(matcher_mask(&m), TOOL)); /* decodes to its text */
    matcher_push(&m, 'a');
    assert_false(allows(matcher_mask(&m), END));
    assert_true(allows(matcher_mask(&m), 'a'));
    matcher_release(&m);
    words_release(&w);
}

#define SHARED "(ab|1|-1|a|bc){2,60}"
#define SHARED_ROWS 40

/* One text, and its masks by a matcher that shares none. */
struct shared {
    struct words words;
    struct automaton *automaton;
    int32_t tokens[SHARED_ROWS];
    uint64_t masks[SHARED_ROWS][(TOOL + 64) / 64];
};

static void shared_init(struct shared *s)
{
    struct dice d = {9, 0};
    struct matcher m;
    small_words(&s->words);
    assert_true((size_t)s->words.vocab <= sizeof s->masks[0] * 8);
    matcher_make(&m, regex(SHARED), &s->words);
    for (int i = 0; i < SHARED_ROWS; i++) {
        memcpy(s->masks[i], matcher_mask(&m), m.words * sizeof **s->masks);
        do
            s->tokens[i] = roll(&d, END);
        while (!allows(s->masks[i], s->tokens[i]));
        matcher_push(&m, s->tokens[i]);
    }
    matcher_release(&m);
    s->automaton = regex(SHARED);
}

/* Positions made on the way, -1 where a mask is another. */
static int follow_shared(const struct shared *s, bool never_ends)
{
    struct matcher m;
    struct err err;
    bool same =
        !matcher_init(&m, s->automaton, &s->words.trie, s->words.vocab, -1, never_ends, &err);
    for (int i = 0; i < SHARED_ROWS; i++) {
        uint64_t want[sizeof s->masks[0] / 8];
        memcpy(want, s->masks[i], sizeof want);
        want[END / 64] &= never_ends ? ~((uint64_t)1 << END % 64) : ~(uint64_t)0;
        same &= !memcmp(matcher_mask(&m), want, m.words * sizeof *want);
        matcher_push(&m, s->tokens[i]);
    }
    int made = same ? (int)m.made : -1;
    matcher_release(&m);
    return made;
}

static void *follow_alone(void *arg)
{
    const struct shared *s = arg;
    return follow_shared(s, false) < 0 ? arg : NULL;
}

/* What one matcher has worked out the next one copies, where it is the same. */
static void test_shared(void **state)
{
    struct shared s;
    pthread_t threads[4];
    (void)state;
    shared_init(&s);
    assert_true(follow_shared(&s, false) > 0);
    assert_int_equal(follow_shared(&s, false), 0);
    assert_true(follow_shared(&s, true) > 0);
    assert_int_equal(follow_shared(&s, true), 0);
    automaton_release(s.automaton);
    s.automaton = regex(SHARED); /* nothing is known of it: all begin at once */
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, follow_alone, &s), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    assert_int_equal(follow_shared(&s, false), 0);
    automaton_release(s.automaton);
    words_release(&s.words);
}

/* More masks than are kept: those that do not fit are worked out again, and right. */
static void test_full_store(void **state)
{
    struct words w;
    struct err err;
    (void)state;
    small_words(&w);
    struct automaton *a = regex("a{600}");
    for (int round = 0; round < 2; round++) {
        struct matcher m;
        assert_ok(matcher_init(&m, a, &w.trie, w.vocab, -1, false, &err), err);
        for (int i = 0; i < 600; i++) {
            assert_true(allows(matcher_mask(&m), 'a') && !allows(matcher_mask(&m), 'b'));
            matcher_push(&m, 'a');
        }
        assert_true(matcher_complete(&m));
        matcher_release(&m);
    }
    automaton_release(a);
    words_release(&w);
}

/* The space that SentencePiece writes before the first word is no part of the text. */
static void test_first_space(void **state)
{
    struct vocab vocab = {.kind = VOCAB_SENTENCEPIECE, .bos = 0, .eos = 1, .unknown = -1};
    struct words w;
    struct matcher m;
    struct err err;
    (void)state;
    vocab.rules.add_space_prefix = vocab.rules.byte_fallback = true;
    add_token(&vocab, "<s>", TOKEN_CONTROL, 0);
    add_token(&vocab, "</s>", TOKEN_CONTROL, 0);
    add_token(&vocab, "a", TOKEN_TEXT, -1);
    add_token(&vocab,
              "\xe2\x96\x81"
              "a",
              TOKEN_TEXT, -2);
    add_token(&vocab, "\xe2\x96\x81", TOKEN_TEXT, -3);
    for (int i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)i);
        add_token(&vocab, text, TOKEN_BYTE, 0);
    }
    words_init(&w, &vocab);
    struct automaton *a = regex("a a");
    assert_ok(matcher_init(&m, a, &w.trie, w.vocab, 0, false, &err), err);
    automaton_release(a);
    const uint64_t *mask = matcher_mask(&m);
    assert_true(allows(mask, 2) && allows(mask, 3) && !allows(mask, 4));
    matcher_push(&m, 3);
    mask = matcher_mask(&m);
    assert_true(!allows(mask, 2) && allows(mask, 3) && allows(mask, 4));
    matcher_push(&m, 3);
    assert_true(matcher_complete(&m));
    matcher_release(&m);
    words_release(&w);
}

/* More positions than fit at a time: those that nobody stands at are forgotten, and nothing
 * changes. */
static void test_crowded(void **state)
{
    struct dice d = {9, 0};
    struct words w;
    struct matcher m, other;
    (void)state;
    small_words(&w);
    struct automaton *a = regex("([ab]*a[ab]{14}c?)*");
    matcher_make(&m, automaton_retain(a), &w);
    matcher_make(&other, a, &w);
    int collected = 0;
    for (int i = 0; i < 1500; i++) {
        const struct position_pool *pool = other.positions.pool;
        int32_t token = roll(&d, 2) ? 'a' : 'b';
        matcher_push(&m, token);
        matcher_push(&other, token);
        for (int k = roll(&d, 8); k > 0; k--) { /* looks elsewhere on the way */
            for (int j = 0; j < 20; j++)
                matcher_push(&other, roll(&d, 2) ? 'a' : 'b');
            matcher_mask(&other);
            for (int j = 0; j < 20; j++)
                matcher_pop(&other);
        }
        const uint64_t *want = matcher_mask(&m);
        assert_memory_equal(want, matcher_mask(&other), m.words * sizeof *want);
        collected += other.positions.pool != pool;
    }
    printf("%d times full\n", collected);
    assert_false(m.failed || other.failed);
    assert_true(collected > 3);
    matcher_release(&m);
    matcher_release(&other);
    words_release(&w);
}

/* ---- real vocabularies ---- */

/* Seconds of this thread alone: others may have the core meanwhile. */
static double own_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Byte by byte from the text's start. */
static bool takes(struct positions *p, int32_t at, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len && at >= 0; i++)
        at = positions_step(p, at, (uint8_t)bytes[i]);
    assert_int_not_equal(at, POSITION_FULL);
    return at >= 0;
}

static const char object_schema[] =
    "{\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\"}, \"size\": "
    "{\"type\": \"number\"}, \"kind\": {\"enum\": [\"large\", \"small\", \"other\"]}, \"tags\": "
    "{\"type\": \"array\", \"items\": {\"type\": \"string\", \"maxLength\": 20}}}, \"required\": "
    "[\"name\", \"kind\"], \"additionalProperties\": false}";

static struct automaton *grammar(int i)
{
    struct automaton *a;
    struct err err;
    json_t *schema;
    switch (i) {
    case 0:
        schema = json_loads(object_schema, 0, NULL);
        assert_ok(json_schema_compile(schema, &a, &err), err);
        json_decref(schema);
        return a;
    case 1:
        assert_ok(json_object_compile(&a, &err), err);
        return a;
    case 2:
        return regex("(\\d{4}-\\d\\d-\\d\\d|[A-Z][a-z]+( [a-z]+){0,9}\\.)");
    default:
        return regex("[^\"]{1,300}");
    }
}

/* Random texts under each grammar: every mask is checked at some rows and timed at all. */
static void walk_real(const struct words *w, const char *name)
{
    static const char *const grammars[] = {"a schema", "any object", "an expression",
                                           "a long text"};
    struct dice d = {3, 0};
    for (int g = 0; g < 4; g++) {
        double slowest = 0, sum = 0;
        int rows = 0, checked = 0;
        for (int round = 0; round < 6; round++) {
            struct matcher m;
            struct positions p;
            struct err err;
            struct automaton *a = grammar(g);
            assert_ok(positions_init(&p, a, &err), err);
            matcher_make(&m, a, w);
            m.seconds = 1e9; /* sanitizers take longer than a request may */
            int32_t at = positions_start(&p);
            for (int i = 0; i < 40 && !matcher_complete(&m); i++) {
                double start = own_seconds();
                const uint64_t *mask = matcher_mask(&m);
                double seconds = own_seconds() - start;
                slowest = seconds > slowest ? seconds : slowest;
                sum += seconds;
                rows++;
                bool check = roll(&d, 8) == 0;
                for (int32_t t = 0; check && t < w->vocab; t++) {
                    size_t len;
                    const char *bytes = tokenizer_bytes(w->tokenizer, t, t, &len);
                    if (len && len <= TOKEN_TRIE_DEPTH &&
                        allows(mask, t) != takes(&p, at, bytes, len))
                        fail_msg("%s: token %d, '%.*s'", name, t, (int)len, bytes);
                }
                checked += check;
                int32_t token = roll(&d, w->vocab), tries = 0;
                while (!allows(mask, token) && tries++ < w->vocab)
                    token = (token + 1) % w->vocab;
                size_t len;
                const char *bytes = tokenizer_bytes(w->tokenizer, token, token, &len);
                if (!len || tries > w->vocab)
                    break;
                for (size_t k = 0; k < len; k++)
                    at = positions_step(&p, at, (uint8_t)bytes[k]);
                matcher_push(&m, token);
            }
            matcher_release(&m);
            positions_release(&p);
        }
        printf("%s, %s: %d masks, %.3f ms on average, %.3f at most; %d compared\n", name,
               grammars[g], rows, 1e3 * sum / rows, 1e3 * slowest, checked);
        assert_true(rows > 10);
    }
}

static void test_real(void **state)
{
    static const char *const names[] = {"smollm2-135m-instruct-q4_1.gguf",
                                        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"};
    const char *folder = getenv("HEADWAY_MODELS"), *home = getenv("HOME");
    (void)state;
    for (int i = 0; i < 2; i++) {
        char path[512];
        struct source source;
        struct vocab vocab = {0};
        struct words w;
        struct err err;
        snprintf(path, sizeof path, "%s%s/%s",
                 folder ? folder
                 : home ? home
                        : ".",
                 folder ? "" : "/.cache/headway-models", names[i]);
        if (access(path, R_OK)) {
            printf("%s is not there: not tested\n", path);
            continue;
        }
        assert_ok(source_open(&source, path, &err), err);
        assert_ok(source_vocab(&source, &vocab, &err), err);
        words_init(&w, &vocab);
        double start = own_seconds();
        token_trie_release(&w.trie);
        assert_ok(token_trie_init(&w.trie, w.tokenizer, &err), err);
        printf("%s: %d tokens, %u nodes, %.0f ms for the tree\n", names[i], w.trie.n_tokens,
               w.trie.n_nodes, 1e3 * (own_seconds() - start));
        source_release(&source);
        walk_real(&w, names[i]);
        words_release(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pcre),        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_first_space), cmocka_unit_test(test_crowded),
        cmocka_unit_test(test_real),        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_full_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
