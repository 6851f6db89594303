/* Models in other people's files: logits of every head against those that transformers or another
 * reference computed from the same files (make_files.py, make_next.py), at some positions of a text
 * that is read in passes of random lengths. */
#include <math.h>

#include "base/rng.h"
#include "tests/parity/reader.h"
#include "weights/safetensors.h"

#define FOLDER "tests/data/files/"

struct files {
    struct reader reader;
    int head;
};

static void trunk_lane(struct lane *lane, void *arg)
{
    struct files *f = arg;
    reader_pass(&f->reader, lane, true);
}

static void head_lane(struct lane *lane, void *arg)
{
    struct files *f = arg;
    struct reader *r = &f->reader;
    struct pass pass = {&r->model, r->rows, r->n, attend_cached, NULL, r->tokens + r->first + 1};
    heads_read(lane, &pass, &r->work, r->z, r->some, r->n);
    head_type(r->model.config.kind)
        ->draft(lane, &pass, &r->work, f->head, r->tokens + r->first, r->z, r->some, r->n,
                f->head + 1 == r->model.config.n_predict, r->h);
    model_logits(lane, &r->model, f->head, 1, r->h, r->n, r->normed, r->logits);
}

/* The largest difference of a head's logits of this pass from what they must be, where that is
 * known: must (heads, positions, V). */
static void compare(const struct files *f, const int32_t *positions, int n_positions,
                    const float *must, double *worst)
{
    const struct reader *r = &f->reader;
    size_t vocab = (size_t)r->model.config.vocab, stride = model_logits_stride(&r->model);
    size_t known = f->head && r->model.draft_ids ? (size_t)r->model.n_draft_ids : vocab;
    for (int i = 0; i < n_positions; i++) {
        int row = positions[i] - r->first;
        if (row < 0 || row >= r->n)
            continue;
        const float *want = must + ((size_t)f->head * (size_t)n_positions + (size_t)i) * vocab;
        const float *got = r->logits + (size_t)row * stride;
        for (size_t v = 0; v < known; v++) {
            double difference = fabs((double)got[v] - (double)want[v]);
            *worst = difference > *worst ? difference : *worst;
        }
    }
}

/* As the files have it; every position where there is no list of them. */
static int read_positions(const struct safetensors *st, int length, int32_t *positions)
{
    const struct tensor *t = safetensors_find(st, "positions");
    int n = t ? (int)t->shape[0] : length;
    assert_true(n <= 128);
    for (int i = 0; i < n; i++)
        positions[i] = i;
    if (t)
        memcpy(positions, t->data, (size_t)n * sizeof *positions);
    return n;
}

static double largest(const float *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fabs((double)x[i]) > most ? fabs((double)x[i]) : most;
    return most;
}

static void check_folder(const char *name, const char *file, const char *heads_folder)
{
    char folder[128], model[160], path[160];
    struct safetensors expected;
    struct files f;
    struct reader *r = &f.reader;
    struct err err;
    int32_t positions[128];
    snprintf(folder, sizeof folder, FOLDER "%s", name);
    snprintf(model, sizeof model, "%s%s", folder, file);
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    assert_ok(safetensors_open(&expected, path, &err), err);
    const struct tensor *tokens = safetensors_find(&expected, "tokens");
    const struct tensor *logits = safetensors_find(&expected, "logits");
    assert_true(tokens && logits && tokens->shape[0] == 1);
    reader_init(r, model, heads_folder, WEIGHT_STORED, 2, (int)tokens->shape[1]);
    int n = read_positions(&expected, r->length, positions);
    size_t heads = logits->shape[0], vocab = (size_t)r->model.config.vocab;
    heads = logits->n_dims == 3 ? 1 : heads;
    assert_true(heads == (heads_folder ? 2 : (size_t)r->model.config.n_predict));
    assert_int_equal(logits->size, heads * (size_t)n * vocab * sizeof(float));
    float *must = malloc(logits->size);
    assert_non_null(must);
    memcpy(must, logits->data, logits->size);
    memcpy(r->tokens, tokens->data, tokens->size);
    double worst = 0;
    for (uint64_t pass = 0; r->first < r->length; r->first += r->n, pass++) {
        r->n = 1 + (int)rng_below(3, 1, pass, 30);
        r->n = r->length - r->first < r->n ? r->length - r->first : r->n;
        for (int i = 0; i < r->n; i++) {
            r->rows[i] = row_in_place(&r->kv, r->first + i);
            r->some[i] = i;
        }
        r->n_out = r->n;
        f.head = 0;
        team_run(&r->team, trunk_lane, &f);
        compare(&f, positions, n, must, &worst);
        for (f.head = 1; f.head < (int)heads; f.head++) {
            team_run(&r->team, head_lane, &f);
            compare(&f, positions, n, must, &worst);
        }
    }
    worst /= largest(must, heads * (size_t)n * vocab);
    print_message("%s: %zu heads, largest difference over largest logit %.1e\n", name, heads,
                  worst);
    assert_true(worst < 5e-6);
    free(must);
    reader_release(r);
    safetensors_release(&expected);
}

static void logits_are_those_of_the_reference(void **state)
{
    static const char *const names[] = {"llama",    "llama-tied", "mistral", "qwen2",
                                        "qwen3",    "mtp-llama",  "meta",    "meta-single",
                                        "meta-f32", "mimo"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_folder(names[i], "", NULL);
    check_folder("nextn", "/model.gguf", NULL);
}

/* By way of headway-convert, which writes them as heads of headway's. */
static void converted_heads_are_those_of_the_reference(void **state)
{
    char command[600];
    const char *build = getenv("BUILD") ? getenv("BUILD") : "build";
    struct folder to;
    (void)state;
    folder_make(&to);
    snprintf(command, sizeof command,
             "%s/headway-convert " FOLDER "eagle3/heads %s --trunk " FOLDER "eagle3/trunk", build,
             to.path);
    assert_int_equal(system(command), 0);
    check_folder("eagle3", "/trunk", to.path);
    folder_remove(&to);
}

int main(void)
{
    struct err err;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_the_reference),
        cmocka_unit_test(converted_heads_are_those_of_the_reference)};
    assert_ok(kernels_init("auto", &err), err);
    return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
