"""contrib/haproxy.cfg keeps the counters inside, however their path is spelled, and nothing else."""

from belay import eventually
from test_proxy import HAPROXY, Haproxy, request

# belayd takes these for its counters …
COUNTERS = ["/metrics", "/metrics?x=1", "/%6detrics", "/%6D%65%74%72%69%63%73", "/m%65trics?a=/b", "http://x/metrics", "http://x/metric%73?y"]
# … and another program behind haproxy might take these.
OTHERS = ["//metrics", "///%6detrics", "/./metrics", "/%2e/metrics", "/a/../metrics", "/api/../metrics", "/api/%2e%2e/metrics", "/api/x/../../metrics",
          "/%2fmetrics", "/METRICS", "/Metric%53", "/metrics/", "/metrics//", "/metrics%2f", "/metrics/."]
OPEN = ["/api/health/metrics", "/api/device/metrics", "/api/device/metrics?tenantId=t1", "/health", "/metricsx", "/xmetrics", "/metrics.txt"]


@HAPROXY
async def test_spellings_of_metrics(start, tmp_path):
    belayd = start({"server.trusted_proxies": "127.0.0.1"}, workers=1)
    h = Haproxy(tmp_path, {3000: belayd.port, 3001: belayd.port, 3443: 1, 3444: 1})

    def status(port, path):
        out = request(port, path=path, headers=f"Authorization: Bearer {belayd.service_key}\r\n")
        return int(out.split()[1]) if out else None

    def reaches():
        try:
            return status(h.port, "/health") == 200
        except ConnectionRefusedError:
            return False

    try:
        await eventually(reaches)
        assert {path: status(belayd.port, path) for path in COUNTERS} == dict.fromkeys(COUNTERS, 200)
        denied = COUNTERS + OTHERS
        assert {path: status(h.port, path) for path in denied} == dict.fromkeys(denied, 403)
        assert {path: status(h.port, path) for path in OPEN} == {path: status(belayd.port, path) for path in OPEN}
    finally:
        h.stop()
