"""What it costs to tell many: counted, not timed.  One row in the store however many are told, one record to each process that
has somebody to tell, none to the others, and to each viewer its message.
"""

import asyncio
import secrets
import sqlite3

import belay
import conftest
import pytest
from belay import eventually, token
from fleet import taken_by

ROUNDS = 10
GATEWAYS = 4
SETTINGS = {"limits.message_rate": 100000, "limits.message_burst": 100000, "limits.requests_per_user": 0}
COUNTERS = {"posted": "belay_mailbox_posted_total", "read": "belay_mailbox_read_total", "deliveries": "belay_deliveries_total",
            "stored": "belay_events_stored_total", "commits": "belay_store_commits_total", "records": "belay_store_records_total",
            "lost": "belay_telemetry_lost_total"}


@pytest.fixture(scope="module")
def belayd(tmp_path_factory):
    daemon = belay.Belayd(tmp_path_factory.mktemp("belayd"), SETTINGS, workers=GATEWAYS).start()
    yield daemon
    assert daemon.stop() == 0
    conftest.check_log(daemon)


async def counters(daemon):
    status, _, body = await daemon.rest("GET", "/metrics", bearer=daemon.service_key, raw=True)
    assert status == 200
    lines = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    return {name: int(lines[metric]) for name, metric in COUNTERS.items()}


async def at_rest(daemon):
    """The counters, when every record has been read and nothing more comes of them."""
    async def same():
        before = await counters(daemon)
        await asyncio.sleep(0.1)
        return before["posted"] == before["read"] and before == await counters(daemon) and before
    return await eventually(same)


def rows(daemon):
    """Rows of all tables of the store, but for those that are an index: which rows are a device's."""
    db = sqlite3.connect(f"file:{daemon.folder}/belay.db?mode=ro", uri=True)
    tables = [name for name, in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")
              if name not in ("device_tail", "device_events", "device_commands")]
    count = sum(db.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in tables)
    db.close()
    return count


class World:
    """A device at gateway 1, viewers of it where one says, and at each gateway such as may not view it."""

    def __init__(self, daemon, name, viewers):
        self.daemon, self.name, self.where = daemon, name, viewers
        self.viewers, self.others = [], []

    async def __aenter__(self):
        d, name = self.daemon, self.name
        bdt = await d.register(name, token(f"owner-{name}"))
        for user in ("ann", "bob"):
            status, _ = await d.rest("POST", f"/api/device/{name}/share", {"userId": f"{user}-{name}", "permission": "view"}, token(f"owner-{name}"))
            assert status == 201
        for n in range(1, GATEWAYS + 1):
            with taken_by(d, f"gateway {n}"):
                if n == 1:
                    self.device = await d.device(name, bdt)
                # Another tenant's users and admins, and one of this tenant who has no right.
                self.others += [await d.user(f"owner-{name}", "t2"), await d.user("boss", "t2", "admin"), await d.user("stranger")]
                for i in range(self.where.get(n, 0)):
                    self.viewers.append(await d.user(f"{('owner', 'ann', 'bob')[i % 3]}-{name}"))
        await asyncio.gather(*(c.ask("ping") for c in self.viewers))
        return self

    async def __aexit__(self, *_):
        await asyncio.gather(*(c.close() for c in [self.device, *self.viewers, *self.others]))

    async def cost(self, act, heard):
        """What act() adds to the counters and to the store, once each viewer has heard so many messages of the type."""
        type, count = heard
        before, stored = await at_rest(self.daemon), rows(self.daemon)
        await act()
        for v in self.viewers:
            for _ in range(count):
                await v.expect(type)
        after = await at_rest(self.daemon)
        for c in self.viewers + self.others:
            await c.ask("ping")
            assert [m for m in c.kept if m["type"] == type] == [], "told once, and to those alone who may hear it"
        return {**{name: after[name] - before[name] for name in after}, "rows": rows(self.daemon) - stored}


PLACES = {"nobody": {}, "one elsewhere": {2: 1}, "many elsewhere": {2: 12}, "beside the device": {1: 6}, "at two": {1: 3, 3: 9}, "at all": {1: 6, 2: 3, 3: 9, 4: 1}}


@pytest.fixture(params=list(PLACES))
async def world(belayd, request):
    async with World(belayd, f"cost-{secrets.token_hex(4)}", PLACES[request.param]) as w:
        yield w


async def test_events_and_states(world):
    """From the device's gateway to storage one record, from there one to each gateway with viewers; one row."""
    for kind, payload, heard in (("event", {"event": "x_e", "data": {"n": 1}}, "device_event"), ("status", {"n": 1}, "device_status")):
        async def act():
            for _ in range(ROUNDS):
                await world.device.send(kind, payload)
            await world.device.ask("ping")

        cost = await world.cost(act, (heard, ROUNDS))
        assert cost["rows"] == cost["stored"] == cost["records"] == ROUNDS, (kind, cost)
        assert cost["posted"] == ROUNDS * (1 + len(world.where)), (kind, cost)
        assert cost["deliveries"] == ROUNDS * len(world.viewers), (kind, cost)


async def test_telemetry(world):
    """Straight from the device's gateway to the others that have viewers; the store is not asked."""
    async def act():
        for n in range(ROUNDS):
            await world.device.send("telemetry", {"data": {"n": n}})
        await world.device.ask("ping")

    cost = await world.cost(act, ("telemetry", ROUNDS))
    assert cost["rows"] == cost["stored"] == cost["records"] == cost["commits"] == cost["lost"] == 0, cost
    assert cost["posted"] == ROUNDS * len([n for n in world.where if n != 1]), cost
    assert cost["deliveries"] == ROUNDS * len(world.viewers), cost


async def test_results_of_commands(world):
    """A device's result: one record to storage, one to each gateway with viewers; one row for the event, none for the command anew."""
    ids = []
    for _ in range(ROUNDS):
        status, body = await world.daemon.rest("POST", "/api/command", {"deviceId": world.name, "command": "x"}, token(f"owner-{world.name}"))
        assert status == 202
        ids.append(body["command"]["commandId"])
    for v in world.viewers:
        for _ in ids:
            await v.expect("command_status")

    async def act():
        for id in ids:
            await world.device.send("command_ack", {"commandId": id, "status": "executed"})
        await world.device.ask("ping")

    cost = await world.cost(act, ("command_status", ROUNDS))
    assert cost["rows"] == cost["stored"] == cost["records"] == ROUNDS, cost
    assert cost["posted"] == ROUNDS * (1 + len(world.where)), cost
    assert cost["deliveries"] == ROUNDS * len(world.viewers), cost
