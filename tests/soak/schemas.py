"""JSON Schemas that are meant to hurt: too deep, too many, too large, too clever, in every keyword."""

import random
from collections.abc import Callable
from typing import Any

Schema = Any
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def chain_of_references(rng: random.Random) -> Schema:
    length = rng.choice([10, 100, 600, 3000])
    links = {f"k{i}": {"$ref": f"#/$defs/k{i - 1}"} for i in range(1, length)}
    return {"$defs": {"k0": {"type": "integer"}, **links}, "$ref": f"#/$defs/k{length - 1}"}


def references_that_double(rng: random.Random) -> Schema:
    depth = rng.choice([5, 20, 60])

    def both(i: int) -> Schema:
        names = {side: {"$ref": f"#/$defs/k{i - 1}"} for side in ("a", "b")}
        return {"type": "object", "properties": names, "required": ["a", "b"]}

    return {
        "$defs": {"k0": {"type": "null"}, **{f"k{i}": both(i) for i in range(1, depth)}},
        "$ref": f"#/$defs/k{depth - 1}",
    }


def reference_to_itself(rng: random.Random) -> Schema:
    return {"$ref": "#/$defs/n", "$defs": {"n": {"$ref": "#/$defs/n"}}}


def recursion(rng: random.Random) -> Schema:
    return {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"] if rng.random() < 0.5 else []}


def nested(rng: random.Random) -> Schema:
    schema: Schema = {"type": "integer"}
    wrap: list[Callable[[Schema], Schema]] = [
        lambda inner: {"type": "array", "items": inner},
        lambda inner: {"type": "object", "properties": {"a": inner}, "required": ["a"], "additionalProperties": False},
        lambda inner: {"anyOf": [inner, {"type": "null"}]},
        lambda inner: {"allOf": [inner]},
        lambda inner: {"not": inner},
        lambda inner: {"if": inner, "then": False},
        lambda inner: {"prefixItems": [inner]},
        lambda inner: {"type": "object", "patternProperties": {"^a": inner}},
        lambda inner: {"type": "object", "additionalProperties": inner},
    ]
    one = rng.choice(wrap)
    mixed = rng.random() < 0.5
    for _ in range(rng.choice([10, 60, 200, 400])):
        schema = (rng.choice(wrap) if mixed else one)(schema)
    return schema


def patterns_at_once(rng: random.Random) -> Schema:
    keyword = rng.choice(["allOf", "anyOf", "oneOf"])
    return {
        "type": "string",
        keyword: [{"pattern": rng.choice(LETTERS) + str(i)} for i in range(rng.choice([5, 15, 30, 60]))],
    }


def pattern(rng: random.Random) -> Schema:
    pieces = [
        "(a|aa)+",
        "(.*a.{20}|.*b.{15})*",
        "[^\\u0000-\\uffff]*",
        "(x{1,1000}){1,1000}",
        "a{65536}",
        "\\\\p{L}{500}",
        "(?=a)b",
        "((((((((a*)*)*)*)*)*)*)*)",
        "[a-z]{0,5000}z",
        "(",
    ]
    return {"type": "string", "pattern": "^" + "".join(rng.choices(pieces, k=rng.choice([1, 3, 12]))) + "$"}


def many_properties(rng: random.Random) -> Schema:
    count = rng.choice([50, 510, 2000])
    names = [f"p{i}" for i in range(count)]
    required = rng.choice([[], names, names[::2]])
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": required}


def many_pattern_properties(rng: random.Random) -> Schema:
    count = rng.choice([10, 100, 500])
    return {
        "type": "object",
        "patternProperties": {f"^{rng.choice(LETTERS)}{i}.*": {"type": "integer"} for i in range(count)},
    }


def long_strings(rng: random.Random) -> Schema:
    most = rng.choice([100, 5000, 65536, 10**6, 2**63, 10**30])
    return {"type": "string", "minLength": rng.choice([0, most - 1, most]), "maxLength": most}


def long_arrays(rng: random.Random) -> Schema:
    most = rng.choice([100, 5000, 10**6, 2**63])
    items = rng.choice([{"type": "integer"}, {"type": "array", "items": {"type": "string"}, "minItems": most}])
    return {"type": "array", "items": items, "minItems": rng.choice([0, most]), "maxItems": most}


def numbers(rng: random.Random) -> Schema:
    extremes = [0, -1, 1, 5e-324, 1.7e308, -1.7e308, 2**63, -(10**40), 0.1]
    return {
        "type": rng.choice(["number", "integer"]),
        rng.choice(["minimum", "exclusiveMinimum"]): rng.choice(extremes),
        rng.choice(["maximum", "exclusiveMaximum"]): rng.choice(extremes),
        **({"multipleOf": rng.choice([1e-300, 0.3, 7, 10**25, 0])} if rng.random() < 0.5 else {}),
    }


def many_values(rng: random.Random) -> Schema:
    count = rng.choice([10, 1000, 5000])
    long = rng.choice([1, 20])
    return {"enum": [f"{i:x}" * long for i in range(count)]}


def combinations(rng: random.Random) -> Schema:
    """Alternatives of alternatives: each level multiplies."""
    level: Schema = {"type": "integer"}
    for depth in range(rng.choice([2, 5, 8])):
        alternatives = [
            {"type": "object", "properties": {f"{depth}-{i}": level}, "required": [f"{depth}-{i}"]} for i in range(4)
        ]
        level = {rng.choice(["anyOf", "oneOf", "allOf"]): alternatives}
    return level


def nonsense(rng: random.Random) -> Schema:
    words = [
        "type",
        "properties",
        "items",
        "$ref",
        "enum",
        "const",
        "pattern",
        "format",
        "required",
        "minItems",
        "not",
        "x-guidance",
        "$id",
        "$anchor",
    ]
    values: list[Any] = [
        None,
        True,
        -1,
        1e400,
        "",
        "string",
        "#",
        [],
        {},
        [[]],
        {"a": {}},
        "\u0000",
        "\ud800".encode("utf-16", "surrogatepass").hex(),
    ]
    return {rng.choice(words): rng.choice(values) for _ in range(rng.choice([1, 3, 6]))}


def sound(rng: random.Random) -> Schema:
    """One that anybody might send."""
    return {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": rng.randrange(4, 20)}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }


KINDS: list[Callable[[random.Random], Schema]] = [
    chain_of_references,
    references_that_double,
    reference_to_itself,
    recursion,
    nested,
    patterns_at_once,
    pattern,
    many_properties,
    many_pattern_properties,
    long_strings,
    long_arrays,
    numbers,
    many_values,
    combinations,
    nonsense,
    sound,
]
