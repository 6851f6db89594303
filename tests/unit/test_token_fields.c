/* Fields that name tokens, prompts that are cut, and the middle that is filled in. */
#include "tests/unit/chat_model.h"

static struct chat_model model;

enum { PREFIX = CHAT_VOCAB, SUFFIX, MIDDLE, FIM_VOCAB };

static int set_up(void **state)
{
    (void)state;
    chat_model_init(&model, NULL, true);
    return 0;
}

/* The same with the tokens of Qwen2.5-Coder. */
static int set_up_fim(void **state)
{
    static const char *const names[] = {
        "<s>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"};
    static const char *const merges[][2] = {
        {"h", "e"}, {"he", "l"}, {"hel", "l"}, {"hell", "o"}, {NULL, NULL}};
    struct vocab vocab;
    set_up(state);
    tokenizer_free(model.tokenizer);
    byte_level_vocab(&vocab, "gpt-2", merges);
    for (int i = 0; i < 6; i++)
        add_token(&vocab, names[i], TOKEN_CONTROL, 0);
    vocab.bos = CHAT_BOS;
    vocab.eos = CHAT_END;
    vocab.add_bos = true;
    model.info.tokenizer = model.tokenizer = make(&vocab);
    model.info.vocab = FIM_VOCAB;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    chat_model_release(&model);
    return 0;
}

static int parse(struct api_request *request, const char *body)
{
    struct response error = {0};
    int rc = parse_as(request, API_COMPLETION, &model, body, &error);
    response_release(&error);
    return rc;
}

static void refuses(const char *body, const char *param)
{
    assert_refused(&model, API_COMPLETION, body, 400, param, NULL);
}

static void assert_tokens(const struct api_prompt *prompt, const int32_t *tokens, size_t n)
{
    assert_int_equal(prompt->n_tokens, n);
    assert_memory_equal(prompt->tokens, tokens, n * sizeof *tokens);
}

static void ids_are_taken(void **state)
{
    struct api_request r;
    (void)state;
    assert_int_equal(parse(&r,
                           "{\"prompt\":\"a\",\"stop_token_ids\":[7,0],"
                           "\"allowed_token_ids\":[1,2,262],\"include_stop_str_in_output\":true}"),
                     0);
    assert_int_equal(r.engine.n_stop_tokens, 2);
    assert_int_equal(r.engine.stop_tokens[0], 7);
    assert_int_equal(r.engine.n_allowed, 3);
    assert_int_equal(r.engine.allowed[2], 262);
    assert_true(r.engine.include_stop);
    api_release(&r);
    assert_int_equal(parse(&r, "{\"prompt\":\"a\"}"), 0);
    assert_true(!r.engine.n_stop_tokens && !r.engine.n_allowed && !r.engine.n_bad);
    assert_false(r.engine.include_stop);
    api_release(&r);
    refuses("{\"prompt\":\"a\",\"stop_token_ids\":[263]}", "stop_token_ids");
    refuses("{\"prompt\":\"a\",\"stop_token_ids\":7}", "stop_token_ids");
    refuses("{\"prompt\":\"a\",\"stop_token_ids\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}",
            "stop_token_ids");
    refuses("{\"prompt\":\"a\",\"allowed_token_ids\":[-1]}", "allowed_token_ids");
    refuses("{\"prompt\":\"a\",\"include_stop_str_in_output\":1}", "include_stop_str_in_output");
}

/* A word stands alone and behind a space. */
static void words_become_tokens(void **state)
{
    static const int32_t tokens[] = {CHAT_HELLO, ' ', CHAT_HELLO, 'o', 'x', ' ', 'o', 'x'};
    static const int lens[] = {1, 2, 2, 3};
    struct api_request r;
    (void)state;
    assert_int_equal(parse(&r, "{\"prompt\":\"a\",\"bad_words\":[\"hello\",\"ox\"]}"), 0);
    assert_int_equal(r.engine.n_bad, 4);
    assert_memory_equal(r.engine.bad_lens, lens, sizeof lens);
    assert_memory_equal(r.engine.bad_tokens, tokens, sizeof tokens);
    api_release(&r);
    refuses("{\"prompt\":\"a\",\"bad_words\":\"x\"}", "bad_words");
    refuses("{\"prompt\":\"a\",\"bad_words\":[\"x\",\"\"]}", "bad_words");
    refuses("{\"prompt\":\"a\",\"bad_words\":[5]}", "bad_words");
    refuses("{\"prompt\":\"a\",\"bad_words\":[\"0123456789abcdef\"]}",
            "bad_words"); /* 17 with a space */
}

static void prompts_keep_their_end(void **state)
{
    static const int32_t end[] = {'d', 'e'};
    struct api_request r;
    (void)state;
    assert_int_equal(parse(&r, "{\"prompt\":\"abcde\",\"truncate_prompt_tokens\":2}"), 0);
    assert_tokens(&r.prompts[0], end, 2);
    assert_false(r.prompts[0].bos_added);
    api_release(&r);
    model.info.context = 3;
    assert_int_equal(parse(&r, "{\"prompt\":[100,1,1,100,101],\"truncate_prompt_tokens\":-1}"), 0);
    assert_tokens(&r.prompts[0], end, 2);
    api_release(&r);
    refuses("{\"prompt\":\"a\",\"truncate_prompt_tokens\":-2}", "truncate_prompt_tokens");
    refuses("{\"prompt\":\"a\",\"truncate_prompt_tokens\":0}", "prompt");
    refuses("{\"prompt\":\"a\",\"truncate_prompt_tokens\":1,\"echo\":true}", "echo");
}

static void the_middle_is_filled_in(void **state)
{
    static const int32_t tokens[] = {CHAT_BOS, PREFIX, 'a',        '<',   's',
                                     '>',      SUFFIX, CHAT_HELLO, MIDDLE};
    struct api_request r;
    (void)state;
    /* What looks like a control token is text. */
    assert_int_equal(parse(&r, "{\"prompt\":\"a<s>\",\"suffix\":\"hello\"}"), 0);
    assert_tokens(&r.prompts[0], tokens, 9);
    api_release(&r);
    assert_int_equal(
        parse(&r, "{\"prompt\":[\"a<s>\"],\"suffix\":\"hello\",\"add_special_tokens\":false}"), 0);
    assert_tokens(&r.prompts[0], tokens + 1, 8);
    api_release(&r);
    assert_int_equal(parse(&r, "{\"prompt\":\"a\",\"suffix\":\"\"}"), 0); /* none */
    assert_int_equal(r.prompts[0].n_tokens, 2);
    api_release(&r);
    refuses("{\"prompt\":[1,2],\"suffix\":\"a\"}", "suffix");
    refuses("{\"prompt\":\"a\",\"suffix\":5}", "suffix");
    refuses("{\"prompt\":\"a\",\"suffix\":\"b\",\"echo\":true}", "echo");
}

/* Without tokens for a repository other files are text before the gap; what is cut is the first of
 * them, and then what is far from the gap. */
static void a_gap_behind_other_files(void **state)
{
    static const int32_t tokens[] = {CHAT_BOS, 'x', '\n',   'y',        '\n',
                                     PREFIX,   'a', SUFFIX, CHAT_HELLO, MIDDLE};
    static const char files[] =
        "{\"input_extra\":[{\"filename\":\"f\",\"text\":\"x\"},{\"text\":\"y\"}],"
        "\"input_prefix\":\"\",\"prompt\":\"a\",\"input_suffix\":\"hello\",\"n_predict\":2}";
    struct api_request r;
    struct response error = {0};
    (void)state;
    for (int room = 10; room >= 6; room -= 2) {
        model.info.context = room + 2;
        assert_int_equal(parse_as(&r, API_INFILL, &model, files, &error), 0);
        assert_true(r.prompts[0].bos_added);
        assert_int_equal(r.prompts[0].cut, room < 10);
        assert_int_equal(r.prompts[0].n_tokens, room);
        assert_int_equal(r.prompts[0].tokens[0], CHAT_BOS);
        assert_memory_equal(r.prompts[0].tokens + 1, tokens + 11 - room,
                            (size_t)(room - 1) * sizeof *tokens);
        api_release(&r);
    }
    model.info.context = 4; /* no room for what frames the gap */
    assert_refused(&model, API_INFILL,
                   "{\"input_prefix\":\"\",\"input_suffix\":\"\",\"n_predict\":9}", 400,
                   "input_prefix", "context_length_exceeded");
    response_release(&error);
}

static void not_every_model_can(void **state)
{
    (void)state;
    refuses("{\"prompt\":\"a\",\"suffix\":\"b\"}", "suffix");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ids_are_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(words_become_tokens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(prompts_keep_their_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_middle_is_filled_in, set_up_fim, tear_down),
        cmocka_unit_test_setup_teardown(a_gap_behind_other_files, set_up_fim, tear_down),
        cmocka_unit_test_setup_teardown(not_every_model_can, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
