/* Checkpoints bring back every bit, and refuse other settings, other shapes and broken files; the
 * exported model is the one that was trained. */
#include "train/checkpoint.h"

#include <limits.h>

#include "model/gemm.h"
#include "tests/unit/unit.h"
#include "weights/bf16.h"

#define SETTINGS "kind=parallel heads=2 rate=0.001 seed=7"

static struct team team;

static struct config shape(void)
{
    struct config c = {.dim = 16,
                       .n_layers = 1,
                       .n_heads = 1,
                       .n_kv_heads = 1,
                       .hidden = 32,
                       .vocab = 257,
                       .context = 12,
                       .norm_eps = 1e-5f,
                       .rope_theta = 10000,
                       .kind = HEAD_PARALLEL,
                       .n_predict = 2,
                       .head_layers = 1,
                       .bos = 256,
                       .eos = 256};
    struct err err;
    assert_ok(config_check(&c, &err), err);
    return c;
}

static int start(void **state)
{
    (void)state;
    struct err err;
    assert_ok(kernels_init("auto", &err), err);
    assert_ok(gemm_init("f32", &err), err);
    grad_kernels_init();
    assert_ok(team_init(&team, 1, &err), err);
    return 0;
}

static int end(void **state)
{
    (void)state;
    team_release(&team);
    return 0;
}

static void make(struct trainer *t, const struct config *config, uint64_t seed)
{
    struct err err;
    assert_ok(trainer_init(t, config, 2, seed, &team, &err), err);
}

/* Steps from..to-1 on windows that depend on the step. */
static void train(struct trainer *t, int from, int to)
{
    static const struct schedule schedule = {0.01, 0.1, 0.9, 0.95, 0.1, 1, 1, 10, 0, 0};
    int32_t window[32];
    for (int step = from; step < to; step++) {
        for (int b = 0; b < t->sequences; b++) {
            for (int i = 0; i < t->context + t->model.config.n_predict; i++)
                window[i] = (step * 31 + b * 17 + i * i) % 257;
            trainer_window(t, b, window);
        }
        trainer_step(t, &schedule, step);
    }
}

static void check_same(const struct trainer *a, const struct trainer *b)
{
    assert_int_equal(a->total, b->total);
    assert_memory_equal(a->value, b->value, a->total * sizeof(float));
    assert_memory_equal(a->m, b->m, a->total * sizeof(float));
    assert_memory_equal(a->v, b->v, a->total * sizeof(float));
}

static void a_resumed_run_is_the_same_run(void **state)
{
    (void)state;
    struct folder folder;
    struct trainer whole, first, second;
    struct config config = shape();
    struct err err;
    int step = -1;
    folder_make(&folder);
    make(&whole, &config, 1);
    make(&first, &config, 1);
    make(&second, &config, 2); /* other values, to be replaced */
    train(&whole, 0, 5);
    train(&first, 0, 3);
    assert_ok(checkpoint_write(&first, folder.path, 3, SETTINGS, &err), err);
    train(&first, 3, 4); /* the file is a copy */
    assert_ok(checkpoint_read(&second, folder.path, &step, SETTINGS, &err), err);
    assert_int_equal(step, 3);
    train(&second, 3, 5);
    check_same(&whole, &second);
    assert_ok(checkpoint_write(&second, folder.path, 5, SETTINGS, &err), err); /* over the old */
    assert_ok(checkpoint_read(&first, folder.path, &step, SETTINGS, &err), err);
    assert_int_equal(step, 5);
    check_same(&whole, &first);
    assert_int_equal(folder_count(&folder), 1); /* nothing beside it */
    trainer_release(&whole);
    trainer_release(&first);
    trainer_release(&second);
    folder_remove(&folder);
}

static void other_settings_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *was, *now, *says;
    } cases[] = {
        {"a=1 b=2 c=3", "a=1 b=4 c=3", "made with b=2, this run says b=4:"},
        {"a=1 b=2 c=3", "a=7 b=4 c=3", "made with a=1, this run says a=7:"},
        {"a=1 b=2 c=3", "a=1 b=2 c=33", "made with c=3, this run says c=33:"},
        {"steps=10 x=1", "steps=100 x=1", "made with steps=10, this run says steps=100:"},
        {"steps=100 x=1", "steps=10 x=1", "made with steps=100, this run says steps=10:"},
        {"abc=1", "abd=1", "made with abc=1, this run says abd=1:"},
        {"a=1", "a=1 b=2", "made with nothing, this run says b=2:"},
        {"a=1 b=2", "a=1", "made with b=2, this run says nothing:"},
        {"a=1 ", "a=1", "made with nothing, this run says nothing:"},
    };
    struct folder folder;
    struct trainer t;
    struct config config = shape();
    struct err err;
    folder_make(&folder);
    make(&t, &config, 1);
    train(&t, 0, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int step = -1;
        float *before = malloc(t.total * sizeof(float));
        assert_non_null(before);
        assert_ok(checkpoint_write(&t, folder.path, 1, cases[i].was, &err), err);
        t.value[0] += 1;
        memcpy(before, t.value, t.total * sizeof(float));
        assert_int_equal(checkpoint_read(&t, folder.path, &step, cases[i].now, &err), ERR_INVALID);
        assert_says(err, cases[i].says);
        assert_says(err, "--resume");
        assert_int_equal(step, -1);
        assert_memory_equal(before, t.value, t.total * sizeof(float));
        free(before);
    }
    trainer_release(&t);
    folder_remove(&folder);
}

/* ---- files that are none ---- */

static void cut_file(const char *path, const char *bytes, size_t size)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static char *whole_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, f), *size);
    fclose(f);
    return bytes;
}

static void broken_files_are_refused(void **state)
{
    (void)state;
    struct folder folder;
    struct trainer t;
    struct config config = shape();
    struct err err;
    int step = -1;
    size_t size;
    folder_make(&folder);
    make(&t, &config, 1);
    assert_int_equal(checkpoint_read(&t, folder.path, &step, SETTINGS, &err), ERR_IO);
    assert_says(err, "checkpoint.safetensors");
    assert_ok(checkpoint_write(&t, folder.path, 1, SETTINGS, &err), err);
    folder_file(&folder, "checkpoint.safetensors");
    char *bytes = whole_file(folder.file, &size);
    const size_t cuts[] = {0, 1, 7, 8, 9, 100, size / 2, size - 64, size - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        cut_file(folder.file, bytes, cuts[i]);
        assert_int_equal(checkpoint_read(&t, folder.path, &step, SETTINGS, &err), ERR_INVALID);
        assert_says(err, folder.file);
    }
    assert_int_equal(step, -1);
    cut_file(folder.file, bytes, size);
    assert_ok(checkpoint_read(&t, folder.path, &step, SETTINGS, &err), err);
    free(bytes);
    trainer_release(&t);
    folder_remove(&folder);
}

static void a_step_that_no_run_has_is_refused(void **state)
{
    (void)state;
    static const int64_t steps[] = {-1, (int64_t)INT_MAX + 1, INT64_MIN, INT64_MAX};
    struct folder folder;
    struct trainer t;
    struct config config = shape();
    struct safetensors st;
    struct err err;
    int step = -1;
    size_t size;
    folder_make(&folder);
    make(&t, &config, 1);
    assert_ok(checkpoint_write(&t, folder.path, 1, SETTINGS, &err), err);
    folder_file(&folder, "checkpoint.safetensors");
    char *bytes = whole_file(folder.file, &size);
    assert_ok(safetensors_open(&st, folder.file, &err), err);
    size_t at =
        (size_t)((const unsigned char *)safetensors_find(&st, "step")->data - st.mapping.bytes);
    safetensors_release(&st);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        memcpy(bytes + at, &steps[i], sizeof *steps);
        cut_file(folder.file, bytes, size);
        assert_int_equal(checkpoint_read(&t, folder.path, &step, SETTINGS, &err), ERR_INVALID);
        assert_says(err, "step");
        assert_int_equal(step, -1);
    }
    free(bytes);
    trainer_release(&t);
    folder_remove(&folder);
}

static void other_models_are_refused(void **state)
{
    (void)state;
    struct folder folder;
    struct trainer small, large;
    struct config config = shape();
    struct err err;
    int step;
    char model[512];
    folder_make(&folder);
    make(&small, &config, 1);
    config.hidden = 48;
    make(&large, &config, 1);
    assert_ok(checkpoint_write(&small, folder.path, 1, SETTINGS, &err), err);
    assert_int_equal(checkpoint_read(&large, folder.path, &step, SETTINGS, &err), ERR_INVALID);
    assert_says(err, "feed_forward.w1.weight");
    assert_ok(checkpoint_export(&small, folder.path, DTYPE_F32, &err), err);
    assert_int_equal(checkpoint_import(&large, folder.path, &err), ERR_INVALID);
    assert_says(err, "feed_forward.w1.weight");
    /* a model where a checkpoint should be */
    strcpy(model, folder_file(&folder, "model.safetensors"));
    assert_int_equal(rename(model, folder_file(&folder, "checkpoint.safetensors")), 0);
    assert_int_equal(checkpoint_read(&small, folder.path, &step, SETTINGS, &err), ERR_INVALID);
    assert_says(err, "not a checkpoint");
    assert_int_equal(checkpoint_import(&small, folder.path, &err), ERR_IO);
    trainer_release(&small);
    trainer_release(&large);
    folder_remove(&folder);
}

static void folders_that_cannot_be_written(void **state)
{
    (void)state;
    struct trainer t;
    struct config config = shape();
    struct err err;
    char path[5000];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = 0;
    make(&t, &config, 1);
    assert_int_equal(checkpoint_write(&t, "/nowhere/at/all", 1, SETTINGS, &err), ERR_IO);
    assert_says(err, "/nowhere/at/all");
    assert_int_equal(checkpoint_export(&t, "/nowhere/at/all", DTYPE_F32, &err), ERR_IO);
    assert_says(err, "/nowhere/at/all");
    assert_int_equal(checkpoint_write(&t, path, 1, SETTINGS, &err), ERR_INVALID);
    assert_says(err, "--out");
    assert_int_equal(checkpoint_export(&t, path, DTYPE_F32, &err), ERR_INVALID);
    assert_int_equal(checkpoint_import(&t, path, &err), ERR_INVALID);
    trainer_release(&t);
}

/* ---- the exported model ---- */

static void check_config(const struct config *a, const struct config *b)
{
    assert_int_equal(a->dim, b->dim);
    assert_int_equal(a->n_layers, b->n_layers);
    assert_int_equal(a->n_heads, b->n_heads);
    assert_int_equal(a->n_kv_heads, b->n_kv_heads);
    assert_int_equal(a->hidden, b->hidden);
    assert_int_equal(a->vocab, b->vocab);
    assert_int_equal(a->context, b->context);
    assert_true(a->norm_eps == b->norm_eps && a->rope_theta == b->rope_theta);
    assert_int_equal(a->tied, b->tied);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->n_predict, b->n_predict);
    assert_int_equal(a->head_layers, b->head_layers);
    assert_int_equal(a->bos, b->bos);
    assert_int_equal(a->eos, b->eos);
}

static void check_tensors(const struct trainer *t, const struct safetensors *st, enum dtype type)
{
    assert_int_equal(st->n_tensors, t->model.params.n);
    for (int i = 0; i < t->model.params.n; i++) {
        const struct param *p = &t->model.params.list[i];
        const struct tensor *tensor;
        struct err err;
        assert_ok(safetensors_get(st, p->name, p->n_dims, p->shape, &tensor, &err), err);
        assert_int_equal(tensor->dtype, p->n_dims == 1 ? DTYPE_F32 : type);
        for (size_t k = 0; k < p->count; k++) {
            float value = t->value[p->offset + k];
            uint16_t half = bf16_from_float(value);
            if (tensor->dtype == DTYPE_F32)
                assert_memory_equal((const char *)tensor->data + 4 * k, &value, 4);
            else
                assert_memory_equal((const char *)tensor->data + 2 * k, &half, 2);
        }
    }
}

static void the_export_is_the_model(void **state)
{
    (void)state;
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};
    for (int i = 0; i < 2; i++) {
        struct folder folder;
        struct trainer t, again;
        struct config config = shape();
        struct model m;
        struct err err;
        folder_make(&folder);
        config.tied = i == 1;
        make(&t, &config, 1);
        make(&again, &config, 2);
        train(&t, 0, 2);
        assert_ok(checkpoint_export(&t, folder.path, types[i], &err), err);
        assert_int_equal(folder_count(&folder), 2);
        assert_ok(model_open(&m, folder.path, NULL, WEIGHT_STORED, 0, NULL, &err), err);
        check_config(&m.config, &t.model.config);
        assert_int_equal(m.positions, config.context);
        check_tensors(&t, m.source.data, types[i]);
        model_release(&m);
        assert_ok(checkpoint_import(&again, folder.path, &err), err);
        for (int k = 0; k < t.model.params.n; k++) {
            const struct param *p = &t.model.params.list[k];
            for (size_t n = p->offset; n < p->offset + p->count; n++) {
                bool rounded = types[i] == DTYPE_BF16 && p->n_dims == 2;
                float want = rounded ? bf16_to_float(bf16_from_float(t.value[n])) : t.value[n];
                assert_true(again.value[n] == want);
            }
        }
        trainer_release(&t);
        trainer_release(&again);
        folder_remove(&folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resumed_run_is_the_same_run),
        cmocka_unit_test(other_settings_are_refused),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(a_step_that_no_run_has_is_refused),
        cmocka_unit_test(other_models_are_refused),
        cmocka_unit_test(folders_that_cannot_be_written),
        cmocka_unit_test(the_export_is_the_model),
    };
    return cmocka_run_group_tests(tests, start, end);
}
