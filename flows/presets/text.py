"""Text runs: what a run can be told, and the named ones. A user's YAML lies over one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import Field, model_validator

from components.align.ppo import PpoConfig
from components.align.preferences import PreferencesConfig
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
from components.core.config import StageConfig
from components.evaluate.choice import ChoiceConfig
from components.evaluate.compare import CompareConfig
from components.evaluate.loss import LossConfig
from components.pack.instructions import InstructionsConfig
from components.pack.tokenizer import TokenizerConfig
from components.pack.tokens import TokensConfig
from components.publish.dataset import DatasetConfig
from components.publish.gates import Comparison, Gate
from components.publish.promote import PromoteConfig
from components.publish.register import RegisterConfig
from components.shrink.bundle import BundleConfig
from components.shrink.export_engine import EngineConfig
from components.shrink.export_hf import HfConfig
from components.shrink.export_onnx import OnnxConfig
from components.shrink.quantize import QuantizeConfig
from components.text.principles import Constitution, load_constitution
from components.train.pretrain import PretrainConfig
from components.train.sft import FinetuneConfig
from models.shape import DecoderShape
from serving.package import PackageConfig
from serving.smoke import SmokeConfig

DATA = Path(__file__).parents[2] / "data"
"""What people edit and git keeps; loaded into configs, so that an edit runs its stages again."""


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
    check: SuiteConfig
    dataset: DatasetConfig = DatasetConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    tokens: TokensConfig = TokensConfig()
    instructions: InstructionsConfig = InstructionsConfig()
    pretrain: PretrainConfig = PretrainConfig()
    loss: LossConfig = LossConfig()
    sft: FinetuneConfig = FinetuneConfig()
    choice: ChoiceConfig = ChoiceConfig()
    preferences: PreferencesConfig
    reward: RewardConfig = RewardConfig()
    ppo: PpoConfig = PpoConfig()
    compare: CompareConfig
    onnx: OnnxConfig = OnnxConfig()
    hf: HfConfig = HfConfig()
    int8: QuantizeConfig = QuantizeConfig()
    engine: EngineConfig = EngineConfig()
    bundle: BundleConfig = BundleConfig()
    register_: RegisterConfig = Field(default=RegisterConfig(), alias="register")
    promote: PromoteConfig = PromoteConfig()
    package: PackageConfig = PackageConfig()
    smoke: SmokeConfig = SmokeConfig()
