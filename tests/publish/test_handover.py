"""A request reaches the keeper it is meant for, and no other."""

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
from components.publish.promotion.endpoint_swap import Handover, Served, Status

ONE, TWO = Served("tiny", "1", "aaa"), Served("tiny", "2", "bbb")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, reference_data=tmp_path)


@pytest.fixture
def me() -> Status:
    process = psutil.Process(os.getpid())
    return Status(process.pid, process.create_time(), serving=ONE)


def answering(settings: Settings, me: Status, error: str | None = None) -> threading.Thread:
    """A keeper that answers one request."""
    keeper = Handover(settings)
    keeper.tell(me)

    def run() -> None:
        while (wanted := keeper.wanted()) is None:
            time.sleep(0.01)
        keeper.tell(replace(me, token=wanted.token, error=error, prepared=wanted.served))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_an_endpoint_of_another_model_is_left_alone(settings: Settings, me: Status) -> None:
    assert (me.takes("tiny"), me.takes("other")) == (True, False)
    idle = replace(me, serving=None)
    assert idle.takes("tiny")
    told = replace(idle, only="other")
    assert (told.takes("tiny"), told.takes("other")) == (False, True)
    Handover(settings).tell(told)
    assert Handover(settings).status() == told


def test_without_a_keeper_nothing_is_asked(settings: Settings, me: Status) -> None:
    handover = Handover(settings)
    assert not handover.running()
    assert handover.wanted() is None
    handover.switch(TWO, 1)
    handover.drop(TWO)
    with pytest.raises(MillError, match="no endpoint is running"):
        handover.prepare(TWO, 1)
    assert not (handover.folder / "wanted.json").exists()


def test_the_dead_and_whoever_has_their_number_are_no_keepers(
    settings: Settings, me: Status
) -> None:
    handover = Handover(settings)
    handover.tell(replace(me, create_time=me.create_time - 60))
    assert not handover.running()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(ended.pid).create_time()
    deadline = time.monotonic() + 30
    while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    handover.tell(Status(ended.pid, started))
    assert not handover.running()
    ended.wait()
    handover.tell(me)
    assert handover.running()


def test_a_request_is_answered_by_its_token(settings: Settings, me: Status) -> None:
    keeper = answering(settings, me)
    Handover(settings).prepare(TWO, 10)
    keeper.join()
    status = Handover(settings).status()
    assert status is not None
    assert status.prepared == TWO
    Handover(settings).prepare(TWO, 0.01)  # there already: nothing is asked
    Handover(settings).switch(ONE, 0.01)


def test_a_refusal_is_told_in_a_line(settings: Settings, me: Status) -> None:
    keeper = answering(settings, me, "out of memory")
    with pytest.raises(MillError, match=r"did not switch tiny version 2: out of memory"):
        Handover(settings).switch(TWO, 10)
    keeper.join()


def test_a_later_keeper_does_not_follow_an_earlier_ones_request(
    settings: Settings, me: Status
) -> None:
    keeper = answering(settings, me)
    Handover(settings).prepare(TWO, 10)
    keeper.join()
    later = Handover(settings)
    assert later.wanted() is None, "before it has told who it is"
    later.tell(replace(me, pid=me.pid + 1))
    assert later.wanted() is None
    later.tell(me)
    wanted = later.wanted()
    assert wanted is not None
    assert (wanted.phase, wanted.served) == ("prepare", TWO)


def test_no_folder_outside_is_served(settings: Settings, me: Status) -> None:
    for name in ("../../etc", "", ".hidden", "a/b"):
        with pytest.raises(DataError, match="no name of a Bento's folder"):
            Served("tiny", "1", name)
    keeper = answering(settings, me)
    Handover(settings).prepare(TWO, 10)
    keeper.join()
    path = settings.home / "endpoint" / "wanted.json"
    path.write_bytes(path.read_bytes().replace(b'"bbb"', b'"../b"'))
    last = Handover(settings)
    last.tell(me)
    with pytest.raises(DataError, match="no name of a Bento's folder"):
        last.wanted()


def test_damaged_files_are_one_line(settings: Settings, me: Status) -> None:
    handover = Handover(settings)
    handover.tell(me)
    (handover.folder / "wanted.json").write_text('{"phase": "explode"}')
    with pytest.raises(DataError, match=r"wanted\.json: no request"):
        handover.wanted()
    (handover.folder / "keeper.json").write_text("{")
    with pytest.raises(DataError, match=r"keeper\.json: cannot be read"):
        handover.running()
