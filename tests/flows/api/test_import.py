"""Import of the public API: quick, quiet, and with every name that it announces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import modelmill
from tests.flows.conftest import ROOT

HEAVY = {"torch", "mlflow", "prefect", "pandas", "pyarrow", "bentoml", "onnx", "rich", "flows"}


def test_the_import_loads_nothing_heavy_and_leaves_the_environment_alone() -> None:
    program = (
        "import os, sys; before = dict(os.environ); import modelmill; "
        "assert dict(os.environ) == before; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("name", modelmill.__all__)
def test_every_announced_name_is_there(name: str) -> None:
    value = getattr(modelmill, name)
    assert value.__name__ == name
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train_all'"):
        modelmill.train_all  # noqa: B018


@pytest.mark.parametrize("name", ["run", "plan", "stage", "artifact", "load", "chat"])
def test_every_function_documents_arguments_result_errors_and_an_example(name: str) -> None:
    text = getattr(modelmill, name).__doc__
    assert all(part in text for part in ("Args:", "Returns:", "Raises:", "Example:", ">>> "))


INTERRUPTED = """
import signal, sys, modelmill

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "flows.api.stored_artifact" and self in sys.meta_path:
            sys.meta_path.remove(self)
            sys.modules["components.core.store.store"] = None  # undone by an interrupted import
            signal.raise_signal(signal.SIGINT)
            del sys.modules["components.core.store.store"]

sys.meta_path.insert(0, Interrupt())
for _ in range(2):
    try:
        modelmill.artifact("0" * 12, home=sys.argv[1])
    except BaseException as error:
        print(type(error).__name__)
"""


def test_an_interrupt_within_an_import_leaves_the_same_call_possible(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "home")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["KeyboardInterrupt", "ConfigError"], done.stderr
