/* server/answer.c and tool_calls.c: what is text and what is a call, however the text was cut. */
#include "server/answer.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "tests/unit/unit.h"

#define HERMES "... <tool_call>\n{...}\n</tool_call>"
#define MISTRAL "[TOOL_CALLS] [...]"
#define LLAMA "<|python_tag|>"
#define ADD "{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2.50}}"
#define ADDED "(add {\"a\": 1, \"b\": 2.50})"
#define SUB "{\"name\": \"sub\", \"parameters\": {\"x\": \"}</tool_call>\\\"{\"}}"
#define SUBBED "(sub {\"x\": \"}</tool_call>\\\"{\"})"

static char *names[] = {"add", "sub"};

/* Parts as "[text]" and "(name arguments)". */
static void describe(const struct answer *answer, struct buf *out)
{
    for (size_t i = 0; i < answer->n_parts; i++) {
        const struct answer_part *part = &answer->parts[i];
        assert_true(part->whole);
        buf_puts(out, part->is_call ? "(" : "[");
        if (part->is_call)
            buf_printf(out, "%s ", part->name.data);
        buf_append(out, part->text.data, part->text.len);
        buf_puts(out, part->is_call ? ")" : "]");
    }
}

/* The same from the pieces of a stream. */
static void follow(struct answer *answer, struct buf *out)
{
    struct answer_piece piece;
    while (answer_next(answer, &piece)) {
        bool call = piece.part->is_call;
        if (piece.begins)
            buf_puts(out, call ? "(" : "[");
        if (piece.begins && call)
            buf_printf(out, "%s ", piece.part->name.data);
        buf_append(out, piece.text, piece.len);
        if (piece.ends)
            buf_puts(out, call ? ")" : "]");
    }
}

/* Feeds `text` in pieces of up to `most` bytes, at random places where `seed` is not 0. */
static void check(const struct answer_tools *tools, const char *text, const char *expected,
                  size_t most, uint64_t seed)
{
    struct answer answer = {.tools = tools};
    struct buf whole = {0}, streamed = {0};
    size_t len = strlen(text);
    for (size_t at = 0; at < len;) {
        size_t n = seed ? (size_t)rng_below(seed, at, 0, most) + 1 : most;
        n = n < len - at ? n : len - at;
        answer_add(&answer, text + at, n);
        follow(&answer, &streamed);
        at += n;
    }
    answer_end(&answer);
    follow(&answer, &streamed);
    describe(&answer, &whole);
    assert_false(answer.failed || whole.failed || streamed.failed);
    if (expected)
        assert_string_equal(whole.len ? whole.data : "", expected);
    assert_string_equal(streamed.len ? streamed.data : "", whole.len ? whole.data : "");
    buf_release(&whole);
    buf_release(&streamed);
    answer_release(&answer);
}

static void parts_do_not_depend_on_cuts(void **state)
{
    static const struct {
        const char *template, *text, *expected;
    } table[] = {
        {HERMES, "", ""},
        {HERMES, " \n", "[ \n]"},
        {HERMES, "Hello. ", "[Hello. ]"},
        {HERMES, "<tool_call>\n" ADD "\n</tool_call>", ADDED},
        {HERMES, "\n<tool_call>" ADD "</tool_call>\n", ADDED},
        {HERMES, "Well.\n\n<tool_call>\n" ADD "\n</tool_call>\n<tool_call>\n" SUB "\n</tool_call>",
         "[Well.]" ADDED SUBBED},
        {HERMES, "<tool_call>\n" ADD "\n</tool_call>\nDone. ", ADDED "[\nDone. ]"},
        {HERMES, "<tool_call>[" ADD ", " SUB "]</tool_call>", ADDED SUBBED},
        {HERMES, "<tool_call>\n" ADD "\n" SUB "\n</tool_call>", ADDED SUBBED},
        {HERMES, "<tool_call>\n{" ADD "}\n</tool_call>", ADDED},
        {HERMES, "<tool_call>{\"name\":\"other\"}</tool_call>", "(other {})"},
        {HERMES, "<tool_call>{\"name\":\"add\",\"arguments\":\"{\\\"a\\\":3}\"}</tool_call>",
         "(add {\"a\":3})"},
        {HERMES, "<tool_call>{\"type\":\"function\",\"function\":" ADD "}</tool_call>", ADDED},
        /* the end may be missing */
        {HERMES, "<tool_call>\n" ADD, ADDED},
        {HERMES, "<tool_call>\n" ADD "\n</tool_", ADDED},
        /* what is malformed is text, to the byte */
        {HERMES, "So: <tool_call>\n{\"name\": \"add\", ",
         "[So: <tool_call>\n{\"name\": \"add\", ]"},
        {HERMES, "<tool_call>\n{\"name\": add}\n</tool_call> ",
         "[<tool_call>\n{\"name\": add}\n</tool_call> ]"},
        {HERMES, "a <tool_call>add</tool_call>", "[a <tool_call>add</tool_call>]"},
        {HERMES, "<tool_call>" ADD " and", "[<tool_call>" ADD " and]"},
        {HERMES, "<tool_call></tool_call>", "[<tool_call></tool_call>]"},
        {HERMES, "<tool_call>[]</tool_call>", "[<tool_call>[]</tool_call>]"},
        {HERMES, "<tool_call>[" ADD ",1]</tool_call>", "[<tool_call>[" ADD ",1]</tool_call>]"},
        {HERMES, "<tool_call>{\"name\":\"\"}</tool_call>",
         "[<tool_call>{\"name\":\"\"}</tool_call>]"},
        {HERMES, "<tool_call>{\"name\":\"a\",\"arguments\":[1]}</tool_call>",
         "[<tool_call>{\"name\":\"a\",\"arguments\":[1]}</tool_call>]"},
        {HERMES, "x<tool_call>1<tool_call>" ADD "</tool_call>", "[x<tool_call>1]" ADDED},
        {HERMES, "1 < 2 <tool", "[1 < 2 <tool]"},
        {HERMES, "<tool_call>" ADD "</tool_call> <tool", ADDED "[ <tool]"},
        {HERMES, "<tool_call>" ADD "{\"na", "[<tool_call>" ADD "{\"na]"},
        {HERMES, "<tool_call>{<tool_call>" ADD "</tool_call>} no",
         "[<tool_call>{<tool_call>" ADD "</tool_call>} no]"},
        {HERMES, "<tool_call>{\"name\":\"add\",\"arguments\":null}</tool_call>", "(add {})"},
        {HERMES, "<tool_call>{\"name\":\"add\",\"arguments\":\"[1]\"}</tool_call>",
         "[<tool_call>{\"name\":\"add\",\"arguments\":\"[1]\"}</tool_call>]"},
        /* nothing but calls */
        {HERMES, ADD, ADDED},
        {HERMES, "\n" ADD "\n" SUB "\n", ADDED SUBBED},
        {HERMES, "```json\n" ADD "\n```", ADDED},
        {HERMES, "```\n[" ADD "]\n```\n", ADDED},
        {HERMES, "```json\n" ADD "\n``` Like that.", "[```json\n" ADD "\n``` Like that.]"},
        {HERMES, "```json hm\n" ADD "\n```", "[```json hm\n" ADD "\n```]"},
        {HERMES, ADD " is it.", "[" ADD " is it.]"},
        {HERMES, ADD "\n<tool_call>" SUB "</tool_call>", "[" ADD "]" SUBBED},
        {HERMES, "{\"name\": \"other\", \"arguments\": {}}",
         "[{\"name\": \"other\", \"arguments\": {}}]"},
        {HERMES, "{\"names\": 1}", "[{\"names\": 1}]"},
        {HERMES, "{\"name\": \"add\", \"argum", "[{\"name\": \"add\", \"argum]"},
        {HERMES, "[[[" ADD "]]]", "[[[[" ADD "]]]]"},
        /* other formats */
        {MISTRAL, "[" ADD ", " SUB "]", ADDED SUBBED},
        {MISTRAL, "Hm <tool_call>" ADD "</tool_call>", "[Hm <tool_call>" ADD "</tool_call>]"},
        {LLAMA, SUB, SUBBED},
        {LLAMA, "{\"type\": \"function\", \"name\": \"sub\", \"parameters\": {\"x\":\t1}}",
         "(sub {\"x\":\t1})"},
        {"no tools", "<tool_call>" ADD "</tool_call>", "[<tool_call>" ADD "</tool_call>]"},
        {"[TOOL_CALLS]x[ARGS]{}", ADD, "[" ADD "]"},
        {"<tool_call><function=x>", ADD, "[" ADD "]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct answer_tools tools = {
            .format = call_format_of(table[i].template, strlen(table[i].template)),
            .names = names,
            .n = 2};
        for (size_t most = 1; most <= 300; most += most < 20 ? 1 : 280)
            check(&tools, table[i].text, table[i].expected, most, 0);
        for (uint64_t seed = 1; seed < 30; seed++)
            check(&tools, table[i].text, table[i].expected, 9, seed);
    }
}

static void templates_tell_their_format(void **state)
{
    static const struct {
        const char *name, *control, *force; /* NULL: none */
    } table[] = {
        {"hermes-tools", "", "<tool_call>\n{\"name\": \""},
        {"qwen-2.5", "", "<tool_call>\n{\"name\": \""},
        {"qwen-3", "", "<tool_call>\n{\"name\": \""},
        {"mistral-v3-tools", "[TOOL_CALLS] ", "[{\"name\": \""},
        {"llama-3.1-tools", "", "{\"name\": \""},
        {"mistral-tekken", NULL, NULL},
        {"smollm2", NULL, NULL},
        {"chatml", NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char path[128], text[16384];
        snprintf(path, sizeof path, "tests/data/templates/%s.jinja", table[i].name);
        FILE *file = fopen(path, "re");
        assert_non_null(file);
        const struct call_format *format = call_format_of(text, fread(text, 1, sizeof text, file));
        fclose(file);
        assert_int_equal(!format, !table[i].force);
        if (format)
            assert_string_equal(format->force, table[i].force);
        if (format)
            assert_string_equal(format->control, table[i].control);
    }
}

/* Pieces of calls in any order: the whole decides, and a stream says the same. */
static void any_text_in_any_cuts(void **state)
{
    static const char *const words[] = {"<tool_call>",
                                        "</tool_call>",
                                        "<tool_call>",
                                        "</tool_call>",
                                        ADD,
                                        ADD,
                                        SUB,
                                        "<tool",
                                        "{",
                                        "}",
                                        "[",
                                        "]",
                                        "\"",
                                        "\\",
                                        " ",
                                        "\n",
                                        "```",
                                        "json\n",
                                        "\"name\": \"add\"",
                                        ",",
                                        "\u00e9",
                                        "1.50",
                                        ":",
                                        "{{",
                                        "}}"};
    (void)state;
    int calls = 0;
    for (uint64_t round = 0; round < 20000; round++) {
        struct answer_tools tools = {.format = call_format_of(HERMES, strlen(HERMES)),
                                     .names = names,
                                     .n = 2,
                                     .one_call = round % 3 == 0};
        struct answer answer = {.tools = &tools};
        struct buf text = {0}, expected = {0};
        size_t n = (size_t)rng_below(round, 0, 1, 9) + 1;
        for (size_t i = 0; i < n; i++)
            buf_puts(&text, words[rng_below(round, i, 2, sizeof words / sizeof words[0])]);
        answer_add(&answer, text.data, text.len);
        answer_end(&answer);
        describe(&answer, &expected);
        calls += answer.n_calls > 0;
        assert_true(!tools.one_call || answer.n_calls <= 1);
        check(&tools, text.data, expected.len ? expected.data : "", 1, 0);
        check(&tools, text.data, expected.len ? expected.data : "", 7, round + 1);
        answer_release(&answer);
        buf_release(&text);
        buf_release(&expected);
    }
    assert_true(calls > 500);
}

static void ids(void **state)
{
    (void)state;
    static const char *const templates[] = {HERMES, MISTRAL};
    for (int i = 0; i < 2; i++) {
        struct answer_tools tools = {
            .format = call_format_of(templates[i], strlen(templates[i])), .names = names, .n = 2};
        struct answer answer = {.tools = &tools};
        answer_add(&answer, "[" ADD "," ADD "]", 2 * strlen(ADD) + 3);
        answer_end(&answer);
        assert_int_equal(answer.n_calls, 2);
        assert_int_equal(strlen(answer.parts[0].id), i ? 9 : 21);
        assert_int_equal(strncmp(answer.parts[0].id, "call_", 5) == 0, !i);
        assert_string_not_equal(answer.parts[0].id, answer.parts[1].id);
        answer_release(&answer);
    }
}

/* A model that writes one marker after the other must not cost the square of that. */
static void long_answers_are_read_once(void **state)
{
    static const char *const units[] = {
        "<tool_call>", "<tool_call>{", "<tool_call>{} ",
        "{\"name\"",   "\n",           "<tool_call>[" ADD "]</tool_call>"};
    (void)state;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        struct answer_tools tools = {
            .format = call_format_of(HERMES, strlen(HERMES)), .names = names, .n = 2};
        struct answer answer = {.tools = &tools};
        for (int j = 0; j < 20000; j++)
            answer_add(&answer, units[i], strlen(units[i]));
        answer_end(&answer);
        assert_false(answer.failed);
        answer_release(&answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_do_not_depend_on_cuts),
        cmocka_unit_test(templates_tell_their_format),
        cmocka_unit_test(any_text_in_any_cuts),
        cmocka_unit_test(ids),
        cmocka_unit_test(long_answers_are_read_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
