/* Files of tokens: what was written is read, a torn end is cut off and written over, and nothing
 * that is not such a file is taken for one. And which texts are loops or repeats. */
#include "text/text_file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "tests/unit/unit.h"
#include "train/repeats.h"

#define VOCAB 1000

static struct folder folder;
static char path[4096];

static int make(void **state)
{
    (void)state;
    folder_make(&folder);
    snprintf(path, sizeof path, "%s/texts", folder.path);
    return 0;
}

static int clear(void **state)
{
    (void)state;
    folder_remove(&folder);
    return 0;
}

/* Text i has 3 i tokens, text 2 was dropped. */
static void write_texts(struct text_writer *w, uint32_t first, uint32_t end)
{
    struct err err;
    int32_t tokens[300];
    for (uint32_t i = first; i < end; i++) {
        struct text_record r = {i, i, i == 2 ? 0 : 3 * i, tokens};
        r.prompt = r.n ? r.prompt : 0;
        for (uint32_t j = 0; j < r.n; j++)
            tokens[j] = (int32_t)rng_below(7, i, j, VOCAB);
        assert_ok(text_writer_add(w, &r, &err), err);
    }
}

static void check_texts(const struct text_file *f, uint32_t n)
{
    size_t at = 0, all = 0;
    struct text_record r = {0};
    for (uint32_t i = 0; i < n; i++) {
        assert_true(text_file_next(f, &at, &r));
        assert_int_equal(r.number, i);
        assert_int_equal(r.n, i == 2 ? 0 : 3 * i);
        assert_int_equal(r.prompt, i == 2 ? 0 : i);
        for (uint32_t j = 0; j < r.n; j++)
            assert_int_equal(r.tokens[j], rng_below(7, i, j, VOCAB));
        all += r.n;
    }
    assert_false(text_file_next(f, &at, &r));
    assert_int_equal(f->n_tokens, all);
    assert_int_equal(f->next, n);
    assert_int_equal(f->vocab, VOCAB);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct err err;
    struct text_writer w;
    struct text_file f;
    assert_ok(text_writer_open(&w, path, VOCAB, NULL, &err), err);
    write_texts(&w, 0, 20);
    assert_ok(text_writer_close(&w, &err), err);
    assert_ok(text_file_read(&f, path, &err), err);
    check_texts(&f, 20);
    text_file_release(&f);
}

/* Cut at any byte, the file reads as its whole records, and goes on to what it would have been. */
static void test_torn_end(void **state)
{
    (void)state;
    struct err err;
    struct text_writer w;
    struct text_file f;
    for (long cut = 0; cut < 300; cut += 7) {
        assert_ok(text_writer_open(&w, path, VOCAB, NULL, &err), err);
        write_texts(&w, 0, 12);
        long size = ftell(w.file);
        assert_ok(text_writer_close(&w, &err), err);
        assert_int_equal(truncate(path, size - cut), 0);
        assert_ok(text_file_read(&f, path, &err), err);
        assert_true(cut ? f.next < 12 : f.next == 12);
        assert_ok(text_writer_open(&w, path, VOCAB, &f, &err), err);
        write_texts(&w, f.next, 12);
        text_file_release(&f);
        assert_ok(text_writer_close(&w, &err), err);
        assert_ok(text_file_read(&f, path, &err), err);
        check_texts(&f, 12);
        text_file_release(&f);
    }
}

static void flip(long at)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, at, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(byte ^ 16, file);
    fclose(file);
}

/* A record whose bytes are not what was written ends the file. */
static void test_flipped_bytes(void **state)
{
    (void)state;
    struct err err;
    struct text_writer w;
    struct text_file f;
    for (long at = 20; at < 20 + 16 * 4; at++) { /* texts 0 and 1, 2, and the head of 3 */
        assert_ok(text_writer_open(&w, path, VOCAB, NULL, &err), err);
        write_texts(&w, 0, 6);
        assert_ok(text_writer_close(&w, &err), err);
        flip(at);
        assert_ok(text_file_read(&f, path, &err), err);
        assert_true(f.next < 4);
        text_file_release(&f);
    }
}

static void refuse(const char *bytes, size_t n, const char *says)
{
    struct err err;
    struct text_file f;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(bytes, 1, n, file);
    fclose(file);
    assert_int_equal(text_file_read(&f, path, &err), ERR_INVALID);
    assert_says(err, says);
}

static void test_refused(void **state)
{
    (void)state;
    struct err err;
    struct text_file f;
    struct text_writer w;
    refuse("", 0, "is no text of headway's");
    refuse("headway-text\1\0\0\0", 16, "is no text of headway's");
    refuse("headway-text\1\0\0\0\0\0\0\0", 20, "is no text of headway's");
    refuse("headway-text\2\0\0\0\5\0\0\0", 20, "is no text of headway's");
    assert_int_equal(text_file_read(&f, "/nowhere/texts", &err), ERR_IO);
    int32_t beyond[] = {1, VOCAB};
    assert_ok(text_writer_open(&w, path, VOCAB, NULL, &err), err);
    assert_ok(text_writer_add(&w, &(struct text_record){0, 0, 2, beyond}, &err), err);
    assert_ok(text_writer_close(&w, &err), err);
    assert_int_equal(text_file_read(&f, path, &err), ERR_INVALID);
    assert_says(err, "text 0 has token 1000, but the vocabulary has 1000");
}

static void test_loops(void **state)
{
    (void)state;
    int32_t t[400];
    for (int i = 0; i < 400; i++)
        t[i] = (int32_t)rng_below(3, 0, (uint64_t)i, VOCAB);
    assert_false(text_loops(t, 400));
    assert_false(text_loops(t, 0));
    assert_false(text_loops(t, 3));
    for (int i = 180; i < 400; i++)
        t[i] = t[i - 30]; /* 150 + 30 new ones, then the same 30 again and again */
    assert_true(text_loops(t, 400));
    assert_false(text_loops(t, 250));
}

static void test_repeats(void **state)
{
    (void)state;
    struct err err;
    struct seen_text seen = {0};
    int32_t t[6000];
    for (int i = 0; i < 6000; i++)
        t[i] = (int32_t)rng_below(3, 1, (uint64_t)i, VOCAB);
    assert_true(seen_text_share(&seen, t, 500) == 0);
    assert_ok(seen_text_add(&seen, t, 5000, &err), err);
    assert_true(seen_text_share(&seen, t, 5000) == 1);
    assert_true(seen_text_share(&seen, t + 5000, 1000) == 0);
    double half = seen_text_share(&seen, t + 4500, 1000);
    assert_true(half > 0.45 && half < 0.55);
    assert_true(seen_text_share(&seen, t, 7) == 0);
    seen_text_release(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_torn_end),
        cmocka_unit_test(test_flipped_bytes), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_loops),         cmocka_unit_test(test_repeats),
    };
    return cmocka_run_group_tests(tests, make, clear);
}
