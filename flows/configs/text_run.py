"""Config of a text run: one field a stage. Presets give it values, a user's YAML lies over one."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from components.align.ppo_config import PPOConfig
from components.align.preferences import PreferencesConfig
from components.align.train_reward import RewardConfig
from components.clean.boilerplate.rule import BoilerplateRule
from components.clean.boilerplate.score import BoilerplateConfig
from components.clean.boilerplate.train_classifier import ClassifierConfig
from components.clean.contamination.rule import ContaminationRule
from components.clean.contamination.score import ContaminationConfig
from components.clean.duplicates.rule import DuplicateRule
from components.clean.duplicates.score import DuplicatesConfig
from components.clean.language.rule import LanguageRule
from components.clean.language.score import LanguageConfig
from components.clean.language.train_languages import LanguageModelConfig
from components.clean.licence.rule import LicenceRule
from components.clean.licence.score import LicenceConfig
from components.clean.passages.score import PassagesConfig
from components.clean.pii.rule import PiiRule
from components.clean.pii.score import PiiConfig
from components.clean.quality.rule import QualityRule
from components.clean.quality.score import QualityConfig
from components.clean.quality_classifier.rule import JudgedQualityRule, ToxicityRule
from components.clean.quality_classifier.score import QualityClassifierScoreConfig
from components.clean.quality_classifier.train_quality_classifier import QualityClassifierConfig
from components.clean.select import SelectConfig
from components.clean.site_lines.rule import SiteLineRule
from components.clean.site_lines.score import SiteLinesConfig
from components.collect.extract import ExtractConfig
from components.collect.scrape_config import ScrapeConfig
from components.core.config.stage_config import StageConfig
from components.core.settings import own_checkout
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
from components.publish.promotion.promote import PromoteConfig
from components.publish.registry.register import RegisterConfig
from components.tokenize.instructions import InstructionsConfig
from components.tokenize.pack_tokens import TokensConfig
from components.tokenize.train_tokenizer import TokenizerConfig
from components.train.adapt import AdaptConfig
from components.train.distill import DistillConfig
from components.train.merge import MergeConfig
from components.train.pretrain_config import PretrainConfig
from components.train.sft import FinetuneConfig
from components.validate.suite_config import Expectation, SuiteConfig, load_suite
from flows.configs import field_agreement
from flows.configs.prices import Prices
from flows.configs.report_figures import check_gate_figures, declared_figures
from serving.bento.build_bento import PackageConfig
from serving.smoke_test import SmokeConfig


def default_suite() -> SuiteConfig:
    """Expectations of this checkout, part of the config so that an edit runs the check again."""
    return load_suite(own_checkout() / "data" / "expectations" / "corpus.yaml")


class TextSelectConfig(SelectConfig):
    """Every threshold of the corpus, a field a rule: the order is that of the ledger."""

    language: LanguageRule = Field(default=LanguageRule(), description="languages that stay")
    quality: QualityRule = Field(default=QualityRule(), description="bounds on statistics")
    boilerplate: BoilerplateRule = Field(
        default=BoilerplateRule(), description="bound on menus and footers"
    )
    judged_quality: JudgedQualityRule = Field(
        default=JudgedQualityRule(), description="bound on the probability of being good"
    )
    toxicity: ToxicityRule = Field(
        default=ToxicityRule(), description="bound on the probability of being toxic"
    )
    contamination: ContaminationRule = Field(
        default=ContaminationRule(), description="evaluation items that a page may hold"
    )
    licence: LicenceRule = Field(default=LicenceRule(), description="licences that stay")
    pii: PiiRule = Field(default=PiiRule(), description="personal data and secrets")
    duplicates: DuplicateRule = Field(default=DuplicateRule(), description="copies of a kept page")
    site_lines: SiteLineRule = Field(
        default=SiteLineRule(), description="lines of a site's own frame, which are cut"
    )


class TextRun(StageConfig):
    """Config of a text run: one field a stage by part of the pipeline, then standalone stages.

    A ``resolved_`` property completes a stage's config from other fields of the run.
    """

    name: str = Field(
        default="tiny",
        pattern="^[a-z0-9][a-z0-9-]{0,62}$",
        description="names the run, its dataset and its registered model",
    )
    scrape: ScrapeConfig = ScrapeConfig()
    extract: ExtractConfig = ExtractConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    quality_judge: QualityClassifierConfig = QualityClassifierConfig()
    toxicity_judge: QualityClassifierConfig = QualityClassifierConfig(about="toxicity")
    language_model: LanguageModelConfig = LanguageModelConfig()
    language: LanguageConfig = LanguageConfig()
    quality: QualityConfig = QualityConfig()
    judged_quality: QualityClassifierScoreConfig = QualityClassifierScoreConfig()
    toxicity: QualityClassifierScoreConfig = QualityClassifierScoreConfig()
    pii: PiiConfig = PiiConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()
    passages: PassagesConfig = PassagesConfig()
    boilerplate: BoilerplateConfig = BoilerplateConfig()
    site_lines: SiteLinesConfig = SiteLinesConfig()
    contamination: ContaminationConfig = ContaminationConfig()
    licence: LicenceConfig = LicenceConfig()
    select: TextSelectConfig = TextSelectConfig()
    check: SuiteConfig = Field(default_factory=default_suite)
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

    @model_validator(mode="after")
    def _stages_agree(self) -> TextRun:
        longest_answers = field_agreement.answer_lengths(self)
        field_agreement.check_vocabulary(self.pretrain, self.tokenizer)
        field_agreement.check_context(self.pretrain, self.loss, longest_answers)
        field_agreement.check_instruction_kinds(self.sft, self.instructions)
        field_agreement.check_taught_quantiles(
            {"judged_quality": self.select.judged_quality, "toxicity": self.select.toxicity},
            {"quality_judge": self.quality_judge, "toxicity_judge": self.toxicity_judge},
        )
        check_gate_figures(self.promote, declared_figures(self))
        return self

    @property
    def resolved_hf(self) -> HfConfig:
        """Config of the Hugging Face export, whose temperature defaults to the endpoint's."""
        own = self.hf.temperature
        served = self.package.limits.temperature
        return self.hf.model_copy(update={"temperature": served if own is None else own})

    @property
    def resolved_registry(self) -> RegisterConfig:
        """Config of the registration, whose model name defaults to the run's."""
        return self.registry.model_copy(update={"name": self.registry.name or self.name})

    @property
    def resolved_check(self) -> SuiteConfig:
        """Expectations on the corpus, with the number of documents that a gate demands: too few are
        refused before a model is trained on them.
        """
        demanded = [
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
        expectations = (*self.check.expectations, *demanded)
        return self.check.model_copy(update={"expectations": expectations})

    @property
    def resolved_dossier(self) -> DossierConfig:
        """Config of the dossier, with the run's prices."""
        if self.prices is None:
            return self.dossier
        prices = {"hour": self.prices.per_hour, "currency": self.prices.currency}
        return self.dossier.model_copy(update=prices)

    @property
    def resolved_change(self) -> ChangeConfig:
        """Config of the corpus drift, whose model defaults to the one that this run registers."""
        return self.change.model_copy(
            update={"model": self.change.model or self.resolved_registry.name}
        )
