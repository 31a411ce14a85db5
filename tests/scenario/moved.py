"""moved.py: which counters of src/base/stats.def move in the scenarios.

Each belayd of the harness is asked for /metrics before it is stopped; what it had counted is written to a file of the folder
TEST_COUNTERS, by worker of xdist.  "moved.py FOLDER" says which counters nothing moved; its status is 1 when one of them is not
in the list `unmoved`, which says why.
"""

import contextlib
import http.client
import os
import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
FOLDER = os.environ.get("TEST_COUNTERS")
written = set()


def note(text):
    """Of an answer to /metrics: the names of all that is not 0."""
    fresh = set(re.findall(r"^([a-z]\S*) (?!0$)\S+$", text, re.M)) - written
    written.update(fresh)
    if FOLDER and fresh:
        Path(FOLDER).mkdir(parents=True, exist_ok=True)
        with open(Path(FOLDER) / os.environ.get("PYTEST_XDIST_WORKER", "alone"), "a") as f:
            f.write("".join(name + "\n" for name in sorted(fresh)))


def ask(daemon):
    """One that can't answer at once, whatever it is busy with in its test, is left out: others count the same."""
    if not FOLDER:
        return
    with contextlib.suppress(OSError, http.client.HTTPException):
        admin = daemon.settings.get("server.admin_listen", "").partition("127.0.0.1:")[2]
        connection = http.client.HTTPConnection("127.0.0.1", int(admin or daemon.port), timeout=3)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {daemon.service_key}"})
            answer = connection.getresponse()
            if answer.status == 200:
                note(answer.read().decode())


def listed():
    """Counters of which `unmoved` says why they need not move."""
    lines = (Path(__file__).parent / "unmoved").read_text().splitlines()
    return {line.split("\t")[0] for line in lines if line and not line.startswith("#")}


def main(folder):
    stats = (TOP / "src/base/stats.def").read_text()
    names = [name.replace('\\"', '"') for name in re.findall(r'^STAT\(\w+, "((?:\\"|[^"])+)", COUNTER', stats, re.M)]
    names += [name + "_count" for name in re.findall(r'^HISTOGRAM\(\w+, "([^"]+)"', stats, re.M)]
    moved = set().union(*(path.read_text().split("\n") for path in Path(folder).glob("*")))
    faults = [name for name in names if name not in moved | listed()]
    faults += [f"{name} is in tests/scenario/unmoved and not in stats.def" for name in listed() - set(names)]
    print(*faults, f"{len(names)} counters, {len(set(names) & moved)} moved, {len(faults)} faults", sep="\n")
    return len(names) < 50 or bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
