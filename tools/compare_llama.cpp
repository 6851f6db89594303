/* Times passes of llama.cpp, for tools/compare_llama.py, which compiles this against the llama.h
 * and the libraries of a llama.cpp that is already built. Not part of headway's programs.
 *
 *   compare_llama MODEL THREADS REPACK FLASH F32 CONTEXT PROMPT REPEAT TIMED ROWS...
 *
 * REPACK 1 lets llama.cpp repack weights for AMX or wide vectors as it sees fit, 0 keeps them as
 * stored. FLASH is whether to use its flash attention, F32 whether keys and values are f32 instead
 * of f16. (It comes with 1 1 0.) In each of REPEAT rounds, after a round that does not count: for
 * each of ROWS k, a pass over k tokens after CONTEXT others, with logits for all k, once without
 * and TIMED times with the clock; then a prompt of PROMPT tokens, with logits for its last. Prints
 * JSON. */
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <llama.h>

using std::string;
using std::vector;

static string messages;

static void keep(ggml_log_level, const char *text, void *)
{
    messages += text;
}

[[noreturn]] static void fail(const char *what)
{
    fprintf(stderr, "%s\ncompare_llama: %s\n", messages.c_str(), what);
    exit(1);
}

struct bench {
    llama_context *context;
    llama_memory_t memory;
    llama_batch batch;
    int vocab;

    /* Seconds for n tokens at positions from..from+n-1, logits for all of them or the last. */
    double pass(int from, int n, bool all)
    {
        batch.n_tokens = n;
        for (int i = 0; i < n; i++) {
            batch.token[i] = (llama_token)((unsigned)(from + i) * 2654435761u % (unsigned)vocab);
            batch.pos[i] = from + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = all || i == n - 1;
        }
        auto begin = std::chrono::steady_clock::now();
        if (llama_decode(context, batch))
            fail("llama_decode failed");
        const float *logits = llama_get_logits_ith(context, n - 1); /* waits for the end */
        std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        if (!logits || !(logits[0] == logits[0]))
            fail("no logits");
        return took.count();
    }

    void forget(int from)
    {
        if (!llama_memory_seq_rm(memory, 0, from, -1))
            fail("llama_memory_seq_rm failed");
    }
};

static void print_list(const vector<double> &values)
{
    for (size_t i = 0; i < values.size(); i++)
        printf("%s%.6g", i ? ", " : "", values[i]);
}

/* The kinds of memory that the weights went to, from lines like "AMX model buffer size = 1 MiB". */
static void print_buffers()
{
    const string word = " model buffer size";
    bool first = true;
    for (size_t at = messages.find(word); at != string::npos; at = messages.find(word, at + 1)) {
        size_t begin = messages.find_last_of(" :\n", at - 1) + 1;
        printf("%s\"%s\"", first ? "" : ", ", messages.substr(begin, at - begin).c_str());
        first = false;
    }
}

int main(int argc, char **argv)
{
    if (argc < 11)
        fail("MODEL THREADS REPACK FLASH F32 CONTEXT PROMPT REPEAT TIMED ROWS...");
    int threads = atoi(argv[2]), length = atoi(argv[6]), prompt = atoi(argv[7]);
    int repeat = atoi(argv[8]), timed = atoi(argv[9]), most = prompt > length ? prompt : length;
    vector<int> rows;
    for (int i = 10; i < argc; i++) {
        rows.push_back(atoi(argv[i]));
        if (length + rows.back() > most)
            most = length + rows.back();
    }
    llama_log_set(keep, nullptr);
    llama_backend_init();
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    model_params.use_extra_bufts = atoi(argv[3]) != 0;
    llama_model *model = llama_model_load_from_file(argv[1], model_params);
    if (!model)
        fail("the model could not be loaded");
    llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)most;
    params.n_batch = params.n_ubatch = (uint32_t)most;
    params.n_seq_max = 1;
    params.n_threads = params.n_threads_batch = threads;
    params.no_perf = true;
    params.flash_attn_type =
        atoi(argv[4]) ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = params.type_v = atoi(argv[5]) ? GGML_TYPE_F32 : GGML_TYPE_F16;
    bench b = {};
    b.context = llama_init_from_model(model, params);
    if (!b.context)
        fail("no context");
    b.memory = llama_get_memory(b.context);
    b.batch = llama_batch_init(most, 0, 1);
    b.vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));

    vector<vector<double>> ms(rows.size());
    vector<double> speed;
    b.pass(0, length, false);
    for (int r = -1; r < repeat; r++) {
        for (size_t i = 0; i < rows.size(); i++)
            for (int j = -1; j < (r < 0 ? 0 : timed); j++) {
                double seconds = b.pass(length, rows[i], true);
                b.forget(length);
                if (j >= 0)
                    ms[i].push_back(seconds * 1e3);
            }
        if (prompt) {
            b.forget(0);
            double seconds = b.pass(0, prompt, false);
            if (r >= 0)
                speed.push_back(prompt / seconds);
            b.forget(0);
            b.pass(0, length, false);
        }
    }

    printf("{\"system\": \"%s\", \"buffers\": [", llama_print_system_info());
    print_buffers();
    printf("], \"passes\": [");
    for (size_t i = 0; i < rows.size(); i++) {
        printf("%s{\"rows\": %d, \"ms\": [", i ? ", " : "", rows[i]);
        print_list(ms[i]);
        printf("]}");
    }
    printf("], \"prompt_tokens_per_s\": [");
    print_list(speed);
    printf("]}\n");
    llama_batch_free(b.batch);
    llama_free(b.context);
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
