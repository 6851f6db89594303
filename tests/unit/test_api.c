/* server/api.c: bodies of POST /v1/completions, good, bad and mutated at random. */
#include "tests/unit/chat_model.h"

static struct chat_model model;

static int set_up(void **state)
{
    (void)state;
    chat_model_init(&model, NULL, true);
    model.info.context = 32;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    chat_model_release(&model);
    return 0;
}

static int parse(struct api_request *request, const char *body, struct response *error)
{
    return parse_as(request, API_COMPLETION, &model, body, error);
}

static void test_bad_bodies(void **state)
{
    static const struct {
        const char *body, *param, *code;
    } table[] = {
        {"", NULL, "invalid_json"},
        {"{", NULL, "invalid_json"},
        {"[1]", NULL, "invalid_json"},
        {"null", NULL, "invalid_json"},
        {"{\"prompt\":\"a\",\"prompt\":\"b\"}", NULL, "invalid_json"},
        {"{\"prompt\":\"\\udc00\"}", NULL, "invalid_json"},
        {"{\"prompt\":\"\xff\"}", NULL, "invalid_json"},
        {"{\"prompt\":\"a\",\"temperature\":1e999}", NULL, "invalid_json"},
        {"{\"prompt\":\"a\",\"temperature\":NaN}", NULL, "invalid_json"},
        {"{}", "prompt", NULL},
        {"{\"prompt\":null}", "prompt", NULL},
        {"{\"prompt\":true}", "prompt", NULL},
        {"{\"prompt\":[]}", "prompt", NULL},
        {"{\"prompt\":[[]]}", "prompt", NULL},
        {"{\"prompt\":[[1],2]}", "prompt", NULL},
        {"{\"prompt\":[1,2.5]}", "prompt", NULL},
        {"{\"prompt\":[263]}", "prompt", NULL},
        {"{\"prompt\":[-1]}", "prompt", NULL},
        {"{\"prompt\":\"0123456789012345678901234567890\"}", "prompt", "context_length_exceeded"},
        {"{\"prompt\":\"a\",\"top_p\":-0.5}", "top_p", NULL},
        {"{\"prompt\":\"a\",\"temperature\":true}", "temperature", NULL},
        {"{\"prompt\":\"a\",\"max_tokens\":2147483648}", "max_tokens", NULL},
        {"{\"prompt\":\"a\",\"n\":1.5}", "n", NULL},
        {"{\"prompt\":\"a\",\"repetition_penalty\":0.0099}", "repetition_penalty", NULL},
        {"{\"prompt\":\"a\",\"seed\":9223372036854775808}", NULL, "invalid_json"},
        {"{\"prompt\":\"a\",\"temprature\":1}", "temprature", "unknown_field"},
        {"{\"prompt\":\"a\",\"strem\":false}", "strem", "unknown_field"},
        {"{\"prompt\":\"a\",\"messages\":[1]}", "messages", NULL},
        {"{\"prompt\":\"a\",\"max_completion_tokens\":5}", "max_completion_tokens", NULL},
        {"{\"prompt\":\"a\",\"typical_p\":0.5}", "typical_p", NULL},
        {"{\"prompt\":\"a\",\"n_predict\":5}", "n_predict", NULL},
        {"{\"prompt\":\"a\",\"grammar\":\"root\"}", "grammar", NULL},
        {"{\"prompt\":\"a\",\"structured_outputs\":{\"a\":1}}", "structured_outputs", NULL},
        {"{\"prompt\":\"a\",\"min_tokens\":17}", "min_tokens", NULL},
        {"{\"prompt\":\"a\",\"logit_bias\":{\"263\":1}}", "logit_bias", NULL},
        {"{\"prompt\":\"a\",\"logit_bias\":{\" 1\":1}}", "logit_bias", NULL},
        {"{\"prompt\":\"a\",\"logit_bias\":{\"1x\":1}}", "logit_bias", NULL},
        {"{\"prompt\":\"a\",\"logit_bias\":{\"1\":null}}", "logit_bias", NULL},
        {"{\"prompt\":\"a\",\"speculation\":32}", "speculation", NULL},
        {"{\"prompt\":\"a\",\"speculation\":-1}", "speculation", NULL},
        {"{\"prompt\":\"a\",\"speculation\":\"on\"}", "speculation", NULL},
        {"{\"prompt\":[\"a\",\"b\"],\"n\":33}", "n", NULL},
        {"{\"prompt\":\"a\",\"best_of\":2,\"n\":3}", "best_of", NULL},
        {"{\"prompt\":\"a\",\"best_of\":3,\"n\":2,\"stream\":true}", "best_of", NULL},
        {"{\"prompt\":[\"a\",\"b\"],\"best_of\":33}", "n", NULL},
        {"{\"prompt\":\"a\",\"stop\":[\"\"]}", "stop", NULL},
        {"{\"prompt\":\"a\",\"parse_special\":1}", "parse_special", NULL},
        {"{\"prompt\":\"a\",\"return_token_ids\":1}", "return_token_ids", NULL},
        {"{\"prompt\":\"\",\"add_special_tokens\":false}", "prompt", NULL},
        {"{\"prompt\":\"a\",\"suffix\":\"b\"}", "suffix", NULL},
        {"{\"prompt\":\"a\",\"guided_json\":{\"a\":1}}", "guided_json", NULL},
        {"{\"prompt\":\"a\",\"guided_json\":\"{\"}", "guided_json", NULL},
        {"{\"prompt\":\"a\",\"guided_regex\":\"(\"}", "guided_regex", NULL},
        {"{\"prompt\":\"a\",\"guided_regex\":[]}", "guided_regex", NULL},
        {"{\"prompt\":\"a\",\"guided_choice\":[]}", "guided_choice", NULL},
        {"{\"prompt\":\"a\",\"guided_choice\":[\"a\",1]}", "guided_choice", NULL},
        {"{\"prompt\":\"a\",\"guided_choice\":[\"a\",\"\"]}", "guided_choice", NULL},
        {"{\"prompt\":\"a\",\"guided_grammar\":\"root ::= x\"}", "guided_grammar", NULL},
        {"{\"prompt\":\"a\",\"grammar\":\"root ::= x\"}", "grammar", NULL},
        {"{\"prompt\":\"a\",\"json_schema\":{\"not\":{}}}", "json_schema", NULL},
        {"{\"prompt\":\"a\",\"structured_outputs\":{\"grammar\":\"x\"}}", "structured_outputs",
         NULL},
        {"{\"prompt\":\"a\",\"structured_outputs\":{\"regex\":\"x\",\"choice\":[\"x\"]}}",
         "structured_outputs", NULL},
        {"{\"prompt\":\"a\",\"guided_regex\":\"x\",\"guided_choice\":[\"x\"]}", "guided_choice",
         NULL},
        {"{\"prompt\":\"a\",\"skip_special_tokens\":false}", "skip_special_tokens", NULL},
        {"{\"prompt\":\"a\",\"response_format\":{\"type\":\"grammar\"}}", "response_format", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_refused(&model, API_COMPLETION, table[i].body, 400, table[i].param, table[i].code);
    assert_refused(&model, API_COMPLETION, "{\"prompt\":\"a\",\"model\":\"other\"}", 404, "model",
                   "model_not_found");
}

static void test_defaults(void **state)
{
    struct api_request r;
    struct response error;
    (void)state;
    assert_int_equal(parse(&r, "{\"prompt\":\"Hi\",\"temperature\":null,\"user\":\"me\"}", &error),
                     0);
    assert_int_equal(r.n_prompts, 1);
    assert_int_equal(r.prompts[0].n_tokens, 3);
    assert_int_equal(r.prompts[0].tokens[0], CHAT_BOS);
    assert_int_equal(r.prompts[0].tokens[2], 'i');
    assert_true(r.prompts[0].bos_added);
    assert_int_equal(r.engine.max_tokens, 16);
    assert_true(r.engine.temperature == 1 && r.engine.top_p == 1);
    assert_true(r.engine.repetition_penalty == 1);
    assert_int_equal(r.engine.speculation, SPECULATION_AUTO);
    assert_int_equal(r.engine.seed, 99);
    assert_int_equal(r.logprobs, -1);
    assert_int_equal(r.n, 1);
    assert_false(r.stream || r.echo || r.engine.logprobs || r.engine.prompt_logprobs);
    assert_false(r.return_token_ids);
    api_release(&r);
}

static void test_everything_set(void **state)
{
    struct api_request r;
    struct response error;
    (void)state;
    const char *body = "{\"model\":\"demo\",\"prompt\":[[1,2],\"a\\u0000b\"],\"n\":3,\"best_of\":3,"
                       "\"max_tokens\":7,\"min_tokens\":2,\"temperature\":0,\"top_p\":0.5,"
                       "\"top_k\":-1,\"min_p\":0.1,\"frequency_penalty\":-1,"
                       "\"presence_penalty\":2,\"repetition_penalty\":1.5,\"seed\":-4,"
                       "\"logit_bias\":{\"3\":-100,\"256\":5.5},\"logprobs\":2,\"echo\":true,"
                       "\"stop\":[\"x\\u0000\",\"yz\"],\"stream\":true,"
                       "\"stream_options\":{\"include_usage\":true},\"speculation\":3}";
    assert_int_equal(parse(&r, body, &error), 0);
    assert_int_equal(r.n_prompts, 2);
    assert_int_equal(r.prompts[0].n_tokens, 2);
    assert_false(r.prompts[0].bos_added);
    assert_int_equal(r.prompts[1].text_len, 3);
    assert_int_equal(r.n, 3);
    assert_int_equal(r.engine.max_tokens, 7);
    assert_int_equal(r.engine.top_k, 0);
    assert_true(r.engine.seed == (uint64_t)-4);
    assert_int_equal(r.engine.n_biases, 2);
    assert_true(r.engine.biases[0].token == 3 && r.engine.biases[0].bias == -100);
    assert_int_equal(r.engine.n_stops, 2);
    assert_int_equal(r.engine.stop_lens[0], 2);
    assert_int_equal(r.engine.top_logprobs, 2);
    assert_true(r.engine.logprobs && r.engine.prompt_logprobs && r.stream && r.include_usage);
    assert_int_equal(r.engine.speculation, 3);
    api_release(&r);
}

/* A model with one head takes the same values: drafts may come from elsewhere. */
static void test_speculation(void **state)
{
    static const struct {
        const char *body;
        int expected;
    } table[] = {
        {"{\"prompt\":\"a\"}", SPECULATION_AUTO},
        {"{\"prompt\":\"a\",\"speculation\":\"auto\"}", SPECULATION_AUTO},
        {"{\"prompt\":\"a\",\"speculation\":\"off\"}", 0},
        {"{\"prompt\":\"a\",\"speculation\":0}", 0},
        {"{\"prompt\":\"a\",\"speculation\":4}", 4},
        {"{\"prompt\":\"a\",\"speculation\":31}", ENGINE_DRAFTS_MAX},
    };
    (void)state;
    for (int heads = 1; heads <= 4; heads += 3) {
        model.info.n_predict = heads;
        for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
            struct api_request r;
            struct response error = {0};
            assert_int_equal(parse(&r, table[i].body, &error), 0);
            assert_int_equal(r.engine.speculation, table[i].expected);
            api_release(&r);
        }
    }
}

/* logprobs 0 asks for the token's own. */
static void test_logprobs_without_alternatives(void **state)
{
    struct api_request r;
    struct response error;
    (void)state;
    assert_int_equal(parse(&r, "{\"prompt\":\"a\",\"logprobs\":0}", &error), 0);
    assert_true(r.engine.logprobs);
    assert_int_equal(r.engine.top_logprobs, 0);
    assert_false(r.engine.prompt_logprobs);
    api_release(&r);
}

/* A whole response holds them all, a stream only what its client has not read. */
static void test_logprobs_are_bounded(void **state)
{
    struct api_request r;
    struct response error;
    (void)state;
    model.info.context = 131072;
    assert_refused(&model, API_COMPLETION,
                   "{\"prompt\":\"a\",\"n\":64,\"max_tokens\":100000,\"logprobs\":20}", 400,
                   "logprobs", NULL);
    assert_refused(&model, API_COMPLETION,
                   "{\"prompt\":\"a\",\"n\":64,\"max_tokens\":1,\"logprobs\":20,\"echo\":true,"
                   "\"stream\":true}",
                   400, "logprobs", NULL);
    assert_int_equal(parse(&r,
                           "{\"prompt\":\"a\",\"n\":64,\"max_tokens\":100000,\"logprobs\":20,"
                           "\"stream\":true}",
                           &error),
                     0);
    api_release(&r);
    model.info.context = 32;
}

static void assert_tokens(const char *body, const int32_t *expected, size_t n)
{
    struct api_request r;
    struct response error;
    assert_int_equal(parse(&r, body, &error), 0);
    assert_int_equal(r.prompts[0].n_tokens, n);
    assert_memory_equal(r.prompts[0].tokens, expected, n * sizeof *expected);
    api_release(&r);
}

/* Raw prompts are whole texts of a model, control tokens and all, unless they are said not to be.
 */
static void test_special_tokens_in_prompts(void **state)
{
    static const int32_t parsed[] = {CHAT_BOS, CHAT_START, CHAT_HELLO, CHAT_END};
    static const int32_t text[] = {CHAT_BOS, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'};
    (void)state;
    assert_tokens("{\"prompt\":\"<|im_start|>hello<|im_end|>\"}", parsed, 4);
    assert_tokens("{\"prompt\":\"<|im_start|>hello<|im_end|>\",\"add_special_tokens\":false}",
                  parsed + 1, 3);
    assert_tokens("{\"prompt\":\"<|im_end|>\",\"parse_special\":false}", text, 11);
}

static void test_token_ids_are_taken_as_they_are(void **state)
{
    static const int32_t ids[] = {CHAT_END, 0, CHAT_HELLO};
    (void)state;
    assert_tokens("{\"prompt\":[262,0,259]}", ids, 3);
    assert_tokens("{\"prompt\":[[262,0,259],[1]]}", ids, 3);
}

static void test_mutations_never_crash(void **state)
{
    static const char *const seeds[] = {
        "{\"prompt\":[\"a\",\"b\"],\"n\":2,\"stop\":[\"x\",\"y\"],\"logit_bias\":{\"3\":1.5},"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"logprobs\":3}",
        "{\"model\":\"demo\",\"prompt\":[[1,2,3],[4]],\"temperature\":0.5,\"top_p\":1e-3,"
        "\"max_tokens\":12,\"min_tokens\":3,\"speculation\":\"auto\",\"seed\":123456789}",
        "{\"prompt\":\"caf\xc3\xa9 \\ud83d\\ude00\",\"stop\":\"\\n\",\"echo\":true,\"user\":\"u\"}",
    };
    int accepted = 0;
    (void)state;
    for (uint64_t i = 0; i < 30000; i++) {
        char body[512];
        struct api_request r;
        struct response error = {0};
        size_t len = strlen(seeds[i % 3]);
        memcpy(body, seeds[i % 3], len);
        for (uint64_t j = 0; j <= i % 4 && len; j++)
            len = mutate(body, len, i * 8 + j);
        int rc = api_parse(&r, API_COMPLETION, &model.api, body, len, 0, &error);
        assert_true(rc == 0 || error.status == 400 || error.status == 404);
        if (!rc) {
            accepted++;
            assert_true(r.n_prompts >= 1 && r.n >= 1 && r.n_prompts * (size_t)r.n <= 64);
            for (size_t p = 0; p < r.n_prompts; p++)
                assert_in_range(r.prompts[p].n_tokens, 1, 31);
        }
        response_release(&error);
        api_release(&r);
    }
    assert_true(accepted > 100);
}

/* Sentences say what came and what was meant. */
static void test_sentences(void **state)
{
    static const struct {
        const char *body, *part;
    } table[] = {
        {"{\"prompt\":\"a\",\"temprature\":1}", "did you mean 'temperature'?"},
        {"{\"prompt\":\"a\",\"max_token\":1}", "did you mean 'max_tokens'?"},
        {"{\"prompt\":\"a\",\"topk\":1}", "did you mean 'top_k'?"},
        {"{\"prompt\":\"a\",\"pormpt\":\"b\"}", "did you mean 'prompt'?"},
        {"{\"prompt\":\"a\",\"colour\":1}", "There is no field 'colour': leave it out"},
        {"{\"prompt\":\"a\",\"max_tokens\":2147483648}",
         "'max_tokens' is 2147483648, but must lie between 0 and 2147483647."},
        {"{\"prompt\":\"a\",\"repetition_penalty\":0.0099}",
         "'repetition_penalty' is 0.0099, but must lie between 0.01 and 100."},
        {"{\"prompt\":\"a\",\"temperature\":3}",
         "'temperature' is 3, but must lie between 0 and 2."},
        {"{\"prompt\":\"a\",\"seed\":9223372036854775808}", "between -2^63 and 2^63-1"},
        {"{\"prompt\":\"a\",\"n\":65}", "'n' is 65, but must lie between 1 and 64."},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct api_request request;
        struct response error = {0};
        assert_int_not_equal(parse(&request, table[i].body, &error), 0);
        buf_append(&error.body, "", 1);
        if (!strstr(error.body.data, table[i].part))
            fail_msg("%s: %s", table[i].body, error.body.data);
        response_release(&error);
        api_release(&request);
    }
    static const char *const taken[] = {
        "{\"prompt\":\"a\",\"max_tokens\":2147483647}",
        "{\"prompt\":\"a\",\"repetition_penalty\":0.01}",
        "{\"prompt\":\"a\",\"n\":1.0,\"top_k\":5.0}",
        "{\"prompt\":\"a\",\"seed\":9223372036854775807}",
        "{\"prompt\":\"a\",\"store\":true,\"metadata\":{\"a\":\"b\"},\"temprature\":null}",
    };
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        struct api_request request;
        struct response error = {0};
        assert_int_equal(parse(&request, taken[i], &error), 0);
        api_release(&request);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_bodies),
        cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything_set),
        cmocka_unit_test(test_speculation),
        cmocka_unit_test(test_logprobs_without_alternatives),
        cmocka_unit_test(test_logprobs_are_bounded),
        cmocka_unit_test(test_special_tokens_in_prompts),
        cmocka_unit_test(test_token_ids_are_taken_as_they_are),
        cmocka_unit_test(test_mutations_never_crash),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
