"""What generators of clients make of the documents."""

import json

from belay import BUILD


def test_free_objects_are_free():
    """Without additionalProperties generators of types make an object that may have no member."""
    for name in ("openapi", "asyncapi"):
        text = (BUILD / f"contrib/{name}.json").read_text()
        document = json.loads(text)
        empty = []

        def walk(value, where, empty=empty):
            if isinstance(value, dict):
                if value.get("type") == "object" and not {"properties", "additionalProperties"} & set(value):
                    empty.append(where)
                for k, v in value.items():
                    walk(v, f"{where}/{k}")
            elif isinstance(value, list):
                for i, v in enumerate(value):
                    walk(v, f"{where}/{i}")

        walk(document, name)
        assert empty == []


def test_messages_have_titles():
    document = json.loads((BUILD / "contrib/asyncapi.json").read_text())
    messages = document["components"]["messages"]
    assert messages and all(m["title"] == name for name, m in messages.items())
