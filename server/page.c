/* The page, put into the program by the assembler so that it needs no files beside it. Paths are
 * from the root, where make runs the compiler. */
#include "server/page.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"

#define EMBED(symbol, file)                                                                        \
    __asm__(".section .rodata\n" #symbol ": .incbin \"server/web/" file "\"\n" #symbol             \
            "_end: .byte 0\n.previous\n");                                                         \
    extern const char symbol[], symbol##_end[]

EMBED(page_html, "page.html");
EMBED(page_css, "page.css");
EMBED(page_js, "page.js");
EMBED(page_chat_js, "chat.js");
EMBED(page_dom_js, "dom.js");
EMBED(page_markdown_js, "markdown.js");
EMBED(page_plots_js, "plots.js");
EMBED(page_race_js, "race.js");
EMBED(page_request_js, "request.js");
EMBED(page_tokens_js, "tokens.js");

#define JS "text/javascript; charset=utf-8"

static const struct file {
    const char *path, *type, *data, *end;
} FILES[] = {
    {"/", "text/html; charset=utf-8", page_html, page_html_end},
    {"/page.css", "text/css; charset=utf-8", page_css, page_css_end},
    {"/page.js", JS, page_js, page_js_end},
    {"/chat.js", JS, page_chat_js, page_chat_js_end},
    {"/dom.js", JS, page_dom_js, page_dom_js_end},
    {"/markdown.js", JS, page_markdown_js, page_markdown_js_end},
    {"/plots.js", JS, page_plots_js, page_plots_js_end},
    {"/race.js", JS, page_race_js, page_race_js_end},
    {"/request.js", JS, page_request_js, page_request_js_end},
    {"/tokens.js", JS, page_tokens_js, page_tokens_js_end},
};

static const struct file *find(const char *path)
{
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++)
        if (!strcmp(path, FILES[i].path))
            return &FILES[i];
    return NULL;
}

bool page_has(const char *path)
{
    return find(path) != NULL;
}

void page_respond(const char *path, struct response *response)
{
    const struct file *file = find(path);
    size_t len = (size_t)(file->end - file->data);
    snprintf(response->etag, sizeof response->etag, "\"%016" PRIx64 "\"",
             hash_bytes(file->data, len));
    buf_append(response_begin(response, 200, file->type), file->data, len);
}
