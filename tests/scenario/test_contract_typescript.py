"""Types that are generated from OpenAPI and AsyncAPI compile, and the examples are of those types."""

import shutil
import subprocess

import pytest
import typescript
from test_contract_examples import media
from test_documents import AsyncAPI, OpenAPI

pytestmark = pytest.mark.skipif(shutil.which("tsc") is None, reason="no compiler of TypeScript is here")


def compile(folder, *programs):
    for n, text in enumerate(programs):
        (folder / f"p{n}.ts").write_text(text)
    return subprocess.run(["tsc", "--strict", "--noEmit", "--target", "es2020", *(f"p{n}.ts" for n in range(len(programs)))],
                          cwd=folder, capture_output=True, text=True, timeout=300)


def of_openapi():
    openapi = OpenAPI()
    values = [(schema, value) for _, _, operation in openapi.operations.values() for _, schema, value in media(operation)]
    return openapi.schemas, values


def of_asyncapi():
    asyncapi = AsyncAPI()
    return asyncapi.schemas, [(m["payload"], e["payload"]) for m in asyncapi.messages.values() for e in m["examples"]]


def test_types(tmp_path):
    """A free object that does not say so takes no member at all: so generated types refused what the server takes."""
    programs = [of_openapi(), of_asyncapi()]
    assert [len(values) > 30 for _, values in programs] == [True, True]
    done = compile(tmp_path, *(typescript.program(*p) for p in programs))
    assert done.returncode == 0, done.stdout[:4000]


def test_the_check_can_fail(tmp_path):
    wrong = {"type": "object", "properties": {"a": {"type": "object"}}, "required": ["a"]}
    done = compile(tmp_path, *(typescript.program({}, [(wrong, value)]) for value in ({"a": {"b": 1}}, {"a": {}, "c": 1}, {}, {"a": {}})))
    assert [f"p{n}.ts" in done.stdout for n in range(4)] == [True, True, True, False]
