"""What a training shows: its line, and figures and samples for whoever follows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.artifact import Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.core.tracking import Tracker
from components.core.training_speed import TrainingSpeed
from components.publish.registry.mlflow_client import connect_mlflow
from components.publish.registry.training_runs import (
    STAGE_TAG,
    TRAININGS,
    FaultTolerantTracker,
    open_training_tracker,
)
from components.text.decoder_files import load_model, same_weights
from components.train.pretrain import pretrain
from components.train.trainer import training_monitor
from components.train.trainer.training_loop import LEAST_TIMED_STEPS
from tests.memory_tracker import MemoryTracker
from tests.train.conftest import sealed_tokens
from tests.train.test_pretrain import losses, nano


def followed(work: Workdir) -> MemoryTracker:
    tracker = MemoryTracker()
    work.progress.open_tracker = lambda: tracker
    return tracker


def test_figures_and_samples_change_nothing_in_the_training(
    tokens: Tokens, tokenizer: Tokenizer, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_monitor, "RATE_SECONDS", 0.0)
    silent = pretrain(nano(steps=9), tokens, Workdir.temporary(store))
    work = Workdir.temporary(store)
    tracker = followed(work)
    notes: list[str] = []
    work.progress.listener = lambda progress: notes.append(progress.note)
    made = pretrain(nano(steps=9), tokens, work, tokenizer=tokenizer)
    assert same_weights(store / made.name, store / silent.name)
    found = losses(store / made.name)
    assert tracker.metrics["loss"] == list(enumerate(found))
    assert len(tracker.metrics["gradient_norm"]) == 9
    assert tracker.metrics["learning_rate"][0][1] == pytest.approx(0.01)  # half of 0.02, warming up
    bits = [value for _, value in tracker.metrics["bits_per_byte"]]
    assert bits[3] / found[3] == pytest.approx(bits[5] / found[5])
    assert 0 < tracker.metrics["utilisation"][-1][1] < 1
    assert tracker.metrics["memory_mb"][-1][1] > 50
    assert len(tracker.texts) == training_monitor.SAMPLE_TIMES
    assert all("[1]\n" in text and "[3]\n" in text for text in tracker.texts.values())
    assert tracker.ended == "FINISHED"
    line = r"loss \d\.\d+ · \d\.\d+ bits/byte · [\d,]+ tokens/s · MFU \d+ % · \d+\.\d GB"
    assert re.fullmatch(line, notes[-1]), notes[-1]


def test_samples_are_of_the_weights_alone(
    tokens: Tokens, tokenizer: Tokenizer, store: Path
) -> None:
    from components.text.chat.chat_tokenizer import open_tokenizer
    from components.train.trainer.text_samples import TextSampler

    made = pretrain(nano(steps=2), tokens, Workdir.temporary(store))
    model = load_model(store / made.name)
    sampler = TextSampler(model, open_tokenizer(store / tokenizer.name), 0)
    state = torch.get_rng_state()
    first = sampler()
    torch.rand(3)
    assert sampler() == first
    torch.set_rng_state(state)
    sampler()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_tokenizer_that_the_tokens_are_not_of_is_refused(
    tokenizer: Tokenizer, store: Path
) -> None:
    import dataclasses

    from tests.train.conftest import NANO

    other = sealed_tokens(store, 60, vocabulary=300)
    shape = dataclasses.replace(NANO, vocabulary=300)
    with pytest.raises(ConfigError, match=r"of 300, .*of 261, .* different tokenizers"):
        pretrain(nano(shape=shape), other, Workdir.temporary(store), tokenizer=tokenizer)


def test_a_failed_training_ends_as_failed(tokens: Tokens, store: Path) -> None:
    work = Workdir.temporary(store)
    tracker = followed(work)

    def fail(*given: object) -> None:
        raise KeyboardInterrupt

    work.progress.listener = fail
    with pytest.raises(KeyboardInterrupt):
        pretrain(nano(steps=2), tokens, work)
    assert tracker.ended == "FAILED"


def test_a_tracker_that_fails_ends_the_record_and_not_the_training(
    tokens: Tokens, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(MemoryTracker):
        def log_metric(self, name: str, value: float, step: int = 0) -> None:
            raise OSError("no space left")

    def never() -> Tracker:
        raise ConnectionError("no database")

    for opened in (Full, never):
        work = Workdir.temporary(store)
        work.progress.open_tracker = lambda opened=opened: FaultTolerantTracker(opened)  # type: ignore[misc]
        assert pretrain(nano(steps=2), tokens, work).stats["steps"] == 2


@pytest.mark.slow
def test_a_training_lies_in_mlflow_and_a_later_try_goes_on_there(
    tokens: Tokens, tokenizer: Tokenizer, store: Path, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home", reference_data=tmp_path)
    for _ in range(2):
        work = Workdir.temporary(store)
        work.progress.open_tracker = lambda: open_training_tracker(settings, "pretrain", "ab" * 32)
        pretrain(nano(steps=9), tokens, work, tokenizer=tokenizer)
    client = connect_mlflow(settings)
    place = client.get_experiment_by_name(TRAININGS).experiment_id
    runs = client.search_runs([place])
    assert len(runs) == 1
    assert runs[0].data.tags[STAGE_TAG] == "ab" * 32
    assert runs[0].info.status == "FINISHED"
    history = client.get_metric_history(runs[0].info.run_id, "loss")
    assert sorted(point.step for point in history) == sorted([*range(9)] * 2)
    assert (
        len(client.list_artifacts(runs[0].info.run_id, "samples")) == training_monitor.SAMPLE_TIMES
    )


def test_a_training_tells_how_quick_it_was(tokens: Tokens, store: Path) -> None:
    told: list[TrainingSpeed] = []

    def trained(steps: int) -> None:
        work = Workdir.temporary(store)
        work.progress.on_training_speed = told.append
        pretrain(nano(steps=steps), tokens, work)

    trained(LEAST_TIMED_STEPS - 1)
    assert told == []  # the first steps allocate
    trained(LEAST_TIMED_STEPS)
    (speed,) = told
    assert (speed.parameters, speed.source) == (nano().shape.parameters, "pretrain")
    assert 1e3 < speed.operations_per_second < 1e13
    assert (speed.device, speed.precision) == (nano().device, nano().precision)
