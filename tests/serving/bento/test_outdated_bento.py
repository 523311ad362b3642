"""A Bento that answers by other code than the checkout's is told from one that is current."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from serving import serve_model
from serving.bento.bento_sources import ROOT, list_outdated_sources

SAMPLING, BATCH = "serving/engine/sampling.py", "components/export/onnx/ragged_runtime.py"


@pytest.fixture
def bento(tmp_path: Path) -> Path:
    for name in (SAMPLING, BATCH):
        target = tmp_path / "abc" / "src" / name
        target.parent.mkdir(parents=True)
        shutil.copyfile(ROOT / name, target)
    return tmp_path / "abc"


def test_a_current_bento_is_served_without_a_word(
    bento: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = bento / "src" / SAMPLING
    packed.write_text(packed.read_text() + "\n# a remark\n")
    serve_model._name_outdated_code(bento)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("more", ["\nMORE = 1\n", "\nof another Python (\n"])
def test_other_code_is_named_with_the_way_to_pack_again(
    bento: Path, more: str, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = bento / "src" / SAMPLING
    packed.write_text(packed.read_text() + more)
    (bento / "src" / "serving" / "removed.py").write_text("")
    assert list_outdated_sources(bento / "src") == [SAMPLING, "serving/removed.py"]
    serve_model._name_outdated_code(bento)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("its Bento abc answers by the code it was packed with")
    assert f"(2 files, {SAMPLING} first)" in line
    assert "--until package" in line
