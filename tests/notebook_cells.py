"""Cells of a notebook, executed as a kernel does: in one main module, inside a running event loop.

``python -m tests.notebook_cells FILE`` runs the cells and writes their outputs into the file.
"""

from __future__ import annotations

import ast
import asyncio
import io
import json
import linecache
import sys
import types
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


def execute_notebook(path: Path) -> dict[str, Any]:
    """The notebook with the outputs of its code cells; the first error ends it."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    main = types.ModuleType("__main__")  # without a file, as a kernel's
    sys.modules["__main__"] = main
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]

    async def kernel() -> None:
        for number, cell in enumerate(cells, 1):
            cell["execution_count"] = number
            cell["outputs"] = execute_cell("".join(cell["source"]), number, vars(main))

    asyncio.run(kernel())
    return notebook


def execute_cell(source: str, number: int, namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """Outputs of one cell: what it printed, and the value of its last expression."""
    name = f"<cell {number}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = ast.parse(source, name)
    value: Any = None
    printed = io.StringIO()
    with redirect_stdout(printed):
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if value is not None:
        outputs.append(
            {
                "output_type": "execute_result",
                "execution_count": number,
                "metadata": {},
                "data": {"text/plain": repr(value).splitlines(keepends=True)},
            }
        )
    return outputs


if __name__ == "__main__":
    file = Path(sys.argv[1])
    executed = execute_notebook(file)
    file.write_text(json.dumps(executed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
