"""Fixtures of the scenarios: every test function may start belayds of its own; most share one of the module."""

import asyncio
import hashlib
import os
import shutil
from pathlib import Path

import pytest

import belay


# What a sanitizer says, of whatever program, and the logs in which belayd tells of a crash: one file each, by worker of xdist.
# Each fails the test in which it came; tests/run.sh counts them besides, so that no test that passes later excuses one.
REPORTS = belay.BUILD / "scenario" / "reports"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
SANITIZERS = ("AddressSanitizer", "LeakSanitizer", "runtime error:")
CRASHES = ("must_fail", "does not hold", *(f"ended by signal {n} " for n in (4, 6, 7, 8, 11)))


def pytest_configure(config):
    config.option.asyncio_mode = "auto"
    config.addinivalue_line("markers", "once: not under the sanitizers, see ONCE in conftest.py")
    config.addinivalue_line("markers", "long: takes half a minute and more, and begins first")
    REPORTS.mkdir(parents=True, exist_ok=True)
    REPORTS.chmod(0o1777)		# workers of belayd may be somebody else
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
        options = [o for o in os.environ.get(name, "").split(":") if o and not o.startswith("log_path=")]
        os.environ[name] = ":".join([*options, f"log_path={REPORTS}/{WORKER}-sanitizer"])


# Files that tests/run.sh runs on the plain build alone (-m "not once" leaves them out): they are about processes that end, about
# storage and cost, and what clients send in them is sent in other files, too; or start no server.  All others run under the
# sanitizers besides.
ONCE = set("""
    bench contract_typescript cost faults lifecycle linear readers tenants
    """.split())


@pytest.hookimpl(tryfirst=True)		# before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Tests of a file that share something are run by one worker of xdist, all others by whoever is free: what is long first."""
    for item in items:
        if item.path.stem.removeprefix("test_") in ONCE:
            item.add_marker("once")
        if any(d[-1].scope == "module" for d in item._fixtureinfo.name2fixturedefs.values()):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: 0 if item.get_closest_marker("long") else 1 if item.get_closest_marker("xdist_group") else 2)


def look_at_logs():
    """What was added to the logs of all belayds since the last look: a copy of each that tells of a crash."""
    for path, seen in list(belay.LOGS.items()):
        if path.exists() and path.stat().st_size > seen:
            with open(path, "rb") as log:
                log.seek(max(0, seen - 100))
                text = log.read().decode(errors="replace")
            belay.LOGS[path] = path.stat().st_size
            if any(bad in text for bad in SANITIZERS + CRASHES):
                name = hashlib.sha256(str(path).encode()).hexdigest()[:12]
                shutil.copy(path, REPORTS / f"{WORKER}-log-{name}")


@pytest.fixture(autouse=True)
def no_reports():
    before = set(REPORTS.glob(f"{WORKER}-*"))
    yield
    look_at_logs()
    new = set(REPORTS.glob(f"{WORKER}-*")) - before
    assert not new, "\n".join(path.read_text(errors="replace")[-6000:] for path in new)


def pytest_sessionfinish():
    look_at_logs()


def pytest_runtest_logreport(report):
    """For tests/run.sh: which tests failed, and how, in a file for each."""
    if report.failed and "TEST_FAILURES" in os.environ and WORKER == "alone":
        folder = Path(os.environ["TEST_FAILURES"])
        folder.mkdir(parents=True, exist_ok=True)
        test = report.nodeid.removesuffix(f"@{Path(report.nodeid.split('::')[0]).stem}")		# which xdist adds
        path = folder / hashlib.sha256(test.encode()).hexdigest()[:12]
        text = "" if path.exists() else test + "\n"
        text += f"{report.longreprtext}\n" + "".join(f"-- {title}\n{content}\n" for title, content in report.sections)
        with open(path, "a") as f:
            f.write(text)


@pytest.fixture(scope="session")
def event_loop():
    loop = asyncio.new_event_loop()
    yield loop
    # Clients that a test left open: without this each complains when it is destroyed.
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=2))
    loop.close()


def keep_log(daemon, name):
    """What a failed test's belayd said, for the reader of build/scenario/."""
    folder = belay.BUILD / "scenario"
    folder.mkdir(parents=True, exist_ok=True)
    if daemon.log_path.exists():
        shutil.copy(daemon.log_path, folder / f"{name}.log")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for value in item.funcargs.values():
            if isinstance(value, belay.Belayd):
                keep_log(value, item.name)


@pytest.fixture(scope="module")
def belayd(request, tmp_path_factory):
    """One belayd with two gateways on SQLite for all tests of a file; the file's SETTINGS, where it has some, are in force."""
    daemon = belay.Belayd(tmp_path_factory.mktemp("belayd"), getattr(request.module, "SETTINGS", None)).start()
    yield daemon
    assert daemon.stop() == 0, daemon.log_text()[-4000:]
    check_log(daemon)


def check_log(daemon):
    """Nothing died, nothing leaked, no sanitizer spoke."""
    text = daemon.log_text()
    for bad in SANITIZERS + CRASHES:
        assert bad not in text, text[-6000:]
    assert belay.SECRET not in text
    assert "bdt_" not in text and "bsk_" not in text and "eyJ" not in text, "a token is in the log"


@pytest.fixture
def start(tmp_path):
    """start(settings…) gives a belayd of the test's own."""
    started = []

    def go(settings=None, wait=True, folder=None, **kwargs):
        daemon = belay.Belayd(folder or tmp_path / f"belayd{len(started)}", settings, **kwargs)
        started.append(daemon)
        return daemon.start(wait)

    yield go
    for daemon in started:
        try:
            daemon.stop()
        finally:
            check_log(daemon)
