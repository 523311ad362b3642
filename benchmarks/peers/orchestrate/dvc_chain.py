"""Chain on DVC: one stage of ``dvc.yaml`` for each step, run by ``dvc repro``."""

import os
import sys
from pathlib import Path

from dvc.repo import Repo

FOLDER, STEPS = Path(sys.argv[1]), int(sys.argv[2])


def write_stages() -> None:
    """Create a repository without git whose stages are one line of shell each."""
    FOLDER.mkdir(parents=True)
    Repo.init(str(FOLDER), no_scm=True).close()
    (FOLDER / "n0").write_text("0\n")
    lines = ["stages:"]
    for index in range(STEPS):
        source, target = f"n{index}", f"n{index + 1}"
        lines += [
            f"  {target}:",
            f"    cmd: echo $(($(cat {source}) + 1)) > {target}",
            f"    deps: [{source}]",
            f"    outs: [{target}]",
        ]
    (FOLDER / "dvc.yaml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if not FOLDER.exists():
        write_stages()
    os.chdir(FOLDER)  # the stages run in the working directory
    with Repo(".") as repo:
        repo.reproduce(all_pipelines=True)
    assert (FOLDER / f"n{STEPS}").read_text().strip() == str(STEPS)
