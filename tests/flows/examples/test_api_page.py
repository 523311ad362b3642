"""Code blocks of docs/api.md, run in their order on a finished workspace."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.flows.conftest import ROOT, CommandLine
from tests.flows.forked import run_forked

PAGE = ROOT / "docs" / "api.md"
PROGRAM = """
import json, sys, types
from tests.notebook_cells import execute_cell
main = sys.modules["__main__"] = types.ModuleType("__main__")
blocks = json.loads({blocks!r})
outputs = [execute_cell(block, n, vars(main)) for n, block in enumerate(blocks)]
sys.stdout.write(json.dumps(outputs))
"""


def test_every_code_block_runs_and_says_what_it_tells(
    nano: tuple[CommandLine, dict[str, Any]],
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 6
    program = PROGRAM.format(blocks=json.dumps(blocks))
    done = run_forked([], ROOT, nano[0].environment(), timeout=200, program=program)
    assert done.returncode == 0, done.stderr
    run, _, plan, model, stage, wrong = json.loads(done.stdout)
    assert "next: modelmill serve" in "".join(run[0]["text"])
    assert run[1]["data"]["text/plain"] == ["'Cached'"]
    assert "would run" in "".join(plan[0]["text"])
    assert "'bundle'" in "".join(model[-1]["data"]["text/plain"])
    assert stage[0]["data"]["text/plain"] == ["True"]
    said = re.search(r"print\(error\) +# (.*)", blocks[-1])
    assert said is not None
    assert "".join(wrong[0]["text"]).strip() == said[1]
