"""Schemas for test_grammar.py, and a validator for the keywords in them: an independent reading of what
they say, for machines without the jsonschema package. Standard library only."""
import decimal
import re

FORMATS = {
    "date": r"\d{4}-\d\d-\d\d",
    "time": r"\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "duration": r"P(\d+W|(\d+[YMD])*(T(\d+[HMS])+)?)",
    "email": r"[^@\s]+@[^@\s]+",
    "hostname": r"[A-Za-z0-9.-]+",
    "ipv4": r"(\d{1,3}\.){3}\d{1,3}",
    "ipv6": r"[0-9a-fA-F:]+",
    "uuid": r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "uri": r"[A-Za-z][A-Za-z0-9+.-]*://\S+",
}


def strict(properties, optional=(), **more):
    return {"type": "object", "properties": properties,
            "required": [name for name in properties if name not in optional],
            "additionalProperties": False, **more}


def array(items, **more):
    return {"type": "array", "items": items, **more}


TEXT, WHOLE, NUMBER, YES = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
NAME = {"type": "string", "minLength": 1, "maxLength": 30}
PERSON = strict({"name": NAME, "age": {"type": "integer", "minimum": 0, "maximum": 120}})
NODE = strict({"value": WHOLE, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}})
TREE = strict({"name": NAME, "children": array({"$ref": "#"}, maxItems=3)})

# ---- by keyword ----

SCALARS = [TEXT, WHOLE, NUMBER, YES, {"type": "null"}, {"type": ["string", "null"]},
           {"type": ["integer", "boolean"]}, {"type": ["number", "string"], "maxLength": 9},
           {"const": "yes"}, {"const": {"a": [1, 2.5, None]}}, {"enum": ["red", "green", "blue"]},
           {"enum": ["a", "ab", "abc", 1, 1.5, None, True, {"x": [1, 2]}, "\n\"é"]},
           {"type": "string", "enum": ["x", 1, "y"]}]
STRINGS = [{"type": "string", "maxLength": 8}, {"type": "string", "minLength": 12, "maxLength": 12},
           {"type": "string", "minLength": 5, "maxLength": 40},
           {"type": "string", "pattern": "^[A-Z]{2}[0-9]{4}$"},
           {"type": "string", "pattern": "^(\\+\\d{1,3} )?\\d{3}-\\d{4}$"},
           {"type": "string", "pattern": "^\\S+( \\S+){0,4}$", "description": "a few words"},
           {"type": "string", "pattern": "^[^\"\\\\]{1,9}[\"\\\\]$"},
           {"type": "string", "pattern": "^#[0-9a-f]{6}$"}]
STRINGS += [{"type": "string", "format": name} for name in FORMATS]
NUMBERS = [{"type": "integer", "minimum": 1, "maximum": 10}, {"type": "integer", "maximum": -17},
           {"type": "integer", "exclusiveMinimum": -120, "exclusiveMaximum": 1035},
           {"type": "integer", "minimum": 99998}, {"type": "number", "minimum": 0, "maximum": 1},
           {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
           {"type": "number", "minimum": -90, "maximum": 90}, {"type": "number", "minimum": 100},
           {"type": "integer", "minimum": 0.5, "maximum": 17.5}, {"type": "number", "maximum": -3},
           {"type": "number", "multipleOf": 0.01, "minimum": 0}, {"type": "integer", "multipleOf": 5},
           {"type": "number", "multipleOf": 0.25, "exclusiveMinimum": -1.5, "maximum": 1.25},
           {"type": "integer", "multipleOf": 3, "minimum": 100, "exclusiveMaximum": 999},
           {"multipleOf": 1.5, "minimum": -9999.75}]
ARRAYS = [array(WHOLE, maxItems=5), array(NAME, minItems=2, maxItems=2), array(PERSON, maxItems=2),
          array(array(YES, maxItems=2), maxItems=3), array({"enum": ["a", "b"]}, minItems=3, maxItems=9),
          array({"type": "null"}, maxItems=0), {"type": "array", "maxItems": 2},
          {"type": "array", "prefixItems": [NAME, WHOLE], "items": False},
          {"type": "array", "prefixItems": [NAME, WHOLE], "items": YES, "minItems": 1, "maxItems": 4},
          {"type": "array", "prefixItems": [WHOLE], "items": NAME, "minItems": 3, "maxItems": 3}]
OBJECTS = [{"type": "object"}, PERSON, strict({}), strict({"a": WHOLE}, ["a"]),
           strict({"a": WHOLE, "b": NAME, "c": {"type": "null"}, "d": YES}, ["a", "b", "c", "d"]),
           strict({"a": WHOLE, "b": NAME, "c": {"type": "null"}, "d": YES}, ["a", "d"]),
           strict({"a": WHOLE, "b": NAME, "c": {"type": "null"}, "d": YES}, ["a", "b", "c"]),
           {**strict({"ab": WHOLE, "abc": NAME}), "additionalProperties": YES},
           {**strict({"ab": WHOLE}, ["ab"]), "additionalProperties": True},
           {"type": "object", "additionalProperties": {"type": "integer", "minimum": 3}},
           {"properties": {"x": {"minimum": 3}}, "required": ["x"]},
           strict({"quote\"d": WHOLE, "sl\\ash": YES, "é": {"const": "ü"}, "": WHOLE})]
CHOICES = [{"anyOf": [NAME, {"type": "integer", "minimum": 5}]}, {"allOf": [PERSON]},
           {"anyOf": [strict({"kind": {"const": "circle"}, "radius": WHOLE}),
                      strict({"kind": {"const": "square"}, "side": WHOLE})]},
           {"anyOf": [strict({"a": WHOLE}), strict({"a": NAME, "b": WHOLE})]},
           {"oneOf": [strict({"kind": {"const": "circle"}, "radius": WHOLE}),
                      strict({"kind": {"enum": ["square", "cube"]}, "side": WHOLE}), {"type": "null"}]}]
REFERENCES = [{"$ref": "#/$defs/node", "$defs": {"node": NODE}}, TREE,
              {"$defs": {"p": PERSON, "a/b~c": YES}, **strict({"who": {"$ref": "#/$defs/p"},
               "is": {"$ref": "#/$defs/a~1b~0c"}, "too": {"$ref": "#/$defs/p"}})},
              strict({"first": NAME, "second": {"$ref": "#/properties/first"}})]

# ---- as people write them ----

REAL = [
    strict({"location": {"type": "string", "description": "City and country", "maxLength": 40},
            "unit": {"type": ["string", "null"], "enum": ["celsius", "fahrenheit", None]}}),
    strict({"steps": array(strict({"explanation": {"type": "string", "maxLength": 60},
                                   "output": {"type": "string", "maxLength": 20}}), maxItems=2),
            "final_answer": {"type": "string", "maxLength": 20}}),
    strict({"title": NAME, "authors": array(NAME, minItems=1, maxItems=3),
            "published": {"type": "string", "format": "date"}, "pages": WHOLE}, ["pages"]),
    strict({"sentiment": {"enum": ["positive", "negative", "neutral"]},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1}}),
    strict({"id": {"type": "string", "format": "uuid"}, "active": YES,
            "tags": array({"type": "string", "maxLength": 12}, maxItems=3)}, ["tags"]),
    strict({"order": strict({"items": array(strict({"sku": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{3}$"},
                                                    "count": {"type": "integer", "minimum": 1, "maximum": 99}}),
                                            minItems=1, maxItems=2),
                             "total": {"type": "number", "minimum": 0}}), "note": {"type": ["string", "null"],
                                                                                  "maxLength": 30}}),
    strict({"host": {"type": "string", "format": "ipv4"}, "port": {"type": "integer", "minimum": 1,
                                                                  "maximum": 65535}}),
    {"title": "Recipe", "$schema": "https://json-schema.org/draft/2020-12/schema",
     **strict({"name": NAME, "minutes": {"type": "integer", "minimum": 1, "maximum": 600,
                                         "default": 30, "examples": [5]}, "vegetarian": YES})},
]


def combinations():
    """Objects whose properties are taken from the lists above, two or three at a time."""
    parts = SCALARS + STRINGS + NUMBERS + ARRAYS[:5]
    for i in range(0, len(parts) - 2, 2):
        yield strict({"one": parts[i], "two": parts[-1 - i], "three": parts[i + 1]}, ["two"])


SCHEMAS = (SCALARS + STRINGS + NUMBERS + ARRAYS + OBJECTS + CHOICES + REFERENCES + REAL
           + list(combinations()))

# ---- the validator ----

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def exact(number):
    """The decimal that was written."""
    return decimal.Decimal(str(number))


def has_type(value, kind):
    if kind in ("number", "integer"):
        return is_number(value) and (kind == "number" or value == int(value))
    return isinstance(value, TYPES[kind])


def same(a, b):
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def resolve(root, pointer):
    for name in pointer[1:].split("/")[1:]:
        root = root[name.replace("~1", "/").replace("~0", "~")]
    return root


def valid(value, schema, root=None):
    """Whether the value is as the schema says, as far as its keywords are used above."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema
    kinds = schema.get("type", [])
    checks = [
        not kinds or any(has_type(value, k) for k in ([kinds] if isinstance(kinds, str) else kinds)),
        "$ref" not in schema or valid(value, resolve(root, schema["$ref"]), root),
        "const" not in schema or same(value, schema["const"]),
        "enum" not in schema or any(same(value, other) for other in schema["enum"]),
        all(valid(value, other, root) for other in schema.get("allOf", [])),
        "oneOf" not in schema or sum(valid(value, other, root) for other in schema["oneOf"]) == 1,
        "anyOf" not in schema or any(valid(value, other, root) for other in schema["anyOf"]),
    ]
    if isinstance(value, str):
        checks += [schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)),
                   re.search(schema.get("pattern", ""), value) is not None,
                   re.fullmatch(FORMATS.get(schema.get("format"), "(?s:.*)"), value) is not None]
    elif is_number(value):
        checks += [schema.get("minimum", value) <= value <= schema.get("maximum", value),
                   "multipleOf" not in schema or exact(value) % exact(schema["multipleOf"]) == 0,
                   "exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"],
                   "exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"]]
    elif isinstance(value, list):
        prefix = schema.get("prefixItems", [])
        checks += [schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)),
                   all(valid(v, s, root) for v, s in zip(value, prefix)),
                   all(valid(v, schema.get("items", True), root) for v in value[len(prefix):])]
    elif isinstance(value, dict):
        properties = schema.get("properties", {})
        checks += [all(name in value for name in schema.get("required", [])),
                   all(valid(v, properties.get(k, schema.get("additionalProperties", True)), root)
                       for k, v in value.items())]
    return all(checks)
