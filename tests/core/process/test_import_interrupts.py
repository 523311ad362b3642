"""Interrupts of a library's caller: behind an import that they meet, else at once."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from components.core.process.import_interrupts import deliver_between_imports

HALFWAY = """
import signal
from {name} import part
signal.raise_signal(signal.SIGINT)
whole = True
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Package that is interrupted in the midst of its import, its part imported already."""
    name = "interrupted_package"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(HALFWAY.format(name=name))
    (tmp_path / name / "part.py").write_text("import sys\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module in (name, f"{name}.part"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return name


def test_an_import_is_whole_before_the_interrupt_comes(package: str) -> None:
    reached: list[str] = []

    def work() -> None:
        reached.append(importlib.import_module(package).__name__)
        for _ in range(1000):
            time.sleep(0.01)
        reached.append("never")

    former = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        deliver_between_imports(work)
    assert reached == [package]
    assert sys.modules[package].whole
    assert signal.getsignal(signal.SIGINT) is former


def test_one_that_ends_with_its_import_is_interrupted_all_the_same(package: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        deliver_between_imports(lambda: importlib.import_module(package))
    assert sys.modules[package].whole
    time.sleep(0.1)  # nor does a second interrupt come later


def test_elsewhere_it_comes_at_once() -> None:
    reached: list[str] = []

    def work() -> None:
        reached.append("begun")
        signal.raise_signal(signal.SIGINT)
        reached.append("never")

    with pytest.raises(KeyboardInterrupt):
        deliver_between_imports(work)
    assert reached == ["begun"]


def test_an_import_around_the_call_holds_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imported_script.py").write_text(
        "import signal\n"
        "from components.core.process.import_interrupts import deliver_between_imports\n"
        "reached = []\n"
        "def work():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    reached.append('never')\n"
        "try:\n    deliver_between_imports(work)\n"
        "except KeyboardInterrupt:\n    reached.append('stopped')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("imported_script").reached == ["stopped"]


def test_the_programs_own_handler_is_called_and_kept(package: str) -> None:
    calls: list[int] = []

    def own(sign: int, frame: object) -> None:
        calls.append(sign)

    former = signal.signal(signal.SIGINT, own)
    try:
        assert deliver_between_imports(lambda: importlib.import_module(package)).whole
        assert signal.getsignal(signal.SIGINT) is own
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert deliver_between_imports(lambda: signal.getsignal(signal.SIGINT)) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)
    assert calls == [signal.SIGINT]


def test_another_thread_changes_no_handler() -> None:
    seen: list[object] = []
    former = signal.getsignal(signal.SIGINT)

    def work() -> None:
        deliver_between_imports(lambda: seen.append(signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [former]
