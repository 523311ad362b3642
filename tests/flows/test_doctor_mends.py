"""The commands that ``doctor`` names can be typed as they stand, wherever the workspace lies."""

from __future__ import annotations

import shlex
from pathlib import Path

from flows.doctor import storing
from tests.workspace import Hand


def test_a_mend_is_quoted_for_the_shell(tmp_path: Path) -> None:
    hand = Hand(tmp_path / "a b" / "home (1)")
    folder = hand.store / hand.seal("words").name
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    (folder / "content.txt").unlink()
    [finding] = [f for f in storing.check_store(hand.settings) if f.state == "broken"]
    assert shlex.split(finding.mend)[-1] == str(folder)
