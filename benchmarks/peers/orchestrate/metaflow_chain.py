"""Chain on Metaflow: a process for each step; a second run resumes the finished one."""

import os
import subprocess
import sys
from pathlib import Path

import metaflow

FOLDER, STEPS = Path(sys.argv[1]), int(sys.argv[2])


def write_flow() -> str:
    """Source of the flow: steps are methods, so the chain has to be written out."""
    lines = [
        "from metaflow import FlowSpec, step",
        "class Chain(FlowSpec):",
        "    @step",
        "    def start(self):",
        "        self.number = 0",
        "        self.next(self.s1)",
    ]
    for index in range(1, STEPS + 1):
        following = f"s{index + 1}" if index < STEPS else "end"
        lines += [
            "    @step",
            f"    def s{index}(self):",
            "        self.number += 1",
            f"        self.next(self.{following})",
        ]
    lines += ["    @step", "    def end(self):", f"        assert self.number == {STEPS}"]
    return "\n".join([*lines, "if __name__ == '__main__':", "    Chain()", ""])


if __name__ == "__main__":
    cold = not FOLDER.exists()
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "chain.py").write_text(write_flow())
    assert metaflow.__version__
    environment = {
        **os.environ,
        "METAFLOW_HOME": str(FOLDER / "home"),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(FOLDER),
        "METAFLOW_DEFAULT_DATASTORE": "local",
        "METAFLOW_DEFAULT_METADATA": "local",
        "METAFLOW_USER": "bench",
    }
    command = [sys.executable, "chain.py", "--quiet", "--no-pylint", "run" if cold else "resume"]
    subprocess.run(command, cwd=FOLDER, env=environment, check=True)
