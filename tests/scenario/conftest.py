"""Fixtures of the scenarios: every test function may start belayds of its own; most share one of the module."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

import belay


def pytest_configure(config):
    config.option.asyncio_mode = "auto"


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
    for bad in ("AddressSanitizer", "LeakSanitizer", "runtime error:", "must_fail", "does not hold", "ended by signal 11 ",
                "ended by signal 6 ", "ended by signal 7 ", "ended by signal 8 ", "ended by signal 4 "):
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
