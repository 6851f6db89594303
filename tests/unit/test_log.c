/* The log's lines, read back from standard error: JSON stays JSON whatever is logged, however long.
 */
#include "base/log.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static char line[8192];

/* Runs `write_line` with standard error in a pipe; `line` is what came, without its end. */
static void capture(void (*write_line)(void *arg), void *arg)
{
    int ends[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    write_line(arg);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    ssize_t n = read(ends[0], line, sizeof line - 1);
    close(ends[0]);
    line[n > 0 ? n : 0] = '\0';
    assert_true(n <= 0 || line[n - 1] == '\n');
}

static json_t *parsed(void)
{
    json_error_t why;
    json_t *root = json_loads(line, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        fail_msg("%s: %s", why.text, line);
    return root;
}

static void say(void *arg)
{
    log_warn("%s", (const char *)arg);
}

static void say_event(void *arg)
{
    const struct log_field fields[] = {
        {"a", arg, 0}, {"b", NULL, NAN}, {"c", NULL, 2.5}, {"d", arg, 0}, {"e", arg, 0}};
    log_event(LOG_INFO, "event", fields, 5);
}

static void json_stays_json(void **state)
{
    static const char letters[] = "\x01\"\\a\xff";
    static char text[3000];
    (void)state;
    log_configure("info", true);
    for (int k = 0; k < 5; k++)
        for (size_t n = 0; n < sizeof text; n += n < 20 ? 1 : 37) {
            memset(text, letters[k], n);
            text[n] = '\0';
            capture(say, text);
            json_t *root = parsed();
            const char *message = json_string_value(json_object_get(root, "message"));
            assert_non_null(message);
            assert_true(n > 300 || strlen(message) == (letters[k] == '\xff' ? 2 * n : n));
            json_decref(root);
            capture(say_event, text);
            root = parsed();
            assert_null(json_object_get(root, "b"));
            assert_true(n > 100 || json_object_size(root) == 7);
            json_decref(root);
        }
}

static void text_quotes_what_would_split_it(void **state)
{
    (void)state;
    log_configure("info", false);
    capture(say_event, "two words");
    assert_non_null(strstr(line, " info event a=\"two words\" c=2.5 d="));
    capture(say_event, "x\ny");
    assert_non_null(strstr(line, "a=\"x\\u000ay\""));
    capture(say_event, "plain");
    assert_non_null(strstr(line, " a=plain c=2.5 "));
    log_configure("error", false);
    capture(say, "not heavy enough");
    assert_string_equal(line, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(json_stays_json),
                                       cmocka_unit_test(text_quotes_what_would_split_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
