"""MLflow's tables are known to one module."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TABLES = re.compile(
    r"\b(FROM|INTO|UPDATE|JOIN) (model_versions|registered_model|logged_model|model_version_tags"
    r"|runs|tags|experiments)|_hard_delete_|SqlAlchemyStore|mlflow\.db"
)


def test_no_other_module_opens_them() -> None:
    knowing = {
        path.relative_to(ROOT).as_posix()
        for top in ("components", "flows", "serving")
        for path in (ROOT / top).rglob("*.py")
        if TABLES.search(path.read_text(encoding="utf-8"))
    }
    # The database's address for MLflow's own client; a file that an old workspace is known by.
    addresses = {"components/core/settings.py", "components/core/workspace_layout.py"}
    assert knowing - addresses == {"components/publish/registry/mlflow_tables.py"}
