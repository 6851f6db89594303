/* The training text: bytes become tokens, NULs become ends, and files that cannot serve are refused
 * with their size. */
#include "train/corpus.h"

#include "tests/unit/unit.h"
#include "text/vocab.h"

static void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void every_byte_is_its_token(void **state)
{
    (void)state;
    struct folder folder;
    struct corpus corpus;
    struct err err;
    unsigned char bytes[300];
    int32_t tokens[300];
    for (int i = 0; i < 300; i++)
        bytes[i] = (unsigned char)i;
    folder_make(&folder);
    write_file(folder_file(&folder, "text"), bytes, sizeof bytes);
    assert_ok(corpus_open(&corpus, folder.file, sizeof bytes, &err), err);
    assert_int_equal(corpus.size, 300);
    corpus_tokens(&corpus, 0, 300, tokens);
    for (int i = 0; i < 300; i++)
        assert_int_equal(tokens[i], i % 256 ? i % 256 : BYTE_TOKEN_END);
    folder_remove(&folder); /* the mapping stays */
    for (size_t at = 0; at <= 300; at++) {
        size_t n = 300 - at < 7 ? 300 - at : 7;
        tokens[n] = -5;
        corpus_tokens(&corpus, at, n, tokens);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(tokens[i], bytes[at + i] ? bytes[at + i] : BYTE_TOKEN_END);
        assert_int_equal(tokens[n], -5);
    }
    corpus_release(&corpus);
    corpus_release(&corpus);
    assert_null(corpus.bytes);
}

static void refuses_what_is_too_short(void **state)
{
    (void)state;
    struct folder folder;
    struct corpus corpus;
    struct err err;
    folder_make(&folder);
    write_file(folder_file(&folder, "text"), "0123456789", 10);
    assert_int_equal(corpus_open(&corpus, folder.file, 11, &err), ERR_INVALID);
    assert_says(err, folder.file);
    assert_says(err, "holds 10 bytes");
    assert_says(err, "takes 11");
    assert_says(err, "--context");
    assert_null(corpus.bytes);
    corpus_release(&corpus);
    assert_int_equal(corpus_open(&corpus, folder.file, SIZE_MAX, &err), ERR_INVALID);
    write_file(folder.file, "", 0);
    assert_int_equal(corpus_open(&corpus, folder.file, 1, &err), ERR_INVALID);
    assert_says(err, "holds 0 bytes");
    folder_remove(&folder);
}

static void refuses_what_is_no_file(void **state)
{
    (void)state;
    struct folder folder;
    struct corpus corpus;
    struct err err;
    folder_make(&folder);
    assert_int_equal(corpus_open(&corpus, folder_file(&folder, "none"), 1, &err), ERR_IO);
    assert_says(err, folder.file);
    assert_says(err, "No such file");
    assert_int_equal(corpus_open(&corpus, folder.path, 1, &err), ERR_INVALID);
    assert_says(err, folder.path);
    assert_int_equal(corpus_open(&corpus, "/dev/zero", 1, &err), ERR_INVALID);
    assert_says(err, "/dev/zero");
    folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_its_token),
        cmocka_unit_test(refuses_what_is_too_short),
        cmocka_unit_test(refuses_what_is_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
