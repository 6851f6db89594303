/* server/text_api.c and logprobs.c: tokens of texts, texts of tokens, and tokens with their places
 * in a text, for vocabularies whose tokens are parts of characters. */
#include <math.h>

#include "server/logprobs.h"
#include "server/text_api.h"
#include "tests/unit/chat_model.h"

static struct chat_model model;

static int set_up(void **state)
{
    (void)state;
    chat_model_init(&model, CHATML, true);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    chat_model_release(&model);
    return 0;
}

typedef void endpoint(const struct api_model *, const char *, size_t, struct response *);

static void assert_says_body(endpoint *endpoint, const char *body, const char *expected)
{
    struct response response = {0};
    endpoint(&model.api, body, strlen(body), &response);
    if (response.status != 200)
        fail_msg("%s: %s", body, response.body.data);
    assert_string_equal(response.body.data, expected);
    response_release(&response);
}

static void assert_refuses(endpoint *endpoint, const char *body, const char *param,
                           const char *code)
{
    struct response response = {0};
    endpoint(&model.api, body, strlen(body), &response);
    assert_error(&response, 400, param, code);
    response_release(&response);
}

static void test_tokenize(void **state)
{
    (void)state;
    endpoint *e = text_api_tokenize;
    assert_says_body(e, "{\"content\":\"hello\"}", "{\"tokens\":[259]}\n");
    assert_says_body(e, "{\"content\":\"\"}", "{\"tokens\":[]}\n");
    assert_says_body(e, "{\"content\":\"he<|im_end|>\",\"add_special\":true}",
                     "{\"tokens\":[260,256,262]}\n");
    assert_says_body(e, "{\"content\":\"<s>\",\"parse_special\":false}",
                     "{\"tokens\":[60,115,62]}\n");
    assert_says_body(e, "{\"content\":\"he\\u00e9<s>\\u0000\",\"with_pieces\":true}",
                     "{\"tokens\":[{\"id\":256,\"piece\":\"he\"},{\"id\":195,\"piece\":[195]},"
                     "{\"id\":169,\"piece\":[169]},{\"id\":260,\"piece\":\"<s>\"},"
                     "{\"id\":0,\"piece\":\"\\u0000\"}]}\n");
    assert_refuses(e, "{}", "content", NULL);
    assert_refuses(e, "{\"content\":[1]}", "content", NULL);
    assert_refuses(e, "{\"content\":\"x\",\"add_special\":1}", "add_special", NULL);
    assert_refuses(e, "{\"content\":\"x\",\"parse_special\":\"\"}", "parse_special", NULL);
    assert_refuses(e, "{\"content\":\"x\",\"with_pieces\":[]}", "with_pieces", NULL);
    assert_refuses(e, "", NULL, "invalid_json");
    assert_refuses(e, "[]", NULL, "invalid_json");
}

static void test_detokenize(void **state)
{
    (void)state;
    endpoint *e = text_api_detokenize;
    assert_says_body(e, "{\"tokens\":[260,259,195,169,262]}",
                     "{\"content\":\"<s>hello\xc3\xa9<|im_end|>\"}\n");
    assert_says_body(e, "{\"tokens\":[195]}", "{\"content\":\"\xef\xbf\xbd\"}\n");
    assert_says_body(e, "{\"tokens\":[]}", "{\"content\":\"\"}\n");
    assert_refuses(e, "{}", "tokens", NULL);
    assert_refuses(e, "{\"tokens\":\"1\"}", "tokens", NULL);
    assert_refuses(e, "{\"tokens\":[263]}", "tokens", NULL);
    assert_refuses(e, "{\"tokens\":[-1]}", "tokens", NULL);
    assert_refuses(e, "{\"tokens\":[1.0]}", "tokens", NULL);
}

static void test_apply_template(void **state)
{
    (void)state;
    endpoint *e = text_api_apply_template;
    assert_says_body(e, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000b\"}]}",
                     "{\"prompt\":\"<|im_start|>user\\na\\u0000b<|im_end|>\\n"
                     "<|im_start|>assistant\\n\"}\n");
    assert_refuses(e, "{}", "messages", NULL);
    assert_refuses(e, "{\"messages\":[{\"role\":\"user\",\"content\":\"refuse me\"}]}", "messages",
                   "chat_template_error");
    model.api.template = NULL;
    assert_refuses(e, "{}", NULL, "no_chat_template");
    model.api.template = model.template;
}

/* ---- log-probabilities ---- */

static void add(struct logprobs *logprobs, int32_t token, float logprob, int32_t other, bool echoed)
{
    struct engine_token t = {.token = token, .logprob = logprob};
    if (other >= 0) {
        t.n_top = 1;
        t.top[0].token = other;
        t.top[0].logprob = -0.25f;
    }
    logprobs_add(logprobs, &t, echoed);
}

static void assert_written(struct logprobs *logprobs, const char *expected)
{
    struct buf out = {0};
    logprobs_write(logprobs, &out);
    assert_string_equal(out.data, expected);
    buf_release(&out);
}

/* Offsets are characters of the text; a token inside a character has the character's. */
static void test_offsets(void **state)
{
    struct logprobs l;
    (void)state;
    logprobs_init(&l, model.tokenizer, false, CHAT_BOS);
    add(&l, 195, -1, 256, false); /* the halves of an e with an accent */
    add(&l, 169, -2, -1, false);
    add(&l, CHAT_HELLO, -0.25f, CHAT_HELLO, false);
    assert_written(&l, "{\"tokens\":[\"bytes:\\\\xc3\",\"bytes:\\\\xa9\",\"hello\"],"
                       "\"token_logprobs\":[-1,-2,-0.25],\"top_logprobs\":["
                       "{\"he\":-0.25,\"bytes:\\\\xc3\":-1},{\"bytes:\\\\xa9\":-2},"
                       "{\"hello\":-0.25}],\"text_offset\":[0,0,1]}");
    add(&l, CHAT_END, -INFINITY, -1, false);
    add(&l, 'x', -1, -1, false);
    assert_written(&l, "{\"tokens\":[\"<|im_end|>\",\"x\"],\"token_logprobs\":[-9999,-1],"
                       "\"top_logprobs\":[{\"<|im_end|>\":-9999},{\"x\":-1}],"
                       "\"text_offset\":[6,6]}");
    logprobs_release(&l);
}

/* A character that is never finished is one (U+FFFD) of its own. */
static void test_offsets_behind_broken_characters(void **state)
{
    struct logprobs l;
    (void)state;
    logprobs_init(&l, model.tokenizer, false, CHAT_BOS);
    add(&l, 195, -1, -1, false);
    add(&l, 'a', -1, -1, false);
    add(&l, 0xe2, -1, -1, false);
    add(&l, CHAT_END, -1, -1, false);
    add(&l, 0x82, -1, -1, false);
    add(&l, 195, -1, -1, false);
    assert_written(&l,
                   "{\"tokens\":[\"bytes:\\\\xc3\",\"a\",\"bytes:\\\\xe2\",\"<|im_end|>\","
                   "\"bytes:\\\\x82\",\"bytes:\\\\xc3\"],\"token_logprobs\":[-1,-1,-1,-1,-1,-1],"
                   "\"top_logprobs\":[{\"bytes:\\\\xc3\":-1},{\"a\":-1},{\"bytes:\\\\xe2\":-1},"
                   "{\"<|im_end|>\":-1},{\"bytes:\\\\x82\":-1},{\"bytes:\\\\xc3\":-1}],"
                   "\"text_offset\":[0,1,2,2,2,3]}");
    logprobs_release(&l);
}

/* An echoed prompt shows its control tokens, an answer does not. */
static void test_offsets_behind_an_echo(void **state)
{
    struct logprobs l;
    (void)state;
    logprobs_init(&l, model.tokenizer, false, -1);
    add(&l, CHAT_END, NAN, -1, true);
    add(&l, 'a', -1, -1, true);
    add(&l, CHAT_END, -1, -1, false);
    add(&l, 'b', -1, -1, false);
    assert_written(&l, "{\"tokens\":[\"<|im_end|>\",\"a\",\"<|im_end|>\",\"b\"],"
                       "\"token_logprobs\":[null,-1,-1,-1],\"top_logprobs\":[null,{\"a\":-1},"
                       "{\"<|im_end|>\":-1},{\"b\":-1}],\"text_offset\":[0,10,11,11]}");
    logprobs_release(&l);
}

static void test_chat_shape(void **state)
{
    struct logprobs l;
    (void)state;
    logprobs_init(&l, model.tokenizer, true, CHAT_BOS);
    assert_written(&l, "{\"content\":[],\"refusal\":null}");
    add(&l, 195, -1, 256, false);
    add(&l, CHAT_END, -2, -1, false);
    assert_written(&l, "{\"content\":[{\"token\":\"\\\\xc3\",\"logprob\":-1,\"bytes\":[195],"
                       "\"top_logprobs\":[{\"token\":\"he\",\"logprob\":-0.25,"
                       "\"bytes\":[104,101]}]},{\"token\":\"<|im_end|>\",\"logprob\":-2,"
                       "\"bytes\":null,\"top_logprobs\":[]}],\"refusal\":null}");
    logprobs_release(&l);
}

/* SentencePiece: the space of a text's first word is not part of it, that of the next is. */
static void test_first_word_of_sentencepiece(void **state)
{
    struct vocab vocab = {.kind = VOCAB_SENTENCEPIECE, .bos = -1, .eos = -1, .unknown = 0};
    struct logprobs l;
    (void)state;
    add_token(&vocab, "<unk>", TOKEN_UNKNOWN, 0);
    add_token(&vocab, "\xe2\x96\x81hi", TOKEN_TEXT, 0);
    vocab.rules.add_space_prefix = true;
    struct tokenizer *tokenizer = make(&vocab);
    logprobs_init(&l, tokenizer, false, -1);
    add(&l, 1, -1, -1, true);
    add(&l, 1, -1, -1, false);
    add(&l, 1, -1, -1, false);
    assert_written(&l, "{\"tokens\":[\"hi\",\" hi\",\" hi\"],\"token_logprobs\":[-1,-1,-1],"
                       "\"top_logprobs\":[{\"hi\":-1},{\" hi\":-1},{\" hi\":-1}],"
                       "\"text_offset\":[0,2,5]}");
    logprobs_release(&l);
    tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_detokenize),
        cmocka_unit_test(test_apply_template),
        cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_offsets_behind_broken_characters),
        cmocka_unit_test(test_offsets_behind_an_echo),
        cmocka_unit_test(test_chat_shape),
        cmocka_unit_test(test_first_word_of_sentencepiece),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
