/* tokenizer.model: a model written here field by field is read, what is not supported is refused by
 * name, and no damage makes the reader stumble. */
#include "text/sentencepiece_model.h"

#include "base/buf.h"
#include "base/rng.h"
#include "tests/unit/unit.h"
#include "text/tokenizer.h"

/* ---- a protocol buffer ---- */

static void put_number(struct buf *b, uint64_t x)
{
    for (; x >= 128; x >>= 7)
        buf_append(b, &(unsigned char){(unsigned char)(x | 128)}, 1);
    buf_append(b, &(unsigned char){(unsigned char)x}, 1);
}

static void put_int(struct buf *b, unsigned field, uint64_t x)
{
    put_number(b, field << 3);
    put_number(b, x);
}

static void put_bytes(struct buf *b, unsigned field, const void *bytes, size_t n)
{
    put_number(b, field << 3 | 2);
    put_number(b, n);
    buf_append(b, bytes, n);
}

static void put_piece(struct buf *b, const char *text, float score, unsigned type)
{
    struct buf piece = {0};
    put_bytes(&piece, 1, text, strlen(text));
    put_number(&piece, 2 << 3 | 5);
    buf_append(&piece, &score, sizeof score);
    put_int(&piece, 3, type);
    put_bytes(b, 1, piece.data, piece.len);
    buf_release(&piece);
}

/* Llama 2's shape, small: <unk>, <s>, </s>, 256 bytes, then pieces. */
static struct buf model(unsigned kind, bool squeeze)
{
    static const char *const pieces[] = {"\342\226\201", "a", "b", "ab", "\342\226\201ab"};
    struct buf b = {0}, trainer = {0}, normalizer = {0};
    char byte[8];
    put_piece(&b, "<unk>", 0, 2);
    put_piece(&b, "<s>", 0, 3);
    put_piece(&b, "</s>", 0, 3);
    for (unsigned i = 0; i < 256; i++) {
        snprintf(byte, sizeof byte, "<0x%02X>", i);
        put_piece(&b, byte, 0, 6);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        put_piece(&b, pieces[i], -(float)(sizeof pieces / sizeof *pieces - i), 1);
    put_int(&trainer, 3, kind);
    put_int(&trainer, 35, 1);
    put_bytes(&trainer, 99, "unknown field", 13);
    put_bytes(&b, 2, trainer.data, trainer.len);
    put_int(&normalizer, 3, 1);
    put_int(&normalizer, 4, squeeze);
    put_bytes(&b, 3, normalizer.data, normalizer.len);
    buf_release(&trainer);
    buf_release(&normalizer);
    return b;
}

static int parse(const struct buf *b, size_t n, struct vocab *vocab, struct err *err)
{
    *vocab = (struct vocab){0};
    return sentencepiece_model_parse(vocab, b->data, n, "here", err);
}

static void tokens_come_out(void **state)
{
    (void)state;
    static const int32_t right[] = {1, 263, 261, 3 + 'x'};
    struct buf b = model(2, false);
    struct vocab vocab;
    struct tokenizer *t;
    struct tokens tokens = {0};
    struct encode_options whole = {.add_special = true};
    struct err err;
    assert_ok(parse(&b, b.len, &vocab, &err), err);
    assert_int_equal(vocab.n_tokens, 264);
    assert_int_equal(vocab.unknown, 0);
    assert_true(vocab.rules.byte_fallback && vocab.rules.add_space_prefix && vocab.add_bos);
    assert_ok(tokenizer_init(&t, &vocab, &err), err);
    assert_ok(tokenizer_encode(t, "abbx", 4, &whole, &tokens, &err), err);
    assert_int_equal(tokens.n, 4);
    assert_memory_equal(tokens.ids, right, sizeof right);
    assert_int_equal(tokenizer_eos(t), 2);
    free(tokens.ids);
    tokenizer_free(t);
    buf_release(&b);
}

static void other_kinds_are_refused(void **state)
{
    (void)state;
    struct vocab vocab;
    struct err err;
    struct buf unigram = model(1, false), squeezes = model(2, true);
    assert_int_equal(parse(&unigram, unigram.len, &vocab, &err), ERR_INVALID);
    assert_says(err, "only BPE");
    assert_int_equal(parse(&squeezes, squeezes.len, &vocab, &err), ERR_INVALID);
    assert_says(err, "white space");
    buf_release(&unigram);
    buf_release(&squeezes);
}

static void damage_is_survived(void **state)
{
    (void)state;
    struct buf b = model(2, false);
    struct vocab vocab;
    struct err err;
    for (size_t n = 0; n < b.len; n++)
        if (!parse(&b, n, &vocab, &err))
            vocab_release(&vocab);
    for (uint64_t i = 0; i < 20000; i++) {
        size_t at = rng_below(1, 1, i, b.len);
        char kept = b.data[at];
        b.data[at] = (char)rng_below(1, 2, i, 256);
        if (!parse(&b, b.len, &vocab, &err))
            vocab_release(&vocab);
        b.data[at] = kept;
    }
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_come_out),
        cmocka_unit_test(other_kinds_are_refused),
        cmocka_unit_test(damage_is_survived),
    };
    return cmocka_run_group_tests_name("sentencepiece_model", tests, NULL, NULL);
}
