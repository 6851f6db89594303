/* The look-up drafter against a search that tries every earlier place. */
#include "tests/unit/unit.h"

#include <time.h>

#include "engine/lookup.h"

static uint64_t seed = 1;

static uint32_t below(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % n);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The longest suffix of t[0..n) that also ends before n-1, and the last place where it does. */
static int longest(const int32_t *t, int n, int *end)
{
    int best = 0;
    for (int e = n - 2; e >= 0; e--) {
        int len = 0;
        while (len <= e && t[e - len] == t[n - 1 - len])
            len++;
        if (len > best) {
            best = len;
            *end = e;
        }
    }
    return best;
}

/* Random letters, copies of what was written, copies with errors, runs of one letter. */
static int write_text(int32_t *t, int n, uint32_t letters)
{
    int i = 0;
    while (i < n) {
        int len = 1 + (int)below(30), from = i ? (int)below((uint32_t)i) : 0;
        uint32_t how = below(4), letter = below(letters);
        for (; len > 0 && i < n; len--, i++, from++)
            t[i] = how == 3          ? (int32_t)letter
                   : how && from < i ? t[from]
                                     : (int32_t)(below(letters) * 7919u);
        if (how == 2 && i)
            t[i - 1] = (int32_t)below(letters);
    }
    return n;
}

static void test_longest(void **state)
{
    (void)state;
    struct lookup l;
    struct err err;
    int32_t t[160], drafts[12];
    int checked = 0, older = 0;
    assert_ok(lookup_init(&l, 160, &err), err);
    for (int round = 0; round < 4000; round++) {
        int n = write_text(t, 20 + (int)below(140), 1 + below(round % 2 ? 3 : 20));
        lookup_reset(&l);
        for (int i = 0; i < n; i++) {
            int end = 0, len, got, most = (int)below(13);
            lookup_append(&l, t[i]);
            len = longest(t, i + 1, &end);
            assert_int_equal(lookup_propose(&l, most, drafts, &got), len ? most : 0);
            assert_int_equal(got, len);
            if (!len)
                continue;
            checked++;
            older += l.match_end != end;
            end = l.match_end;
            assert_true(end < i);
            for (int j = 0; j < len; j++)
                assert_int_equal(t[end - j], t[i - j]);
            for (int j = 0; j < most; j++) {
                int from = end + 1 + j;
                assert_int_equal(drafts[j], from <= i ? t[from] : drafts[from - i - 1]);
            }
        }
    }
    printf("%d of %d matches were not the most recent\n", older, checked);
    assert_true(checked > 100000);
    assert_true(older < checked / 1000);
    lookup_release(&l);
}

static void test_edges(void **state)
{
    (void)state;
    struct lookup l;
    struct err err;
    int32_t drafts[4];
    int len;
    assert_ok(lookup_init(&l, 5, &err), err);
    assert_int_equal(lookup_propose(&l, 4, drafts, &len), 0);
    lookup_append(&l, 1000000);
    assert_int_equal(lookup_propose(&l, 4, drafts, &len), 0);
    lookup_append(&l, 0);
    lookup_append(&l, 1000000);
    assert_int_equal(lookup_propose(&l, 4, drafts, &len), 4);
    assert_int_equal(len, 1);
    int32_t period[] = {0, 1000000, 0, 1000000};
    assert_memory_equal(drafts, period, sizeof period);
    for (int i = 0; i < 10; i++)
        lookup_append(&l, 3); /* the context ends */
    assert_int_equal(l.n, 5);
    lookup_reset(&l);
    lookup_append(&l, 3);
    assert_int_equal(lookup_propose(&l, 4, drafts, &len), 0);
    lookup_release(&l);
    lookup_release(&l);
}

/* Seconds for n tokens of the kinds of text that are worst for this or that data structure. */
static double seconds(struct lookup *l, int kind, int n)
{
    int32_t *t = malloc((size_t)n * sizeof *t), drafts[8];
    int len, a = 1, b = 1;
    for (int i = 0; i < n; i++)
        switch (kind) {
        case 0: /* one letter */
            t[i] = 5;
            break;
        case 1: /* Fibonacci word: repeats within repeats */
            t[i] = (int32_t)((int64_t)((i + 2) * 0.6180339887498949) -
                             (int64_t)((i + 1) * 0.6180339887498949));
            break;
        case 2: /* a^k b a^k c ...: each break walks down a run */
            t[i] = (i + 1) % 181 ? 0 : 1 + i / 181;
            break;
        case 3: /* all different */
            t[i] = i * 30;
            break;
        case 4: /* the same state gains edge after edge and is then split */
            t[i] = i % 2 ? i < n / 2 ? i : i - n / 2 : 0;
            break;
        case 5: /* few letters */
            t[i] = (int32_t)below(2);
            break;
        default: /* growing periods */
            if (b++ == a)
                a++, b = 1;
            t[i] = b;
        }
    double start = now();
    lookup_reset(l);
    for (int i = 0; i < n; i++) {
        lookup_append(l, t[i]);
        lookup_propose(l, 8, drafts, &len);
    }
    double took = now() - start;
    free(t);
    return took;
}

static void test_time(void **state)
{
    (void)state;
    struct lookup l;
    struct err err;
    int n = 32768;
    assert_ok(lookup_init(&l, n, &err), err);
    for (int kind = 0; kind < 7; kind++) {
        double best = 1;
        for (int i = 0; i < 3; i++) {
            double took = seconds(&l, kind, n);
            best = took < best ? took : best;
        }
        printf("text %d: %.1f ms for %d tokens\n", kind, 1e3 * best, n);
#ifndef __SANITIZE_ADDRESS__
        assert_true(best < 0.25); /* what is not linear takes a second or more */
#endif
        assert_true(l.n_states <= 2 * n + 2 && l.n_edges <= 3 * n + 4);
    }
    lookup_release(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_longest),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
