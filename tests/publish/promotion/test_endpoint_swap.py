"""A request reaches the manager it is meant for, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from components.core.errors import DataError, MillError
from components.core.settings import Settings
from components.publish.promotion.endpoint_swap import EndpointStatus, EndpointSwap, ServedModel

ONE, TWO = ServedModel("tiny", "1", "aaa"), ServedModel("tiny", "2", "bbb")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, reference_data=tmp_path)


@pytest.fixture
def me() -> EndpointStatus:
    process = psutil.Process(os.getpid())
    return EndpointStatus(process.pid, process.create_time(), serving=ONE)


def answering(settings: Settings, me: EndpointStatus, error: str | None = None) -> threading.Thread:
    """A manager that answers one request."""
    manager = EndpointSwap(settings)
    manager.report_status(me)

    def run() -> None:
        while (wanted := manager.read_request()) is None:
            time.sleep(0.01)
        manager.report_status(replace(me, token=wanted.token, error=error, prepared=wanted.served))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_an_endpoint_of_another_model_is_left_alone(settings: Settings, me: EndpointStatus) -> None:
    assert (me.follows("tiny"), me.follows("other")) == (True, False)
    idle = replace(me, serving=None)
    assert idle.follows("tiny")
    told = replace(idle, only="other")
    assert (told.follows("tiny"), told.follows("other")) == (False, True)
    EndpointSwap(settings).report_status(told)
    assert EndpointSwap(settings).read_status() == told


def test_without_a_keeper_nothing_is_asked(settings: Settings, me: EndpointStatus) -> None:
    swap = EndpointSwap(settings)
    assert not swap.is_running()
    assert swap.read_request() is None
    swap.switch(TWO, 1)
    swap.drop(TWO)
    with pytest.raises(MillError, match="no endpoint is running"):
        swap.prepare(TWO, 1)
    assert not (swap.folder / "wanted.json").exists()


def test_the_dead_and_whoever_has_their_number_are_no_keepers(
    settings: Settings, me: EndpointStatus
) -> None:
    swap = EndpointSwap(settings)
    swap.report_status(replace(me, create_time=me.create_time - 60))
    assert not swap.is_running()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(ended.pid).create_time()
    deadline = time.monotonic() + 30
    while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    swap.report_status(EndpointStatus(ended.pid, started))
    assert not swap.is_running()
    ended.wait()
    swap.report_status(me)
    assert swap.is_running()


def test_a_request_is_answered_by_its_token(settings: Settings, me: EndpointStatus) -> None:
    manager = answering(settings, me)
    EndpointSwap(settings).prepare(TWO, 10)
    manager.join()
    status = EndpointSwap(settings).read_status()
    assert status is not None
    assert status.prepared == TWO
    EndpointSwap(settings).prepare(TWO, 0.01)  # there already: nothing is asked
    EndpointSwap(settings).switch(ONE, 0.01)


def test_a_refusal_is_told_in_a_line(settings: Settings, me: EndpointStatus) -> None:
    manager = answering(settings, me, "out of memory")
    with pytest.raises(MillError, match=r"did not switch tiny version 2: out of memory"):
        EndpointSwap(settings).switch(TWO, 10)
    manager.join()


def test_a_later_keeper_does_not_follow_an_earlier_ones_request(
    settings: Settings, me: EndpointStatus
) -> None:
    manager = answering(settings, me)
    EndpointSwap(settings).prepare(TWO, 10)
    manager.join()
    later = EndpointSwap(settings)
    assert later.read_request() is None, "before it has told who it is"
    later.report_status(replace(me, pid=me.pid + 1))
    assert later.read_request() is None
    later.report_status(me)
    wanted = later.read_request()
    assert wanted is not None
    assert (wanted.phase, wanted.served) == ("prepare", TWO)


def test_no_folder_outside_is_served(settings: Settings, me: EndpointStatus) -> None:
    for name in ("../../etc", "", ".hidden", "a/b"):
        with pytest.raises(DataError, match="no name of a Bento's folder"):
            ServedModel("tiny", "1", name)
    manager = answering(settings, me)
    EndpointSwap(settings).prepare(TWO, 10)
    manager.join()
    path = settings.home / "endpoint" / "wanted.json"
    path.write_bytes(path.read_bytes().replace(b'"bbb"', b'"../b"'))
    last = EndpointSwap(settings)
    last.report_status(me)
    with pytest.raises(DataError, match="no name of a Bento's folder"):
        last.read_request()


def test_damaged_files_are_one_line(settings: Settings, me: EndpointStatus) -> None:
    swap = EndpointSwap(settings)
    swap.report_status(me)
    (swap.folder / "wanted.json").write_text('{"phase": "explode"}')
    with pytest.raises(DataError, match=r"wanted\.json: no request"):
        swap.read_request()
    (swap.folder / "keeper.json").write_text("{")
    with pytest.raises(DataError, match=r"keeper\.json: cannot be read"):
        swap.is_running()
