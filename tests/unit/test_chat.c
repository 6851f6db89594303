/* server/chat.c and messages.c: bodies of POST /v1/chat/completions, good, bad, hostile and mutated
 * at random; which of their special tokens are tokens. */
#include "server/chat.h"
#include "tests/unit/chat_model.h"
#include "text/positions.h"

#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]"

static struct chat_model model;

static int set_up(void **state)
{
    (void)state;
    chat_model_init(&model, CHATML, false);
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
    return parse_as(request, API_CHAT, &model, body, error);
}

/* What the template is made to say. */
static void assert_renders(const char *body, const char *expected)
{
    struct rendered rendered;
    struct response error = {0};
    json_t *root = json_loads(body, 0, NULL);
    assert_non_null(root);
    if (chat_render(root, &model.api, &rendered, &error))
        fail_msg("%s: %s", body, error.body.data);
    assert_string_equal(rendered.text.data, expected);
    rendered_release(&rendered);
    json_decref(root);
}

/* The tokens, "|" between them, as tokenizer_written has them. */
static void assert_prompt(const struct chat_model *m, const char *body, const char *expected)
{
    struct api_request r;
    struct response error;
    struct buf joined = {0};
    if (parse_as(&r, API_CHAT, m, body, &error))
        fail_msg("%s: %s", body, error.body.data);
    assert_int_equal(r.n_prompts, 1);
    for (size_t i = 0; i < r.prompts[0].n_tokens; i++) {
        size_t len;
        const char *written = tokenizer_written(m->tokenizer, r.prompts[0].tokens[i], &len);
        buf_puts(&joined, i ? "|" : "");
        buf_append(&joined, written, len);
    }
    assert_string_equal(joined.data, expected);
    buf_release(&joined);
    api_release(&r);
}

/* ---- what is refused ---- */

static void test_bad_messages(void **state)
{
    static const struct {
        const char *messages, *param;
    } table[] = {
        {"null", "messages"},
        {"[]", "messages"},
        {"{}", "messages"},
        {"\"hi\"", "messages"},
        {"[1]", "messages[0]"},
        {"[{}]", "messages[0].role"},
        {"[{\"role\":\"king\",\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":\"user\\u0000\",\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":1,\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":\"user\"}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":null}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":5}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":{}}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":[5]}]", "messages[0].content[0].type"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]",
         "messages[0].content[0].type"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\"}]}"
         "]",
         "messages[0].content[1].text"},
        {"[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"tool\"}]", "messages[1].content"},
        {"[{\"role\":\"user\",\"content\":\"x\",\"name\":7}]", "messages[0].name"},
        {"[{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":7}]", "messages[0].tool_call_id"},
        {"[{\"role\":\"assistant\",\"tool_calls\":{}}]", "messages[0].tool_calls"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[7]}]",
         "messages[0].tool_calls[0].function.name"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":7}}]"
         "}]",
         "messages[0].tool_calls[0].function.arguments"},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":7,\"function\":{\"name\":\"f\"}}]}]",
         "messages[0].tool_calls[0].id"},
        {"[{\"role\":\"assistant\",\"function_call\":{\"name\":\"f\"}}]",
         "messages[0].function_call"},
        {"[{\"role\":\"assistant\",\"audio\":{\"id\":\"f\"}}]", "messages[0].audio"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char body[512];
        snprintf(body, sizeof body, "{\"messages\":%s}", table[i].messages);
        assert_refused(&model, API_CHAT, body, 400, table[i].param, NULL);
    }
    assert_refused(&model, API_CHAT, "{}", 400, "messages", NULL);
}

static void test_bad_fields(void **state)
{
    static const struct {
        const char *field, *param;
    } table[] = {
        {"\"logprobs\":1", "logprobs"},
        {"\"top_logprobs\":3", "top_logprobs"},
        {"\"logprobs\":true,\"top_logprobs\":21", "top_logprobs"},
        {"\"logprobs\":true,\"top_logprobs\":-1", "top_logprobs"},
        {"\"max_tokens\":-1", "max_tokens"},
        {"\"max_completion_tokens\":\"9\"", "max_completion_tokens"},
        {"\"max_completion_tokens\":3,\"min_tokens\":4", "min_tokens"},
        {"\"temperature\":3", "temperature"},
        {"\"n\":0", "n"},
        {"\"stop\":[1]", "stop"},
        {"\"logit_bias\":{\"263\":1}", "logit_bias"},
        {"\"speculation\":\"on\"", "speculation"},
        {"\"stream_options\":{}", "stream_options"},
        {"\"tools\":{}", "tools"},
        {"\"tools\":[1]", "tools"},
        {"\"tools\":[{\"type\":\"function\"}]", "tools"},
        {"\"tools\":[{\"type\":\"search\",\"function\":{\"name\":\"f\"}}]", "tools"},
        {"\"tool_choice\":\"required\"", "tool_choice"},
        {"\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}", "tool_choice"},
        {"\"functions\":[{\"name\":\"f\"}]", "functions"},
        {"\"response_format\":{\"type\":\"structural_tag\"}", "response_format"},
        {"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}", "response_format"},
        {"\"response_format\":7", "response_format"},
        {"\"modalities\":[\"text\",\"audio\"]", "modalities"},
        {"\"audio\":{\"voice\":\"x\"}", "audio"},
        {"\"echo\":true", "echo"},
        {"\"chat_template\":\"x\"", "chat_template"},
        {"\"documents\":[{}]", "documents"},
        {"\"chat_template_kwargs\":[]", "chat_template_kwargs"},
        {"\"add_generation_prompt\":1", "add_generation_prompt"},
        {"\"continue_final_message\":1", "continue_final_message"},
        {"\"continue_final_message\":true,\"add_generation_prompt\":true",
         "continue_final_message"},
        {"\"user\":7", "user"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char body[256];
        snprintf(body, sizeof body, "{" USER ",%s}", table[i].field);
        assert_refused(&model, API_CHAT, body, 400, table[i].param, NULL);
    }
    assert_refused(&model, API_CHAT, "{" USER ",\"model\":\"other\"}", 404, "model",
                   "model_not_found");
    assert_refused(&model, API_CHAT,
                   "{\"messages\":[{\"role\":\"user\",\"content\":\"refuse me\"}]}", 400,
                   "messages", "chat_template_error");
    model.info.context = 8;
    assert_refused(&model, API_CHAT, "{" USER "}", 400, "messages", "context_length_exceeded");
    model.info.context = 512;
}

static void test_models_that_cannot_chat(void **state)
{
    struct api_model none = model.api, bad = model.api;
    struct api_request r;
    struct response error = {0};
    const char *body = "{" USER "}";
    (void)state;
    none.template = bad.template = NULL;
    bad.template_fault = "line 3: that is no Jinja";
    assert_int_equal(api_parse(&r, API_CHAT, &none, body, strlen(body), 0, &error), ERR_INVALID);
    assert_error(&error, 400, NULL, "no_chat_template");
    assert_non_null(strstr(error.body.data, "/v1/completions"));
    response_release(&error);
    api_release(&r);
    assert_int_equal(api_parse(&r, API_CHAT, &bad, body, strlen(body), 0, &error), ERR_INVALID);
    assert_error(&error, 400, NULL, "bad_chat_template");
    assert_non_null(strstr(error.body.data, "line 3: that is no Jinja"));
    response_release(&error);
    api_release(&r);
}

/* ---- what is accepted ---- */

static void test_defaults(void **state)
{
    struct api_request r;
    struct response error;
    (void)state;
    assert_int_equal(
        parse(&r,
              "{" USER ",\"tools\":[],\"tool_choice\":\"auto\",\"store\":true,"
              "\"metadata\":{\"a\":\"b\"},\"service_tier\":\"auto\","
              "\"parallel_tool_calls\":true,\"reasoning_effort\":\"low\",\"user\":\"u\","
              "\"response_format\":{\"type\":\"text\"},\"modalities\":[\"text\"],"
              "\"functions\":null,\"max_tokens\":null,\"echo\":false}",
              &error),
        0);
    assert_true(r.engine.temperature == 1 && r.engine.top_p == 1);
    assert_true(r.engine.max_tokens >= model.info.context - (int)r.prompts[0].n_tokens);
    assert_int_equal(r.engine.seed, 99);
    assert_int_equal(r.logprobs, -1);
    assert_int_equal(r.n, 1);
    assert_false(r.engine.logprobs || r.stream || r.return_token_ids);
    api_release(&r);
}

static void test_everything_set(void **state)
{
    struct api_request r;
    struct response error;
    (void)state;
    const char *body =
        "{" USER ",\"model\":\"demo\",\"max_tokens\":5,\"max_completion_tokens\":7,\"n\":2,"
        "\"stop\":\"x\",\"seed\":4,\"temperature\":0.5,\"top_p\":0.25,\"top_k\":3,"
        "\"frequency_penalty\":1,\"presence_penalty\":-1,\"logit_bias\":{\"262\":-5},"
        "\"logprobs\":true,\"top_logprobs\":4,\"stream\":true,"
        "\"stream_options\":{\"include_usage\":true},\"return_token_ids\":true,\"speculation\":2}";
    assert_int_equal(parse(&r, body, &error), 0);
    assert_int_equal(r.engine.max_tokens, 7);
    assert_int_equal(r.n, 2);
    assert_int_equal(r.engine.n_stops, 1);
    assert_int_equal(r.engine.seed, 4);
    assert_true(r.engine.temperature == 0.5f && r.engine.top_p == 0.25f && r.engine.top_k == 3);
    assert_true(r.engine.frequency_penalty == 1 && r.engine.presence_penalty == -1);
    assert_int_equal(r.engine.biases[0].token, 262);
    assert_int_equal(r.logprobs, 4);
    assert_true(r.engine.logprobs && r.engine.top_logprobs == 4 && !r.engine.prompt_logprobs);
    assert_true(r.stream && r.include_usage && r.return_token_ids);
    assert_int_equal(r.engine.speculation, 2);
    api_release(&r);
    assert_int_equal(parse(&r, "{" USER ",\"logprobs\":true}", &error), 0);
    assert_true(r.logprobs == 0 && r.engine.logprobs && !r.engine.top_logprobs);
    api_release(&r);
}

/* ---- what templates see ---- */

static void test_messages_take_the_templates_shape(void **state)
{
    (void)state;
    assert_renders("{\"messages\":[{\"role\":\"developer\",\"content\":\"be\"},"
                   "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                   "{\"type\":\"text\",\"text\":\"b\"}],\"name\":\"Al\"}]}",
                   "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\nAl: a\nb<|im_end|>\n"
                   "<|im_start|>assistant\n");
    /* As a client sends an answer back: null where there is nothing. */
    assert_renders("{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"refusal\":null,"
                   "\"audio\":null,\"function_call\":null,\"tool_calls\":[{\"id\":\"1\","
                   "\"type\":\"function\",\"function\":{\"name\":\"f\","
                   "\"arguments\":\"{\\\"x\\\": 1, \\\"y\\\": \\\"z\\\"}\"}}]},"
                   "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"r\"}],"
                   "\"add_generation_prompt\":false}",
                   "<|im_start|>assistant\n[f x=1 y=z]<|im_end|>\n<|im_start|>tool\nr<|im_end|>\n");
    assert_renders(
        "{\"messages\":[{\"role\":\"assistant\",\"content\":\"c\",\"tool_calls\":["
        "{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":2}}},"
        "{\"function\":{\"name\":\"g\",\"arguments\":\"\"}},{\"function\":{\"name\":\"h\"}}]}],"
        "\"add_generation_prompt\":false}",
        "<|im_start|>assistant\nc[f x=2][g][h]<|im_end|>\n");
    assert_renders("{" USER ",\"chat_template_kwargs\":{\"fancy\":\"!\"}}",
                   "<|im_start|>user\nhello<|im_end|>\n!<|im_start|>assistant\n");
}

#define TOOL "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}"

static void test_tools_reach_the_template(void **state)
{
    (void)state;
    assert_renders("{" USER ",\"tools\":[" TOOL "]}",
                   "<|im_start|>tools\n{\"type\": \"function\", \"function\": {\"name\": \"f\"}}"
                   "<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n");
    assert_renders("{" USER ",\"tools\":[" TOOL "],\"tool_choice\":\"none\"}",
                   "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n");
}

#define CHOOSE(name) "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"
#define ODD "{\"type\":\"function\",\"function\":{\"name\":\"<|im_end|>\\\"\"}}"

/* A chat with these tools, for a model that writes calls in this format. */
static void parse_tools(struct api_request *r, int format, const char *tools, const char *choice,
                        char *body, size_t size)
{
    static const char *const formats[] = {"<tool_call>", "[TOOL_CALLS]", "<|python_tag|>"};
    struct response error;
    model.api.calls = call_format_of(formats[format], strlen(formats[format]));
    snprintf(body, size, "{" USER ",\"tools\":[%s],%s}", tools, choice);
    if (parse(r, body, &error))
        fail_msg("%s: %s", body, error.body.data);
}

/* What an answer is begun with is the template's, a tool's name the client's. */
static void test_a_call_can_be_demanded(void **state)
{
    static const struct {
        int format;
        const char *tools, *choice, *begun;
    } table[] = {
        {0, TOOL "," ODD, "\"tool_choice\":\"required\"", "<tool_call>\n{\"name\": \""},
        {0, TOOL, "\"tool_choice\":\"required\"", "<tool_call>\n{\"name\": \"f\", \"arguments\":"},
        {0, TOOL "," ODD, CHOOSE("f"), "<tool_call>\n{\"name\": \"f\", \"arguments\":"},
        {1, TOOL, CHOOSE("f"), "[{\"name\": \"f\", \"arguments\":"},
        {2, TOOL, CHOOSE("f"), "{\"name\": \"f\", \"parameters\":"},
        {2, ODD, CHOOSE("<|im_end|>\\\""), "{\"name\": \"<|im_end|>\\\"\", \"parameters\":"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct api_request r;
        char body[512];
        parse_tools(&r, table[i].format, table[i].tools, table[i].choice, body, sizeof body);
        assert_string_equal(r.begun.data, table[i].begun);
        /* The prompt ends with it, byte by byte: none of its tokens is longer. */
        size_t at = r.prompts[0].n_tokens - r.begun.len, len;
        for (size_t j = 0; j < r.begun.len; j++)
            assert_int_equal(*tokenizer_written(model.tokenizer, r.prompts[0].tokens[at + j], &len),
                             table[i].begun[j]);
        assert_ptr_equal(r.tools.format, model.api.calls);
        api_release(&r);
    }
    assert_refused(&model, API_CHAT, "{" USER ",\"tools\":[" TOOL "]," CHOOSE("g") "}", 400,
                   "tool_choice", NULL);
    assert_refused(&model, API_CHAT, "{" USER ",\"tool_choice\":\"required\"}", 400, "tool_choice",
                   NULL);
    assert_refused(&model, API_CHAT,
                   "{" USER ",\"tools\":[" TOOL "],\"tool_choice\":\"required\","
                   "\"continue_final_message\":true}",
                   400, "tool_choice", NULL);
    model.api.calls = NULL; /* no format that we know */
    assert_refused(&model, API_CHAT, "{" USER ",\"tools\":[" TOOL "],\"tool_choice\":\"required\"}",
                   400, "tool_choice", NULL);
}

/* -1: not as it must be; 0: its begin; 1: whole, and may go on; 2: whole, and nothing may follow.
 */
static int held(const struct automaton *grammar, const char *text)
{
    struct positions p;
    struct err err;
    assert_ok(positions_init(&p, grammar, &err), err);
    int32_t at = positions_start(&p);
    for (; *text && at >= 0; text++)
        at = positions_step(&p, at, (uint8_t)*text);
    int whole = !positions_accepts(&p, at) ? 0 : positions_goes_on(&p, at) ? 1 : 2;
    positions_release(&p);
    return at < 0 ? -1 : whole;
}

#define BIT                                                                                        \
    "{\"type\":\"function\",\"function\":{\"name\":\"bit\",\"parameters\":{\"type\":\"object\","   \
    "\"properties\":{\"b\":{\"enum\":[0,1]}},\"required\":[\"b\"]}}}"
#define REQUIRED "\"tool_choice\":\"required\""
#define ALONE REQUIRED ",\"parallel_tool_calls\":false"

/* What follows the begin of a call that is demanded. */
static void test_demanded_calls_are_held(void **state)
{
    static const struct {
        int format;
        const char *tools, *choice, *text;
        int held;
    } table[] = {
        {0, BIT, REQUIRED, " {\"b\": 1}}\n</tool_call>", 1},
        {0, BIT, REQUIRED, " {\"b\": 2", -1},
        {0, BIT, REQUIRED, " {}", -1},
        {0, BIT, REQUIRED, " {\"b\": 1}}\n</tool_call>\n<tool_call>\n{\"name\": \"bit\", ", 0},
        {0, BIT, ALONE, " {\"b\": 1}}\n</tool_call>", 2},
        {0, BIT, CHOOSE("bit"), " {\"b\": 1}}\n</tool_call>", 2},
        {0, BIT "," TOOL, REQUIRED, "f\", \"arguments\": {}}\n</tool_call>", 1},
        {0, BIT "," TOOL, REQUIRED, "bit\", \"arguments\": {\"b\": 0}}", 0},
        {0, BIT "," TOOL, REQUIRED, "bit\", \"arguments\": {}", -1},
        {0, BIT "," TOOL, REQUIRED, "g", -1},
        {0, BIT "," TOOL, CHOOSE("f"), " {}}\n</tool_call>", 2},
        {0, ODD "," TOOL, REQUIRED, "<|im_end|>\\\"\", \"arguments\": {}}\n</tool_call>", 1},
        {1, BIT, REQUIRED, " {\"b\": 1}}]", 2},
        {1, BIT, REQUIRED, " {\"b\": 1}}, {\"name\": \"bit\", \"arguments\": {\"b\": 0}}]", 2},
        {1, BIT, ALONE, " {\"b\": 1}},", -1},
        {2, BIT "," TOOL, REQUIRED, "bit\", \"parameters\": {\"b\": 1}}", 2},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct api_request r;
        char body[512];
        parse_tools(&r, table[i].format, table[i].tools, table[i].choice, body, sizeof body);
        if (held(r.engine.grammar, table[i].text) != table[i].held)
            fail_msg("%s and %s", body, table[i].text);
        api_release(&r);
    }
    model.api.calls = NULL;
}

static void test_a_message_can_be_continued(void **state)
{
    static const char start[] = "{\"continue_final_message\":true,\"messages\":["
                                "{\"role\":\"user\",\"content\":\"ab\"},"
                                "{\"role\":\"assistant\",\"content\":";
    static const struct {
        const char *content, *rendered;
    } table[] = {
        {"\"ab\"}]}", "ab"}, {"\" ab \\n\"}]}", " ab \n"}, {"\"<|im_end|>\"}]}", "<|im_end|>"}};
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char body[256], expected[256];
        snprintf(body, sizeof body, "%s%s", start, table[i].content);
        snprintf(expected, sizeof expected,
                 "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n%s", table[i].rendered);
        assert_renders(body, expected);
    }
    assert_refused(&model, API_CHAT,
                   "{\"continue_final_message\":true,"
                   "\"messages\":[{\"role\":\"assistant\",\"content\":\" \"}]}",
                   400, "continue_final_message", NULL);
    assert_prompt(&model,
                  "{\"continue_final_message\":true,\"messages\":[{\"role\":\"assistant\","
                  "\"content\":\"hello<|im_end|>\"}]}",
                  "<|im_start|>|a|s|s|i|s|t|a|n|t|\n|hello|<|||i|m|_|e|n|d|||>");
}

/* ---- special tokens ---- */

static void test_what_clients_write_is_text(void **state)
{
    (void)state;
    assert_prompt(&model, "{" USER "}",
                  "<|im_start|>|u|s|e|r|\n|hello|<|im_end|>|\n|<|im_start|>|a|s|s|i|s|t|a|n|t|\n");
    assert_prompt(&model,
                  "{\"messages\":[{\"role\":\"user\",\"content\":\"<|im_end|>\"}],"
                  "\"add_generation_prompt\":false}",
                  "<|im_start|>|u|s|e|r|\n|<|||i|m|_|e|n|d|||>|<|im_end|>|\n");
    /* Neither in pieces, nor together with what the template writes. */
    assert_prompt(&model,
                  "{\"messages\":[{\"role\":\"user\",\"content\":\"<|im_e\",\"name\":\"<s>\"},"
                  "{\"role\":\"user\",\"content\":\"nd|>\"}],\"add_generation_prompt\":false}",
                  "<|im_start|>|u|s|e|r|\n|<|s|>|:| |<|||i|m|_|e|<|im_end|>|\n"
                  "|<|im_start|>|u|s|e|r|\n|n|d|||>|<|im_end|>|\n");
    assert_prompt(
        &model,
        "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{"
        "\"name\":\"<s>\",\"arguments\":\"{\\\"<s>\\\":\\\"<s>\\\"}\"}}]}],"
        "\"add_generation_prompt\":false,\"chat_template_kwargs\":{\"fancy\":\"<s>\"}}",
        "<|im_start|>|a|s|s|i|s|t|a|n|t|\n|[|<|s|>| |<|s|>|=|<|s|>|]|<|im_end|>|\n|<|s|>");
    assert_prompt(
        &model,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"add_generation_prompt\":false,"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"<|im_end|>\"}}]}",
        "<|im_start|>|t|o|o|l|s|\n|{|\"|t|y|p|e|\"|:| |\"|f|u|n|c|t|i|o|n|\"|,| |"
        "\"|f|u|n|c|t|i|o|n|\"|:| |{|\"|n|a|m|e|\"|:| |\"|<|||i|m|_|e|n|d|||>|\"|}|}|"
        "<|im_end|>|\n|<|im_start|>|u|s|e|r|\n|x|<|im_end|>|\n");
}

/* One bos, whether the template writes it or not, and a client's is none. */
static void test_bos(void **state)
{
    static const struct {
        const char *source, *content, *expected;
        bool add;
    } table[] = {
        {"{{ bos_token }}{{ messages[0].content }}", "hello", "<s>|hello", true},
        {"{{ bos_token }}{{ messages[0].content }}", "hello", "<s>|hello", false},
        {"{{ messages[0].content }}", "hello", "<s>|hello", true},
        {"{{ messages[0].content }}", "hello", "hello", false},
        {"{{ messages[0].content }}", "<s>", "<s>|<|s|>", true},
        {"<s>{{ messages[0].content }}{{ eos_token }}", "hello", "<s>|hello|<|im_end|>", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        static struct chat_model m;
        char body[128];
        chat_model_init(&m, table[i].source, table[i].add);
        snprintf(body, sizeof body, "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
                 table[i].content);
        assert_prompt(&m, body, table[i].expected);
        chat_model_release(&m);
    }
    static struct chat_model silent;
    chat_model_init(&silent, "{% if false %}x{% endif %}", false);
    assert_refused(&silent, API_CHAT, "{" USER "}", 400, "messages", NULL);
    chat_model_release(&silent);
}

/* ---- hostile ones ---- */

static void test_deep_and_long_bodies_end(void **state)
{
    static char body[1 << 20];
    struct api_request r;
    struct response error;
    (void)state;
    /* Values as deep as jansson lets them be, where the template prints them. */
    size_t n = (size_t)sprintf(body, "{" USER ",\"chat_template_kwargs\":{\"fancy\":");
    for (int i = 0; i < 2000; i++)
        body[n++] = '[';
    for (int i = 0; i < 2000; i++)
        body[n++] = ']';
    strcpy(body + n, "}}");
    assert_int_equal(parse(&r, body, &error), ERR_INVALID);
    assert_int_equal(error.status, 400);
    response_release(&error);
    api_release(&r);
    /* A last message that is nearly everywhere, and that no template writes: the search ends. */
    static struct chat_model m;
    chat_model_init(&m, "{{ messages[0].content }}", false);
    n = (size_t)sprintf(body, "{\"continue_final_message\":true,\"messages\":["
                              "{\"role\":\"user\",\"content\":\"");
    memset(body + n, 'a', 400000);
    n += 400000;
    n += (size_t)sprintf(body + n, "\"},{\"role\":\"assistant\",\"content\":\"b");
    memset(body + n, 'a', 200000);
    strcpy(body + n + 200000, "\"}]}");
    assert_refused(&m, API_CHAT, body, 400, "continue_final_message", NULL);
    chat_model_release(&m);
}

static void test_mutations_never_crash(void **state)
{
    static const char *const seeds[] = {
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":["
        "{\"type\":\"text\",\"text\":\"<|im_end|>\"}],\"name\":\"n\"}],\"n\":2,\"logprobs\":true}",
        "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":[1,{}]}\"}}]}],\"tools\":[" TOOL
        "],"
        "\"tool_choice\":\"auto\"}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9\"}],\"chat_template_kwargs\":"
        "{\"fancy\":[1.5,null,true]},\"continue_final_message\":true,\"stop\":\"x\"}",
    };
    int accepted = 0;
    (void)state;
    for (uint64_t i = 0; i < 20000; i++) {
        char body[512];
        struct api_request r;
        struct response error = {0};
        size_t len = strlen(seeds[i % 3]);
        memcpy(body, seeds[i % 3], len);
        for (uint64_t j = 0; j <= i % 4 && len; j++)
            len = mutate(body, len, i * 8 + j);
        int rc = api_parse(&r, API_CHAT, &model.api, body, len, 0, &error);
        assert_true(rc == 0 || error.status == 400 || error.status == 404);
        accepted += !rc;
        if (!rc)
            assert_in_range(r.prompts[0].n_tokens, 1, 511);
        response_release(&error);
        api_release(&r);
    }
    assert_true(accepted > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_messages),
        cmocka_unit_test(test_bad_fields),
        cmocka_unit_test(test_models_that_cannot_chat),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything_set),
        cmocka_unit_test(test_messages_take_the_templates_shape),
        cmocka_unit_test(test_tools_reach_the_template),
        cmocka_unit_test(test_a_call_can_be_demanded),
        cmocka_unit_test(test_demanded_calls_are_held),
        cmocka_unit_test(test_a_message_can_be_continued),
        cmocka_unit_test(test_what_clients_write_is_text),
        cmocka_unit_test(test_bos),
        cmocka_unit_test(test_deep_and_long_bodies_end),
        cmocka_unit_test(test_mutations_never_crash),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
