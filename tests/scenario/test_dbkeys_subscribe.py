"""Many ids in one subscribe are looked up together, and answered as if one by one: the first that is wrong is named."""

import belay


async def test_the_first_wrong_id_is_named(belayd):
    good = [f"named-{n}" for n in range(300)]
    for id in good:
        await belayd.register(id, belay.token("ann"))
    await belayd.register("named-theirs", belay.token("bob"))
    user = await belayd.user("ann")
    got = []
    for before in 0, 1, 255, 256, 257, 300:
        for behind in ["nowhere", "named-theirs"], ["named-theirs", "nowhere"]:
            m = await user.ask("subscribe", {"devices": good[:before] + behind})
            got.append((m["type"], m["payload"].get("code"), m["payload"].get("field")))
        m = await user.ask("subscribe", {"devices": good[:before]})
        assert m["type"] == "ok", m
    assert got == [("error", code, f"payload.devices[{before}]") for before in (0, 1, 255, 256, 257, 300)
                   for code in ("not_found", "no_access")]
    await user.close()
