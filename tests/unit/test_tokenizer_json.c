/* tokenizer.json and tokenizer_config.json: what is read, and what is refused by name. */
#include "tests/unit/vocabularies.h"
#include "text/tokenizer_json.h"

static const struct encode_options plain = {0};
static const struct encode_options special = {.parse_special = true};

#define BYTE_LEVEL                                                                                 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define SPLIT(pattern, behavior)                                                                   \
    "{\"type\":\"Split\",\"pattern\":" pattern ",\"behavior\":\"" behavior "\",\"invert\":false}"
#define SEQUENCE(steps) "{\"type\":\"Sequence\",\"pretokenizers\":[" steps "," BYTE_LEVEL "]}"

/* A model of a few letters. */
#define MODEL(more)                                                                                 \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"Ġ\":3,\"Ġab\":4,\"1\":5}," \
    "\"merges\":[\"a b\",[\"Ġ\",\"ab\"]]" more "}"
#define ADDED                                                                                      \
    "\"added_tokens\":[{\"id\":6,\"content\":\"<s>\",\"special\":true,\"rstrip\":true,"            \
    "\"normalized\":false},{\"id\":7,\"content\":\"<t>\",\"special\":false},"                      \
    "{\"id\":2,\"content\":\"ab\",\"special\":false,\"single_word\":true}]"
#define FILE_WITH(steps) "{\"version\":\"1.0\"," ADDED "," steps MODEL("") "}"

static int parse(struct vocab *vocab, const char *text, struct err *err)
{
    return tokenizer_json_parse(vocab, text, strlen(text), "tokenizer.json", err);
}

static struct tokenizer *load(const char *text)
{
    struct vocab vocab;
    struct err err = {0};
    assert_ok(parse(&vocab, text, &err), err);
    return make(&vocab);
}

static void refuses(const char *text, const char *says)
{
    struct vocab vocab;
    struct err err = {0};
    if (!parse(&vocab, text, &err)) {
        vocab_release(&vocab);
        fail_msg("%s is not refused", text);
    }
    assert_null(vocab.tokens);
    assert_says(err, "tokenizer.json:");
    assert_says(err, says);
}

static void byte_level_file(void **state)
{
    (void)state;
    struct tokenizer *t =
        load(FILE_WITH("\"pre_tokenizer\":" BYTE_LEVEL ",\"decoder\":" BYTE_LEVEL ","));
    assert_encodes(t, "aab aab", &plain, "a|ab| |a|ab");
    assert_encodes(t, "ab 1", &plain, "ab| |1");
    assert_encodes(t, "<s>  ab<t>", &special, "<s>|ab|<t>");
    assert_int_equal(tokenizer_vocab(t), 8);
    assert_int_equal(tokenizer_special(t, "<t>", 3), 7);
    assert_int_equal(tokenizer_bos(t), -1);
    tokenizer_free(t);
}

static void pieces_as_the_file_says(void **state)
{
    (void)state;
    static const struct {
        const char *file, *text, *expected;
    } cases[] = {
        {FILE_WITH("\"pre_tokenizer\":" SEQUENCE(SPLIT("{\"Regex\":\"b\"}", "Isolated")) ","),
         "1ab", "1|a|b"},
        {FILE_WITH("\"pre_tokenizer\":" SEQUENCE(SPLIT("{\"String\":\".\"}", "Removed")) ","),
         "a.b", "a|b"},
        {FILE_WITH(
             "\"pre_tokenizer\":" SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":true}") ","),
         "ab1", "ab|1"},
        {FILE_WITH("\"pre_tokenizer\":" SEQUENCE("{\"type\":\"Punctuation\"}") ","), "ab!ab",
         "ab|ab"},
        {FILE_WITH("\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":" BYTE_LEVEL ","), "ab",
         "ab"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer *t = load(cases[i].file);
        assert_encodes(t, cases[i].text, &plain, cases[i].expected);
        tokenizer_free(t);
    }
}

static void refuses_by_name(void **state)
{
    (void)state;
    refuses("[]", "expected an object");
    refuses("{", "tokenizer.json:1");
    refuses("{}", "'model' must be an object");
    refuses("{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "model 'Unigram'");
    refuses("{\"model\":{\"vocab\":{}}}", "model 'without a type'");
    refuses("{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", "object of tokens");
    refuses(FILE_WITH(""), "must end in ByteLevel");
    refuses(FILE_WITH("\"pre_tokenizer\":{\"type\":\"Whitespace\"},"),
            "pre_tokenizer 'Whitespace'");
    refuses(FILE_WITH("\"pre_tokenizer\":{\"type\":\"ByteLevel\"},"), "add_prefix_space false");
    refuses(FILE_WITH("\"pre_tokenizer\":{\"type\":\"Sequence\"},"), "'pretokenizers', an array");
    refuses(FILE_WITH("\"pre_tokenizer\":" SEQUENCE(BYTE_LEVEL) ","), "must be the last");
    refuses(
        FILE_WITH("\"pre_tokenizer\":" SEQUENCE(SPLIT("{\"Regex\":\"b\"}", "MergedWithNext")) ","),
        "behavior Isolated or Removed");
    refuses(FILE_WITH("\"normalizer\":{\"type\":\"NFKC\"},\"pre_tokenizer\":" BYTE_LEVEL ","),
            "normalizer 'NFKC'");
    refuses(FILE_WITH("\"decoder\":{\"type\":\"WordPiece\"},\"pre_tokenizer\":" BYTE_LEVEL ","),
            "decoder 'WordPiece'");
    refuses(
        FILE_WITH("\"post_processor\":{\"type\":\"BertProcessing\"},\"pre_tokenizer\":" BYTE_LEVEL
                  ","),
        "post_processor 'BertProcessing'");
    refuses("{" MODEL(",\"dropout\":0.1") "}", "'model.dropout'");
    refuses("{" MODEL(",\"end_of_word_suffix\":\"</w>\"") "}", "'model.end_of_word_suffix'");
}

#define TINY(vocab, merges, added)                                                                 \
    "{\"pre_tokenizer\":" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab              \
    "},\"merges\":" merges "},\"added_tokens\":[" added "]}"

static void refuses_wrong_numbers(void **state)
{
    (void)state;
    refuses(TINY("\"a\":-1", "[]", ""), "token 'a'");
    refuses(TINY("\"a\":1.0", "[]", ""), "token 'a'");
    refuses(TINY("\"a\":1000000000000", "[]", ""), "the highest id is 1000000000000");
    refuses(TINY("\"a\":0,\"b\":0", "[]", ""), "both have the id 0");
    refuses(TINY("\"a\":0", "[]", "{\"id\":0,\"content\":\"b\"}"), "both have the id 0");
    refuses(TINY("\"a\":0", "[]", "{\"id\":\"1\",\"content\":\"b\"}"), "'added_tokens' 0");
    refuses(TINY("\"a\":0", "{}", ""), "'model.merges' must be an array");
    refuses(TINY("\"a\":0", "[\"aa\"]", ""), "'model.merges' 0");
    refuses(TINY("\"a\":0", "[\"a a a\"]", ""), "'model.merges' 0");
    refuses(TINY("\"a\":0", "[[\"a\"]]", ""), "'model.merges' 0");
}

/* A token of the model keeps its id, whatever the list of added tokens says. */
static void added_tokens_of_the_model(void **state)
{
    (void)state;
    struct tokenizer *t = load(TINY("\"a\":0,\"b\":1", "[]", "{\"id\":5,\"content\":\"a\"}"));
    assert_int_equal(tokenizer_special(t, "a", 1), 0);
    assert_encodes(t, "ab", &plain, "a|b");
    tokenizer_free(t);
}

#define POST(before, behind)                                                                       \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" before                      \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}" behind                                           \
    "],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[6],\"tokens\":[\"<s>\"]},"             \
    "\"<u>\":{\"id\":\"<u>\",\"ids\":[60]}}},"
#define STARTS "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}"

static void post_processors(void **state)
{
    (void)state;
    static const struct encode_options whole = {.add_special = true};
    struct tokenizer *t =
        load(FILE_WITH(POST(STARTS ",", "," STARTS) "\"pre_tokenizer\":" BYTE_LEVEL ","));
    assert_encodes(t, "ab", &whole, "<s>|ab|<s>");
    assert_encodes(t, "ab", &plain, "ab");
    assert_true(tokenizer_adds_bos(t));
    tokenizer_free(t);
    refuses(FILE_WITH(POST(STARTS "," STARTS ",", "") "\"pre_tokenizer\":" BYTE_LEVEL ","),
            "only one token before");
    refuses(FILE_WITH(POST("{\"SpecialToken\":{\"id\":\"<u>\"}},",
                           "") "\"pre_tokenizer\":" BYTE_LEVEL ","),
            "one token of the vocabulary");
}

/* Llama 2's: spaces are marks, merges go by rank over the whole text, bytes stand in. */
static void llama_file(const char *steps, const char *text, const char *expected)
{
    struct buf file = {0};
    buf_printf(&file,
               "{%s,\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"}]},"
               "\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true}],"
               "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":\"<s>\","
               "\"vocab\":{\"<s>\":0,\"a\":1,\"b\":2,\"▁\":3,\"▁a\":4,\"ab\":5,\"▁▁\":6",
               steps);
    for (int i = 0; i < 256; i++)
        buf_printf(&file, ",\"<0x%02X>\":%d", i, 7 + i);
    buf_puts(&file, "},\"merges\":[\"a b\",\"▁ ▁\",\"▁ a\"]}}");
    struct tokenizer *t = load(file.data);
    assert_encodes(t, text, &special, expected);
    buf_release(&file);
    tokenizer_free(t);
}

static void llama_files(void **state)
{
    (void)state;
    static const char legacy[] =
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
        "\"▁\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}]}";
    llama_file(legacy, "ab a", " |ab| a");
    llama_file(legacy, " a", "  |a");
    llama_file(legacy, "a<s>aé", " a|<s>| a|\xc3|\xa9");
    static const char first[] =
        "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"▁\",\"prepend_scheme\":"
        "\"first\",\"split\":false}";
    llama_file(first, "a<s>a", " a|<s>|a");
    llama_file(first, " a", " a");
    static const char always[] = "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"▁\","
                                 "\"prepend_scheme\":\"always\",\"split\":true}";
    llama_file(always, "a<s>a  b", " a|<s>| a| | |b");
    static const char gemma[] =
        "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"},"
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":"
        "\"MergedWithPrevious\",\"invert\":false}";
    llama_file(gemma, "a  a", "a|  |a");
}

static void config_files(void **state)
{
    (void)state;
    struct vocab vocab;
    struct buf template = {0};
    struct err err = {0};
    assert_ok(parse(&vocab, FILE_WITH("\"pre_tokenizer\":" BYTE_LEVEL ","), &err), err);
    static const char one[] =
        "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"<t>\",\"lstrip\":false},"
        "\"add_bos_token\":true,\"chat_template\":\"{{ bos_token }}\"}";
    assert_ok(tokenizer_config_parse(&vocab, &template, one, strlen(one), "c.json", &err), err);
    assert_int_equal(vocab.bos, 6);
    assert_int_equal(vocab.eos, 7);
    assert_true(vocab.add_bos && !vocab.add_eos);
    assert_string_equal(template.data, "{{ bos_token }}");
    buf_release(&template);
    static const char many[] =
        "{\"bos_token\":null,\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"x\"},"
        "{\"name\":\"default\",\"template\":\"y\"}],\"add_bos_token\":false}";
    assert_ok(tokenizer_config_parse(&vocab, &template, many, strlen(many), "c.json", &err), err);
    assert_string_equal(template.data, "y");
    assert_true(!vocab.add_bos);
    buf_release(&template);
    static const char *const wrong[][2] = {
        {"[]", "expected an object"},
        {"{\"bos_token\":1}", "'bos_token' must be"},
        {"{\"eos_token\":\"<z>\"}", "'<z>', which the vocabulary lacks"},
        {"{\"chat_template\":[{\"name\":\"rag\",\"template\":\"\"}]}", "one named default"},
        {"{\"chat_template\":4}", "'chat_template' must be"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(tokenizer_config_parse(&vocab, &template, wrong[i][0], strlen(wrong[i][0]),
                                                "c.json", &err),
                         ERR_INVALID);
        assert_says(err, wrong[i][1]);
    }
    buf_release(&template);
    vocab_release(&vocab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_file),
        cmocka_unit_test(pieces_as_the_file_says),
        cmocka_unit_test(refuses_by_name),
        cmocka_unit_test(refuses_wrong_numbers),
        cmocka_unit_test(added_tokens_of_the_model),
        cmocka_unit_test(post_processors),
        cmocka_unit_test(llama_files),
        cmocka_unit_test(config_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
