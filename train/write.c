/* headway-write: text for training heads, written by the model that is to have them. Owns the
 * options and the signals; the rest is own_text.c's. */
#include <signal.h>
#include <stdio.h>

#include "base/opts.h"
#include "train/own_text.h"

static const char about[] =
    "headway-write lets a model write the text that its heads are trained on: a chat model asks\n"
    "itself questions and answers them, others write on from nothing or from openings. Texts that\n"
    "go in circles or repeat others are dropped. OUT takes tokens; --resume goes on with it to "
    "the\n"
    "same bytes as a run that was never stopped. SIGINT or SIGTERM stops.";

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static bool stop_asked(void)
{
    return stopped;
}

static int read_options(struct own_text_options *o, int argc, char **argv, struct err *err)
{
    *o = (struct own_text_options){.tokens = 1e6,
                                   .sequences = 32,
                                   .isa = "auto",
                                   .question = 200,
                                   .answer = 400,
                                   .spread = 1,
                                   .temperature = 0.8,
                                   .greedy = 0.5,
                                   .opened = 0.5,
                                   .seed = 1,
                                   .stop = stop_asked};
    const struct opt table[] = {
        {"model", OPT_STRING, &o->model, 0, 0, 0, "folder or file of the model that writes"},
        {"out", OPT_STRING, &o->out, 0, 0, 0, "file of the texts"},
        {"tokens", OPT_REAL, &o->tokens, 1, 1e9, 0, "how many the file is to have"},
        {"openings", OPT_STRING, &o->openings, 0, 0, 0,
         "JSON file: a list of strings that questions, or texts, begin with"},
        {"opened", OPT_REAL, &o->opened, 0, 1, 0, "part of the questions that begin with one"},
        {"prompts", OPT_STRING, &o->prompts, 0, 0, 0,
         "JSON file: a list of strings, questions to answer instead of the model's own; each is "
         "answered once"},
        {"question", OPT_INT, &o->question, 8, 1e6, 0, "tokens of a question, at most"},
        {"answer", OPT_INT, &o->answer, 8, 1e6, 0, "tokens of an answer, at most"},
        {"spread", OPT_REAL, &o->spread, 0.05, 5, 0, "temperature of questions"},
        {"greedy", OPT_REAL, &o->greedy, 0, 1, 0, "part of the answers that are greedy"},
        {"temperature", OPT_REAL, &o->temperature, 0.05, 5, 0, "of the other answers"},
        {"sequences", OPT_INT, &o->sequences, 1, 256, 0, "texts written at the same time"},
        {"seed", OPT_INT, &o->seed, 0, 2147483647, 0, "of all that is drawn"},
        {"threads", OPT_INT, &o->threads, 0, 256, 0, "0 = all; texts do not depend on it"},
        {"isa", OPT_CHOICE, &o->isa, 0, 0, ENGINE_ISAS, "kernels"},
        {"resume", OPT_FLAG, &o->resume, 0, 0, 0, "go on with OUT"},
        {0}};
    int rc = opts_parse(table, about, argc, argv, NULL, 0, NULL, err);
    if (rc)
        return rc;
    if (!o->model)
        return err_set(err, ERR_INVALID, "--model is missing: name the model that is to write");
    if (!o->out)
        return err_set(err, ERR_INVALID, "--out is missing: name a file for the texts");
    return 0;
}

int main(int argc, char **argv)
{
    struct own_text_options options;
    struct err err;
    int rc = read_options(&options, argc, argv, &err);
    if (rc > 0)
        return 0;
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    if (!rc)
        rc = own_text_write(&options, &err);
    if (rc)
        fprintf(stderr, "headway-write: %s\n", err.text);
    return rc ? 1 : 0;
}
