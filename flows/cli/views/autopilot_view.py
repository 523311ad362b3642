"""View of ``autopilot``: fields that the autopilot would choose for a run, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from components.core.errors import ConfigError, DataError
from components.core.settings import Settings
from components.core.store.artifact import Tokens
from components.core.store.store import Store
from components.text.token_arrays import open_split
from components.train.autopilot.apply_choices import fixed_fields, planning_budget
from components.train.autopilot.compute_optimal import (
    AutopilotChoices,
    CorpusSize,
    choose_fields,
    format_value,
)
from components.train.autopilot.throughput_probe import probe_machine
from flows.configs.target_config import read_target
from flows.runner.progress_display import rows_table

COLUMNS = ("field", "value", "reason")


@dataclass(frozen=True)
class AutopilotAdvice:
    """Recommended fields for a run, with the measurements behind them."""

    corpus: CorpusSize
    rates: Sequence[tuple[int, float]]
    choices: AutopilotChoices

    def as_json(self) -> dict[str, Any]:
        choices = [
            {"field": choice.field, "value": format_value(choice.value), "reason": choice.reason}
            for choice in self.choices.made
        ]
        rates = [{"parameters": size, "tokens_per_second": rate} for size, rate in self.rates]
        return {
            "tokens": self.corpus.tokens,
            "epochs": self.choices.epochs,
            "probe": rates,
            "choices": choices,
        }

    def show(self, console: Console) -> None:
        rows = [
            (choice.field, format_value(choice.value), choice.reason)
            for choice in self.choices.made
        ]
        console.print(rows_table(COLUMNS, rows))
        probed = ", ".join(f"{size / 1e6:.1f} M {rate:,.0f}/s" for size, rate in self.rates)
        console.print(f"measured here: {probed}; {self.choices.epochs:.2f} epochs", highlight=False)


def recommend_fields(
    settings: Settings, target: str, sets: Sequence[str], tokens: int | None, seconds: float
) -> AutopilotAdvice:
    """Measure this machine and choose the fields that the run's config leaves open.

    Args:
        settings: workspace whose last tokens are counted.
        target: preset or YAML file.
        sets: ``FIELD=VALUE`` assignments over it.
        tokens: number of distinct tokens; None: of the newest `tokens` artifact.
        seconds: length of the throughput probe.

    Raises:
        ConfigError: the target or its budget is invalid, or there are no tokens to count.
    """
    run = read_target(target, sets, settings)
    config = run.pretrain
    over: dict[str, Any] = {} if config.autopilot else {"autopilot": True}
    if config.minutes is None and config.flops is None and config.counted_steps is not None:
        # The compute of the configured steps and shape becomes the budget to spend best.
        spent = config.counted_steps * config.step_operations
        over |= {"flops": spent, "steps": None, "tokens": None}
    planned = config.model_copy(update=over)
    budget = planning_budget(planned)
    corpus = CorpusSize(
        tokens or count_packed_tokens(settings), config.shape.vocabulary, config.sequence_length
    )
    probe = probe_machine(corpus, config.precision, seconds)
    return AutopilotAdvice(
        corpus, probe.rates, choose_fields(corpus, budget, probe, fixed_fields(planned))
    )


def count_packed_tokens(settings: Settings) -> int:
    """Count the training tokens of the newest artifact that holds any."""
    store = Store(settings.store)
    manifests = store.sealed_manifests() if settings.store.is_dir() else []
    for manifest in reversed(manifests):
        if manifest["format"] == Tokens.format:
            artifact = Tokens.model_validate(manifest["artifact"])
            tokens = artifact.stats.get("train_tokens") or _count_folder_tokens(
                store.root / artifact.name
            )
            if tokens:
                return int(tokens)
    raise ConfigError(
        "autopilot: the workspace holds no tokens: pass --tokens N, or run it --until tokens"
    )


def _count_folder_tokens(folder: Path) -> int:
    """Count the training tokens of a folder of the user's; 0 if it holds no readable tokens."""
    try:
        return len(open_split(folder, "train").tokens)
    except DataError:
        return 0
