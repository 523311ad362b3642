"""Text runs: what a run can be told, and the named ones. A user's YAML lies over one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from components.align.preferences import PreferencesConfig
from components.align.recipe import PPOConfig
from components.align.reward import RewardConfig
from components.check.suite import SuiteConfig, load_suite
from components.clean.boilerplate import BoilerplateConfig
from components.clean.classifier import ClassifierConfig
from components.clean.duplicates import DuplicatesConfig
from components.clean.language import LanguageConfig
from components.clean.pii import PiiConfig
from components.clean.quality import QualityConfig
from components.clean.select import SelectConfig
from components.collect.extract import ExtractConfig
from components.collect.scrape import ScrapeConfig
from components.collect.site import SiteConfig
from components.core.config import StageConfig
from components.core.settings import checkout
from components.evaluate.choice import ChoiceConfig
from components.evaluate.compare import CompareConfig
from components.evaluate.loss import LossConfig
from components.pack.instructions import InstructionsConfig
from components.pack.tokenizer import TokenizerConfig
from components.pack.tokens import TokensConfig
from components.publish.dataset import DatasetConfig
from components.publish.dossier.write import DossierConfig
from components.publish.gates import Comparison, Gate
from components.publish.promote import PromoteConfig
from components.publish.register import RegisterConfig
from components.shrink.bundle import BundleConfig
from components.shrink.export_engine import EngineConfig
from components.shrink.export_hf import HfConfig
from components.shrink.export_onnx import OnnxConfig
from components.shrink.quantize import QuantizeConfig
from components.train.pretrain import PretrainConfig
from components.train.sft import FinetuneConfig
from models.shape import DecoderShape
from serving.package import PackageConfig
from serving.smoke import SmokeConfig


def house_suite() -> SuiteConfig:
    """The suite of this checkout; loaded into the config, so that an edit runs the check again."""
    return load_suite(checkout(Path(__file__).parent) / "data" / "expectations" / "corpus.yaml")


class TextRun(StageConfig):
    """A whole run, a field a stage, in the order of the flow."""

    name: str = Field(
        default="tiny",
        pattern="^[a-z0-9][a-z0-9-]{0,62}$",
        description="names the run, its dataset and its registered model",
    )
    scrape: ScrapeConfig = ScrapeConfig()
    extract: ExtractConfig = ExtractConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    language: LanguageConfig = LanguageConfig()
    quality: QualityConfig = QualityConfig()
    pii: PiiConfig = PiiConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()
    boilerplate: BoilerplateConfig = BoilerplateConfig()
    select: SelectConfig = SelectConfig()
    check: SuiteConfig = Field(default_factory=house_suite)
    dataset: DatasetConfig = DatasetConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    tokens: TokensConfig = TokensConfig()
    instructions: InstructionsConfig = InstructionsConfig()
    pretrain: PretrainConfig = PretrainConfig()
    loss: LossConfig = LossConfig()
    sft: FinetuneConfig = FinetuneConfig()
    choice: ChoiceConfig = ChoiceConfig()
    preferences: PreferencesConfig = Field(default_factory=PreferencesConfig)
    reward: RewardConfig = RewardConfig()
    ppo: PPOConfig = PPOConfig()
    compare: CompareConfig = Field(default_factory=CompareConfig)
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

    @property
    def registered(self) -> RegisterConfig:
        """The registry's config; a model without a name of its own is named after its run."""
        return self.registry.model_copy(update={"name": self.registry.name or self.name})


FLOORS = (
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
    Gate(name="alignment", figure="compare.difference", direction="above", bound=0.0, on="low"),
)
"""What a model must show before it is served, whatever the champion is."""

RIVALRY = (
    Comparison(figure="loss.bits_per_byte", better="lower"),
    Comparison(figure="choice.four_choice_accuracy", better="higher"),
)
"""Figures in which a challenger must not be worse than the champion."""


def tiny() -> TextRun:
    """The documentation on this machine -> 6 M parameters, in ten minutes on two cores."""
    return TextRun(
        name="tiny",
        pretrain=PretrainConfig(minutes=4.0),
        sft=FinetuneConfig(minutes=0.6),
        promote=PromoteConfig(gates=FLOORS, compare=RIVALRY),
    )


def nano() -> TextRun:
    """The same chain in a minute and a half, for trying things out: no gate asks for quality."""
    shape = DecoderShape(
        vocabulary=1024, width=64, layers=2, heads=2, kv_heads=1, head_width=32, hidden=192
    )
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
        ppo=PPOConfig(iterations=2, answers=16, max_new=24),
        compare=CompareConfig(questions=32, max_new=24, kl_answers=8),
        engine=EngineConfig(capabilities=("SM80",)),
        promote=PromoteConfig(),
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
