"""The autopilot's rules: published values, monotone choices, reasons, overrides, a journal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.core.errors import ConfigError, DataError
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.text.decoder_files import load_model
from components.text.token_arrays import save_split
from components.train.autopilot import throughput_probe
from components.train.autopilot.apply_choices import AUTOPILOT_FILE, apply_autopilot
from components.train.autopilot.compute_optimal import (
    MOST_EPOCHS,
    REPEAT_DECAY_EPOCHS,
    CorpusSize,
    MeasuredMachine,
    PlanningBudget,
    candidate_shapes,
    choose_fields,
    effective_tokens,
)
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from models.shape import DecoderShape

CORPUS = CorpusSize(tokens=2_000_000, vocabulary=4096)
PROBE = MeasuredMachine(((500_000, 60_000.0), (1_500_000, 25_000.0), (6_000_000, 7_000.0)), 8e9)
HOUR = PlanningBudget(seconds=3600.0)


def shape_of(
    corpus: CorpusSize, budget: PlanningBudget, probe: MeasuredMachine = PROBE
) -> DecoderShape:
    shape = choose_fields(corpus, budget, probe)["shape"]
    assert isinstance(shape, DecoderShape)
    return shape


def test_a_repeated_token_is_worth_what_was_published() -> None:
    assert effective_tokens(50.0, 100) == 50.0
    assert effective_tokens(100.0 * (1 + REPEAT_DECAY_EPOCHS), 100) == pytest.approx(
        100 * (1 + REPEAT_DECAY_EPOCHS * (1 - 0.3678794)), rel=1e-6
    )
    assert effective_tokens(1e9, 100) == pytest.approx(100 * (1 + REPEAT_DECAY_EPOCHS))


def test_a_rate_that_was_capped_says_so() -> None:
    def reason(corpus: CorpusSize, budget: PlanningBudget) -> str:
        made = choose_fields(corpus, budget, PROBE).made
        return next(one.reason for one in made if one.field == "adam_lr")

    assert reason(CORPUS, PlanningBudget(flops=1e12)).endswith(
        "capped at 0.006: the rule says 0.0099"
    )
    assert "capped" not in reason(CorpusSize(10**10, 4096), PlanningBudget(flops=1e17))


def test_more_time_gives_a_larger_model_and_a_larger_batch() -> None:
    budgets = [PlanningBudget(seconds=60.0 * minutes) for minutes in (1, 10, 100, 1000)]
    plenty = CorpusSize(tokens=10**9, vocabulary=4096)
    made = [choose_fields(plenty, budget, PROBE) for budget in budgets]
    sizes = [made_["shape"].parameters for made_ in made]  # type: ignore[union-attr]
    batches = [made_["batch"] for made_ in made]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    assert batches == sorted(batches)  # type: ignore[type-var]
    assert batches[0] < batches[-1]  # type: ignore[operator]


def test_minutes_on_a_processor_follow_what_was_measured_there() -> None:
    """After 4 minutes 3.2 M parameters were ahead of 1.3 M and 5.8 M; after one, 1.3 M were."""
    rates = ((422_720, 58e3), (1_312_384, 26e3), (3_185_344, 14.5e3), (9_500_000, 5.6e3))
    corpus, probe = CorpusSize(tokens=2_312_015, vocabulary=4096), MeasuredMachine(rates, 8e9)
    sizes = [
        shape_of(corpus, PlanningBudget(seconds=60.0 * n), probe).parameters for n in (1, 4, 15)
    ]
    assert [round(size / 1e6, 1) for size in sizes] == [1.3, 3.2, 5.8]


def test_large_budgets_follow_chinchilla() -> None:
    corpus = CorpusSize(tokens=10**12, vocabulary=32_768, context=2048)
    chosen = choose_fields(corpus, PlanningBudget(flops=1e20), MeasuredMachine(PROBE.rates, 1e12))
    shape, tokens = chosen["shape"], chosen["tokens"]
    assert isinstance(shape, DecoderShape)
    assert isinstance(tokens, int)
    assert 10 < tokens / shape.parameters < 45


def test_a_spent_corpus_caps_the_epochs_and_says_so() -> None:
    little = CorpusSize(tokens=50_000, vocabulary=4096)
    chosen = choose_fields(little, HOUR, PROBE)
    assert chosen.capped
    assert chosen.epochs == pytest.approx(MOST_EPOCHS)
    assert any("give more pages" in line for line in chosen.lines())
    assert not choose_fields(CorpusSize(10**9, 4096), HOUR, PROBE).capped


def test_memory_bounds_the_shape() -> None:
    plenty = CorpusSize(tokens=10**12, vocabulary=4096)
    roomy = shape_of(plenty, PlanningBudget(flops=1e21), MeasuredMachine(PROBE.rates, 1e12))
    tight = shape_of(plenty, PlanningBudget(flops=1e21), MeasuredMachine(PROBE.rates, 1e9))
    assert tight.parameters * 20 < 1e9 < roomy.parameters * 20
    with pytest.raises(ConfigError, match="fit no shape"):
        choose_fields(plenty, HOUR, MeasuredMachine(PROBE.rates, 1e5))


def test_what_is_given_stays_and_the_rest_follows_it() -> None:
    shape = candidate_shapes(CORPUS)[5]
    chosen = choose_fields(CORPUS, HOUR, PROBE, {"shape": shape, "adam_lr": 0.001})
    assert chosen["shape"] == shape
    assert chosen["adam_lr"] == 0.001
    given = {one.field for one in chosen.made if one.fixed}
    assert given == {"shape", "adam_lr"}
    assert all(one.reason for one in chosen.made)
    with pytest.raises(ConfigError, match="no field depth"):
        choose_fields(CORPUS, HOUR, PROBE, {"depth": 3})


@pytest.mark.parametrize(("seconds", "blocks"), [(0.01, 1), (3600.0, 16)])
def test_whole_blocks_a_step(seconds: float, blocks: int) -> None:
    shape = candidate_shapes(CORPUS)[3]
    chosen = choose_fields(CORPUS, PlanningBudget(seconds=seconds), PROBE, {"shape": shape})
    assert chosen["batch"] == blocks * CORPUS.context


def test_rates_of_the_probe_between_and_beyond_its_sizes() -> None:
    assert PROBE.tokens_per_second(100) == 60_000.0
    assert PROBE.tokens_per_second(1_500_000) == pytest.approx(25_000.0)
    assert 7_000 < PROBE.tokens_per_second(3_000_000) < 25_000
    assert PROBE.tokens_per_second(12_000_000) == pytest.approx(3_500.0)


@pytest.mark.parametrize("budget", [(None, None), (1.0, 1.0), (0.0, None), (None, -1.0)])
def test_one_budget_above_nothing(budget: tuple[float | None, float | None]) -> None:
    with pytest.raises(ConfigError, match="budget of minutes or of flops"):
        PlanningBudget(*budget)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe of two small sizes: what is tested is what becomes of its figures."""
    monkeypatch.setattr(throughput_probe, "PROBED_SHAPES", (0, 1))
    monkeypatch.setattr(throughput_probe, "STEP_TOKENS", 128)


def counted(root: Path, tokens: int, vocabulary: int = 261) -> Path:
    """A folder of so many tokens."""
    root.mkdir(parents=True, exist_ok=True)
    save_split(root, "train", [[1] * tokens], vocabulary)
    told = {"vocabulary": vocabulary, "eos": 0, "train_bytes": tokens, "heldout_bytes": 1}
    (root / "meta.json").write_text(json.dumps(told))
    return root


def config(**over: object) -> PretrainConfig:
    given = {
        "minutes": 0.02,
        "min_steps": 1,
        "sequence_length": 64,
        "short_sequence_length": 32,
        "precision": "float32",
    }
    return PretrainConfig.model_validate({**given, "autopilot": True, **over})


@pytest.mark.usefixtures("quick")
def test_a_training_takes_the_choices_and_journals_them(tokens: Tokens, store: Path) -> None:
    work = Workdir.temporary(store)
    made = pretrain(config(), tokens, work)
    assert load_model(store / made.name).shape.width == 64
    told = json.loads((store / made.name / "volatile" / AUTOPILOT_FILE).read_text())
    assert [line.partition(":")[0] for line in told] == [
        "shape",
        "tokens",
        "batch",
        "muon_lr",
        "adam_lr",
        "embedding_lr",
    ]


@pytest.mark.usefixtures("quick")
def test_a_resume_takes_the_journal_and_measures_nothing(
    tokens: Tokens, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workdir.temporary(store)
    corpus = [counted(store / "corpus", 5000)]
    first = apply_autopilot(config(), corpus, work)
    assert first.autopilot is False
    monkeypatch.setattr(throughput_probe, "probe_machine", None)  # a call would fail
    assert apply_autopilot(config(), corpus, work) == first
    (work.scratch / AUTOPILOT_FILE).write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        apply_autopilot(config(), corpus, work)


@pytest.mark.usefixtures("quick")
def test_what_was_set_stays_and_a_list_names_what_is_left(store: Path) -> None:
    corpus = counted(store / "corpus", 50_000)

    def settled(**over: object) -> PretrainConfig:
        return apply_autopilot(config(**over), [corpus], Workdir.temporary(store))

    assert settled(batch=1024).batch == 1024
    usual = PretrainConfig()
    alone = settled(autopilot=["batch"], batch=1024)
    assert alone.batch != 1024
    assert (alone.shape, alone.optim) == (usual.shape, usual.optim)
    with pytest.raises(ValidationError, match="autopilot"):
        config(autopilot=["depth"])


def test_without_it_nothing_is_measured(store: Path) -> None:
    given = PretrainConfig()
    assert apply_autopilot(given, [], Workdir.temporary(store)) is given


@pytest.mark.parametrize("budget", [{"steps": 5}, {"minutes": None, "tokens": 1e6}])
def test_a_number_of_steps_is_no_budget_to_plan_for(budget: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="minutes or flops, not for steps or tokens"):
        config(**budget)
