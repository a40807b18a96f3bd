"""Structured output from outside: what ends by itself validates, and a schema that cannot be kept to is refused."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jsonschema
import pytest

from e2e.chats import body, chat, finish_reasons, say, stream, text

Schema = dict[str, Any]
JSON_OBJECT = {"type": "json_object"}
# The small model may go on for ever in a hot mood; what it says by then is cut, and says so.
ROOM = 100
QUESTION = say("Tell me something about a town, in JSON.")
HOT = [{"temperature": 1.5, "seed": seed} for seed in range(3)]
MOODS: list[dict[str, float]] = [{"temperature": 0}, *HOT]

# By token, what makes objects short: a closing brace, alone and after a quote.
BRACES = {"109": 4, "23597": 4}


def exactly(properties: Schema, **more: Any) -> Schema:
    """An object with just these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


SCHEMAS: dict[str, Schema] = {
    "enum": exactly({"colour": {"enum": ["red", "green", "blue"]}}),
    "const": exactly({"kind": {"const": "circle"}, "filled": {"type": "boolean"}}),
    "nested": exactly({"person": exactly({"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}})}),
    "array": exactly({"even": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3}}),
    "integer bounds": exactly({"year": {"type": "integer", "minimum": 1900, "maximum": 1999}}),
    "number bounds": exactly({"share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}}),
    "reference": exactly(
        {"from": {"$ref": "#/$defs/place"}, "to": {"$ref": "#/$defs/place"}},
        **{"$defs": {"place": exactly({"city": {"type": "string", "maxLength": 8}})}},
    ),
    "anyOf": exactly({"id": {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 5}, {"type": "null"}]}}),
    "unicode": exactly({"größe": {"enum": ["小さい", "大きい", "👩‍👩‍👧", 'a "quoted"\n\\line']}}),
    "pattern": exactly({"date": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}}),
    "format": exactly({"day": {"type": "string", "format": "date"}}),
    "free names": {
        "type": "object",
        "propertyNames": {"type": "string"},
        "additionalProperties": {"type": "boolean"},
        "maxProperties": 2,
    },
    "a branch that cannot be kept": exactly(
        {"price": {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}]}}
    ),
    "a format that is a note": exactly({"secret": {"type": "string", "format": "password", "maxLength": 8}}),
    "a reference that is escaped": exactly({"a": {"$ref": "#/$defs/a~1b"}}, **{"$defs": {"a/b": {"type": "boolean"}}}),
    "no object": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 4},
}


def references(count: int) -> Schema:
    """A chain of references, each to the next."""
    links = {f"k{i}": {"$ref": f"#/$defs/k{i + 1}"} for i in range(count)}
    return {"$ref": "#/$defs/k0", "$defs": {**links, f"k{count}": {"type": "integer"}}}


# Each with the words that say where it is at fault, and in what.
REFUSED: dict[str, tuple[Schema, str]] = {
    "keyword": ({"type": "array", "uniqueItems": True}, "uniqueItems"),
    "remote reference": ({"$ref": "https://example.com/schema.json"}, "example.com"),
    "dangling reference": ({"$ref": "#/$defs/none"}, "none"),
    "type": ({"type": "strnig"}, "strnig"),
    "look-ahead": ({"type": "string", "pattern": "^(?=a)b"}, "look-ahead"),
    "impossible": ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum"),
    "overlap": ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
    "count of names that may repeat": ({"type": "object", "minProperties": 2, "required": ["a"]}, "minProperties"),
    "chain of references": (references(600), "deeper than 256"),
    "reference to itself": (
        {"$ref": "#/$defs/n", "$defs": {"n": {"$ref": "#/$defs/n"}}},
        "`$defs.n.$ref` refers to itself",
    ),
    "patterns that multiply": (
        {"type": "string", "allOf": [{"pattern": f"a{i}"} for i in range(30)]},
        "costs too much",
    ),
    "length": ({"type": "string", "minLength": 65436, "maxLength": 65536}, "`minLength` is 65436"),
    "optional properties": (
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(510)}},
        "`properties` has 510 optional properties",
    ),
    "patterns of names": (
        {"type": "object", "patternProperties": {f"^a{i}b$": {"type": "string"} for i in range(500)}},
        "`patternProperties` has 500 patterns",
    ),
    "no branch that can be kept": (
        exactly({"price": {"anyOf": [{"type": "string", "pattern": "^(?!a)b"}]}}),
        "`properties.price.anyOf[0].pattern` is not understood: look-around",
    ),
    "names": (exactly({"tags": {"propertyNames": {"pattern": "^a"}}}), "`properties.tags.propertyNames`"),
}


def json_schema(schema: Schema) -> Schema:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def replies(http: httpx.Client, response_format: Schema, **fields: object) -> list[str]:
    """What is said in each mood, of what ends by itself; the rest is cut, and says so."""

    def reply(mood: dict[str, float]) -> tuple[str, str]:
        (choice,) = chat(http, QUESTION, max_tokens=ROOM, response_format=response_format, **fields, **mood)["choices"]
        return choice["message"]["content"], choice["finish_reason"]

    with ThreadPoolExecutor(len(MOODS)) as pool:
        ended = list(pool.map(reply, MOODS))
    assert {reason for _, reason in ended} <= {"stop", "length"}
    return [said for said, reason in ended if reason == "stop"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_ends_by_itself_validates(http: httpx.Client, name: str) -> None:
    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    checked = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    said = replies(http, json_schema(schema))
    assert said, "nothing to validate"
    for each in said:
        checked.validate(json.loads(each))


def test_any_object_parses(http: httpx.Client) -> None:
    said = replies(http, JSON_OBJECT, logit_bias=BRACES)
    assert all(isinstance(json.loads(each), dict) for each in said)
    assert said, "nothing to parse"


@pytest.mark.parametrize("response_format", [JSON_OBJECT, json_schema(SCHEMAS["nested"])], ids=["object", "schema"])
def test_a_text_without_room_is_cut_for_its_length(http: httpx.Client, response_format: Schema) -> None:
    (choice,) = chat(http, QUESTION, max_tokens=3, response_format=response_format)["choices"]
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize("mood", MOODS[:2], ids=str)
def test_a_stream_says_what_the_whole_reply_says(http: httpx.Client, mood: dict[str, float]) -> None:
    fields = {"max_tokens": ROOM, "response_format": json_schema(SCHEMAS["unicode"]), **mood}
    (choice,) = chat(http, QUESTION, **fields)["choices"]
    chunks = stream(http, QUESTION, **fields)
    assert text(chunks) == choice["message"]["content"]
    assert finish_reasons(chunks) == ["stop"]


def test_choices_differ_and_each_validates(http: httpx.Client) -> None:
    schema = SCHEMAS["integer bounds"]
    answer = chat(http, QUESTION, n=4, temperature=1.5, seed=1, response_format=json_schema(schema))
    said = [json.loads(choice["message"]["content"]) for choice in answer["choices"]]
    for each in said:
        jsonschema.validate(each, schema)
    assert len({each["year"] for each in said}) > 1


def test_a_text_that_a_stop_string_cuts_says_so(http: httpx.Client) -> None:
    format_ = json_schema(exactly({"kind": {"const": "circle"}}))
    (choice,) = chat(http, QUESTION, stop="circ", response_format=format_)["choices"]
    assert (choice["message"]["content"], choice["stop_reason"]) == ('{"kind":"', "circ")


@pytest.mark.parametrize("name", REFUSED)
def test_a_schema_that_cannot_be_kept_to_is_refused(http: httpx.Client, name: str) -> None:
    schema, word = REFUSED[name]
    response = http.post("/v1/chat/completions", json=body(QUESTION, response_format=json_schema(schema)))
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "response_format.json_schema.schema")
    assert word in error["message"]
    assert "Enable" not in error["message"], "advice for users of the library that compiles schemas"


@pytest.mark.parametrize("field", ["ignore_eos", "min_tokens"])
def test_nothing_keeps_a_text_from_ending(http: httpx.Client, field: str) -> None:
    value = {"ignore_eos": True, "min_tokens": 20}[field]
    response = http.post("/v1/chat/completions", json=body(QUESTION, response_format=JSON_OBJECT, **{field: value}))
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == field
    assert "`response_format`" in error["message"]
