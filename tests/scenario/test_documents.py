"""OpenAPI and AsyncAPI as built (contrib/*.json) against what belayd really answers, sends and takes.

Documents leave room for members to come, so objects are closed here first: what is undocumented is then a fault.  What was
seen is noted, so that nothing is documented that never comes."""

import asyncio
import copy
import itertools
import json
import re
import uuid

import jsonschema
import pytest

from belay import BUILD, PATIENCE, eventually, run_device, token

SETTINGS = {"limits.tenant_store": "1G", "store.telemetry_retention": "1d"}		# an answer with nothing in it shows nothing
ADMIN = token("boss", role="admin")
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")

formats = jsonschema.FormatChecker(formats=())
formats.checks("date-time")(lambda value: not isinstance(value, str) or DATE_TIME.fullmatch(value) is not None)


def closed(schema):
    """The schema with no room for what it does not list."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    out = {k: {n: closed(s) for n, s in v.items()} if k in ("properties", "schemas") else closed(v) for k, v in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        out["additionalProperties"] = False
    return out


class Document:
    """One of the documents, and what was seen of it."""

    def __init__(self, name, validator):
        self.whole = json.loads((BUILD / "contrib" / f"{name}.json").read_text())
        self.schemas = self.whole["components"]["schemas"]
        self.validator = validator
        self.strict = closed(self.schemas)
        self.seen = set()

    def check(self, schema, value, strict=True):
        """None, or the fault of the value."""
        schema = closed(schema) if strict else schema
        root = {**schema, "components": {"schemas": self.strict if strict else self.schemas}}
        return jsonschema.exceptions.best_match(self.validator(root, format_checker=formats).iter_errors(value))

    def note(self, schema, value, where):
        """Which members of which objects there were, with another value than null."""
        if "$ref" in schema:
            where = schema["$ref"].rsplit("/", 1)[1]
            schema = self.schemas[where]
        for option in schema.get("anyOf", ()):
            self.note(option, value, where)
        if isinstance(value, dict):
            for name, inside in schema.get("properties", {}).items():
                if value.get(name) is not None:
                    self.seen.add((where, name))
                    self.note(inside, value[name], f"{where}.{name}")
        if isinstance(value, list) and "items" in schema:
            for element in value:
                self.note(schema["items"], element, where)

    def take(self, schema, value, where):
        fault = self.check(schema, value)
        assert fault is None, f"{where}: {list(fault.absolute_path)} {fault.message} in {json.dumps(value)}"
        self.note(schema, value, where)

    def unseen(self, names):
        """Documented members of these objects that never came."""
        return {(name, member) for name in names for member in self.schemas[name]["properties"]} - self.seen


class OpenAPI(Document):
    def __init__(self):
        super().__init__("openapi", jsonschema.Draft202012Validator)
        self.operations = {o["operationId"]: (method.upper(), path, o) for path, item in self.whole["paths"].items()
                           for method, o in item.items()}
        self.answered = set()

    def body_schema(self, operation):
        return self.operations[operation][2]["requestBody"]["content"]["application/json"]["schema"]

    async def ask(self, belayd, operation, want, body=None, bearer=None, headers=None, **values):
        """Sends a request of that operation, checks the answer against the document, and returns its body."""
        method, path, o = self.operations[operation]
        places = {p["name"]: p["in"] for p in o.get("parameters", ())}
        assert {n for n in values} | set(headers or {}) <= set(places), f"{operation} takes {places}"
        for name in re.findall(r"{(\w+)}", path):
            path = path.replace(f"{{{name}}}", str(values.pop(name)))
        status, head, raw = await belayd.rest(method, path, body, bearer, headers, raw=True, params=values)
        answer = o["responses"].get(str(status))
        where = f"{operation} {status}"
        assert status == want, f"{where}: {raw[:500]}"
        assert answer is not None, f"{where} is not documented: {raw[:500]}"
        self.answered.add((operation, str(status)))
        for name in answer.get("headers", {}):
            assert name in head or status == 429, f"{where}: no {name}"
        if "content" not in answer:
            assert raw == b"", where
            return None
        ((kind, media),) = answer["content"].items()
        assert head["Content-Type"].split(";")[0] == kind, where
        if kind != "application/json":
            return raw.decode()
        value = json.loads(raw)
        self.take(media["schema"], value, where)
        if "x-codes" in answer:
            assert value["error"]["code"] in answer["x-codes"], f"{where}: {value}"
        return value


class AsyncAPI(Document):
    def __init__(self):
        super().__init__("asyncapi", jsonschema.Draft7Validator)
        self.messages = self.whole["components"]["messages"]
        self.came = set()

    def of(self, operation):
        """Messages of an operation by their type."""
        idents = [m["$ref"].rsplit("/", 1)[1] for m in self.whole["operations"][operation]["messages"]]
        return {self.messages[i]["name"]: i for i in idents}

    def look(self, operation, message):
        known = self.of(operation)
        assert message["type"] in known, f"{operation} has no {message}"
        ident = known[message["type"]]
        self.came.add((operation, ident))
        self.take(self.messages[ident]["payload"], message, ident)

    def watch(self, client, operation):
        """Everything that this client gets from now on is looked at, its greeting too."""
        recv, send = client.recv, client.send
        sends = operation.replace("to", "from")

        async def looking(timeout=PATIENCE):
            message = await recv(timeout)
            self.look(operation, message)
            return message

        async def telling(type, payload=None, id=None):
            message = {k: v for k, v in (("type", type), ("payload", payload), ("id", id)) if v is not None}
            self.look(sends, message)
            await send(type, payload, id)

        client.recv, client.send = looking, telling
        self.look(operation, client.connected)
        return client


@pytest.fixture(scope="module")
def openapi():
    return OpenAPI()


async def device_life(belayd, ask):
    """Devices, shares and their refusals; returns the token of d1."""
    body = {"deviceId": "d1", "name": "Door", "tags": ["a"], "metadata": {"x": None}, "settings": {"relock": 5}}
    secret = (await ask("device_register", 201, body))["deviceToken"]
    await ask("device_register", 201, {"name": "B", "deviceType": "lamp"})
    await ask("device_register", 409, body)
    await ask("device_register", 422, {})
    await ask("device_register", 401, body, bearer="x.y.z")
    await ask("device_list", 200, limit=1)
    await ask("device_list", 422, cursor="a")
    _, page = await belayd.rest("GET", "/api/device?limit=1")
    await ask("device_list", 200, status="unknown", type="lamp", tag="a", q="B", cursor=page["nextCursor"])
    await ask("device_list", 422, limit=0)
    await ask("device_stats", 200)
    await ask("device_get", 200, id="d1")
    await ask("device_get", 404, id="nobody")
    await ask("device_get", 403, id="d1", bearer=token("stranger"))
    await ask("device_get", 422, id="d1", bearer=belayd.service_key)
    await ask("device_get", 200, id="d1", bearer=belayd.service_key, tenantId="t1")
    await ask("share_add", 201, {"userId": "u2", "permission": "view"}, id="d1")
    await ask("share_add", 201, {"userId": "u3", "permission": "control", "commands": ["ring"], "expiresAt": "2099-01-01T00:00:00Z"},
              id="d1")
    await ask("share_add", 422, {"userId": "u2"}, id="d1")
    await ask("share_list", 200, id="d1")
    await ask("share_remove", 204, id="d1", userId="u3")
    await ask("share_remove", 404, id="d1", userId="u3")
    return secret


async def commands_told(ask, device):
    """Commands that run, fail, time out, wait and are cancelled."""
    answers = {
        "run": {"status": "executed", "result": {"ok": [1]}},
        "break": {"status": "failed", "error": {"code": "jammed", "message": "it is"}},
        "crack": {"status": "failed", "error": "no"},
    }

    def answer(p):
        return {"commandId": p["commandId"], **answers[p["command"]]} if p["command"] in answers else None

    await run_device(device, answer)
    first = await ask("command_create", 202, {"deviceId": "d1", "command": "run", "params": {"a": 1}})
    for name in answers:
        await ask("command_create", 200, {"deviceId": "d1", "command": name, "idempotencyKey": name}, wait=1)
    await ask("command_create", 409, {"deviceId": "d1", "command": "run", "idempotencyKey": "crack"})
    await ask("command_create", 202, {"deviceId": "d1", "command": "run"}, headers={"Idempotency-Key": "k"})
    await ask("command_create", 504, {"deviceId": "d1", "command": "lose", "timeoutMs": 1000}, wait="true")
    await ask("command_open", 504, {"deviceId": "d1", "timeoutMs": 1000}, wait="true")
    await ask("command_create", 200, {"deviceId": "d1", "command": "run", "onlyIf": {"status.door": "none"}}, wait=1)
    await ask("command_create", 403, {"deviceId": "d1", "command": "run"}, bearer=token("u2"))
    await ask("command_create", 404, {"deviceId": "nobody", "command": "run"})
    await ask("command_get", 200, id=first["command"]["commandId"])
    await ask("command_get", 404, id=uuid.uuid4())
    await ask("command_cancel", 409, id=first["command"]["commandId"])
    await ask("device_commands", 200, id="d1", limit=2)


async def commands_waiting(ask):
    await ask("command_create", 409, {"deviceId": "d1", "command": "run"})
    for operation, body in (("command_create", {"command": "later"}), ("command_open", {})):
        waiting = await ask(operation, 202, {"deviceId": "d1", "queueMs": 60000, **body})
        await ask("command_cancel", 200, id=waiting["command"]["commandId"])
    await ask("command_open", 409, {"deviceId": "d1"})


async def visits(ask, device):
    names = {}
    for name in ("Ann", "Bob"):
        names[name] = str(uuid.uuid4())
        await device.send("visitor", {"visitorId": names[name], "name": name, "snapshotUrl": "/s/1.jpg", "data": {"floor": 1}})

    async def both():
        return len((await ask("visitor_list", 200, status="pending"))["visitors"]) == 2
    await eventually(both)
    await ask("visitor_list", 200, limit=1)
    await ask("visitor_list", 422, status="lost")
    await ask("visitor_approve", 200, id=names["Ann"])
    await ask("visitor_approve", 409, id=names["Ann"])
    await ask("visitor_deny", 200, id=names["Bob"])
    await ask("visitor_deny", 409, id=names["Bob"])
    await ask("visitor_deny", 404, id=uuid.uuid4())
    await ask("visitor_deny", 403, id=names["Bob"], bearer=token("u2"))


async def the_rest(belayd, ask):
    key = belayd.service_key
    await ask("telemetry", 202, {"deviceId": "d1", "data": {"t": 1}})
    await ask("telemetry", 202, [{"deviceId": "d1", "data": {}, "at": "2026-01-31T12:00:00+01:00"}] * 2)
    await ask("telemetry", 404, {"deviceId": "nobody", "data": {}})
    secret = (await ask("device_token", 200, id="d1"))["deviceToken"]
    await ask("telemetry", 202, {"deviceId": "d1", "data": {}}, bearer=secret)
    await ask("device_event", 202, {"event": "x_y", "at": "2026-01-31T12:00:00Z", "data": {"a": 1}}, bearer=secret, id="d1")
    await ask("device_event", 422, {"event": "lost"}, bearer=secret, id="d1")
    await ask("device_state", 204, {"door": "open"}, bearer=secret, id="d1", headers={"X-Device-Id": "d1"})
    await ask("device_state", 403, {}, id="d1")
    await ask("device_state", 404, {}, bearer=secret, id="nobody")
    await ask("device_state", 401, {}, bearer="bdt_x", id="d1")
    await ask("telemetry", 422, [{"deviceId": "d1"}])
    for bad in ({"cursor": "1"}, {"limit": 0}, {"since": "now"}):
        await ask("device_telemetry", 422, id="d1", **bad)

    async def stored():
        return (await ask("device_telemetry", 200, id="d1", limit=2))["nextCursor"]
    await ask("device_telemetry", 200, id="d1", cursor=await eventually(stored), since="1970-01-01T00:00:00Z")
    await ask("device_events", 200, id="d1", limit=2)
    await ask("device_events", 200, id="d1", type="x_y", since="2026-01-01T00:00:00Z", until="2099-01-01T00:00:00Z")
    await ask("events", 200)
    await ask("events", 422, since="yesterday")
    await ask("ticket", 200)
    await ask("broadcast", 200, {"type": "x.news", "payload": {}}, bearer=ADMIN)
    await ask("broadcast", 403, {"type": "x.news", "payload": {}})
    await ask("send", 200, {"type": "x.news", "payload": {}, "tenantId": "t1"}, bearer=key, userId="u1")
    await ask("ws_stats", 200, bearer=key)
    await ask("user_status", 200, bearer=ADMIN, userId="u1")
    await ask("user_disconnect", 200, bearer=ADMIN, userId="u9")
    for route in ("health", "api_health", "health_ready"):
        await ask(route, 200, bearer="")
    await ask("health_detailed", 200, bearer=belayd.service_key)
    for route in ("health_detailed", "health_devices", "health_metrics"):
        await ask(route, 200)
        await ask(route, 401, bearer="")
    await ask("metrics", 200, bearer=key)
    await ask("metrics", 403)
    await ask("device_update", 200, {"settings": {"relock": 6}, "tags": []}, id="d1")
    await ask("device_token", 200, id="d1")
    await ask("device_delete", 403, id="d1", bearer=token("u2"))
    await ask("device_delete", 204, id="d1")


async def test_answers(belayd, openapi):
    """Every answer of every request is as documented, and every documented success and member of an object is seen."""
    async def ask(operation, want, body=None, bearer=None, headers=None, **values):
        return await openapi.ask(belayd, operation, want, body, bearer, headers, **values)

    secret = await device_life(belayd, ask)
    device = await belayd.device("d1", secret)
    await device.send("status", {"door": "closed"})
    await device.send("event", {"event": "x_y"})
    await visits(ask, device)
    await commands_told(ask, device)
    await ask("device_get", 200, id="d1")
    await device.close()

    async def gone():
        return (await ask("device_get", 200, id="d1"))["device"]["presence"]["status"] == "offline"
    await eventually(gone)
    await commands_waiting(ask)
    await the_rest(belayd, ask)

    wanted = {(name, status) for name, (_, _, o) in openapi.operations.items() for status in o["responses"] if status[0] in "235"}
    wanted -= {(name, "503") for name in openapi.operations}
    wanted -= {("command_open", "200")}                     # the same as command_create
    assert wanted <= openapi.answered, wanted - openapi.answered
    kinds = {name for name in openapi.schemas if not name.endswith("_request")}
    assert openapi.unseen(kinds) == {("health_part", "message"), ("command", "acceptedAt")} - openapi.seen, openapi.unseen(kinds)


async def talk_of_device(belayd, viewer, device):
    """What a device tells, and its viewer hears; returns the cursor of an event."""
    await device.send("status", {"door": "open"})
    await viewer.expect("device_status")
    await device.send("telemetry", {"data": {"t": 20.5}})
    await viewer.expect("telemetry")
    await device.send("telemetry", {"samples": [{"at": "2026-01-31T12:00:00Z", "data": {"t": 21}}, {"data": {}}]})
    await viewer.expect("telemetry")
    await device.send("event", {"event": "motion_detected", "data": {}})
    last = await viewer.expect("device_event", where=lambda m: m["payload"]["event"] == "motion_detected")
    await device.ask("heartbeat", {"battery": 80})
    await device.ask("ping")
    await device.ask("token_rotate")
    await device.send("visitor", {"name": "Ann"})
    visit = (await viewer.expect("new_visitor"))["payload"]["visitorId"]
    await viewer.ask("visitor_decide", {"visitorId": visit, "decision": "deny"})
    assert (await viewer.ask("visitor_decide", {"visitorId": visit, "decision": "approve"}))["payload"]["code"] == "conflict"
    return last["cursor"]


async def talk_of_commands(viewer, device):
    """One that runs, and one that is lost."""
    command = {"deviceId": "m1", "command": "run", "timeoutMs": 1000}
    await viewer.ask("command", command)
    ack = {"commandId": (await device.expect("command"))["payload"]["commandId"]}
    await device.ask("command_ack", {**ack, "status": "accepted"})
    await device.ask("command_ack", {**ack, "status": "executed", "result": 1})
    assert (await device.ask("command_ack", {**ack, "status": "executed"}))["type"] == "error"
    await viewer.expect("command_status", where=lambda m: m["payload"]["status"] == "executed")
    await viewer.ask("command", {**command, "command": "lose"})
    await viewer.expect("command_status", where=lambda m: m["payload"]["status"] == "timeout")


async def talk_of_dashboard(belayd, asyncapi, viewer):
    for ask in (("subscribe", {"devices": ["m1"]}), ("unsubscribe", {"devices": ["m1"]}), ("subscribe", {"devices": None}), ("ping",),
                ("cancel", {"commandId": str(uuid.uuid4())}), ("auth", {"token": token()})):
        await viewer.ask(*ask)
    other = asyncapi.watch(await belayd.user("u2"), "toUsers")
    status, _ = await belayd.rest("POST", "/api/device/m1/share", {"userId": "u2", "permission": "view"})
    assert status == 201
    await other.expect("device_shared")
    await belayd.rest("DELETE", "/api/device/m1/share/u2")
    await other.expect("device_unshared")
    service = asyncapi.watch(await belayd.open("/ws?tenantId=t1", {"Authorization": f"Bearer {belayd.service_key}"}), "toUsers")
    await viewer.ws.send('{"type":"x_hello","id":"hello","payload":{"a":1}}')
    await service.expect("user_message")
    await viewer.expect("ok", where=lambda m: m["re"] == "hello")


async def auth_by_message(belayd, asyncapi, secret):
    device = await belayd.raw("/ws?auth=message")
    message = {"type": "auth", "payload": {"token": secret, "device": "m1"}}
    asyncapi.look("fromDevices", message)
    await device.ws.send(json.dumps(message))
    device.connected = await device.recv()
    return asyncapi.watch(device, "toDevices")


async def test_messages(start):
    """Every message is as documented, and every documented one comes."""
    asyncapi = AsyncAPI()
    belayd = start({"limits.message_rate": 100000, "limits.message_burst": 100000})
    secret = await belayd.register("m1")
    viewer = asyncapi.watch(await belayd.user(ttl=40), "toUsers")
    await viewer.expect("token_expiring")
    device = asyncapi.watch(await belayd.device("m1", secret), "toDevices")
    await viewer.expect("device_connected")
    cursor = await talk_of_device(belayd, viewer, device)
    await talk_of_commands(viewer, device)
    await talk_of_dashboard(belayd, asyncapi, viewer)
    await device.close()
    await viewer.expect("device_disconnected")

    device = await auth_by_message(belayd, asyncapi, secret)
    await device.expect("reconcile")
    again = asyncapi.watch(await belayd.user(query=f"?resume={cursor}"), "toUsers")
    await again.expect("resumed")
    for _ in range(1000):
        await device.send("event", {"event": "x_many"})
    await device.ask("event", {"event": "x_many"})		# answered when it, and all before, are stored
    await (asyncapi.watch(await belayd.user(query=f"?resume={cursor}"), "toUsers")).expect("gap")

    bearer = token(None, device="m1", ttl=40)
    device = asyncapi.watch(await belayd.open("/ws", {"Authorization": f"Bearer {bearer}"}), "toDevices")
    await device.expect("token_expiring")
    stopping = asyncio.get_running_loop().run_in_executor(None, belayd.stop)
    await viewer.expect("reconnect")
    await device.expect("reconnect")
    await stopping

    wanted = {(o, i) for o in ("toDevices", "toUsers", "fromDevices", "fromUsers") for i in asyncapi.of(o).values()}
    wanted -= {("toUsers", "charger")}                      # feeds are not in this version
    assert wanted <= asyncapi.came, wanted - asyncapi.came
    never = asyncapi.unseen({"command", "greeting", "refusal", "step"})
    assert never <= {("refusal", "retryAfterMs"), ("refusal", "field"), ("command", "error"), ("command", "cancelledBy")}, never


# --- what is taken


ODD = [None, True, 0, -1, 1, 999, 1000, 300000, 300001, 2592000000, 2592000001, 1.5, 10**18, "", "a", "Ab", "a b", "1a", "ä", "a\nb", "x_ok",
       "a" * 64, "a" * 65, "a" * 128, "a" * 129, "ä" * 200, "ä" * 201, "a" * 255, "a" * 256, "a\x7f", "a\u009fb", "a:b|c@d+e=f-g",
       "2099-01-31T12:00:00Z", "2099-01-31T12:00:00.123+01:00", "2099-01-31", "view", "owner", {}, {"a": None},
       {"status.door": None}, {"status.": 1}, {"seenWithinMs": 0}, {"seenWithinMs": -1}, {"seenWithinMs": "1"}, [], ["a"], [1], ["a", None], [""],
       ["ä" * 64], ["a" * 65], ["a"] * 64, ["a"] * 65, ["a b"], [["a"]]]


@pytest.mark.parametrize("operation, body", [
    ("device_register", {"name": "n"}),
    ("device_update", {}),
    ("share_add", {"userId": "u2", "permission": "view"}),
    ("command_create", {"deviceId": "p1", "command": "run", "queueMs": 1}),
    ("command_open", {"deviceId": "p1", "queueMs": 1}),
    ("telemetry", {"deviceId": "p1", "data": {}}),
    ("broadcast", {"type": "x.a", "payload": {}}),
    ("send", {"type": "x.a", "payload": {}}),
])
async def test_bodies(belayd, openapi, operation, body):
    """belayd takes what the document allows and refuses the rest: one field after the other with values at its edges."""
    method, path, _ = openapi.operations[operation]
    schema = openapi.body_schema(operation)
    await belayd.rest("POST", "/api/device/register", {"deviceId": "p1", "name": "P"}, ADMIN)
    path = path.replace("{id}", "p1").replace("{userId}", "u1")
    fields = schema.get("oneOf", [schema])[0]["$ref"].rsplit("/", 1)[1]
    askers = (token(f"boss{n}", role="admin") for n in itertools.count())      # no one of them asks too often
    wrong = []
    for field in openapi.schemas[fields]["properties"]:
        for value in [*ODD, ...]:
            sent = copy.deepcopy(body)
            if value is ...:
                sent.pop(field, None)
            else:
                sent[field] = value
            allowed = openapi.check(schema, sent, strict=False) is None
            status, answer = await belayd.rest(method, path, sent, next(askers))
            if (status == 422) == allowed and not (status == 422 and "uses this type" in answer["error"]["message"]):
                wrong.append((field, value, status, answer if status == 422 else ""))
    assert not wrong, "\n".join(map(str, wrong))
