/* Small GGUF models against transformers (make_gguf.py): every architecture, rotation and type of
 * weight. Logits of a text that is read in passes of random lengths, with all weights as floats, to
 * the last bits, and as stored, where products see their rows rounded to 8 bits; these must also be
 * the same bits on every kernel path, for any number of lanes. */
#include <math.h>

#include "base/rng.h"
#include "tests/parity/reader.h"
#include "weights/safetensors.h"

#define FOLDER "tests/data/gguf/"

/* Sums in another order; the largest that was seen is 1.7e-6. */
#define FLOATS_TOLERANCE 5e-6
/* The reference rounds rows to 8 bits too: 3.3e-7 was seen. Only where a last bit tips a code over,
 * at one position of 450, is a product off by 1 of 127; that was 5.1e-4. */
#define STORED_TOLERANCE 2e-6
#define TIPPED_TOLERANCE 3e-3
#define TIPPED_MOST 4 /* positions of a text */
/* From the logits without rounding: what 8 bits cost in models as tiny as these, 1.6e-2. */
#define ROUNDED_TOLERANCE 0.04

static const char *const isas[] = {KERNELS_NAMES};
#define ISAS (sizeof isas / sizeof *isas)

static void pass_lane(struct lane *lane, void *arg)
{
    reader_pass(arg, lane, false);
}

/* The whole text, in passes that the seed cuts: the logits of all rows of each, or, with an odd
 * seed, of a third of them, into out, (length, V). */
static void read_text(struct reader *r, const int32_t *tokens, uint64_t seed, float *out)
{
    size_t vocab = (size_t)r->model.config.vocab, stride = model_logits_stride(&r->model);
    memcpy(r->tokens, tokens, (size_t)r->length * sizeof *tokens);
    for (r->first = 0; r->first < r->length; r->first += r->n) {
        r->n = 1 + (int)rng_below(seed, 1, (uint64_t)r->first, seed ? 40 : 90);
        r->n = seed && r->length - r->first > r->n ? r->n : r->length - r->first;
        r->n_out = 0;
        for (int i = 0; i < r->n; i++) {
            r->rows[i] = row_in_place(&r->kv, r->first + i);
            if (seed % 2 == 0 || i % 3 == r->n % 3)
                r->some[r->n_out++] = i;
        }
        team_run(&r->team, pass_lane, r);
        for (size_t i = 0; i < (size_t)r->n_out; i++)
            memcpy(out + (size_t)(r->first + r->some[i]) * vocab, r->logits + i * stride,
                   vocab * sizeof *out);
    }
}

struct fixture {
    struct safetensors st;
    char path[96];
    int32_t *tokens;
    float *logits, *stored; /* (length, V) */
    float *out;             /* and what is read */
    size_t n;               /* floats of either */
    int length;
};

static void *copy(const struct fixture *f, const char *name, size_t *size)
{
    const struct tensor *t = safetensors_find(&f->st, name);
    assert_non_null(t);
    void *data = malloc(*size = t->size);
    assert_non_null(data);
    return memcpy(data, t->data, t->size);
}

static void fixture_open(struct fixture *f, const char *name)
{
    struct err err;
    size_t size;
    snprintf(f->path, sizeof f->path, FOLDER "%s.safetensors", name);
    assert_ok(safetensors_open(&f->st, f->path, &err), err);
    snprintf(f->path, sizeof f->path, FOLDER "%s.gguf", name);
    f->tokens = copy(f, "tokens", &size);
    f->length = (int)(size / sizeof *f->tokens);
    f->logits = copy(f, "logits", &size);
    f->stored = copy(f, "stored", &size);
    f->n = size / sizeof *f->stored;
    f->out = malloc(size);
    assert_non_null(f->out);
}

static void fixture_release(struct fixture *f)
{
    safetensors_release(&f->st);
    free(f->tokens);
    free(f->logits);
    free(f->stored);
    free(f->out);
}

static double difference(const float *ours, const float *theirs, size_t n)
{
    double most = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)ours[i] - (double)theirs[i]);
        most = d > most || isnan(d) ? d : most;
        size = fmax(size, fabs((double)theirs[i]));
    }
    return most / size;
}

/* At how many positions the logits differ by more than rounding. */
static int tipped_over(const struct fixture *f, const float *ours)
{
    size_t vocab = f->n / (size_t)f->length;
    double size = 0;
    int n = 0;
    for (size_t i = 0; i < f->n; i++)
        size = fmax(size, fabs((double)f->stored[i]));
    for (size_t t = 0; t < f->n; t += vocab) {
        double most = 0;
        for (size_t i = t; i < t + vocab; i++)
            most = fmax(most, fabs((double)ours[i] - (double)f->stored[i]));
        n += most / size > STORED_TOLERANCE;
    }
    return n;
}

/* Also the same bits everywhere. `first` is filled by the first that runs. */
static void on_every_path(const struct fixture *f, int weights, float *first)
{
    struct err err;
    bool have_first = false;
    for (size_t i = 0; i < ISAS; i++) {
        struct reader r;
        if (kernels_init(isas[i], &err))
            continue;
        reader_init(&r, f->path, NULL, weights, 1 + (int)i % 3, f->length);
        assert_int_equal(f->n, (size_t)f->length * (size_t)r.model.config.vocab);
        memset(f->out, 0, f->n * sizeof *f->out);
        for (uint64_t seed = 0; seed < 3; seed++) {
            read_text(&r, f->tokens, seed, f->out);
            if (!have_first)
                memcpy(first, f->out, f->n * sizeof *first);
            have_first = true;
            if (memcmp(first, f->out, f->n * sizeof *first))
                fail_msg("%s, %s: other bits than generic in one pass", f->path, isas[i]);
        }
        reader_release(&r);
    }
}

/* headway-convert's folder of the same model, its matrices as they are stored, gives the same bits.
 */
static void same_when_converted(const struct fixture *f, const float *stored)
{
    const char *build = getenv("BUILD");
    char program[128], command[512];
    struct folder folder;
    struct reader r;
    struct err err;
    snprintf(program, sizeof program, "%s/headway-convert", build ? build : "build");
    if (access(program, X_OK)) {
        print_message("%s is not there: not tested\n", program);
        return;
    }
    folder_make(&folder);
    snprintf(command, sizeof command, "%s %s %s", program, f->path, folder.path);
    assert_int_equal(system(command), 0);
    assert_ok(kernels_init("auto", &err), err);
    reader_init(&r, folder.path, NULL, WEIGHT_STORED, 2, f->length);
    read_text(&r, f->tokens, 2, f->out);
    assert_memory_equal(f->out, stored, f->n * sizeof *stored);
    reader_release(&r);
    folder_remove(&folder);
}

static void logits_are_those_of_the_reference(void **state)
{
    struct fixture f;
    fixture_open(&f, *state);
    float *ours = malloc(f.n * sizeof *ours);
    assert_non_null(ours);
    on_every_path(&f, WEIGHT_F32, ours);
    double floats = difference(ours, f.logits, f.n);
    on_every_path(&f, WEIGHT_STORED, ours);
    double stored = difference(ours, f.stored, f.n), rounded = difference(ours, f.logits, f.n);
    same_when_converted(&f, ours);
    int tipped = tipped_over(&f, ours);
    print_message("%s: as floats %.1e; as stored %.1e, %d positions tipped over, from floats "
                  "%.1e\n",
                  f.path, floats, stored, tipped, rounded);
    free(ours);
    fixture_release(&f);
    assert_true(floats < FLOATS_TOLERANCE);
    assert_true(stored < TIPPED_TOLERANCE);
    assert_true(tipped <= TIPPED_MOST);
    assert_true(rounded < ROUNDED_TOLERANCE);
}

int main(void)
{
#define MODEL(name) cmocka_unit_test_prestate(logits_are_those_of_the_reference, name)
    const struct CMUnitTest tests[] = {MODEL("llama"), MODEL("llama-scaled"), MODEL("llama-k"),
                                       MODEL("qwen2"), MODEL("qwen3")};
#undef MODEL
    return cmocka_run_group_tests_name("gguf models", tests, NULL, NULL);
}
