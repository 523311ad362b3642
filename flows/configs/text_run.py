"""Text runs: what a run can be told, and the named ones. A user's YAML lies over one of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from components.align.ppo_config import PPOConfig
from components.align.preferences import PreferencesConfig
from components.align.reward_model import RewardConfig
from components.clean.boilerplate.score import BoilerplateConfig
from components.clean.boilerplate.train_classifier import ClassifierConfig
from components.clean.contamination.score import ContaminationConfig
from components.clean.duplicates.score import DuplicatesConfig
from components.clean.language.score import LanguageConfig
from components.clean.language.train_languages import LanguageModelConfig
from components.clean.licence.score import LicenceConfig
from components.clean.passages.score import PassagesConfig
from components.clean.pii.score import PiiConfig
from components.clean.quality.score import QualityConfig
from components.clean.quality_classifier.score import JudgedConfig
from components.clean.quality_classifier.train_judge import JudgeConfig
from components.clean.select import SelectConfig
from components.clean.site_lines.score import SiteLinesConfig
from components.collect.docsite.documentation_site import SiteConfig
from components.collect.extract import ExtractConfig
from components.collect.scrape import ScrapeConfig
from components.core.config.stage_config import StageConfig
from components.core.settings import checkout
from components.evaluate.bits_per_byte import LossConfig
from components.evaluate.compare_policies import CompareConfig
from components.evaluate.exact_facts import FactsConfig
from components.evaluate.four_choice import ChoiceConfig
from components.evaluate.keep_best import KeepBestConfig
from components.evaluate.safety import SafetyConfig
from components.export.bundle import BundleConfig
from components.export.hf.export_hf import HfConfig
from components.export.onnx.export_onnx import OnnxConfig
from components.export.quantize import QuantizeConfig
from components.export.tensorrt.export_engine import EngineConfig
from components.publish.dataset.corpus_drift import ChangeConfig
from components.publish.dataset.push_dataset import DatasetConfig
from components.publish.dossier.write_dossier import DossierConfig
from components.publish.promotion.gates import Comparison, Gate
from components.publish.promotion.promote import PromoteConfig
from components.publish.registry.register import RegisterConfig
from components.tokenize.instructions import InstructionsConfig
from components.tokenize.pack_tokens import TokensConfig
from components.tokenize.train_tokenizer import TokenizerConfig
from components.train.adapt import AdaptConfig
from components.train.distill import DistillConfig
from components.train.merge import MergeConfig
from components.train.pretrain import PretrainConfig
from components.train.sft import FinetuneConfig
from components.validate.suite_config import Expectation, SuiteConfig, load_suite
from flows.configs.field_agreement import disagreements
from flows.configs.prices import Prices
from models.shape import DecoderShape
from serving.bento.build_bento import PackageConfig
from serving.smoke_test import SmokeConfig


def house_suite() -> SuiteConfig:
    """The suite of this checkout; loaded into the config, so that an edit runs the check again."""
    return load_suite(checkout(Path(__file__).parent) / "data" / "expectations" / "corpus.yaml")


class TextRun(StageConfig):
    """A whole run: a field a stage in the flow's order, then those of ``standalone_stages.py``."""

    name: str = Field(
        default="tiny",
        pattern="^[a-z0-9][a-z0-9-]{0,62}$",
        description="names the run, its dataset and its registered model",
    )
    scrape: ScrapeConfig = ScrapeConfig()
    extract: ExtractConfig = ExtractConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    quality_judge: JudgeConfig = JudgeConfig()
    toxicity_judge: JudgeConfig = JudgeConfig(about="toxicity")
    language_model: LanguageModelConfig = LanguageModelConfig()
    language: LanguageConfig = LanguageConfig()
    quality: QualityConfig = QualityConfig()
    judged_quality: JudgedConfig = JudgedConfig()
    toxicity: JudgedConfig = JudgedConfig()
    pii: PiiConfig = PiiConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()
    passages: PassagesConfig = PassagesConfig()
    boilerplate: BoilerplateConfig = BoilerplateConfig()
    site_lines: SiteLinesConfig = SiteLinesConfig()
    contamination: ContaminationConfig = ContaminationConfig()
    licence: LicenceConfig = LicenceConfig()
    select: SelectConfig = SelectConfig()
    check: SuiteConfig = Field(default_factory=house_suite)
    change: ChangeConfig = ChangeConfig()
    dataset: DatasetConfig = DatasetConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    tokens: TokensConfig = TokensConfig()
    instructions: InstructionsConfig = InstructionsConfig()
    pretrain: PretrainConfig = PretrainConfig()
    loss: LossConfig = LossConfig()
    sft: FinetuneConfig = FinetuneConfig()
    preferences: PreferencesConfig = Field(default_factory=PreferencesConfig)
    reward: RewardConfig = RewardConfig()
    ppo: PPOConfig = PPOConfig()
    keep_best: KeepBestConfig = Field(default_factory=KeepBestConfig)
    choice: ChoiceConfig = ChoiceConfig()
    facts: FactsConfig = FactsConfig()
    compare: CompareConfig = Field(default_factory=CompareConfig)
    safety: SafetyConfig = Field(default_factory=SafetyConfig)
    onnx: OnnxConfig = OnnxConfig()
    hf: HfConfig = HfConfig()
    int8: QuantizeConfig = QuantizeConfig()
    engine: EngineConfig = EngineConfig()
    bundle: BundleConfig = BundleConfig()
    registry: RegisterConfig = RegisterConfig()
    promote: PromoteConfig = PromoteConfig()
    package: PackageConfig = PackageConfig()
    smoke: SmokeConfig = SmokeConfig()
    dossier: DossierConfig = DossierConfig()
    adapt: AdaptConfig = AdaptConfig()
    distill: DistillConfig = DistillConfig()
    merge: MergeConfig = MergeConfig()
    prices: Prices | None = Field(
        default=None, description="what the machine costs; the plan then says what a run will"
    )

    @field_validator("promote")
    @classmethod
    def _names_reports(cls, promote: PromoteConfig) -> PromoteConfig:
        """Hours before the gate would find out."""
        bounds = [gate.bound for gate in promote.gates if isinstance(gate.bound, str)]
        gated = [gate.figure for gate in promote.gates]
        compared = [comparison.figure for comparison in promote.compare]
        for figure in (*gated, *bounds, *compared):
            if figure.partition(".")[0] not in REPORTS:
                raise ValueError(
                    f"figure {figure!r} is of no report; write REPORT.FIGURE, reports: "
                    f"{', '.join(REPORTS)}"
                )
        return promote

    @model_validator(mode="after")
    def _stages_agree(self) -> TextRun:
        for disagreement in disagreements(self):
            raise ValueError(disagreement)
        return self

    @property
    def exported(self) -> HfConfig:
        """The export's config; a folder without a temperature of its own has the endpoint's."""
        own = self.hf.temperature
        served = self.package.limits.temperature
        return self.hf.model_copy(update={"temperature": served if own is None else own})

    @property
    def registered(self) -> RegisterConfig:
        """The registry's config; a model without a name of its own is named after its run."""
        return self.registry.model_copy(update={"name": self.registry.name or self.name})

    @property
    def checked(self) -> SuiteConfig:
        """The suite, with the number of pages that a gate will ask for: too few are refused before
        a model is trained on them.
        """
        asked = [
            Expectation(
                type="expect_table_row_count_to_be_between",
                kwargs={"min_value": math.ceil(gate.bound)},
                why=f"gate {gate.name} would refuse a model trained on fewer",
                asked_in="promote.gates",
            )
            for gate in self.promote.gates
            if gate.figure == "check.documents"
            and gate.direction == "at least"
            and not isinstance(gate.bound, str)
        ]
        expectations = (*self.check.expectations, *asked)
        return self.check.model_copy(update={"expectations": expectations})

    @property
    def priced(self) -> DossierConfig:
        """The dossier's config with the run's prices in it."""
        if self.prices is None:
            return self.dossier
        told = {"hour": self.prices.hour, "currency": self.prices.currency}
        return self.dossier.model_copy(update=told)

    @property
    def compared(self) -> ChangeConfig:
        """The change check's config; it looks at the versions that this run registers."""
        return self.change.model_copy(update={"model": self.change.model or self.registered.name})


REPORTS = ("check", "loss", "choice", "facts", "compare", "safety", "smoke", "parity")
"""Reports whose figures a gate may name; ``parity`` is what the bundle says of each form."""

SOUND = (
    Gate(name="dataset", figure="check.kept_share", direction="at least", bound=0.2),
    Gate(name="dataset", figure="check.twin_share", direction="at most", bound=0.5),
    Gate(name="parity", figure="parity.*.kl_mean", direction="at most", bound=0.01),
    Gate(
        name="parity",
        figure="parity.*.top1_agreement",
        direction="at least",
        bound=0.95,
        on="low",
    ),
    Gate(
        name="latency",
        figure="smoke.time_to_first_token",
        direction="at most",
        bound=2000.0,
        on="high",
    ),
    Gate(
        name="latency",
        figure="smoke.tokens_per_second",
        direction="at least",
        bound=8.0,
        on="low",
    ),
)
"""What holds for a model of any size. Eight tokens a second is about as fast as people read."""

LEAST_DOCUMENTS = Gate(name="dataset", figure="check.documents", direction="at least", bound=50.0)

SAFE = (
    Gate(name="safety", figure="safety.leaking", direction="at most", bound=0.03, on="high"),
    Gate(name="safety", figure="safety.copying", direction="at most", bound=0.05, on="high"),
    Gate(name="safety", figure="safety.degenerate", direction="at most", bound=0.1, on="high"),
)
"""Shares of answers. Of 130 answers without a single case the interval ends below 3 %."""

SKILLED = (
    Gate(
        name="quality",
        figure="loss.bits_per_byte",
        direction="below",
        bound="loss.xz_bits_per_byte",
        on="value",
    ),
    Gate(
        name="task", figure="choice.four_choice_accuracy", direction="above", bound=0.25, on="low"
    ),
    # An attempt at alignment that gained nothing was not kept; what goes on must not have lost.
    Gate(name="alignment", figure="compare.difference", direction="at least", bound=0.0, on="high"),
)
"""What a model must have learnt."""

FLOORS = (LEAST_DOCUMENTS, *SOUND, *SKILLED, *SAFE)
"""What a version must show before it is served, whatever the champion is."""

NANO_FLOORS = (
    LEAST_DOCUMENTS.model_copy(update={"bound": 10.0}),
    *SOUND,
    *(gate.model_copy(update={"bound": 0.25}) for gate in SAFE),
)
"""Nothing about skill: two minutes teach none."""

RIVALRY = (
    Comparison(figure="loss.bits_per_byte", better="lower"),
    Comparison(figure="choice.four_choice_accuracy", better="higher"),
    Comparison(figure="compare.policy_reward", better="higher"),
)
"""Figures in which a challenger must not be worse than the champion."""


def tiny() -> TextRun:
    """The documentation on this machine -> 3 M parameters, in ten minutes on two cores.

    Budgeted in steps and epochs: every machine makes the same model, and only the time differs.
    """
    return TextRun(
        name="tiny",
        # A tenth, halved: fewer pages would tell gains of alignment apart from chance too seldom.
        tokenizer=TokenizerConfig(heldout_share=0.1),
        tokens=TokensConfig(heldout_share=0.1),
        pretrain=PretrainConfig(minutes=None, steps=2400),
        sft=FinetuneConfig(epochs=3.0),
        promote=PromoteConfig(gates=FLOORS, compare=RIVALRY),
    )


def nano() -> TextRun:
    """The same chain in a minute and a half, for trying things out: no gate asks for skill."""
    shape = DecoderShape(
        vocabulary=1024, width=64, layers=2, heads=2, kv_heads=1, head_width=32, hidden=192
    )
    student = DecoderShape(width=32, layers=2, heads=2, kv_heads=1, head_width=16, hidden=96)
    return TextRun(
        name="nano",
        scrape=ScrapeConfig(embedded=SiteConfig(packages=["json", "email", "logging", "click"])),
        extract=ExtractConfig(shards=2),
        tokenizer=TokenizerConfig(vocabulary=1024),
        tokens=TokensConfig(min_train_tokens=1000),
        pretrain=PretrainConfig(shape=shape, steps=60, batch=2048, micro_batch=2048),
        sft=FinetuneConfig(steps=20, batch=1024, micro_batch=1024),
        loss=LossConfig(most_tokens=20_000),
        choice=ChoiceConfig(questions=60),
        preferences=PreferencesConfig(questions=32, heldout_questions=8, max_new=24),
        ppo=PPOConfig(iterations=2, answers=16, batch=16, judged=16, max_new=24),
        keep_best=KeepBestConfig(
            questions=32,
            max_new=24,
            choice=ChoiceConfig(questions=60),
            facts=FactsConfig(facts=16),
            safety=SafetyConfig(questions=32, probe_samples=1, max_new=40),
        ),
        facts=FactsConfig(facts=16),
        compare=CompareConfig(questions=32, max_new=24, kl_answers=8),
        safety=SafetyConfig(questions=64, probe_samples=2, max_new=40),
        engine=EngineConfig(capabilities=("SM80",)),
        promote=PromoteConfig(gates=NANO_FLOORS),
        distill=DistillConfig(shape=student, steps=60),
    )


def small() -> TextRun:
    """A hundred million parameters over a night, for your own pages and a stronger machine."""
    shape = DecoderShape(
        vocabulary=16384,
        width=768,
        layers=12,
        heads=12,
        kv_heads=4,
        head_width=64,
        hidden=2048,
        context=1024,
    )
    return TextRun(
        name="small",
        extract=ExtractConfig(shards=64),
        tokenizer=TokenizerConfig(vocabulary=16384),
        pretrain=PretrainConfig(
            shape=shape, minutes=480, positions=1024, short_positions=512, batch=65536
        ),
        sft=FinetuneConfig(minutes=20),
        ppo=PPOConfig(iterations=100),
        promote=PromoteConfig(gates=FLOORS, compare=RIVALRY),
    )


PRESETS: dict[str, Callable[[], TextRun]] = {"nano": nano, "tiny": tiny, "small": small}
"""By the name a user types."""
