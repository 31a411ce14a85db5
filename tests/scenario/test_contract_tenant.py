"""A device that names a tenant which is not its own is refused, and nothing of its connection is touched."""

import pytest

from belay import Refused, token


@pytest.mark.parametrize("way", ["token", "jwt"])
async def test_a_device_names_another_tenant(belayd, way):
    name = f"d-{way}"
    secret = await belayd.register(name)
    bearer = {"Authorization": f"Bearer {secret if way == 'token' else token(None, device=name)}"}
    device = await belayd.open("/ws?tenantId=t1", bearer)
    for other in ("t2", "*", "a%20b", "x" * 200):
        with pytest.raises(Refused) as refused:
            await belayd.open(f"/ws?tenantId={other}", bearer)
        assert (refused.value.code, refused.value.reason) == (4003, "No access"), other
    assert (await device.ask("ping"))["type"] == "pong"
    _, body = await belayd.rest("GET", f"/api/device/{name}")
    assert body["device"]["presence"]["epoch"] == device.connected["payload"]["epoch"] == 1
