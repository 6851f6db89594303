/* The expressions behind the names of GGUF's tokenizer.ggml.pre, as the models' tokenizer.json have
 * them. */
#include <string.h>

#include "base/buf.h"
#include "text/pretokenizer.h"

#define GPT2 "i's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+\0"
#define DIGIT "i" PRETOKENIZER_DIGIT "\0"
#define SHORTENED "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\0"
#define REST_SLASH "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\0"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(end)                                                                                 \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" end "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER     \
    "*" end

#define QWEN2 "i" SHORTENED "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" REST
#define QWEN35                                                                                     \
    "i" SHORTENED "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"                                  \
    "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\0"
#define LLAMA3 "i" SHORTENED "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" REST
#define TEKKEN "i" CASED("") "|\\p{N}" REST_SLASH
#define GPT4O "i" CASED(SHORTENED "?") "|\\p{N}{1,3}" REST_SLASH
#define DEEPSEEK3                                                                                  \
    "i\\p{N}{1,3}\0"                                                                               \
    "i[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+\0"                              \
    "i[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"                                       \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+"        \
    "|\\s+(?!\\S)|\\s+\0"

static const struct pretokenizer_known known[] = {
    {"gpt-2", GPT2, false, false, false},
    {"phi-2", GPT2, false, false, false},
    {"exaone4", GPT2, false, false, false},
    {"smollm", DIGIT GPT2, false, false, false},
    {"starcoder", DIGIT GPT2, false, false, false},
    {"refact", DIGIT GPT2, false, false, false},
    {"codeshell", DIGIT GPT2, false, false, false},
    {"qwen2", QWEN2, true, false, false},
    {"qwen35", QWEN35, true, false, false},
    {"deepseek-r1-qwen", QWEN2, false, false, false},
    {"llama-bpe", LLAMA3, false, true, true},
    {"llama3", LLAMA3, false, true, true},
    {"llama-v3", LLAMA3, false, true, true},
    {"falcon3", LLAMA3, false, true, true},
    {"pixtral", LLAMA3, false, true, true},
    {"lfm2", LLAMA3, false, true, true},
    {"dbrx", LLAMA3, false, false, false},
    {"smaug-bpe", LLAMA3, false, false, false},
    {"glm4", LLAMA3, false, false, false},
    {"chatglm-bpe", LLAMA3, false, false, false},
    {"tekken", TEKKEN, false, true, true},
    {"gpt-4o", GPT4O, false, false, false},
    {"llama4", GPT4O, false, false, false},
    {"deepseek-v3", DEEPSEEK3, false, false, false},
    {"hunyuan-dense", DEEPSEEK3, false, false, false},
};

const struct pretokenizer_known *pretokenizer_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == len && !memcmp(known[i].name, name, len))
            return &known[i];
    return NULL;
}

int pretokenizer_refuse(const char *name, size_t len, struct err *err)
{
    struct buf names = {0};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        buf_printf(&names, "%s%s", i ? ", " : "", known[i].name);
    int rc = err_set(err, ERR_INVALID, "pre-tokenizer '%.*s' is not known; known are %s",
                     (int)(len < 60 ? len : 60), name, names.failed ? "others" : names.data);
    buf_release(&names);
    return rc;
}
