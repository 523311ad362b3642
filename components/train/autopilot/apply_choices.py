"""The autopilot in a training: what it may choose, what it chose, journalled before the first step.

    pretrain: {autopilot: true, minutes: 60}
    pretrain: {autopilot: [batch, muon_lr], minutes: 60}

``true`` leaves all to it that stands at its default: what a preset or a user set stays. A list
names what is left to it, whatever stands there. A training that is called again takes the choices
from its journal, so it goes on as it began.
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
from components.core.store.artifact import canonical
from components.core.store.workdir import Workdir
from components.text.token_arrays import open_split
from components.train.autopilot.compute_optimal import Budget, Choices, Corpus, Value, choose
from models.shape import DecoderShape

if TYPE_CHECKING:
    from components.train.pretrain_config import PretrainConfig

log = get_logger(__name__)
JOURNAL = "autopilot.json"
PROBE_SHARE = 0.05
"""Of a budget in minutes that the probe may take."""
RATES = ("muon_lr", "adam_lr", "embedding_lr")


def settle(config: PretrainConfig, corpora: Iterable[Path], work: Workdir) -> PretrainConfig:
    """The config with the autopilot's choices in it, from the journal or from a probe made now.

    Args:
        corpora: folders of the tokens to train on, all of one vocabulary.

    Raises:
        ConfigError: its budget is neither minutes nor operations, or nothing fits.
        DataError: the tokens cannot be read, or the journal is damaged.
    """
    if not config.autopilot:
        return config
    journal = work.scratch / JOURNAL
    if not journal.is_file():
        splits = [open_split(folder, "train") for folder in corpora]
        tokens, vocabulary = sum(len(one.tokens) for one in splits), splits[0].vocabulary
        made, lines = _settled(config, Corpus(tokens, vocabulary, config.positions))
        write_atomically(journal, canonical({"config": made, "choices": lines}))
    settled, told = _read(journal)
    for line in told:
        log.info("autopilot: %s", line)
    (work.volatile / JOURNAL).write_bytes(canonical(told))
    return type(config).model_validate(settled)


def _settled(config: PretrainConfig, corpus: Corpus) -> tuple[dict[str, Any], list[str]]:
    from components.train.autopilot.throughput_probe import SECONDS, probe_machine

    budget, seconds = budget_of(config), SECONDS
    if budget.seconds is not None:
        seconds = min(SECONDS, PROBE_SHARE * budget.seconds)
        budget = Budget(seconds=budget.seconds - seconds)
    probe = probe_machine(corpus, config.precision, seconds)
    choices = choose(corpus, budget, probe, fixed_fields(config))
    return applied(config, choices, budget), choices.lines()


def budget_of(config: PretrainConfig) -> Budget:
    """The budget that the autopilot plans for.

    Raises:
        ConfigError: it is one of steps or tokens.
    """
    if config.steps is None and config.flops is not None:
        return Budget(flops=config.flops)
    if config.steps is None and config.minutes is not None:
        return Budget(seconds=config.minutes * 60)
    raise ConfigError("pretrain.autopilot plans for pretrain.minutes or flops: set one of them")


def fixed_fields(config: PretrainConfig) -> dict[str, Value]:
    """What the autopilot may not choose, with its value."""
    default = type(config)()
    pairs: dict[str, tuple[Value, Value]] = {
        "shape": (config.shape, default.shape),
        "batch": (config.batch, default.batch),
        **{rate: (getattr(config.optim, rate), getattr(default.optim, rate)) for rate in RATES},
    }
    if config.autopilot is True:
        return {name: value for name, (value, usual) in pairs.items() if value != usual}
    left = config.autopilot or ()
    return {name: value for name, (value, _) in pairs.items() if name not in left}


def applied(config: PretrainConfig, choices: Choices, budget: Budget) -> dict[str, Any]:
    """The config's values with the choices in them; its autopilot is off."""
    given = config.model_dump(mode="json")
    shape = choices["shape"]
    assert isinstance(shape, DecoderShape)
    given |= {"autopilot": False, "shape": asdict(shape), "batch": choices["batch"]}
    given["optim"] |= {rate: choices[rate] for rate in RATES}
    if choices.capped:
        steps = max(1, int(float(choices["tokens"])) // int(given["batch"]))  # type: ignore[arg-type]
        given |= {"steps": steps, "flops": None}
    elif budget.seconds is not None:
        given["minutes"] = budget.seconds / 60
    return given


def _read(journal: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        kept: Mapping[str, Any] = json.loads(journal.read_bytes())
        return dict(kept["config"]), [str(line) for line in kept["choices"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{JOURNAL} is damaged ({error}); delete it to choose anew") from error
