"""The commands that ``doctor`` names can be typed as they stand, wherever the workspace lies."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest

from components.core.progress import Progress
from components.publish.bento_folders import write_file_list
from components.publish.registry.model_registry import BUNDLE_TAG, CHAMPION, RegisteredVersion
from flows.operations.doctor import registry_checks, store_checks
from flows.operations.doctor.finding import Finding
from serving.bento.bento_sources import ROOT
from tests.workspace import Hand


def test_a_mend_is_quoted_for_the_shell(tmp_path: Path) -> None:
    hand = Hand(tmp_path / "a b" / "home (1)")
    folder = hand.store / hand.seal("words").name
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    (folder / "content.txt").unlink()
    [finding] = [f for f in store_checks.check_store(hand.settings) if f.state == "broken"]
    assert shlex.split(finding.fix)[-1] == str(folder)


def test_a_bento_that_lacks_a_file_or_holds_another(tmp_path: Path) -> None:
    hand = Hand(tmp_path / "home")
    bento = hand.bento("abc", "b" * 64)
    tokenizer = bento / "src" / "bundle" / "onnx" / "tokenizer.json"
    tokenizer.parent.mkdir(parents=True)
    tokenizer.write_text("{}")
    write_file_list(bento / "src")
    assert not told(registry_checks.check_bentos(hand.settings))
    tokenizer.write_text("[]")
    assert not told(registry_checks.check_bentos(hand.settings))
    [finding] = told(store_checks.check_contents(hand.settings, Progress()))
    assert "bundle/onnx/tokenizer.json has another content" in finding.what
    for content, says in [(None, "tokenizer.json is gone"), ("{", "has 1 bytes in place of 2")]:
        tokenizer.unlink()
        if content is not None:
            tokenizer.write_text(content)
        [finding] = told(registry_checks.check_bentos(hand.settings))
        assert says in finding.what
        assert finding.fix == f"rm -r {bento}"
        assert not told(store_checks.check_contents(hand.settings, Progress()))
        tokenizer.write_text("{}")


def test_a_champion_that_answers_by_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = Hand(tmp_path / "home")
    champion = RegisteredVersion("nano", 1, "models:/m-1", {BUNDLE_TAG: "b" * 64}, (CHAMPION,))
    monkeypatch.setattr(registry_checks, "list_versions", lambda _: [champion])
    packed = hand.bento("abc", "b" * 64) / "src" / "serving" / "engine" / "sampling.py"
    packed.parent.mkdir(parents=True)
    own = ROOT / "serving" / "engine" / "sampling.py"
    packed.write_bytes(own.read_bytes())
    assert not list(registry_checks.find_outdated_bentos(hand.settings))
    packed.write_text("OLDER = 1")
    [finding] = registry_checks.find_outdated_bentos(hand.settings)
    assert finding in told(registry_checks.check_bentos(hand.settings))
    assert "modelmill:abc of nano version 1 was packed with other code" in finding.what
    assert finding.fix == "modelmill run tiny --until package"


def told(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.state in ("warning", "broken")]
