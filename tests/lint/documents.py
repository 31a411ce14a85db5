"""documents.py: what the .def files list stands in OpenAPI and AsyncAPI, and both hold together: every reference leads
somewhere, every schema is one, every parameter of a path is told.  The validators of tests/README.md look further."""

import json
import os
import re
import sys
from pathlib import Path

try:
    import jsonschema
except ImportError:
    print("python3-jsonschema is missing")
    sys.exit(77)

SOURCE = Path(os.environ.get("top_srcdir", "."))
BUILT = Path(os.environ.get("top_builddir", "."))
faults = []
checked = 0


def check(holds, *what):
    global checked
    checked += 1
    if not holds:
        faults.append(" ".join(map(str, what)))


def rows(file, macro):
    """The arguments of each MACRO(…) of a .def file, those before the first text alone."""
    text = (SOURCE / "src" / file).read_text()
    found = [[a.strip().strip('"') for a in row.split(",")] for row in re.findall(rf"^{macro}\(([^)]*)", text, re.M)]
    check(found, file, "has no", macro)
    return found


def find(document, reference):
    """What "#/a/b" means, or None."""
    for part in reference.removeprefix("#/").split("/"):
        document = document.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(document, dict) else None
    return document


def walk(value, path=()):
    yield path, value
    for key, inside in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from walk(inside, (*path, key))


def check_references(name, document):
    for path, value in walk(document):
        if path and path[-1] == "$ref" and isinstance(value, str):
            check(value.startswith("#/") and find(document, value) is not None, name, *path, value, "leads nowhere")


def check_schema(validator, name, schema):
    try:
        validator.check_schema(schema)
        check(True)
    except jsonschema.SchemaError as e:
        check(False, name, list(e.path), e.message)
    for path, value in walk(schema):
        # One of several alternatives has the members of the whole.
        if isinstance(value, dict) and isinstance(value.get("required"), list) and path[-2:-1] != ("oneOf",):
            missing = set(value["required"]) - set(value.get("properties", {}))
            check(not missing, name, *path, "requires what it does not have:", missing)
        if path and path[-1] == "pattern" and isinstance(value, str):
            re.compile(value)


def check_operation(openapi, path, method, operation):
    where = f"{method} {path}"
    parameters = operation.get("parameters", [])
    in_path = {p["name"] for p in parameters if p["in"] == "path"}
    check(in_path == set(re.findall(r"{(\w+)}", path)), where, "has other parameters in its path:", in_path)
    check(len({(p["in"], p["name"]) for p in parameters}) == len(parameters), where, "has a parameter twice")
    for p in parameters:
        check(p["in"] in ("path", "query", "header") and p["required"] == (p["in"] == "path"), where, p["name"])
        check_schema(jsonschema.Draft202012Validator, f"{where} {p['name']}", p["schema"])
    for status, answer in operation["responses"].items():
        check(re.fullmatch(r"[1-5]\d\d|default", status) and answer["description"], where, status)
        check(status[0] not in "45d" or "content" in answer, where, status, "has no body")
    check(any(status[0] in "12" for status in operation["responses"]), where, "has no good answer")
    for way in operation["security"]:
        check(set(way) <= set(openapi["components"]["securitySchemes"]), where, way)


def check_openapi(openapi):
    check(re.fullmatch(r"3\.1\.\d+", openapi["openapi"]), "openapi", openapi["openapi"])
    there = {(method.upper(), path) for path, item in openapi["paths"].items() for method in item}
    wanted = {(method, re.sub(r":(\w+)", r"{\1}", path)): body for _, method, path, _, body, *_ in rows("http/routes.def", "ROUTE")
              if path != "path"}
    check(there == set(wanted), "routes:", there ^ set(wanted))
    schemas = openapi["components"]["schemas"]
    ids = []
    for path, item in openapi["paths"].items():
        for method, operation in item.items():
            ids.append(operation["operationId"])
            check_operation(openapi, path, method, operation)
            check(("requestBody" in operation) == (wanted.get((method.upper(), path)) != "NONE"), method, path, "body")
    check(len(set(ids)) == len(ids), "an operationId is there twice")
    for name, schema in schemas.items():
        check_schema(jsonschema.Draft202012Validator, name, schema)
    for body, *_ in rows("msg/schema.def", "BODY") + rows("msg/schema.def", "BODY_AS"):
        check(f"{body}_request" in schemas, "no body", body)
    codes = {row[0] for row in rows("msg/error.def", "ERROR")}
    check(set(schemas["fault"]["properties"]["code"]["enum"]) == codes, "error codes differ")
    used = {value for path, value in walk(openapi) if path and path[-1] == "$ref"}
    for name in schemas:
        check(f"#/components/schemas/{name}" in used, "nothing has", name)


def check_asyncapi(asyncapi):
    check(asyncapi["asyncapi"].startswith("3."), "asyncapi", asyncapi["asyncapi"])
    messages = asyncapi["components"]["messages"]
    channel = asyncapi["channels"]["ws"]
    wanted = {ident: row for ident, *row in rows("msg/schema.def", "MESSAGE")}
    check(set(messages) == set(wanted) == set(channel["messages"]), "messages:", set(messages) ^ set(wanted))
    for ident, (name, sender, receiver, *_) in wanted.items():
        payload = messages[ident]["payload"]
        check(messages[ident]["name"] == name == payload["properties"]["type"]["const"], ident, "is not", name)
        check_schema(jsonschema.Draft7Validator, ident, payload)
        for side, operations in (("DEVICE", "Devices"), ("USER", "Users")):
            for sides, direction in ((sender, "from"), (receiver, "to")):
                listed = {m["$ref"].rsplit("/", 1)[1] for m in asyncapi["operations"][direction + operations]["messages"]}
                check((ident in listed) == (side in sides), ident, direction, operations)
    for name, schema in asyncapi["components"]["schemas"].items():
        check_schema(jsonschema.Draft7Validator, name, schema)
    closes = {int(row[0]) for row in rows("ws/close.def", "X")}
    check({c["code"] for c in channel["x-close-codes"]} == closes, "close codes differ")
    names = {row[0] for row in rows("msg/event.def", "EVENT") if row[1] == "DEVICE"}
    event = messages["event"]["payload"]["properties"]["payload"]["properties"]["event"]
    check(set(event["anyOf"][0]["enum"]) == names, "event names differ")


for name, look in (("openapi", check_openapi), ("asyncapi", check_asyncapi)):
    document = json.loads((BUILT / "contrib" / f"{name}.json").read_text())
    check_references(name, document)
    look(document)
print(*faults, sep="\n", end="\n" if faults else "")
print(f"{checked} facts, {len(faults)} faults")
sys.exit(1 if faults or checked < 500 else 0)
