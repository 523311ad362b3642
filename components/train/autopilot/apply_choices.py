"""Autopilot of a training: its choices in the config, journalled before the first step.

    pretrain: {autopilot: true, minutes: 60}
    pretrain: {autopilot: [batch, muon_lr], minutes: 60}

``true`` lets it choose every field that stands at its default: values of a preset or a user stay. A
list names the fields that it may choose, whatever they are set to. A training that is called again
takes the choices from its journal, so it continues as it began.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import ConfigError, DataError
from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.store.artifact import canonical_json
from components.core.store.workdir import Workdir
from components.text.token_arrays import open_split
from components.train.autopilot.compute_optimal import (
    AutopilotChoices,
    ChoiceValue,
    CorpusSize,
    PlanningBudget,
    choose_fields,
)
from models.shape import DecoderShape

if TYPE_CHECKING:
    from components.train.pretrain_config import PretrainConfig

log = get_logger(__name__)
AUTOPILOT_FILE = "autopilot.json"
PROBE_SHARE = 0.05
"""Share of a time budget that the probe may take."""
RATES = ("muon_lr", "adam_lr", "embedding_lr")


def apply_autopilot(
    config: PretrainConfig, corpora: Iterable[Path], work: Workdir
) -> PretrainConfig:
    """Config with the autopilot's choices in it, from the journal or from a probe made now.

    Args:
        config: returned as it is where its autopilot is off.
        corpora: folders of the tokens to train on, all of one vocabulary.
        work: its scratch folder holds the journal.

    Raises:
        ConfigError: its budget is neither minutes nor operations, or nothing fits.
        DataError: the tokens cannot be read, or the journal is damaged.
    """
    if not config.autopilot:
        return config
    journal = work.scratch / AUTOPILOT_FILE
    if not journal.is_file():
        splits = [open_split(folder, "train") for folder in corpora]
        tokens, vocabulary = sum(len(split.tokens) for split in splits), splits[0].vocabulary
        values, lines = _choose_and_apply(
            config, CorpusSize(tokens, vocabulary, config.sequence_length)
        )
        write_atomically(journal, canonical_json({"config": values, "choices": lines}))
    chosen_config, lines_read = _read_journal(journal)
    for line in lines_read:
        log.info("autopilot: %s", line)
    (work.volatile / AUTOPILOT_FILE).write_bytes(canonical_json(lines_read))
    return type(config).model_validate(chosen_config)


def _choose_and_apply(
    config: PretrainConfig, corpus: CorpusSize
) -> tuple[dict[str, Any], list[str]]:
    from components.train.autopilot.throughput_probe import PROBE_SECONDS, probe_machine

    budget, seconds = planning_budget(config), PROBE_SECONDS
    if budget.seconds is not None:
        seconds = min(PROBE_SECONDS, PROBE_SHARE * budget.seconds)
        budget = PlanningBudget(seconds=budget.seconds - seconds)
    probe = probe_machine(corpus, config.precision, seconds)
    choices = choose_fields(corpus, budget, probe, fixed_fields(config))
    return config_with_choices(config, choices, budget), choices.lines()


def planning_budget(config: PretrainConfig) -> PlanningBudget:
    """Budget that the autopilot plans for.

    Raises:
        ConfigError: the budget is one of steps or tokens.
    """
    if config.steps is None and config.flops is not None:
        return PlanningBudget(flops=config.flops)
    if config.steps is None and config.minutes is not None:
        return PlanningBudget(seconds=config.minutes * 60)
    raise ConfigError("pretrain.autopilot plans for pretrain.minutes or flops: set one of them")


def fixed_fields(config: PretrainConfig) -> dict[str, ChoiceValue]:
    """Fields that the autopilot may not choose, with their values."""
    default = type(config)()
    pairs: dict[str, tuple[ChoiceValue, ChoiceValue]] = {
        "shape": (config.shape, default.shape),
        "batch": (config.batch, default.batch),
        **{rate: (getattr(config.optim, rate), getattr(default.optim, rate)) for rate in RATES},
    }
    if config.autopilot is True:
        return {name: value for name, (value, usual) in pairs.items() if value != usual}
    left = config.autopilot or ()
    return {name: value for name, (value, _) in pairs.items() if name not in left}


def config_with_choices(
    config: PretrainConfig, choices: AutopilotChoices, budget: PlanningBudget
) -> dict[str, Any]:
    """Values of the config with the choices in them and the autopilot off.

    Args:
        config: before the choices.
        choices: choices of the autopilot.
        budget: without the seconds of the probe.
    """
    values = config.model_dump(mode="json")
    shape = choices["shape"]
    assert isinstance(shape, DecoderShape)
    values |= {"autopilot": False, "shape": asdict(shape), "batch": choices["batch"]}
    values["optim"] |= {rate: choices[rate] for rate in RATES}
    if choices.capped:
        steps = max(1, int(float(choices["tokens"])) // int(values["batch"]))  # type: ignore[arg-type]
        values |= {"steps": steps, "flops": None}
    elif budget.seconds is not None:
        values["minutes"] = budget.seconds / 60
    return values


def _read_journal(journal: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        content: Mapping[str, Any] = json.loads(journal.read_bytes())
        return dict(content["config"]), [str(line) for line in content["choices"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{AUTOPILOT_FILE} is damaged ({error}); delete it to choose anew"
        ) from error
