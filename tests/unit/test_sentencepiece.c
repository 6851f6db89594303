/* SentencePiece by scores: merges, bytes, the space before a text, any bytes back again. */
#include "base/rng.h"
#include "tests/unit/vocabularies.h"

static const struct encode_options plain = {0};
static const struct encode_options special = {.parse_special = true};

/* Scores as SentencePiece gives them: 0 for the first merge, then -1, -2, ... */
static void vocabulary(struct vocab *vocab, bool prefix)
{
    static const char *const merged[] = {"▁t", "he", "▁the", "ab", "abc", "bc", "▁▁"};
    *vocab = (struct vocab){.kind = VOCAB_SENTENCEPIECE, .bos = 1, .eos = 2, .unknown = 0};
    vocab->rules.add_space_prefix = prefix;
    vocab->rules.byte_fallback = true;
    add_token(vocab, "<unk>", TOKEN_UNKNOWN, 0);
    add_token(vocab, "<s>", TOKEN_CONTROL, 0);
    add_token(vocab, "</s>", TOKEN_CONTROL, 0);
    for (int i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", i);
        add_token(vocab, text, TOKEN_BYTE, 0);
    }
    for (int i = 0; i < 7; i++)
        add_token(vocab, merged[i], TOKEN_TEXT, (float)-i);
    for (const char *c = "abcthe"; *c; c++)
        add_token(vocab, (char[]){*c, 0}, TOKEN_TEXT, -100);
    add_token(vocab, "▁", TOKEN_TEXT, -100);
    add_token(vocab, "tc", TOKEN_TEXT, -50);
    add_token(vocab, "ct", TOKEN_TEXT, -50);
    add_token(vocab, "<added>", TOKEN_ADDED, 0);
}

static void merges_by_score(void **state)
{
    (void)state;
    struct vocab vocab;
    vocabulary(&vocab, true);
    struct tokenizer *t = make(&vocab);
    assert_encodes(t, "the the", &plain, " the| the");
    assert_encodes(t, "abc", &plain, " |abc");
    assert_encodes(t, "bc", &plain, " |bc");
    assert_encodes(t, "ctc", &plain, " |ct|c"); /* of one score: the leftmost */
    assert_encodes(t, "tct", &plain, " t|ct");
    assert_encodes(t, "  the", &plain, "  | the");
    assert_encodes(t, "x\n", &plain, " |x|\n");
    assert_encodes(t, "é", &plain, " |\xc3|\xa9");
    assert_encodes(t, "", &plain, "");
    assert_encodes(t, "<s>the</s><added>a", &special, "<s>| the|</s>|<added>| |a");
    assert_encodes(t, "<unk>", &special, "<unk>");
    assert_encodes(t, "<0x41>", &plain, " |<|0|x|4|1|>");
    tokenizer_free(t);
}

static void the_first_space_is_no_text(void **state)
{
    (void)state;
    struct vocab vocab;
    size_t len;
    vocabulary(&vocab, true);
    struct tokenizer *t = make(&vocab);
    struct tokens tokens = encode(t, "the", 3, &plain);
    assert_int_equal(tokens.n, 1);
    assert_memory_equal(tokenizer_bytes(t, -1, tokens.ids[0], &len), "the", 3);
    assert_int_equal(len, 3);
    assert_memory_equal(tokenizer_bytes(t, 1, tokens.ids[0], &len), "the", 3);
    assert_memory_equal(tokenizer_bytes(t, tokens.ids[0], tokens.ids[0], &len), " the", 4);
    tokenizer_bytes(t, tokenizer_special(t, "<added>", 7), tokens.ids[0], &len);
    assert_int_equal(len, 3);
    tokenizer_bytes(t, -1, 1, &len);
    assert_int_equal(len, 0);
    free(tokens.ids);
    tokenizer_free(t);
    vocabulary(&vocab, false);
    t = make(&vocab);
    assert_encodes(t, "the", &plain, "t|he");
    tokens = encode(t, " the", 4, &plain);
    assert_memory_equal(tokenizer_bytes(t, -1, tokens.ids[0], &len), " the", 4);
    free(tokens.ids);
    tokenizer_free(t);
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    for (int prefix = 0; prefix < 2; prefix++) {
        struct vocab vocab;
        vocabulary(&vocab, prefix);
        struct tokenizer *t = make(&vocab);
        for (uint64_t round = 0; round < 500; round++) {
            char text[200];
            size_t len = rng_below(1, round, 0, sizeof text);
            static const char some[] = " the abc\xc3\xa9\xe2\x96\x80\xff\xf0\x9f";
            for (size_t k = 0; k < len; k++)
                text[k] = round % 2 ? (char)rng_below(2, round, k, 256)
                                    : some[rng_below(3, round, k, sizeof some)];
            /* U+2581 itself is written as the space is, and comes back as one. */
            if (!memmem(text, len, "▁", 3))
                assert_comes_back(t, text, len, &plain);
        }
        tokenizer_free(t);
    }
}

/* A token that goes over the beginning of a word: words cannot be done one by one. */
static void tokens_over_words(void **state)
{
    (void)state;
    struct vocab vocab;
    vocabulary(&vocab, false);
    add_token(&vocab, "a▁", TOKEN_TEXT, 5);
    add_token(&vocab, "a▁b", TOKEN_TEXT, 4);
    struct tokenizer *t = make(&vocab);
    assert_encodes(t, "aa bc", &plain, "a|a b|c");
    tokenizer_free(t);
}

static void without_bytes_the_unknown_token_stands_in(void **state)
{
    (void)state;
    struct vocab vocab;
    vocabulary(&vocab, true);
    vocab.rules.byte_fallback = false;
    struct tokenizer *t = make(&vocab);
    assert_encodes(t, "axyza", &plain, " |a|<unk>|a");
    tokenizer_free(t);
}

static void hostile_vocabularies(void **state)
{
    (void)state;
    struct vocab vocab;
    vocabulary(&vocab, true);
    add_token(&vocab, "<0xZZ>", TOKEN_BYTE, 0);
    refuse(&vocab, "'<0xZZ>' instead of <0xHH>");
    vocabulary(&vocab, true);
    vocab.tokens[260].score = (float)strtod("nan", NULL);
    vocab.tokens[261].score = (float)strtod("inf", NULL);
    struct tokenizer *t = make(&vocab);
    assert_comes_back(t, "the abc", 7, &plain);
    tokenizer_free(t);
}

static void time_grows_with_the_text(void **state)
{
    (void)state;
    enum { LEN = 1 << 20 };
    static const char *const units[] = {"a", " ", "abc", "the ", "\xff", "é"};
    char *text = malloc(LEN);
    assert_non_null(text);
    for (int over = 0; over < 2; over++) {
        struct vocab vocab;
        vocabulary(&vocab, true);
        if (over)
            add_token(&vocab, "a▁", TOKEN_TEXT, 5);
        struct tokenizer *t = make(&vocab);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            for (size_t i = 0; i < LEN; i++)
                text[i] = units[u][i % strlen(units[u])];
            struct tokens tokens = encode(t, text, LEN, &plain);
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
        cmocka_unit_test(merges_by_score),
        cmocka_unit_test(the_first_space_is_no_text),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(tokens_over_words),
        cmocka_unit_test(without_bytes_the_unknown_token_stands_in),
        cmocka_unit_test(hostile_vocabularies),
        cmocka_unit_test(time_grows_with_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
