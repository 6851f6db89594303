/* Tokenizers of small vocabularies: merges, pieces, special tokens, what is literal, any bytes back
 * again, hostile vocabularies, and time that grows with the text. SentencePiece and tokenizer.json
 * have test files of their own. */
#include "base/rng.h"
#include "tests/unit/vocabularies.h"
#include "text/pretokenizer.h"

static const struct encode_options plain = {0};
static const struct encode_options special = {.parse_special = true};

static const char *const words[][2] = {{"h", "e"},   {"l", "l"}, {"he", "ll"}, {"hell", "o"},
                                       {"Ġ", "w"},   {"o", "r"}, {"Ġw", "or"}, {"a", "a"},
                                       {"aa", "aa"}, {"l", "d"}, {"Ġ", "Ġ"},   {NULL, NULL}};

static void add_specials(struct vocab *vocab)
{
    add_token(vocab, "<|im_end|>", TOKEN_CONTROL, 0);
    add_token(vocab, "<a>", TOKEN_CONTROL, 0);
    add_token(vocab, "<a>b", TOKEN_CONTROL, 0);
    add_token(vocab, "<tool>", TOKEN_ADDED, 0);
}

static struct tokenizer *example(const char *pre)
{
    struct vocab vocab;
    byte_level_vocab(&vocab, pre, words);
    add_specials(&vocab);
    vocab.bos = 256 + 12; /* <a> */
    vocab.add_bos = true;
    return make(&vocab);
}

/* ---- bytes ---- */

static void bytes_are_tokens(void **state)
{
    (void)state;
    struct vocab vocab = {.kind = VOCAB_BYTES, .bos = 256, .eos = 256, .unknown = -1};
    char text[512];
    size_t len;
    int n;
    for (int i = 0; i < 256; i++)
        add_token(&vocab, "", TOKEN_TEXT, 0);
    add_token(&vocab, "<|end|>", TOKEN_CONTROL, 0);
    vocab.add_bos = true;
    struct tokenizer *t = make(&vocab);
    for (int i = 0; i < 512; i++)
        text[i] = (char)(i * 7);
    assert_comes_back(t, text, sizeof text, &special);
    assert_encodes(t, "a<|end|>b", &special, "a|<|end|>|b");
    assert_encodes(t, "<|end|>", &plain, "<|||e|n|d|||>");
    assert_encodes(t, "a", &(struct encode_options){.add_special = true}, "<|end|>|a");
    assert_int_equal(tokenizer_vocab(t), 257);
    assert_int_equal(tokenizer_special(t, "<|end|>", 7), 256);
    assert_int_equal(tokenizer_ends(t, &n)[0], 256);
    assert_int_equal(n, 1);
    for (int i = 0; i < 4; i++) {
        static const int32_t others[] = {-1, INT32_MIN, 257, INT32_MAX};
        assert_non_null(tokenizer_bytes(t, -1, others[i], &len));
        assert_int_equal(len, 0);
    }
    tokenizer_free(t);
}

/* ---- byte-level BPE ---- */

static void merges_by_rank(void **state)
{
    (void)state;
    struct tokenizer *t = example("gpt-2");
    assert_encodes(t, "hello world", &plain, "hello| wor|ld");
    assert_encodes(t, "aaaaaaa", &plain, "aaaa|aa|a");
    assert_encodes(t, "hell", &plain, "hell");
    assert_encodes(t, "   world", &plain, "  | wor|ld");
    assert_encodes(t, "", &plain, "");
    assert_encodes(t, "hello", &(struct encode_options){.add_special = true}, "<a>|hello");
    tokenizer_free(t);
}

/* Long pieces go another way than short ones: to the same end. */
static void long_pieces_merge_alike(void **state)
{
    (void)state;
    struct tokenizer *t = example("gpt-2");
    for (int len = 1; len < 300; len++) {
        char text[300];
        for (int i = 0; i < len; i++)
            text[i] = 'a';
        struct tokens tokens = encode(t, text, (size_t)len, &plain);
        assert_int_equal(tokens.n, len / 4 + len % 4 / 2 + len % 2);
        free(tokens.ids);
    }
    tokenizer_free(t);
}

/* Merges at random between texts of a, b and c. */
static struct tokenizer *random_merges(uint64_t seed)
{
    enum { MOST = 80 };
    struct vocab vocab;
    char texts[MOST][32] = {"a", "b", "c"};
    byte_level_vocab(&vocab, "gpt-2", NULL);
    for (int n = 3; n < MOST;) {
        const char *left = texts[rng_below(seed, (uint64_t)n, 0, (uint64_t)n)];
        const char *right = texts[rng_below(seed, (uint64_t)n, 1, (uint64_t)n)];
        if (strlen(left) + strlen(right) > 12)
            right = left = texts[n % 3];
        add_merge(&vocab, left, right);
        snprintf(texts[n], sizeof texts[n], "%s%s", left, right);
        add_token(&vocab, texts[n++], TOKEN_TEXT, 0);
    }
    return make(&vocab);
}

/* A letter that merges with none makes of one long piece many short ones. */
static void long_pieces_are_short_ones_together(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct tokenizer *t = random_merges(seed);
        struct tokens expected = {0};
        struct err err;
        char text[400];
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = i % 40 == 39 ? 'z' : "abc"[rng_below(seed, 1, i, 3)];
        for (size_t i = 0; i < sizeof text; i += 40)
            assert_ok(tokenizer_encode(t, text + i, 40, &plain, &expected, &err), err);
        struct tokens tokens = encode(t, text, sizeof text, &plain);
        assert_int_equal(tokens.n, expected.n);
        assert_memory_equal(tokens.ids, expected.ids, tokens.n * sizeof *tokens.ids);
        free(tokens.ids);
        free(expected.ids);
        tokenizer_free(t);
    }
}

/* Shows the pieces: with ignore_merges a piece that is a token is that token. */
static void pieces_of(const char *pre, const char *text, const char *expected)
{
    static const struct {
        const char *text, *token;
    } pieces[] = {{"123", "123"}, {"456", "456"},     {"12", "12"},      {"it", "it"},
                  {"'s", "'s"},   {"'S", "'S"},       {" the", "Ġthe"},  {"\n\n", "ĊĊ"},
                  {"  ", "ĠĠ"},   {"HELLO", "HELLO"}, {"World", "World"}};
    struct vocab vocab;
    byte_level_vocab(&vocab, pre, NULL);
    vocab.rules.ignore_merges = true;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        add_token(&vocab, pieces[i].token, TOKEN_TEXT, 0);
    struct tokenizer *t = make(&vocab);
    assert_encodes(t, text, &plain, expected);
    tokenizer_free(t);
}

static void pieces_are_those_of_the_name(void **state)
{
    (void)state;
    pieces_of("gpt-2", "it's 123", "it|'s| |1|2|3");
    pieces_of("gpt-2", "123", "123");
    pieces_of("smollm", "123", "1|2|3");
    pieces_of("qwen2", "123", "1|2|3");
    pieces_of("qwen2", "it'S the", "it|'S| the");
    pieces_of("gpt-2", "it'S", "it|'|S");
    pieces_of("llama-bpe", "123456", "123|456");
    pieces_of("llama3", "12345612", "123|456|12");
    pieces_of("deepseek-v3", "12312", "123|12");
    pieces_of("tekken", "123", "1|2|3");
    pieces_of("tekken", "HELLOWorld", "H|E|L|L|O|W|o|r|l|d");
    pieces_of("qwen2", "it\n\nit", "it|\n\n|it");
    pieces_of("gpt-2", "it   it", "it|  | |i|t");
    assert_null(pretokenizer_find("bert", 4));
}

/* U+180E is no white space (it was, before Unicode 6.3): a letter takes it along into its piece,
 * where they merge here. U+2003 is, and also goes before a letter; between letters of other
 * pieces it shows in what \s+(?!\S) leaves. */
static void white_space_is_unicodes(void **state)
{
    (void)state;
    static const char *const merges[][2] = {{"Ġ", "á"}, {"Ġ", "â"}, {NULL, NULL}};
    struct vocab vocab;
    byte_level_vocab(&vocab, "gpt-2", merges);
    struct tokenizer *t = make(&vocab);
    /* " ?[^\s...]+" takes the space and U+180E together, but not the space and U+2003. */
    assert_encodes(t, "a \xe1\xa0\x8ex", &plain, "a| \xe1|\xa0|\x8e|x");
    assert_encodes(t, "a \xe2\x80\x83x", &plain, "a| |\xe2|\x80|\x83|x");
    tokenizer_free(t);
}

static void qwen_normalises(void **state)
{
    (void)state;
    struct vocab vocab;
    byte_level_vocab(&vocab, "qwen2", NULL);
    struct tokenizer *t = make(&vocab);
    struct tokens tokens = encode(t, "e\xcc\x81", 3, &plain);
    assert_int_equal(tokens.n, 2);
    assert_int_equal(tokens.ids[0], 0xc3);
    assert_int_equal(tokens.ids[1], 0xa9);
    free(tokens.ids);
    tokenizer_free(t);
    byte_level_vocab(&vocab, "llama-bpe", NULL);
    t = make(&vocab);
    tokens = encode(t, "e\xcc\x81", 3, &plain);
    assert_int_equal(tokens.n, 3);
    free(tokens.ids);
    tokenizer_free(t);
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt-2", "smollm", "llama-bpe", "tekken", "deepseek-v3"};
    for (int i = 0; i < 5; i++) {
        struct tokenizer *t = example(names[i]);
        for (uint64_t round = 0; round < 300; round++) {
            char text[200];
            size_t len = rng_below(1, round, 0, sizeof text);
            /* Bytes of characters in wrong order are more often almost right than any bytes. */
            static const char some[] = "\xe4\xb8\xad\xf0\x9f\x98\x80\xc3\xa9 a1'\n<|>\xff\x80\xcc";
            for (size_t k = 0; k < len; k++)
                text[k] = round % 2 ? (char)rng_below(2, round, k, 256)
                                    : some[rng_below(3, round, k, sizeof some)];
            assert_comes_back(t, text, len, &plain);
        }
        tokenizer_free(t);
    }
}

/* Bytes that are no UTF-8 and stand together are one piece, apart from what is. */
static void wrong_bytes_are_a_piece(void **state)
{
    (void)state;
    static const char *const merges[][2] = {{"ÿ", "ÿ"}, {"ÿ", "a"}, {NULL, NULL}};
    struct vocab vocab;
    byte_level_vocab(&vocab, "gpt-2", merges);
    struct tokenizer *t = make(&vocab);
    assert_encodes(t,
                   "\xff\xff\xff"
                   "a",
                   &plain, "\xff\xff|\xff|a");
    tokenizer_free(t);
}

/* ---- special tokens ---- */

static void specials_leftmost_longest(void **state)
{
    (void)state;
    struct tokenizer *t = example("gpt-2");
    assert_encodes(t, "a<|im_end|>a", &special, "a|<|im_end|>|a");
    assert_encodes(t, "<a>bb<a>", &special, "<a>b|b|<a>");
    assert_encodes(t, "<a><a><tool>", &special, "<a>|<a>|<tool>");
    assert_encodes(t, "<|im_end<a>", &special, "<|||i|m|_|e|n|d|<a>");
    /* Added tokens are found in any text, control tokens are not. */
    assert_encodes(t, "<a><tool>", &plain, "<|a|>|<tool>");
    assert_int_equal(tokenizer_special(t, "<a>", 3), 256 + 12);
    assert_int_equal(tokenizer_special(t, "<a", 2), -1);
    assert_int_equal(tokenizer_special(t, "hello", 5), -1);
    tokenizer_free(t);
}

static void literal_text_is_text(void **state)
{
    (void)state;
    struct tokenizer *t = example("gpt-2");
    static const char text[] = "<a>x<a>y<a>b";
    struct text_range ranges[2] = {{3, 8}, {11, 12}};
    struct encode_options o = {.parse_special = true, .literal = ranges, .n_literal = 1};
    assert_encodes(t, text, &o, "<a>|x|<|a|>|y|<a>b");
    /* The longest one is partly literal: the shorter one is not. */
    o.n_literal = 2;
    assert_encodes(t, text, &o, "<a>|x|<|a|>|y|<a>|b");
    /* A token that is literal in its first, middle or last byte alone is none. */
    for (size_t i = 0; i < 3; i++) {
        ranges[0] = (struct text_range){i, i + 1};
        o.n_literal = 1;
        assert_encodes(t, "<a>", &o, "<|a|>");
    }
    ranges[0] = (struct text_range){1, 1}; /* empty */
    assert_encodes(t, "<a>", &o, "<a>");
    ranges[0] = (struct text_range){0, 6};
    assert_encodes(t, "<tool>", &o, "<tool>"); /* added tokens are the model's way to write text */
    tokenizer_free(t);
}

/* Tokens that are sought in the normalised text: where that is longer or shorter, places in it are
 * not those of the text, and in a part that is literal anywhere there are no such tokens. */
static void literal_where_text_is_normalised(void **state)
{
    (void)state;
    struct vocab vocab;
    byte_level_vocab(&vocab, "qwen2", NULL);
    add_token(&vocab, "<n>", TOKEN_CONTROL, 0);
    vocab.tokens[256].normalized = true;
    add_token(&vocab, "<m>", TOKEN_CONTROL, 0);
    struct tokenizer *t = make(&vocab);
    struct text_range range = {0, 3};
    struct encode_options o = {.parse_special = true, .literal = &range, .n_literal = 1};
    assert_encodes(t, "<n><n>", &o, "<|n|>|<n>");
    assert_encodes(t, "<n>e\xcc\x81<n>", &o, "<|n|>|\xc3|\xa9|<|n|>");
    assert_encodes(t, "<n><m>e\xcc\x81<n>", &o, "<|n|>|<m>|\xc3|\xa9|<n>");
    range = (struct text_range){6, 9};
    assert_encodes(t, "<n><m><n><n>", &o, "<n>|<m>|<|n|>|<n>");
    range = (struct text_range){12, 15}; /* U+0958 grows to six bytes */
    assert_encodes(t, "\xe0\xa5\x98\xe0\xa5\x98<n><m>abc", &o,
                   "\xe0|\xa4|\x95|\xe0|\xa4|\xbc|\xe0|\xa4|\x95|\xe0|\xa4|\xbc|<n>|<m>|a|b|c");
    tokenizer_free(t);
}

static void flags_of_added_tokens(void **state)
{
    (void)state;
    struct vocab vocab;
    byte_level_vocab(&vocab, "gpt-2", NULL);
    add_token(&vocab, "<l>", TOKEN_CONTROL, 0);
    vocab.tokens[256].lstrip = true;
    add_token(&vocab, "<r>", TOKEN_CONTROL, 0);
    vocab.tokens[257].rstrip = true;
    add_token(&vocab, "word", TOKEN_ADDED, 0);
    vocab.tokens[258].single_word = true;
    add_token(&vocab, "<n>", TOKEN_CONTROL, 0);
    vocab.tokens[259].normalized = true;
    struct tokenizer *t = make(&vocab);
    assert_encodes(t, "a \n<l> b", &special, "a|<l>| |b");
    assert_encodes(t, "a <r>\xe3\x80\x80 b", &special, "a| |<r>|b");
    assert_encodes(t, "a word, swords", &special, "a| |word|,| |s|w|o|r|d|s");
    assert_encodes(t, "word\xc3\xa9", &special, "w|o|r|d|\xc3|\xa9");
    assert_encodes(t, "a<n><l>", &special, "a|<n>|<l>");
    tokenizer_free(t);
}

static void ends_by_name(void **state)
{
    (void)state;
    struct vocab vocab;
    int n;
    byte_level_vocab(&vocab, "gpt-2", NULL);
    add_token(&vocab, "</s>", TOKEN_TEXT, 0); /* text: no end */
    add_token(&vocab, "<|eot_id|>", TOKEN_CONTROL, 0);
    add_token(&vocab, "<|im_start|>", TOKEN_CONTROL, 0);
    vocab.eos = 258;
    vocab.ends[vocab.n_ends++] = 65;
    struct tokenizer *t = make(&vocab);
    const int32_t *ends = tokenizer_ends(t, &n);
    assert_int_equal(n, 3);
    assert_int_equal(ends[0], 65);
    assert_int_equal(ends[1], 258);
    assert_int_equal(ends[2], 257);
    tokenizer_free(t);
    /* Where there are ends of parts, <|end|> is one. */
    byte_level_vocab(&vocab, "gpt-2", NULL);
    add_token(&vocab, "<|end|>", TOKEN_CONTROL, 0);
    add_token(&vocab, "<|return|>", TOKEN_CONTROL, 0);
    add_token(&vocab, "<|call|>", TOKEN_CONTROL, 0);
    t = make(&vocab);
    ends = tokenizer_ends(t, &n);
    assert_int_equal(n, 2);
    assert_true(ends[0] != 256 && ends[1] != 256);
    tokenizer_free(t);
}

/* ---- hostile vocabularies ---- */

static void refuses_what_cannot_be(void **state)
{
    (void)state;
    struct vocab vocab = {.kind = VOCAB_BPE, .bos = -1, .eos = -1, .unknown = -1};
    refuse(&vocab, "0 tokens are too few");
    byte_level_vocab(&vocab, "gpt-2", NULL);
    vocab.bos = 256;
    refuse(&vocab, "the bos token is 256");
    byte_level_vocab(&vocab, "gpt-2", NULL);
    vocab.unknown = -2;
    refuse(&vocab, "the unknown token is -2");
    byte_level_vocab(&vocab, "gpt-2", NULL);
    vocab.ends[vocab.n_ends++] = -1;
    refuse(&vocab, "ending token");
    byte_level_vocab(&vocab, "gpt-2", NULL);
    vocab.add_bos = true;
    refuse(&vocab, "none is named");
    byte_level_vocab(&vocab, "bert", NULL);
    refuse(&vocab, "'bert' is not known; known are gpt-2");
    byte_level_vocab(&vocab, NULL, NULL);
    refuse(&vocab, "names no pre-tokenizer");
    vocab = (struct vocab){.kind = VOCAB_BPE, .bos = -1, .eos = -1, .unknown = -1};
    vocab.rules.pre = "gpt-2";
    add_token(&vocab, "", TOKEN_TEXT, 0);
    add_token(&vocab, "ab", TOKEN_TEXT, 0);
    refuse(&vocab, "a single byte");
    byte_level_vocab(&vocab, "gpt-2", NULL);
    add_merge(&vocab, "x", "y");
    refuse(&vocab, "another vocabulary");
}

/* What real vocabularies have: some merges that lead nowhere, tokens of one text, empty ones. */
static void bears_oddities(void **state)
{
    (void)state;
    struct vocab vocab;
    byte_level_vocab(&vocab, "gpt-2", words);
    add_merge(&vocab, "x", "y");
    add_merge(&vocab, "", "y");
    add_merge(&vocab, "\xff", "y");
    add_token(&vocab, "hello", TOKEN_TEXT, 0);
    add_token(&vocab, "", TOKEN_CONTROL, 0);
    add_token(&vocab, "", TOKEN_TEXT, 0);
    add_token(&vocab, "\xe4\xb8\xad", TOKEN_TEXT, 0); /* not written in GPT-2's characters */
    add_token(&vocab, "[PAD]", TOKEN_UNUSED, 0);
    struct tokenizer *t = make(&vocab);
    assert_encodes(t, "hello xy[PAD]\xe4\xb8\xad", &special,
                   "hello| |x|y|[|P|A|D|]|\xe4|\xb8|\xad");
    tokenizer_free(t);
}

static void a_missing_byte_is_left_out(void **state)
{
    (void)state;
    struct vocab vocab = {.kind = VOCAB_BPE, .bos = -1, .eos = -1, .unknown = 1};
    vocab.rules.pre = "gpt-2";
    add_token(&vocab, "a", TOKEN_TEXT, 0);
    add_token(&vocab, "<|endoftext|>", TOKEN_CONTROL, 0);
    struct tokenizer *t = make(&vocab);
    assert_encodes(t, "abca", &plain, "a|a");
    tokenizer_free(t);
}

/* ---- time ---- */

/* Each of these would take hours in quadratic time. */
static void time_grows_with_the_text(void **state)
{
    (void)state;
    enum { LEN = 1 << 20 };
    static const char *const units[] = {"a",    " ",   "\n ",          "<", "A", "\xcd\x85\xcc\x81",
                                        "\xff", "<a>", "\xe4\xb8\xad", "1", "'", "\r"};
    static const char *const names[] = {"qwen2", "llama-bpe", "tekken", "deepseek-v3", "smollm"};
    char *text = malloc(LEN);
    assert_non_null(text);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        struct tokenizer *t = example(names[n]);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t unit = strlen(units[u]);
            for (size_t i = 0; i < LEN; i++)
                text[i] = units[u][i % unit];
            struct tokens tokens = encode(t, text, LEN, u % 2 ? &special : &plain);
            assert_true(tokens.n > 0);
            free(tokens.ids);
        }
        tokenizer_free(t);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_tokens),
        cmocka_unit_test(merges_by_rank),
        cmocka_unit_test(long_pieces_merge_alike),
        cmocka_unit_test(long_pieces_are_short_ones_together),
        cmocka_unit_test(pieces_are_those_of_the_name),
        cmocka_unit_test(white_space_is_unicodes),
        cmocka_unit_test(qwen_normalises),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(wrong_bytes_are_a_piece),
        cmocka_unit_test(specials_leftmost_longest),
        cmocka_unit_test(literal_text_is_text),
        cmocka_unit_test(literal_where_text_is_normalised),
        cmocka_unit_test(flags_of_added_tokens),
        cmocka_unit_test(ends_by_name),
        cmocka_unit_test(refuses_what_cannot_be),
        cmocka_unit_test(bears_oddities),
        cmocka_unit_test(a_missing_byte_is_left_out),
        cmocka_unit_test(time_grows_with_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
