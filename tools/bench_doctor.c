/* The table in sentences. */
#include "tools/bench_doctor.h"

#include <stdio.h>
#include <string.h>

#include "engine/doctor.h"

/* ---- what is measured ---- */

/* Questions for models that chat; beginnings of texts for those that do not. */
static json_t *own_prompts(bool chat)
{
    return chat ? json_pack("{s:[s,s,s,s]}", "chat",
                            "Write a C function that reverses a string in place.",
                            "Explain in a few sentences why the sky is blue.",
                            "Give me a recipe for pancakes, step by step.",
                            "Write a Python class for a stack, with push and pop.")
                : json_pack("{s:[s,s,s,s]}", "text", "import os\nimport sys\n\ndef main():\n",
                            "#include <stdio.h>\n\nint main(void)\n{\n",
                            "It was a cold morning, and the town was still",
                            "The most important thing about a program is");
}

void doctor_options(const struct scheduler *s, struct decode_options *o)
{
    static char modes[256];
    int heads = s->runtime->model.config.n_predict;
    size_t n = 0;
    o->chat = s->runtime->chat_template.len > 0;
    o->given = own_prompts(o->chat);
    if (o->modes)
        return;
    for (int k = 1; k < heads && k < 8; k++)
        n += (size_t)snprintf(modes + n, sizeof modes - n, "%d,", k);
    snprintf(modes + n, sizeof modes - n,
             heads > 1 ? "tree:4,both:4,both:8,lookup:4,auto" : "lookup:2,lookup:4,lookup:8,auto");
    o->modes = modes;
}

/* ---- what is said ---- */

static const char *text_of(const json_t *cell, const char *name)
{
    return json_string_value(json_object_get(cell, name));
}

static double number(const json_t *cell, const char *name)
{
    return json_number_value(json_object_get(cell, name));
}

static const json_t *cell_of(const json_t *cells, const char *mode, int batch)
{
    size_t i;
    json_t *cell;
    json_array_foreach((json_t *)cells, i,
                       cell) if (!strcmp(text_of(cell, "mode"), mode) &&
                                 (int)number(cell, "batch") == batch) return cell;
    return NULL;
}

/* The fastest fixed way for one text. */
static const json_t *best_of(const json_t *cells, const json_t *plain)
{
    const json_t *best = plain;
    size_t i;
    json_t *cell;
    json_array_foreach((json_t *)cells, i, cell)
    {
        if ((int)number(cell, "batch") == 1 && strcmp(text_of(cell, "mode"), "auto") &&
            number(cell, "speedup") > number(best, "speedup"))
            best = cell;
    }
    return best;
}

/* What the cells say of chains. */
static struct doctor examine(const json_t *cells, const json_t *best, int heads)
{
    char name[16];
    struct doctor d = {.heads = heads - 1, .best = number(best, "speedup")};
    int longest = d.heads < DOCTOR_DRAFTS ? d.heads : DOCTOR_DRAFTS;
    for (int k = 1; k <= longest; k++) {
        snprintf(name, sizeof name, "%d", k);
        const json_t *chain = cell_of(cells, name, 1);
        if (!chain)
            continue;
        d.costs[k - 1] = number(chain, "relative_pass_time");
        d.tokens[k - 1] = number(chain, "tokens_per_forward");
        const json_t *rates = json_object_get(chain, "acceptance");
        d.n_rates = k == longest ? (int)json_array_size(rates) : 0;
        for (int i = 0; i < d.n_rates; i++)
            d.rates[i] = json_number_value(json_array_get(rates, (size_t)i));
    }
    return d;
}

static void print_sentence(void *arg, const char *sentence)
{
    (void)arg;
    printf("- %s\n", sentence);
}

void doctor_tell(const struct scheduler *s, const json_t *json)
{
    const json_t *cells = json_object_get(json, "decode");
    const json_t *plain = cell_of(cells, "0", 1), *automatic = cell_of(cells, "auto", 1);
    int heads = s->runtime->model.config.n_predict;
    if (!plain || !automatic)
        return;
    const json_t *best = best_of(cells, plain);
    printf("\n- Plain decoding writes %.0f tokens/s here, \"auto\" %.0f: %.2f times as many, %.2f "
           "tokens per pass.\n",
           number(plain, "tokens_per_s"), number(automatic, "tokens_per_s"),
           number(automatic, "speedup"), number(automatic, "tokens_per_forward"));
    if (best == plain)
        printf("- Of the fixed ways plain decoding is the fastest.\n");
    else
        printf("- Of the fixed ways %s is the fastest, %.2f times plain.\n", text_of(best, "mode"),
               number(best, "speedup"));
    const struct doctor d = examine(cells, best, heads);
    doctor_say(&d, print_sentence, NULL);
    for (int batch = 4; batch <= 16; batch *= 4) {
        const json_t *cell = cell_of(cells, "auto", batch);
        if (cell)
            printf("- With %d texts at a time \"auto\" is %.2f times plain.\n", batch,
                   number(cell, "speedup"));
    }
    if (number(automatic, "speedup") < 0.95 * d.best)
        print_sentence(NULL,
                       "\"auto\" is slower than the fastest of them: it learns costs while it "
                       "runs, so that short tests and busy machines mislead it. Measure "
                       "again, with more --tokens.");
}
