"""Rights to a device over HTTP are those of src/http/routes.def: each of its lines, asked by holders of every right."""

import re
import uuid
from pathlib import Path

import pytest

from belay import token
from test_visitors import Door

RIGHTS = ("VIEW", "CONTROL", "ADMIN", "OWNER")
# User -> how many of RIGHTS they have.  "boss" is an administrator of the tenant.
PEOPLE = {"stranger": 0, "vw": 1, "ctl": 2, "adm": 3, "boss": 3, "u1": 4}
# By body of the route.
BODIES = {"NONE": None, "device_update": {"name": "n"}, "device_token": {}, "device_share": {"userId": "friend", "permission": "view"},
          "command": {"command": "reboot"}, "command_open": {}}
ROUTES = [row for row in re.findall(r'^ROUTE\((\w+), (\w+), "([^"]+)", (\w+), (\w+)',
                                    (Path(__file__).resolve().parents[2] / "src/http/routes.def").read_text(), re.M)
          if row[3] in RIGHTS and row[0] != "visitor_list"]		# which shows what one may see, to anybody


async def place_of(door, route, path, body):
    """The path and the body of a request about the door: for each a command or a visit of its own."""
    if route in ("command_get", "command_cancel"):
        status, made = await door.belayd.rest("POST", "/api/command", {"deviceId": door.name, "command": "reboot"})
        assert status == 202, made
        path = path.replace(":id", made["command"]["commandId"])
    elif ":id" in path and path.startswith("/api/visitor"):
        path = path.replace(":id", (await door.rings(name="Ann"))["visitorId"])
    elif ":id" not in path:
        body = {**body, "deviceId": door.name}
    return path.replace(":id", door.name).replace(":userId", "unl"), body


@pytest.mark.parametrize("route, method, path, right, body", ROUTES, ids=[row[0] for row in ROUTES])
async def test_rights(belayd, route, method, path, right, body):
    door = await Door(belayd, "door-" + uuid.uuid4().hex[:8]).open()
    for user, grade in PEOPLE.items():		# who may do most comes last: there may be no device any more
        where, what = await place_of(door, route, path, BODIES[body])
        status, answer = await belayd.rest(method, where, what, token(user, role="admin" if user == "boss" else None))
        if grade <= RIGHTS.index(right):
            assert status == 403 and answer["error"]["code"] == "no_access", (user, answer)
        else:
            done = 404 if route == "share_remove" else 409		# … by who came before
            assert status in (200, 201, 202, 204, done), (user, answer)
    await door.client.close()
