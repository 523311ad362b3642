"""The fine-tuning pipeline on a small random-weight base and own conversations, for tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from components.core.action import Workspace
from components.core.settings import Settings
from components.core.store.artifact import Artifact
from components.core.store.store import Store
from flows.configs.target_config import read_target
from flows.pipelines.choose_pipeline import call_pipeline
from flows.runner.run_pipeline import make_source_resolver
from flows.runner.runner import ResultCollector, StageReached, StoreRunner
from tests.base_models import write_base

WORDS = [
    "mill",
    "wheel",
    "river",
    "stone",
    "grain",
    "flour",
    "baker",
    "bread",
    "oven",
    "fire",
    "water",
    "wind",
    "sail",
    "gear",
    "axle",
    "rope",
]
# Small numbers throughout: the base has 98,000 parameters, and nothing is learnt to be good at.
QUICK = (
    "sft={steps: 100, batch: 1024, longest: 400, precision: float32}",
    "sft.optim.adam_lr=0.012",
    "preferences={questions: 8, heldout_questions: 4, answers: 2, max_new: 8}",
    "ppo={iterations: 1, answers: 8, samples: 2, kept_samples: 2, batch: 8, judged: 0, max_new: 8}",
    "keep_best={max_new: 8, draws: 1}",
    "compare={max_new: 8, draws: 1, kl_answers: 4}",
    "safety={questions: 4, probe_samples: 1, max_new: 8}",
    "loss={window: 64, stride: 48}",
    "engine.capabilities=[SM80]",
    "promote.gates=[]",
    "promote.compare=[]",
)


def write_chats(path: Path, count: int = 56) -> Path:
    """Write conversations of one to three answers; no two are alike."""
    rows = []
    for number in range(count):
        one, two, three = (WORDS[(number * step + 3) % len(WORDS)] for step in (1, 7, 3))
        turns = [{"role": "system", "content": "Be brief."}] if number % 3 == 0 else []
        for turn in range(1 + number % 3):
            asked = f"What does the {one} number {number}{turn} do with the {two}?"
            answer = f"The {one} turns the {two} and then the {three}, {number} times."
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        rows.append({"messages": turns})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@dataclass(frozen=True)
class Finetuned:
    """Outcome of a run until a step."""

    settings: Settings
    base: Path
    steps: dict[str, Artifact]

    def folder(self, stage: str) -> Path:
        """Folder of a stage's artifact."""
        return self.settings.store / self.steps[stage].name

    def stats(self, stage: str) -> dict[str, float]:
        return self.steps[stage].stats


def run_finetune(root: Path, kind: str, until: str, *sets: str) -> Finetuned:
    """Run the preset ``finetune`` without Prefect.

    Args:
        root: gets the base, the conversations and the workspace.
        kind: of the base: ``qwen3`` or ``llama``.
        until: name of the last step.
        sets: assignments over those that make it quick.
    """
    base, chats = root / kind, root / "chats.jsonl"
    if not base.exists():
        write_base(base, kind, dtype="bfloat16")
        write_chats(chats)
    settings = Settings(home=root / "home", reference_data=root)
    given = (f"base={base}", f"instructions.files=[{chats}]", *QUICK, *sets)
    run = read_target("finetune", given, settings)
    collector = ResultCollector()
    runner = StoreRunner(
        Store(settings.store), Workspace(settings), listener=collector, until=until
    )
    try:
        call_pipeline(run, runner, make_source_resolver())
    except StageReached:
        return Finetuned(settings, base, {r.name: r.artifact for r in collector.results})
    raise AssertionError(f"{until} was not reached")
