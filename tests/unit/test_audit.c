/* The verdict of an audit: answers and replays as events, without an engine. */
#include "tests/unit/unit.h"

#include "server/app.h"
#include "server/completion.h"

static struct app app;
static struct completion completion;
static struct api_prompt prompt;
static struct choice choice;
static char path[64];

static void begin(void)
{
    static int32_t tokens[] = {1, 2, 3};
    static const struct engine_info info = {.context = 10};
    memset(&app, 0, sizeof app);
    memset(&completion, 0, sizeof completion);
    memset(&choice, 0, sizeof choice);
    prompt = (struct api_prompt){.tokens = tokens, .n_tokens = 3};
    app.info = &info;
    completion.app = &app;
    completion.choices = &choice;
    completion.n_choices = completion.held = 1;
    completion.request.best_of = completion.request.n = 1;
    completion.request.engine.max_tokens = 9;
    choice.completion = &completion;
    choice.prompt = &prompt;
    app.audits.file = path;
    app.audits.share = 1;
    struct engine_request request = completion_request(&choice);
    audit_choose(&choice, &request);
    assert_true(choice.audit.wanted && request.logprobs);
}

/* Tokens a, a + 1, ..., in events of at most two, with their log-probabilities less `off` at one.
 */
static void give(void (*take)(struct choice *, const struct engine_event *), int n, int other,
                 int at, float off, enum engine_finish finish)
{
    static struct engine_token tokens[2];
    for (int i = 0; i <= n; i += 2) {
        struct engine_event event = {.text = "", .tokens = tokens, .finish = FINISH_NONE};
        for (int j = i; j < i + 2 && j < n; j++)
            tokens[event.n_tokens++] = (struct engine_token){
                .token = 10 + j + (j == other), .logprob = -0.5f * (float)j - (j == at ? off : 0)};
        event.finish = i + 2 > n ? finish : FINISH_NONE;
        take(&choice, &event);
    }
}

static void assert_verdict(int audited, int mismatches, int skipped, size_t where)
{
    assert_int_equal(app.audits.audited, audited);
    assert_int_equal(app.audits.mismatches, mismatches);
    assert_int_equal(app.audits.skipped, skipped);
    assert_int_equal(choice.audit.differs, mismatches);
    if (mismatches)
        assert_int_equal(choice.audit.where, where);
    assert_int_equal(completion.held, 0);
    audit_release(&choice.audit);
}

static void equal_answers_are_equal(void **state)
{
    (void)state;
    begin();
    give(audit_note, 7, -1, -1, 0, FINISH_LENGTH);
    give(audit_event, 7, -1, -1, 0, FINISH_LENGTH);
    assert_int_equal(app.audits.tokens, 7);
    assert_verdict(1, 0, 0, 0);
    assert_int_equal(access(path, F_OK), -1);
}

static void every_difference_is_found(void **state)
{
    (void)state;
    for (int i = 0; i < 7; i++) {
        begin();
        give(audit_note, 7, -1, -1, 0, FINISH_STOP);
        give(audit_event, 7, i, -1, 0, FINISH_STOP);
        assert_verdict(1, 1, 0, (size_t)i);
        begin(); /* the last bit of a log-probability */
        give(audit_note, 7, -1, -1, 0, FINISH_STOP);
        give(audit_event, 7, -1, i, i ? 2.5e-7f : 1e-45f, FINISH_STOP);
        assert_verdict(1, 1, 0, (size_t)i);
        begin(); /* shorter, longer */
        give(audit_note, 7, -1, -1, 0, FINISH_STOP);
        give(audit_event, i, -1, -1, 0, FINISH_STOP);
        assert_verdict(1, 1, 0, (size_t)i);
        begin();
        give(audit_note, i, -1, -1, 0, FINISH_STOP);
        give(audit_event, 7, -1, -1, 0, FINISH_STOP);
        assert_verdict(1, 1, 0, (size_t)i);
    }
    /* What repeats it is a line of JSON that the server takes, as long as the context had room
     * for, with what was said beside it. */
    FILE *file = fopen(path, "r");
    char line[2048];
    int lines = 0;
    for (; fgets(line, sizeof line, file); lines++) {
        assert_true(!strncmp(line, "{\"prompt\":[1,2,3],\"max_tokens\":7,", 33));
        assert_non_null(
            strstr(line, "\"metadata\":{\"id\":\"\",\"left_out\":\"\",\"differs_at\":"));
    }
    fclose(file);
    assert_int_equal(lines, 28);
    remove(path);
}

static void what_did_not_end_says_nothing(void **state)
{
    (void)state;
    begin();
    give(audit_note, 7, -1, -1, 0, FINISH_STOP);
    give(audit_event, 3, 1, -1, 0, FINISH_CANCELLED);
    assert_int_equal(app.audits.audited, 0);
    assert_int_equal(app.audits.mismatches, 0);
    assert_int_equal(app.audits.skipped, 1);
    assert_int_equal(completion.held, 0);
    audit_release(&choice.audit);
}

static void a_share_is_a_share(void **state)
{
    int n = 0;
    (void)state;
    begin();
    app.audits.owed = 0;
    app.audits.share = 0.3;
    for (int i = 0; i < 1000; i++) {
        struct engine_request request = completion_request(&choice);
        memset(&choice.audit, 0, sizeof choice.audit);
        audit_choose(&choice, &request);
        n += choice.audit.wanted;
        assert_int_equal(request.logprobs, choice.audit.wanted);
    }
    assert_in_range(n, 299, 300);
}

static int name_file(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/headway-audit-%d", (int)getpid());
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_answers_are_equal),
        cmocka_unit_test(every_difference_is_found),
        cmocka_unit_test(what_did_not_end_says_nothing),
        cmocka_unit_test(a_share_is_a_share),
    };
    return cmocka_run_group_tests(tests, name_file, NULL);
}
