/* The byte tokenizer: any bytes come back, special tokens give none. */
#include "text/vocab.h"

#include "tests/unit/unit.h"

static const struct config config = {.vocab = 272, .bos = BYTE_TOKEN_END, .eos = BYTE_TOKEN_END};

static void bytes_come_back(void **state)
{
    (void)state;
    struct tokenizer t;
    struct err err;
    char text[512];
    int32_t tokens[512];
    for (int i = 0; i < 512; i++)
        text[i] = (char)(i * 7);
    assert_ok(tokenizer_open(&t, "/nowhere", &config, &err), err);
    assert_int_equal(t.vocab, 272);
    assert_int_equal(t.bos, BYTE_TOKEN_END);
    assert_int_equal(tokenizer_encode(&t, text, 512, NULL, 0), 512);
    tokens[10] = -5;
    assert_int_equal(tokenizer_encode(&t, text, 512, tokens, 10), 512);
    assert_int_equal(tokens[10], -5);
    assert_int_equal(tokenizer_encode(&t, text, 512, tokens, 512), 512);
    for (int i = 0; i < 512; i++) {
        size_t len;
        const char *bytes = tokenizer_bytes(&t, tokens[i], &len);
        assert_int_equal(len, 1);
        assert_int_equal(bytes[0], text[i]);
    }
    tokenizer_release(&t);
}

static void other_tokens_give_nothing(void **state)
{
    (void)state;
    static const int32_t tokens[] = {-1, INT32_MIN, 256, 257, 271, 272, INT32_MAX};
    struct tokenizer t;
    struct err err;
    assert_ok(tokenizer_open(&t, "/nowhere", &config, &err), err);
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        size_t len = 9;
        assert_non_null(tokenizer_bytes(&t, tokens[i], &len));
        assert_int_equal(len, 0);
    }
    tokenizer_release(&t);
}

static void refuses_what_it_cannot_read(void **state)
{
    (void)state;
    struct tokenizer t;
    struct err err;
    struct folder folder;
    struct config small = config;
    small.vocab = BYTE_VOCAB - 1;
    assert_int_equal(tokenizer_open(&t, "/nowhere", &small, &err), ERR_INVALID);
    assert_says(err, "'vocab' is 256");
    folder_make(&folder);
    fclose(fopen(folder_file(&folder, "tokenizer.json"), "w"));
    assert_int_equal(tokenizer_open(&t, folder.path, &config, &err), ERR_INVALID);
    assert_says(err, "tokenizer.json");
    folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_back),
        cmocka_unit_test(other_tokens_give_nothing),
        cmocka_unit_test(refuses_what_it_cannot_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
