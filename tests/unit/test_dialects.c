/* server/anthropic.c, responses.c and chat_body.c: bodies in other dialects become chats, or are
 * refused in their own names; and random changes to them are one or the other. */
#include "server/anthropic.h"
#include "server/responses.h"
#include "tests/unit/chat_model.h"

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

static json_t *read_json(const char *text)
{
    json_error_t error;
    json_t *value = json_loads(text, 0, &error);
    if (!value)
        fail_msg("%s in %s", error.text, text);
    return value;
}

/* `expected` are the members of the chat. */
static void assert_chat(enum api_kind kind, const char *body, const char *expected)
{
    struct response error = {0};
    struct buf shown = {0};
    json_t *root = read_json(body), *wanted = read_json(expected), *chat;
    int rc = kind == API_RESPONSES ? responses_to_chat(root, &chat, &shown, &error)
                                   : anthropic_to_chat(root, false, &chat, &error);
    if (rc)
        fail_msg("%s: %s", body, error.body.data);
    if (!json_equal(chat, wanted)) {
        char *got = json_dumps(chat, 0);
        fail_msg("%s\nbecomes %s\nnot     %s", body, got, expected);
    }
    json_decref(root);
    json_decref(wanted);
    json_decref(chat);
    buf_release(&shown);
}

static void messages_become_chats(void **state)
{
    (void)state;
    assert_chat(API_MESSAGES,
                "{\"model\":\"m\",\"max_tokens\":5,\"system\":[{\"type\":\"text\",\"text\":\"s\"},"
                "{\"type\":\"text\",\"text\":\"t\"}],\"stop_sequences\":[\"x\"],\"top_k\":3,"
                "\"stream\":true,\"thinking\":{\"type\":\"disabled\"},"
                "\"output_format\":{\"type\":\"json_schema\",\"schema\":{}},"
                "\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}",
                "{\"max_tokens\":5,\"stop\":[\"x\"],\"top_k\":3,\"stream\":true,"
                "\"response_format\":{\"type\":\"json_schema\",\"schema\":{}},\"messages\":["
                "{\"role\":\"system\",\"content\":\"s\\nt\"},"
                "{\"role\":\"user\",\"content\":\"hello\"}]}");
    assert_chat(
        API_MESSAGES,
        "{\"max_tokens\":5,\"messages\":["
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"1\",\"name\":\"f\","
        "\"input\":{\"a\":1}},{\"type\":\"text\",\"text\":\"I call\"}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
        "{\"type\":\"tool_result\",\"tool_use_id\":\"1\",\"content\":\"r\"},"
        "{\"type\":\"text\",\"text\":\"b\"}]},"
        "{\"role\":\"assistant\",\"content\":\"so\"}],"
        "\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\"}},"
        "{\"type\":\"custom\",\"name\":\"g\"}],"
        "\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\",\"disable_parallel_tool_use\":true}}",
        "{\"max_tokens\":5,\"continue_final_message\":true,\"messages\":["
        "{\"role\":\"assistant\",\"content\":\"I call\",\"tool_calls\":[{\"id\":\"1\","
        "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]},"
        "{\"role\":\"user\",\"content\":\"a\"},"
        "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"r\"},"
        "{\"role\":\"user\",\"content\":\"b\"},{\"role\":\"assistant\",\"content\":\"so\"}],"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
        "\"parameters\":{\"type\":\"object\"}}},"
        "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}],\"parallel_tool_calls\":false,"
        "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}}");
}

static void responses_become_chats(void **state)
{
    (void)state;
    assert_chat(API_RESPONSES,
                "{\"input\":\"hello\",\"instructions\":\"s\",\"max_output_tokens\":5,"
                "\"temperature\":0.5,\"store\":true,\"tool_choice\":\"auto\","
                "\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"strict\":true,"
                "\"schema\":{\"type\":\"object\"}}}}",
                "{\"max_completion_tokens\":5,\"temperature\":0.5,\"tool_choice\":\"auto\","
                "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
                "\"strict\":true,\"schema\":{\"type\":\"object\"}}},\"messages\":["
                "{\"role\":\"system\",\"content\":\"s\"},"
                "{\"role\":\"user\",\"content\":\"hello\"}]}");
    assert_chat(
        API_RESPONSES,
        "{\"input\":[{\"role\":\"developer\",\"content\":\"d\"},"
        "{\"type\":\"message\",\"role\":\"assistant\",\"id\":\"msg_1\",\"status\":\"completed\","
        "\"content\":[{\"type\":\"output_text\",\"text\":\"I call\",\"annotations\":[]}]},"
        "{\"type\":\"function_call\",\"call_id\":\"1\",\"name\":\"f\",\"arguments\":\"{}\"},"
        "{\"type\":\"function_call\",\"call_id\":\"2\",\"name\":\"g\",\"arguments\":\"{}\"},"
        "{\"type\":\"function_call_output\",\"call_id\":\"1\",\"output\":\"r\"},"
        "{\"type\":\"function_call_output\",\"call_id\":\"2\",\"output\":["
        "{\"type\":\"input_text\",\"text\":\"s\"}]},"
        "{\"type\":\"function_call\",\"call_id\":\"3\",\"name\":\"h\",\"arguments\":\"{}\"}],"
        "\"text\":{\"format\":{\"type\":\"text\"}},"
        "\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":{},\"strict\":true}],"
        "\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"}}",
        "{\"messages\":[{\"role\":\"developer\",\"content\":\"d\"},"
        "{\"role\":\"assistant\",\"content\":\"I call\",\"tool_calls\":["
        "{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},"
        "{\"id\":\"2\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"r\"},"
        "{\"role\":\"tool\",\"tool_call_id\":\"2\",\"content\":\"s\"},"
        "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":["
        "{\"id\":\"3\",\"type\":\"function\",\"function\":{\"name\":\"h\",\"arguments\":\"{}\"}}]}]"
        ","
        "\"response_format\":{\"type\":\"text\"},"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{},"
        "\"strict\":true}}],"
        "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}}");
}

static void responses_repeat_what_was_asked(void **state)
{
    struct api_request request;
    struct response error;
    (void)state;
    const char *body = "{\"input\":\"hello\",\"temperature\":0.25,\"metadata\":{\"a\":\"b\"},"
                       "\"tools\":[{\"type\":\"function\",\"name\":\"f\"}]}";
    assert_int_equal(parse_as(&request, API_RESPONSES, &model, body, &error), 0);
    assert_non_null(strstr(request.shown.data, ",\"temperature\":0.25,"));
    assert_non_null(strstr(request.shown.data, ",\"metadata\":{\"a\":\"b\"},"));
    assert_non_null(strstr(request.shown.data, ",\"tools\":[{\"type\":\"function\","));
    assert_non_null(strstr(request.shown.data, ",\"top_p\":1.0,"));
    api_release(&request);
}

static void counting_asks_for_no_length(void **state)
{
    struct api_request request;
    struct response error;
    (void)state;
    const char *body = "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}";
    assert_refused(&model, API_MESSAGES, body, 400, "max_tokens", NULL);
    assert_int_equal(parse_as(&request, API_COUNT, &model, body, &error), 0);
    assert_true(request.prompts[0].n_tokens > 5);
    api_release(&request);
}

static const struct {
    enum api_kind kind;
    const char *body;
} GOOD[] = {
    {API_MESSAGES,
     "{\"model\":\"demo\",\"max_tokens\":5,\"system\":\"s\",\"temperature\":0.5,\"top_k\":2,"
     "\"stop_sequences\":[\"a\"],\"metadata\":{\"user_id\":\"u\"},\"speculation\":\"off\","
     "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]},"
     "{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"1\",\"name\":\"f\","
     "\"input\":{\"a\":1}}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
     "\"tool_use_id\":\"1\",\"content\":[{\"type\":\"text\",\"text\":\"r\"}]}]}],"
     "\"tools\":[{\"name\":\"f\",\"input_schema\":{}}],\"tool_choice\":{\"type\":\"auto\"}}"},
    {API_RESPONSES,
     "{\"model\":\"demo\",\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\","
     "\"text\":\"a\"}]},{\"type\":\"function_call\",\"call_id\":\"1\",\"name\":\"f\","
     "\"arguments\":\"{}\"},{\"type\":\"function_call_output\",\"call_id\":\"1\","
     "\"output\":\"r\"}],\"instructions\":\"s\",\"max_output_tokens\":9,\"tools\":[{\"type\":"
     "\"function\",\"name\":\"f\",\"parameters\":{}}],\"tool_choice\":\"auto\",\"text\":"
     "{\"format\":{\"type\":\"text\"}},\"truncation\":\"disabled\",\"include\":[\"x\"],"
     "\"stream\":true,\"stream_options\":{\"include_obfuscation\":true},\"store\":true}"},
};

/* Whatever is done to a body, it is read or refused with a whole error. */
static void changed_bodies(void **state)
{
    (void)state;
    int read = 0;
    for (uint64_t seed = 0; seed < 20000; seed++) {
        char body[2048];
        struct api_request request;
        struct response error = {0};
        size_t len = strlen(GOOD[seed % 2].body);
        memcpy(body, GOOD[seed % 2].body, len);
        for (uint64_t i = 0; i < seed % 5; i++)
            len = mutate(body, len, seed * 8 + i);
        if (!api_parse(&request, GOOD[seed % 2].kind, &model.api, body, len, 0, &error)) {
            read++;
            assert_int_equal(request.n_prompts, 1);
            assert_true(request.prompts[0].n_tokens > 0);
        } else {
            assert_true(error.status >= 400);
            json_t *root = json_loadb(error.body.data, error.body.len, 0, NULL);
            assert_non_null(json_object_get(root, "error"));
            json_decref(root);
        }
        response_release(&error);
        api_release(&request);
    }
    assert_true(read > 4000);
}

static void errors_of_anthropics_shape(void **state)
{
    static const struct {
        int status;
        const char *type;
    } table[] = {{400, "invalid_request_error"},
                 {401, "authentication_error"},
                 {404, "not_found_error"},
                 {405, "invalid_request_error"},
                 {413, "request_too_large"},
                 {429, "rate_limit_error"},
                 {500, "api_error"},
                 {503, "overloaded_error"}};
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct response response = {.anthropic = true, .request_id = "req-1"};
        response_error(&response, table[i].status, "p", "c", "It is \"%s\".", "so");
        json_t *root = json_loadb(response.body.data, response.body.len, 0, NULL);
        json_t *wanted =
            json_pack("{s:s, s:s, s:{s:s, s:s}}", "type", "error", "request_id", "req-1", "error",
                      "type", table[i].type, "message", "It is \"so\".");
        assert_true(json_equal(root, wanted));
        json_decref(root);
        json_decref(wanted);
        response_release(&response);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_become_chats),
        cmocka_unit_test(responses_become_chats),
        cmocka_unit_test(responses_repeat_what_was_asked),
        cmocka_unit_test(counting_asks_for_no_length),
        cmocka_unit_test(changed_bodies),
        cmocka_unit_test(errors_of_anthropics_shape),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
