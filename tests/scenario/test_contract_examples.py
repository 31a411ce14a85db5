"""The examples in OpenAPI and AsyncAPI: there is one of each request, answer and message, and belayd takes those that are sent."""

import pytest
from test_documents import AsyncAPI, OpenAPI

from belay import token

ANNA = token("anna", "acme", role="admin")


def media(operation):
    """(where, schema, example) of bodies, answers and refusals."""
    for content in (("request", operation.get("requestBody", {})), *operation["responses"].items()):
        for kind, m in content[1].get("content", {}).items():
            yield f"{operation['operationId']} {content[0]} {kind}", m["schema"], m.get("example")


def test_of_requests_and_answers():
    openapi = OpenAPI()
    seen = set()
    for _, path, operation in openapi.operations.values():
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path":
                assert openapi.check(parameter["schema"], parameter["example"]) is None, (path, parameter)
        for where, schema, value in media(operation):
            assert value is not None, where
            fault = openapi.check(schema, value)
            assert fault is None, f"{where}: {list(fault.absolute_path)} {fault.message}"
            seen.add(where)
        for status, answer in operation["responses"].items():
            if "x-codes" in answer:
                assert answer["content"]["application/json"]["example"]["error"]["code"] in answer["x-codes"], (path, status)
    assert {"command_create 202 application/json", "device_get default application/json", "metrics 200 text/plain"} <= seen


def test_of_messages():
    asyncapi = AsyncAPI()
    for ident, message in asyncapi.messages.items():
        values = [e["payload"] for e in message["examples"]]
        assert values, ident
        for value in values:
            fault = asyncapi.check(message["payload"], value)
            assert fault is None, f"{ident}: {list(fault.absolute_path)} {fault.message}"


def test_null_is_missing():
    """As belayd takes it; but a payload that must have members is not missing."""
    asyncapi = AsyncAPI()
    for operation in ("fromDevices", "fromUsers"):
        for name, ident in asyncapi.of(operation).items():
            schema, value = asyncapi.messages[ident]["payload"], asyncapi.messages[ident]["examples"][0]["payload"]
            assert asyncapi.check(schema, {**value, "id": None}) is None, ident
            needed = asyncapi.check(schema, {"type": name}) is not None
            assert (asyncapi.check(schema, {"type": name, "payload": None}) is not None) == needed, ident


@pytest.fixture(scope="module")
async def door(belayd):
    """The device of the examples, connected."""
    secret = await belayd.register("door-1", ANNA)
    return await belayd.device("door-1", secret)


async def test_requests_are_taken(belayd, door):
    openapi = OpenAPI()
    for name, (method, path, operation) in openapi.operations.items():
        for where, _, value in media(operation):
            if " request " not in where:
                continue
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
            status, answer = await belayd.rest(method, path, value, ANNA)
            assert status not in (400, 415, 422), (name, status, answer)
            assert str(status) in operation["responses"], (name, status, answer)


@pytest.mark.parametrize("operation", ["fromUsers", "fromDevices"])
async def test_messages_are_taken(belayd, door, operation):
    asyncapi = AsyncAPI()
    client = door if operation == "fromDevices" else await belayd.open("/ws", {"Authorization": f"Bearer {ANNA}"})
    for name, ident in asyncapi.of(operation).items():
        if name == "auth":		# its token is nobody's
            continue
        value = asyncapi.messages[ident]["examples"][0]["payload"]
        answer = await client.ask(name, value.get("payload"))
        assert answer["payload"].get("code") not in ("invalid_json", "invalid_payload", "unknown_type"), (ident, answer)
