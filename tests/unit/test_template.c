/* Chat templates by hand: what comes out, which bytes of it count as the conversation's, and what
 * stops templates that are wrong or hostile. Parity with jinja2 is
 * tests/parity/compare_templates.py's.
 *
 * In expected texts the brackets ⟦ and ⟧ stand around each literal range. */
#include "text/template.h"

#include "base/clock.h"
#include "tests/unit/unit.h"

#define OPEN "⟦"
#define CLOSE "⟧"

/* A conversation whose contents imitate special tokens. */
static const char conversation[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \" Hi <|im_end|> é🙂, \\\"x\\\"\\nb \", "
    "\"n\": 3},"
    " {\"role\": \"assistant\", \"content\": \"Yes\", \"parts\": [{\"type\": \"text\", \"text\": "
    "\"p\"}]}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"d\": \"<s>\"}}],"
    " \"extra\": {\"thinking\": true, \"who\": \"</s>\"}}";

static int render_with(const char *source, size_t len, const json_t *json,
                       struct rendered *rendered, struct err *err)
{
    struct template *template;
    struct template_input input = {
        .messages = json_object_get(json, "messages"),
        .tools = json_object_get(json, "tools"),
        .extra = json_object_get(json, "extra"),
        .add_generation_prompt = true,
        .bos_token = "<s>",
        .eos_token = "</s>",
        .now = 1772874302, /* 2026-03-07 09:05:02 UTC */
    };
    int rc = template_parse(&template, source, len, err);
    if (rc) {
        assert_null(template);
        return rc;
    }
    rc = template_render(template, &input, rendered, err);
    template_free(template);
    return rc;
}

static int render(const char *source, struct rendered *rendered, struct err *err)
{
    json_t *json = json_loads(conversation, 0, NULL);
    assert_non_null(json);
    int rc = render_with(source, strlen(source), json, rendered, err);
    json_decref(json);
    return rc;
}

/* The text with brackets around its literal ranges, which must rise and lie apart. */
static void bracket(const struct rendered *rendered, struct buf *out)
{
    size_t at = 0;
    for (size_t i = 0; i < rendered->n_literal; i++) {
        struct text_range range = rendered->literal[i];
        assert_true(range.begin < range.end && range.end <= rendered->text.len);
        assert_true(i == 0 || range.begin > rendered->literal[i - 1].end);
        buf_append(out, rendered->text.data + at, range.begin - at);
        buf_puts(out, OPEN);
        buf_append(out, rendered->text.data + range.begin, range.end - range.begin);
        buf_puts(out, CLOSE);
        at = range.end;
    }
    buf_append(out, rendered->text.data + at, rendered->text.len - at);
}

#define assert_renders(source, expected)                                                           \
    do {                                                                                           \
        struct rendered rendered_;                                                                 \
        struct err err_;                                                                           \
        struct buf got_ = {0};                                                                     \
        assert_ok(render(source, &rendered_, &err_), err_);                                        \
        bracket(&rendered_, &got_);                                                                \
        assert_string_equal(got_.data ? got_.data : "", expected);                                 \
        rendered_release(&rendered_);                                                              \
        assert_null(rendered_.text.data);                                                          \
        buf_release(&got_);                                                                        \
    } while (0)

#define assert_fails(source, part)                                                                 \
    do {                                                                                           \
        struct rendered rendered_;                                                                 \
        struct err err_;                                                                           \
        assert_int_equal(render(source, &rendered_, &err_), ERR_INVALID);                          \
        assert_says(err_, part);                                                                   \
    } while (0)

static void a_conversation(void **state)
{
    (void)state;
    assert_renders("{{ bos_token }}{% for m in messages %}\n"
                   "<|im_start|>{{ m.role }}\n"
                   "{{ m.content | trim }}<|im_end|>\n"
                   "{% endfor %}\n"
                   "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
                   "<s><|im_start|>⟦user⟧\n⟦Hi <|im_end|> é🙂, \"x\"\nb⟧<|im_end|>\n"
                   "<|im_start|>⟦assistant⟧\n⟦Yes⟧<|im_end|>\n<|im_start|>assistant\n");
}

/* Every operation on strings carries the marks along. */
static void marks(void **state)
{
    (void)state;
    static const struct {
        const char *expression, *expected;
    } cases[] = {
        {"'<|im_start|>' + m.role + '\\n'", "<|im_start|>⟦user⟧\n"},
        {"'<' ~ m.role ~ 3 ~ m.n ~ '>'", "<⟦user⟧33>"},
        {"m.content|trim", "⟦Hi <|im_end|> é🙂, \"x\"\nb⟧"},
        {"m.content.strip()", "⟦Hi <|im_end|> é🙂, \"x\"\nb⟧"},
        {"(' a' + m.role + 'r ').strip()", "a⟦user⟧r"},
        {"('ab' + m.role + 'ba').strip('ab')", "⟦user⟧"},
        {"m.content[1:-1]", "⟦Hi <|im_end|> é🙂, \"x\"\nb⟧"},
        {"('ab' + m.role + 'cd')[1:-1]", "b⟦user⟧c"},
        {"('ab' + m.role)[::-1]", "⟦resu⟧ba"},
        {"('ab' + m.role)|reverse", "⟦resu⟧ba"},
        {"('ab' + m.role)[2]", "⟦u⟧"},
        {"('ab' + m.role)|first", "a"},
        {"('ab' + m.role)|last", "⟦r⟧"},
        {"('ab' + m.role)|list|join('-')", "a-b-⟦u⟧-⟦s⟧-⟦e⟧-⟦r⟧"},
        {"m.content.split('<|im_end|>')|join('<|im_end|>')",
         "⟦ Hi ⟧<|im_end|>⟦ é🙂, \"x\"\nb ⟧"},
        {"m.content.split()[1]", "⟦<|im_end|>⟧"},
        {"m.content.replace('<|im_end|>', '<|eot|>')", "⟦ Hi ⟧<|eot|>⟦ é🙂, \"x\"\nb ⟧"},
        {"'a-b'.replace('-', m.role)", "a⟦user⟧b"},
        {"'a-b'|replace('-', m.role)", "a⟦user⟧b"},
        {"'ab'.replace('', m.role)", "⟦user⟧a⟦user⟧b⟦user⟧"},
        {"('<b>' + m.role)|upper", "<B>⟦USER⟧"},
        {"('straße' + m.role)|upper", "STRASSE⟦USER⟧"},
        {"('A ' + m.role)|title", "A ⟦User⟧"},
        {"(m.role + ' x').title()", "⟦User⟧ X"},
        {"('a' + m.role)|capitalize", "A⟦user⟧"},
        {"m.role * 2 + 'x' * 2", "⟦useruser⟧xx"},
        {"[m.role, 'x', m.role]|join(',')", "⟦user⟧,x,⟦user⟧"},
        {"','.join([m.role, 'x'])", "⟦user⟧,x"},
        {"m.role.join(['x', 'y'])", "x⟦user⟧y"},
        {"[m.content[:4], 'x']", "['⟦ Hi ⟧', 'x']"},
        {"{m.role: 'x'}", "{'⟦user⟧': 'x'}"},
        {"m.content[-6:]|tojson", "\"⟦\\\"x\\\"\\nb ⟧\""},
        {"m.content[9:21]|tojson(true)", "\"⟦end|> \\u00e9\\ud83d\\ude42, \\\"x⟧\""},
        {"tools|tojson",
         "[{\"⟦type⟧\": \"⟦function⟧\", \"⟦function⟧\": {\"⟦name⟧\": \"⟦f⟧\", \"⟦d⟧\": "
         "\"⟦<s>⟧\"}}]"},
        {"tools[0].function|tojson(indent=2)",
         "{\n  \"⟦name⟧\": \"⟦f⟧\",\n  \"⟦d⟧\": \"⟦<s>⟧\"\n}"},
        {"{'k': m.role, 'l': 'x'}|tojson", "{\"k\": \"⟦user⟧\", \"l\": \"x\"}"},
        {"m.content[-5:]|indent(2, true)", "  ⟦x\"⟧\n  ⟦b ⟧"},
        {"m.content.splitlines()[1] ~ '.'", "⟦b ⟧."},
        {"('a<' + m.content[4:6])|e", "a&lt;⟦&lt;|⟧"},
        {"'[%s|%5s|%-5s]' % (m.role, 'x', m.role)", "[⟦user⟧|    x|⟦user⟧ ]"},
        {"'%(a)s' % {'a': m.role}", "⟦user⟧"},
        {"(m.role + '%s') % 'x'", "⟦user⟧x"},
        {"'{}-{r}'.format(m.role, r='x')", "⟦user⟧-x"},
        {"(m.role + '{}').format('x')", "⟦user⟧x"},
        {"'{:>6}'.format(m.role)", "  ⟦user⟧"},
        {"m.role|string|default('x')", "⟦user⟧"},
        {"m.role.removeprefix('us')", "⟦er⟧"},
        {"m|dictsort|first|first", "⟦content⟧"},
        {"m.keys()|list|last", "⟦n⟧"},
        {"messages|map(attribute='role')|map('upper')|join('|')", "⟦USER⟧|⟦ASSISTANT⟧"},
        {"messages|selectattr('role', 'equalto', 'user')|map(attribute='role')|first", "⟦user⟧"},
        {"[m.role, 'a']|sort|join", "a⟦user⟧"},
        {"who ~ bos_token ~ eos_token", "⟦</s>⟧<s></s>"},
        {"thinking ~ m.n", "True3"},
        {"m.role if m.role == 'user' else 'user'", "⟦user⟧"},
        {"strftime_now('%Y-%m-%d')", "2026-03-07"},
        {"messages[1].parts[0].text", "⟦p⟧"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char source[256];
        snprintf(source, sizeof source, "{%% set m = messages[0] %%}{{ %s }}", cases[i].expression);
        assert_renders(source, cases[i].expected);
    }
}

static void marks_through_statements(void **state)
{
    (void)state;
    assert_renders("{% set x %}<{{ messages[0].role }}>{% endset %}{{ x|upper }}", "<⟦USER⟧>");
    assert_renders("{% set x | upper %}<{{ messages[0].role }}>{% endset %}{{ x }}", "<⟦USER⟧>");
    assert_renders("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(messages[0].role)|upper }}",
                   "<⟦USER⟧>");
    assert_renders("{% filter upper %}a{{ messages[0].role }}{% endfilter %}", "A⟦USER⟧");
    assert_renders("{% set ns = namespace(t='') %}{% for m in messages %}"
                   "{% set ns.t = ns.t ~ '<' ~ m.role ~ '>' %}{% endfor %}{{ ns.t }}",
                   "<⟦user⟧><⟦assistant⟧>");
    assert_renders(
        "{% for c in messages[1].content %}{{ c }}{{ '-' if not loop.last }}{% endfor %}",
        "⟦Y⟧-⟦e⟧-⟦s⟧");
    assert_renders(
        "{% for k, v in messages[1].items() %}{{ k }}={{ v if v is string }};{% endfor %}",
        "⟦role⟧=⟦assistant⟧;⟦content⟧=⟦Yes⟧;⟦parts⟧=;");
    /* What lies side by side is one range. */
    assert_renders("{{ messages[0].role }}{{ messages[1].role ~ who }}", "⟦userassistant</s>⟧");
}

/* Text that grows in place must not be seen by who holds the shorter one. */
static void growing_texts_do_not_share(void **state)
{
    (void)state;
    assert_renders("{% set a = 'x' * 300 %}{% set b = a + 'y' %}{% set c = b + 'z' %}"
                   "{% set d = b + messages[0].role %}{{ b[299:] }}{{ c[299:] }}{{ d[299:] }}",
                   "xyxyzxy⟦user⟧");
}

static void white_space(void **state)
{
    (void)state;
    assert_renders("a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc");
    assert_renders("a\n  {%- if true -%}\n  b\n  {%- endif -%}\nc", "abc");
    assert_renders("a\n  {%+ if true +%}\n  b\n  {%+ endif +%}\nc", "a\n  \n  b\n  \nc");
    assert_renders("a {# x #}\nb {{- 1 -}} \n c\r\nd", "a b1c\nd");
    assert_renders("{% raw %}{{ x }}{% endraw %}", "{{ x }}");
    assert_renders("", "");
}

static void names_and_scopes(void **state)
{
    (void)state;
    assert_renders(
        "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
        "11121");
    assert_renders(
        "{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
        "3210");
    assert_renders(
        "{% set ns = namespace() %}{% for i in [1] %}{% set v = 'in' %}"
        "{% macro m() %}{{ v }}{% endmacro %}{% set ns.m = m %}{% endfor %}{{ ns.m is callable }}",
        "True");
    assert_renders("{{ tools is defined }}{{ documents is defined }}{{ thinking }}",
                   "TrueFalseTrue");
}

/* Without tools they are undefined, unless extra says what they are. */
static void tools_may_be_missing(void **state)
{
    (void)state;
    static const char source[] = "{{ tools is defined }} {{ tools is none }}";
    struct rendered rendered;
    struct err err;
    json_t *json = json_loads("{\"messages\": []}", 0, NULL);
    assert_ok(render_with(source, strlen(source), json, &rendered, &err), err);
    assert_string_equal(rendered.text.data, "False False");
    rendered_release(&rendered);
    json_object_set_new(json, "extra", json_pack("{s:n}", "tools"));
    assert_ok(render_with(source, strlen(source), json, &rendered, &err), err);
    assert_string_equal(rendered.text.data, "True True");
    rendered_release(&rendered);
    json_decref(json);
}

static void errors_name_their_line(void **state)
{
    (void)state;
    assert_fails("a\n{{ 1 +\n }}", "line 3 of the chat template: an expression was expected");
    assert_fails("\n{% if x %}\n\n", "line 3 of the chat template: \"endif\" was expected");
    assert_fails("{% nosuch %}", "line 1 of the chat template: the tag \"nosuch\"");
    assert_fails("\n\n{{ 'x'|nosuch }}", "line 3 of the chat template: there is no filter or test");
    assert_fails("{% if 1 %}\n{{ 'x'|nosuch }}{% endif %}", "line 2");
    assert_fails("{# a\n", "line 1 of the chat template: a comment has no end");
    assert_fails("{{ 'a\n", "a string has no end");
    assert_fails("{{ (1] }}", "a bracket closes that was not opened");
    assert_fails("a\n{{ raise_exception('turns must alternate') }}",
                 "line 2 of the chat template: the template says: turns must alternate");
    assert_fails("a\n\n{{ nosuch.x }}", "line 3 of the chat template: \"nosuch\" is undefined");
    assert_fails("{{ messages[0].x.y }}", "a dict has no \"x\"");
    assert_fails("{% macro m(a) %}\n{{ a + 1 }}{% endmacro %}\n\n{{ m('x') }}",
                 "line 2 of the chat template: cannot add a str and a int");
    assert_fails("{{ 1 // 0 }}", "division by zero");
    assert_fails("{{ [].append(1) }}", "may not be changed");
    assert_fails("{% set x = {} %}{% set x.y = 1 %}", "is no namespace");
    assert_fails("{% for x in [1] recursive %}{% endfor %}", "not supported");
    assert_fails("{{ f(*x) }}", "not supported");
    assert_fails("{% include 'x' %}", "not supported");
    assert_fails("{% break %}", "outside a loop");
    assert_fails("\xff", "line 1 of the chat template is not UTF-8");
    assert_fails("{{ 9223372036854775807 + 1 }}", "does not fit in 64 bits");
    assert_fails("{{ 9223372036854775808 }}", "does not fit in 64 bits");
}

/* Each of these would run for ever, or take all memory or stack. */
static void limits(void **state)
{
    (void)state;
    static const struct {
        const char *source, *says;
    } cases[] = {
        {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
         "more than"},
        {"{% for a in range(99999) %}{% for b in range(99999) if b < 0 %}{% endfor %}{% endfor %}",
         "more than"},
        {"{% for a in range(99999) %}{{ range(99999)|list|sort|length }}{% endfor %}", "more than"},
        {"{% set x = range(9999)|list %}{% for a in range(99999) %}{{ x == range(9999)|list }}"
         "{% endfor %}",
         ""},
        {"{% set x = 'a' * 1000000 %}{% for a in range(99999) %}{% if 'b' in x %}{% endif %}"
         "{% endfor %}",
         "more than"},
        {"{% set x = 'a' * 1000000 %}{% for a in range(99999) %}{% if x|length %}{% endif %}"
         "{% endfor %}",
         "more than"},
        {"{% set x = 'a' * 1000000 %}{% set y = 'a' * 500000 + 'b' %}{% for a in range(99999) %}"
         "{{ x.rfind(y) }}{% endfor %}",
         "more than"},
        {"{% set x = 'a' * 1000000 %}{% set y = 'a' * 500000 + 'b' %}{% for a in range(99999) %}"
         "{{ y in x }}{{ x.find(y) }}{% endfor %}",
         "more than"},
        {"{% set x = 'é' * 1000000 %}{% for a in range(99999) %}{{ x[999999] }}{% endfor %}",
         "more than"},
        {"{% set x = ' ' * 1000000 %}{% for a in range(99999) %}{{ x|trim }}{% endfor %}",
         "more than"},
        {"{% set x = 'a' * 1000000 %}{% for a in range(99999) %}{{ x.strip(x) }}{% endfor %}",
         "more than"},
        {"{% set ns = namespace(x='aaaaaaaa') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x "
         "%}"
         "{% endfor %}",
         "more than"},
        {"{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% "
         "endfor %}",
         "more than"},
        {"{% set ns = namespace(x=[1]) %}{% for a in range(99) %}{% set ns.x = [ns.x, ns.x] %}"
         "{% endfor %}{{ ns.x }}",
         "more than"},
        {"{% set ns = namespace(x=[1]) %}{% for a in range(999) %}{% set ns.x = [ns.x] %}{% endfor "
         "%}"
         "{{ ns.x }}",
         "nested more than"},
        {"{% set ns = namespace(x=[1], y=[1]) %}{% for a in range(999) %}{% set ns.x = [ns.x] %}"
         "{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
         "nested more than"},
        {"{% set ns = namespace(x=1) %}{% for a in range(999) %}{% set ns.x = {'a': ns.x} %}{% "
         "endfor %}"
         "{{ ns.x|tojson }}",
         "nested more than"},
        {"{% set ns = namespace(x=(1,)) %}{% for a in range(99999) %}{% set ns.x = (ns.x,) %}{% "
         "endfor %}"
         "{{ {ns.x: 1} }}",
         "cannot be a key"},
        {"{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}", "nested more than"},
        {"{% set ns = namespace() %}{% set ns.self = [ns] %}{{ ns.self == [ns.self] }}", ""},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested more than"},
        {"{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) "
         "}}",
         "more than"},
        {"{{ 'a' * 99999999999 }}", "than"},
        {"{{ [1] * 99999999999 }}", ""},
        {"{% set x = 'a' * 1000000 %}{% for a in range(99) %}{{ x }}{% endfor %}", "than"},
        {"{% set x %}{% set y = 'a' * 1000000 %}{% for a in range(99) %}{{ y }}{% endfor %}{% "
         "endset %}",
         "than"},
        {"{{ range(100001) }}", "more than 100000 items"},
        {"{{ range(-9223372036854775807, 9223372036854775807) }}", "more than 100000 items"},
        {"{{ range(9223372036854775806, 9223372036854775807, 9223372036854775807)|list }}", ""},
        {"{{ '%999999999d' % 1 }}", ""},
        {"{{ '%.999999999f' % 1.5 }}", ""},
        {"{{ '%f' % 1e308 }}", "cannot be formatted"},
        {"{{ '{:>999999999}'.format('a') }}", ""},
        {"{{ 2 ** 99999999999 }}", "does not fit"},
        {"{{ 1|round(99999999) }}{{ 1.5|round(99999999) }}{{ 1.5|round(-99999999) }}", ""},
        {"{{ 'a'|indent(99999999, true) }}", "at most 1000"},
        {"{{ [1]|tojson(indent=99999999) }}", "at most 1000"},
        {"{{ [1]|batch(99999999, 'x')|list }}", "from 1 to"},
        {"{{ [1, 2][::9223372036854775807] }}{{ [1, 2][::-9223372036854775807] }}", ""},
        {"{{ [1, 2][9223372036854775807:-9223372036854775807] }}", ""},
        {"{{ 'ab'[9223372036854775807] is defined }}{{ 'ab'[-9223372036854775807] is defined }}",
         ""},
        {"{{ -9223372036854775807 - 1 }}{{ (-9223372036854775807 - 1) % -1 }}", ""},
        {"{{ (-9223372036854775807 - 1) // -1 }}", "does not fit"},
        {"{{ -(-9223372036854775807 - 1) }}", "does not fit"},
        {"{{ (-9223372036854775807 - 1)|abs }}", "does not fit"},
        {"{{ 1e300|int }}", "does not fit"},
        {"{{ dict(messages) }}", "pairs"},
        {"{% set x = range(9999)|map('string')|list %}{{ x|unique|list|length }}", "more than"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rendered rendered;
        struct err err = {""};
        double before = clock_seconds();
        int rc = render(cases[i].source, &rendered, &err);
        double seconds = clock_seconds() - before;
        if (getenv("TEMPLATE_TIMES"))
            printf("%6.3f s  %.70s  %s\n", seconds, cases[i].source, err.text);
        if (!rc)
            rendered_release(&rendered);
        if (*cases[i].says) {
            assert_int_equal(rc, ERR_INVALID);
            assert_says(err, cases[i].says);
        }
        assert_true(seconds < 60); /* a second on a quiet machine without sanitizers */
    }
}

/* prefix, `n` times middle, suffix. */
static struct buf repeated(const char *prefix, const char *middle, size_t n, const char *suffix)
{
    struct buf buf = {0};
    buf_puts(&buf, prefix);
    for (size_t i = 0; i < n; i++)
        buf_puts(&buf, middle);
    buf_puts(&buf, suffix);
    return buf;
}

static void large_sources(void **state)
{
    (void)state;
    static const struct {
        const char *prefix, *middle, *suffix, *says;
        size_t n;
    } cases[] = {
        {"{{ ", "(", "", "nested more than", 150},
        {"{{ ", "(", "", "brackets are nested", 100000},
        {"{{ ", "not ", "1 }}", "nested more than", 100000},
        {"{{ ", "-", "1 }}", "nested more than", 100000},
        {"{{ 1", " if 1 else 1", " }}", "nested more than", 10000},
        {"{{ 1", "+1", " }}", "nested more than", 100000},
        {"{{ x", ".x", " }}", "nested more than", 100000},
        {"{{ x", "|e", " }}", "nested more than", 100000},
        {"{{ x", "[0]", " }}", "nested more than", 100000},
        {"{{ f", "()", " }}", "nested more than", 100000},
        {"{{ 1", " and 1", " }}", "nested more than", 10000},
        {"{% filter e", "|e", " %}{% endfilter %}", "nested more than", 100000},
        {"", "{% if 1 %}", "", "nested more than", 10000},
        {"", "{% for x in y %}", "", "nested more than", 10000},
        {"{% if 0 %}", "{% elif 0 %}", "{% endif %}", "", 40000},
        {"{{ ", "1 ~ ", "1 }}", "", 100000},
        {"{{ ", "'a' ", " }}", "", 100000},
        {"{{ [", "1,", "] }}", "", 100000},
        {"{{ 1", "==1", " }}", "", 100000},
        {"", "{{1}}", "", "", 100000},
        {"", "{#-#}", "", "", 100000},
        {"", "x", "", "at most", 600000},
        {"", "{", "", "", 500000},
        {"{{", " ", "", "", 500000},
        {"{#", "#", "", "no end", 500000},
        {"{% raw %}", "{%", "", "no end", 200000},
        {"{{ '", "\\", "", "no end", 500000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf source = repeated(cases[i].prefix, cases[i].middle, cases[i].n, cases[i].suffix);
        struct rendered rendered;
        struct err err = {""};
        double before = clock_seconds();
        int rc = render(source.data, &rendered, &err);
        if (getenv("TEMPLATE_TIMES"))
            printf("%6.3f s  %zu x %s  %s\n", clock_seconds() - before, cases[i].n, cases[i].middle,
                   err.text);
        if (!rc)
            rendered_release(&rendered);
        if (*cases[i].says) {
            assert_int_equal(rc, ERR_INVALID);
            assert_says(err, cases[i].says);
        }
        buf_release(&source);
    }
}

static void many_names(void **state)
{
    (void)state;
    struct buf source = {0};
    struct rendered rendered;
    struct err err;
    for (int i = 0; i < 5000; i++)
        buf_printf(&source, "{{ x%d }}", i);
    assert_int_equal(render(source.data, &rendered, &err), ERR_INVALID);
    assert_says(err, "more than 4096 different names");
    buf_release(&source);
}

/* Limits grow with the conversation: a long one is no hostile one. */
static void long_conversations(void **state)
{
    (void)state;
    static const char source[] =
        "{% set ns = namespace(all='') %}{% for m in messages %}"
        "{{ '<' + m.role + '>' + (m.content|trim).split('</think>')[-1] + '\n' }}"
        "{% set ns.all = ns.all ~ m.content %}{% endfor %}{{ ns.all|length }}";
    json_t *json = json_object(), *messages = json_array();
    char *content = malloc(30001);
    struct rendered rendered;
    struct err err;
    memset(content, 'x', 30000);
    content[30000] = 0;
    for (int i = 0; i < 1000; i++)
        json_array_append_new(messages,
                              json_pack("{s:s, s:s}", "role", "user", "content", content));
    json_object_set_new(json, "messages", messages);
    assert_ok(render_with(source, strlen(source), json, &rendered, &err), err);
    assert_int_equal(rendered.text.len, 1000 * 30007 + 8);
    assert_string_equal(rendered.text.data + 1000 * 30007, "30000000");
    assert_int_equal(rendered.n_literal, 2000);
    rendered_release(&rendered);
    free(content);
    json_decref(json);
}

static void deep_json(void **state)
{
    (void)state;
    json_t *json = json_object(), *deep = json_array();
    struct rendered rendered;
    struct err err;
    for (int i = 0; i < 1000; i++)
        deep = json_pack("[o]", deep);
    json_object_set_new(json, "messages", deep);
    assert_int_equal(render_with("{{ messages }}", 14, json, &rendered, &err), ERR_INVALID);
    assert_says(err, "nested more than");
    json_decref(json);
}

/* A dictionary with many keys is found in, whatever their order. */
static void many_keys(void **state)
{
    (void)state;
    static const char source[] = "{% for k in x %}{% if x[k] != k %}bad{% endif %}{% endfor %}"
                                 "{{ x|length }}{{ 'k' in x }}{{ 'k999' in x }}{{ x.k7 }}";
    json_t *json = json_pack("{s:[], s:{s:{}}}", "messages", "extra", "x");
    json_t *x = json_object_get(json_object_get(json, "extra"), "x");
    struct rendered rendered;
    struct err err;
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i * 7 % 1000);
        json_object_set_new(x, key, json_string(key));
    }
    assert_ok(render_with(source, strlen(source), json, &rendered, &err), err);
    assert_string_equal(rendered.text.data, "1000FalseTruek7");
    rendered_release(&rendered);
    json_decref(json);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation),
        cmocka_unit_test(marks),
        cmocka_unit_test(marks_through_statements),
        cmocka_unit_test(growing_texts_do_not_share),
        cmocka_unit_test(white_space),
        cmocka_unit_test(names_and_scopes),
        cmocka_unit_test(tools_may_be_missing),
        cmocka_unit_test(errors_name_their_line),
        cmocka_unit_test(limits),
        cmocka_unit_test(large_sources),
        cmocka_unit_test(many_names),
        cmocka_unit_test(long_conversations),
        cmocka_unit_test(deep_json),
        cmocka_unit_test(many_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
