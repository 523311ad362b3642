"""Config of a text run: one field a stage. Presets give it values, a user's YAML lies over one."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from components.align.ppo_config import PPOConfig
from components.align.preferences_config import PreferencesConfig
from components.align.train_reward import RewardConfig
from components.clean.boilerplate.rule import BoilerplateRule
from components.clean.boilerplate.score import BoilerplateConfig
from components.clean.boilerplate.train_classifier import ClassifierConfig
from components.clean.contamination.rule import ContaminationRule
from components.clean.contamination.score import ContaminationConfig
from components.clean.conversations.conversations_config import (
    ConversationsConfig,
    ConversationSelectConfig,
)
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
from components.clean.preferences.read_preferences import OwnPreferencesConfig
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
from components.export.hf.import_base import BaseConfig
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
from flows.configs.report_figures import check_run_figures
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
        description="name of the run, its dataset and its registered model",
    )
    base: BaseConfig | None = Field(
        default=None,
        description="somebody's model to fine-tune on instructions.files; with it nothing is "
        "crawled or pretrained",
    )
    scrape: ScrapeConfig = Field(
        default=ScrapeConfig(), description="raw pages, crawled from the web or read from files"
    )
    extract: ExtractConfig = Field(
        default=ExtractConfig(),
        description="corpus: text of every page, with its title, licence and opt-out",
    )
    classifier: ClassifierConfig = Field(
        default=ClassifierConfig(),
        description="classifier of boilerplate lines, trained on the corpus itself",
    )
    quality_judge: QualityClassifierConfig = Field(
        default=QualityClassifierConfig(),
        description="classifier of good documents, trained on examples of yours",
    )
    toxicity_judge: QualityClassifierConfig = Field(
        default=QualityClassifierConfig(about="toxicity"),
        description="classifier of toxic documents, trained on examples of yours",
    )
    language_model: LanguageModelConfig = Field(
        default=LanguageModelConfig(),
        description="language classifier, trained on examples of yours",
    )
    language: LanguageConfig = Field(
        default=LanguageConfig(),
        description="scores of language: the best languages of every document",
    )
    quality: QualityConfig = Field(
        default=QualityConfig(),
        description="scores of published text statistics (Gopher, C4, FineWeb)",
    )
    judged_quality: QualityClassifierScoreConfig = Field(
        default=QualityClassifierScoreConfig(), description="scores of quality, by `quality_judge`"
    )
    toxicity: QualityClassifierScoreConfig = Field(
        default=QualityClassifierScoreConfig(),
        description="scores of toxicity, by `toxicity_judge`",
    )
    pii: PiiConfig = Field(default=PiiConfig(), description="spans of personal data and secrets")
    duplicates: DuplicatesConfig = Field(
        default=DuplicatesConfig(), description="pairs of equal and nearly equal documents"
    )
    passages: PassagesConfig = Field(
        default=PassagesConfig(), description="long passages that a document shares with older ones"
    )
    boilerplate: BoilerplateConfig = Field(
        default=BoilerplateConfig(), description="scores of boilerplate, by `classifier`"
    )
    site_lines: SiteLinesConfig = Field(
        default=SiteLinesConfig(), description="lines that recur in head or foot of a site's pages"
    )
    contamination: ContaminationConfig = Field(
        default=ContaminationConfig(), description="overlaps of documents with evaluation items"
    )
    licence: LicenceConfig = Field(
        default=LicenceConfig(), description="signs of a licence in every document"
    )
    select: TextSelectConfig = Field(
        default=TextSelectConfig(),
        description="documents that stay, by the rules on all scores, and the ledger of verdicts",
    )
    check: SuiteConfig = Field(
        default_factory=default_suite,
        description="report of the expectations on the selected corpus",
    )
    change: ChangeConfig = Field(
        default=ChangeConfig(),
        description="drift of the corpus since the registered model's; without any, a run may end",
    )
    dataset: DatasetConfig = Field(
        default=DatasetConfig(), description="version of the corpus in DVC"
    )
    tokenizer: TokenizerConfig = Field(
        default=TokenizerConfig(), description="tokenizer, trained on the selected corpus"
    )
    tokens: TokensConfig = Field(
        default=TokensConfig(), description="token shards, split into training and held-out pages"
    )
    instructions: InstructionsConfig = Field(
        default=InstructionsConfig(),
        description="questions with reference answers, made of the pages or from files of yours",
    )
    pretrain: PretrainConfig = Field(
        default=PretrainConfig(), description="base model, trained on the tokens"
    )
    loss: LossConfig = Field(
        default=LossConfig(),
        description="report of the base model's bits per byte on held-out pages",
    )
    sft: FinetuneConfig = Field(
        default=FinetuneConfig(), description="model fine-tuned on the instructions"
    )
    preferences: PreferencesConfig = Field(
        default_factory=PreferencesConfig,
        description="pairs of answers, sampled and judged by the principles or from files of yours",
    )
    reward: RewardConfig = Field(
        default=RewardConfig(), description="reward model, fitted to the preferences"
    )
    ppo: PPOConfig = Field(default=PPOConfig(), description="model aligned by PPO")
    keep_best: KeepBestConfig = Field(
        default_factory=KeepBestConfig, description="best of the fine-tuned and the aligned model"
    )
    choice: ChoiceConfig = Field(
        default=ChoiceConfig(), description="report of the accuracy on four-choice questions"
    )
    facts: FactsConfig = Field(
        default=FactsConfig(), description="report of facts reproduced exactly"
    )
    compare: CompareConfig = Field(
        default_factory=CompareConfig,
        description="report of the best model's answers beside those of the fine-tuned one",
    )
    safety: SafetyConfig = Field(
        default_factory=SafetyConfig,
        description="report of copied, personal and degenerate answers",
    )
    onnx: OnnxConfig = Field(default=OnnxConfig(), description="model in ONNX, float32")
    hf: HfConfig = Field(
        default=HfConfig(), description="model as a folder that transformers loads"
    )
    int8: QuantizeConfig = Field(
        default=QuantizeConfig(), description="model in ONNX, with weights in INT8"
    )
    engine: EngineConfig = Field(
        default=EngineConfig(),
        description="model as a TensorRT engine (experimental: none has run on a GPU yet)",
    )
    bundle: BundleConfig = Field(
        default=BundleConfig(), description="all exported forms of the model, with their parity"
    )
    registry: RegisterConfig = Field(
        default=RegisterConfig(), description="version of the model in the MLflow registry"
    )
    promote: PromoteConfig = Field(
        default=PromoteConfig(),
        description="champion alias, given to a version that passes its gates",
    )
    package: PackageConfig = Field(
        default=PackageConfig(), description="Bento of the version, ready to serve"
    )
    smoke: SmokeConfig = Field(
        default=SmokeConfig(), description="smoke test of the packaged server"
    )
    dossier: DossierConfig = Field(
        default=DossierConfig(), description="offline HTML page about the version"
    )
    adapt: AdaptConfig = Field(
        default=AdaptConfig(), description="standalone stage: pretraining continued on other tokens"
    )
    distill: DistillConfig = Field(
        default=DistillConfig(), description="standalone stage: smaller student of a model"
    )
    merge: MergeConfig = Field(
        default=MergeConfig(), description="standalone stage: adapter merged into its base model"
    )
    prices: Prices | None = Field(
        default=None,
        description="prices of the machine; with them, the plan shows the cost of a run",
    )

    @model_validator(mode="after")
    def _stages_agree(self) -> TextRun:
        longest_answers = field_agreement.answer_lengths(self)
        if self.base is None:  # else they are held against the base when a target is read
            field_agreement.check_vocabulary(self.pretrain, self.tokenizer)
            field_agreement.check_context(self.pretrain.shape.context, self.loss, longest_answers)
        field_agreement.check_instruction_kinds(self.sft, self.instructions)
        field_agreement.check_languages(self.select.language.allowed, self.language_model)
        field_agreement.check_taught_quantiles(
            {"judged_quality": self.select.judged_quality, "toxicity": self.select.toxicity},
            {"quality_judge": self.quality_judge, "toxicity_judge": self.toxicity_judge},
        )
        check_run_figures(self, self.promote, has_pages=self.base is None)
        return self

    @property
    def _row_rules(self) -> ConversationSelectConfig:
        """Rules on rows of files: those on pages that say something of a dialogue."""
        return ConversationSelectConfig(
            blocked_urls=self.select.blocked_urls,
            contamination=self.select.contamination,
            pii=self.select.pii,
            duplicates=self.select.duplicates,
        )

    @property
    def resolved_own_preferences(self) -> OwnPreferencesConfig:
        """Config of judged answers from files: files and bounds of the preferences, and the
        cleaning of pages.
        """
        return OwnPreferencesConfig(
            files=self.preferences.files,
            ratings=self.preferences.ratings,
            heldout_share=self.preferences.heldout_share,
            max_characters=self.preferences.max_characters,
            max_bad_share=self.preferences.max_bad_share,
            pii=self.pii,
            contamination=self.contamination,
            duplicates=self.duplicates,
            select=self._row_rules,
        )

    @property
    def resolved_ppo(self) -> PPOConfig:
        """Config of the alignment, in which principles that judge no preferences take no part."""
        if self.preferences.principles:
            return self.ppo
        return self.ppo.model_copy(update={"principles": 0.0, "beside_model": 0.0, "judged": 0})

    @property
    def resolved_keep_best(self) -> KeepBestConfig:
        """Config of the choice, by own pairs where the principles judge no preferences."""
        if self.preferences.principles:
            return self.keep_best
        return self.keep_best.model_copy(update={"decided_by": "own_preferences"})

    @property
    def resolved_conversations(self) -> ConversationsConfig:
        """Config of the conversations: files and bounds of the instructions, and the cleaning of
        pages.
        """
        return ConversationsConfig(
            files=self.instructions.files,
            heldout_share=self.instructions.heldout_share,
            max_characters=self.instructions.max_characters,
            max_bad_share=self.instructions.max_bad_share,
            pii=self.pii,
            contamination=self.contamination,
            duplicates=self.duplicates,
            select=self._row_rules,
        )

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
