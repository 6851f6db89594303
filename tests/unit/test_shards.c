/* Tensors in several files: what transformers saved is read; indexes that lead elsewhere, or do
 * not agree with the files, are refused. */
#include "weights/shards.h"

#include "base/buf.h"
#include "base/rng.h"
#include "tests/unit/unit.h"

/* ---- what transformers saved ---- */

static void reads_what_transformers_saved(void **state)
{
    (void)state;
    static const struct {
        const char *folder;
        size_t files, tensors;
    } saved[] = {
        {"tests/data/files/llama", 6, 2 * 9 + 3},   {"tests/data/files/llama-tied", 1, 2 * 9 + 2},
        {"tests/data/files/mistral", 1, 2 * 9 + 3}, {"tests/data/files/qwen2", 4, 3 * 12 + 2},
        {"tests/data/files/qwen3", 1, 2 * 11 + 3},  {"tests/data/files/mtp-llama", 1, 4 * 9 + 5}};
    for (size_t i = 0; i < sizeof saved / sizeof *saved; i++) {
        struct shards s;
        struct err err;
        assert_ok(shards_open(&s, saved[i].folder, &err), err);
        if (s.n_files != saved[i].files || s.n_tensors != saved[i].tensors)
            fail_msg("%s has %zu tensors in %zu files", saved[i].folder, s.n_tensors, s.n_files);
        for (size_t k = 0; k < s.n_tensors; k++) {
            assert_ptr_equal(shards_find(&s, s.tensors[k].name), &s.tensors[k]);
            assert_non_null(s.tensors[k].data);
        }
        const struct tensor *t = shards_find(&s, "model.layers.1.mlp.down_proj.weight");
        assert_non_null(t);
        assert_int_equal(t->n_dims, 2);
        assert_null(shards_find(&s, "model.layers.3.mlp.down_proj.weight"));
        shards_release(&s);
        assert_null(shards_find(&s, "model.norm.weight"));
    }
}

/* ---- the index alone ---- */

#define MAP(entries) "{\"metadata\":{\"total_size\":1},\"weight_map\":{" entries "}}"

static const struct {
    const char *text, *says;
} hostile[] = {
    {MAP("\"w\":\"../m.safetensors\""), "'../m.safetensors', but files must lie in"},
    {MAP("\"w\":\"/etc/m.safetensors\""), "own folder"},
    {MAP("\"w\":\"a/m.safetensors\""), "own folder"},
    {MAP("\"w\":\"a\\\\m.safetensors\""), "own folder"},
    {MAP("\"w\":\".m.safetensors\""), "own folder"},
    {MAP("\"w\":\"..\""), "own folder"},
    {MAP("\"w\":\"\""), "only .safetensors files"},
    {MAP("\"w\":\".safetensors\""), "own folder"},
    {MAP("\"w\":\"m.bin\""), "'m.bin', but only .safetensors files"},
    {MAP("\"w\":\"m.safetensors\\n\""), "control character"},
    {MAP("\"w\":\"m\\u001b.safetensors\""), "control character"},
    {MAP("\"w\":\"m\\u0000.safetensors\""), "NUL"},
    {MAP("\"w\\n\":\"m.safetensors\""), "control character"},
    {MAP("\"w\":7"), "file of tensor 'w' is not a string"},
    {MAP("\"w\":null"), "file of tensor 'w' is not a string"},
    {MAP("\"w\":\"m.safetensors\",\"w\":\"n.safetensors\""), "duplicate"},
    {"{}", "weight_map"},
    {"{\"weight_map\":[]}", "weight_map"},
    {"{\"weight_map\":null}", "weight_map"},
    {"[]", "one JSON object"},
    {"", "not JSON"},
    {"{\"weight_map\":{}}}", "not JSON"},
};

static void refuses_hostile_indexes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct shards_index index;
        struct err err = {""};
        if (shards_index_parse(&index, hostile[i].text, strlen(hostile[i].text), "here.json",
                               &err) != ERR_INVALID)
            fail_msg("%s is not refused", hostile[i].text);
        assert_says(err, hostile[i].says);
        assert_says(err, "here.json");
    }
}

static void sorts_an_index(void **state)
{
    (void)state;
    static const char text[] =
        MAP("\"b\":\"2.safetensors\",\"c\":\"1.safetensors\",\"a\":\"2.safetensors\"");
    struct shards_index index;
    struct err err;
    assert_ok(shards_index_parse(&index, text, sizeof text - 1, "here", &err), err);
    assert_int_equal(index.n_files, 2);
    assert_int_equal(index.n_entries, 3);
    assert_string_equal(index.files[0], "1.safetensors");
    assert_string_equal(index.entries[0].tensor, "a");
    assert_string_equal(index.files[index.entries[0].file], "2.safetensors");
    assert_string_equal(index.entries[2].tensor, "c");
    assert_string_equal(index.files[index.entries[2].file], "1.safetensors");
    shards_index_release(&index);
}

static void limits_the_files(void **state)
{
    (void)state;
    struct shards_index index;
    struct err err;
    struct buf text = {0};
    buf_puts(&text, "{\"weight_map\":{");
    for (int i = 0; i <= SHARD_FILES_MAX; i++)
        buf_printf(&text, "%s\"t%d\":\"%d.safetensors\"", i ? "," : "", i, i);
    buf_puts(&text, "}}");
    assert_int_equal(shards_index_parse(&index, text.data, text.len, "here", &err), ERR_INVALID);
    assert_says(err, "more than 1024 files");
    buf_release(&text);
}

static void damage_never_crashes(void **state)
{
    (void)state;
    static const char text[] =
        MAP("\"b\":\"2.safetensors\",\"c\":\"1.safetensors\",\"a\":\"2.safetensors\"");
    struct shards_index index;
    struct err err;
    for (uint64_t i = 0; i < 20000; i++) {
        size_t n = i < sizeof text ? i : sizeof text - 1; /* first every prefix */
        char *copy = malloc(n ? n : 1);
        memcpy(copy, text, n);
        for (uint64_t k = 0; i >= sizeof text && k < 1 + i % 3; k++)
            copy[rng_below(51, k, i, n)] ^= (char)(1 << rng_below(52, k, i, 8));
        if (!shards_index_parse(&index, copy, n, "damaged", &err))
            shards_index_release(&index);
        free(copy);
    }
}

/* ---- files that do not agree ---- */

static void write_file(struct folder *folder, const char *file, const char *tensor_a,
                       const char *tensor_b)
{
    static const float data[2] = {1, 2};
    struct err err;
    struct tensor_out out[] = {
        {.name = tensor_a, .dtype = DTYPE_F32, .n_dims = 1, .shape = {2}, .data = data},
        {.name = tensor_b, .dtype = DTYPE_F32, .n_dims = 1, .shape = {2}, .data = data}};
    assert_ok(safetensors_write(folder_file(folder, file), out, tensor_b ? 2 : 1, NULL, &err), err);
}

static void write_index(struct folder *folder, const char *text)
{
    FILE *f = fopen(folder_file(folder, "model.safetensors.index.json"), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void opens_only_what_agrees(void **state)
{
    (void)state;
    static const struct {
        const char *index, *says;
    } cases[] = {
        {MAP("\"a\":\"1.safetensors\",\"b\":\"2.safetensors\""), NULL},
        {MAP("\"a\":\"1.safetensors\""), NULL}, /* 'x' is passed over, 2.safetensors not opened */
        {MAP(""), NULL},
        {MAP("\"a\":\"1.safetensors\",\"b\":\"1.safetensors\""),
         "'b' is to be in 1.safetensors, but"},
        {MAP("\"a\":\"1.safetensors\",\"c\":\"2.safetensors\""),
         "'c' is to be in 2.safetensors, but"},
        {MAP("\"a\":\"1.safetensors\",\"b\":\"3.safetensors\""), "3.safetensors cannot be read"},
        {MAP("\"a\":\"1.safetensors\",\"b\":\"2.safetensors\",\"x\":\"1.safetensors\""), NULL},
        {MAP("\"a\":\"1.safetensors\",\"b\":\"2.safetensors\",\"y\":\"4.safetensors\""),
         "'a' is to be in 1.safetensors only, but 4.safetensors has one too"},
        {MAP("\"a\":\"bad.safetensors\""), "bad.safetensors"},
    };
    struct folder folder;
    folder_make(&folder);
    write_file(&folder, "1.safetensors", "a", "x");
    write_file(&folder, "2.safetensors", "b", NULL);
    write_file(&folder, "4.safetensors", "a", "y");
    fclose(fopen(folder_file(&folder, "bad.safetensors"), "w"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct shards s;
        struct err err = {""};
        write_index(&folder, cases[i].index);
        int rc = shards_open(&s, folder.path, &err);
        if (!rc != !cases[i].says)
            fail_msg("%s gives %d: %s", cases[i].index, rc, err.text);
        if (cases[i].says) {
            assert_says(err, cases[i].says);
            assert_says(err, "model.safetensors.index.json");
        }
        if (!rc)
            shards_release(&s);
    }
    folder_remove(&folder);
}

static void finds_the_file(void **state)
{
    (void)state;
    struct shards s;
    struct err err;
    struct folder folder;
    folder_make(&folder);
    assert_int_equal(shards_open(&s, folder.path, &err), ERR_IO);
    assert_says(err, "neither model.safetensors nor");
    assert_says(err, folder.path);
    write_index(&folder, "not read when there is model.safetensors");
    write_file(&folder, "model.safetensors", "a", NULL);
    assert_ok(shards_open(&s, folder.path, &err), err);
    assert_int_equal(s.n_tensors, 1);
    assert_non_null(shards_find(&s, "a"));
    shards_release(&s);
    folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_transformers_saved),
        cmocka_unit_test(refuses_hostile_indexes),
        cmocka_unit_test(sorts_an_index),
        cmocka_unit_test(limits_the_files),
        cmocka_unit_test(damage_never_crashes),
        cmocka_unit_test(opens_only_what_agrees),
        cmocka_unit_test(finds_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
