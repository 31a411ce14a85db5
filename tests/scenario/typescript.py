"""Types of TypeScript for schemas of OpenAPI and AsyncAPI, by the rules of the usual generator, openapi-typescript.

What is no keyword of TypeScript is left out (lengths, patterns).  An object without members is Record<string, never> where nothing
says additionalProperties, and takes anything where that is true.
"""

import json

PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def type_of(schema):
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[1]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return union(json.dumps(value) for value in schema["enum"])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            kinds = [s for s in schema[word] if set(s) - {"required"}]		# which members there must be is nothing of types
            if kinds:
                return both(object_of(schema) if "properties" in schema else None, union(map(type_of, kinds)))
    if "allOf" in schema:
        return both(*map(type_of, schema["allOf"]))
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return union(object_of(schema) if kind == "object" else f"({type_of(schema['items'])})[]" if kind == "array" else PLAIN[kind]
                 for kind in kinds) if kinds else "unknown"


def union(types):
    return " | ".join(dict.fromkeys(types))


def both(*types):
    return " & ".join(f"({t})" for t in types if t is not None)


def object_of(schema):
    more = schema.get("additionalProperties")
    members = schema.get("properties", {})
    if not members and more is None:
        return "Record<string, never>"
    needed = schema.get("required", ())
    text = "; ".join(f"{json.dumps(name)}{'' if name in needed else '?'}: {type_of(s)}" for name, s in members.items())
    if more in (None, False):
        return f"{{ {text} }}"
    return both(f"{{ {text} }}" if members else None, f"{{ [key: string]: {'unknown' if more is True else type_of(more)} }}")


def program(schemas, values):
    """All types by name, and a constant for each (schema, value): it compiles only if each value is of its type."""
    lines = [f"export type {name} = {type_of(schema)};" for name, schema in schemas.items()]
    lines += [f"export const value{n}: {type_of(schema)} = {json.dumps(value)};" for n, (schema, value) in enumerate(values)]
    return "\n".join(lines) + "\n"
