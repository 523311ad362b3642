"""Named runs that a user's YAML file or ``--set`` starts from: nano, tiny and small from pages,
assistant from pages and own conversations, finetune from somebody's model and own conversations.
"""

from __future__ import annotations

from collections.abc import Callable

from components.align.ppo_config import PPOConfig
from components.align.preferences_config import PreferencesConfig
from components.collect.docsite.documentation_site import SiteConfig
from components.collect.extract import ExtractConfig
from components.collect.scrape_config import ScrapeConfig
from components.evaluate.bits_per_byte import LossConfig
from components.evaluate.compare_policies import CompareConfig
from components.evaluate.exact_facts import FactsConfig
from components.evaluate.four_choice import ChoiceConfig
from components.evaluate.keep_best import KeepBestConfig
from components.evaluate.safety import SafetyConfig
from components.export.tensorrt.export_engine import EngineConfig
from components.publish.promotion.promote import PromoteConfig
from components.tokenize.pack_tokens import TokensConfig
from components.tokenize.train_tokenizer import TokenizerConfig
from components.train.distill import DistillConfig
from components.train.pretrain_config import PretrainConfig
from components.train.sft import FinetuneConfig
from components.train.trainer.adapter_training import LoraConfig
from components.train.training_config import OptimConfig, ScheduleConfig
from flows.configs.default_gates import (
    DEFAULT_COMPARISONS,
    DEFAULT_GATES,
    FINETUNE_COMPARISONS,
    FINETUNE_GATES,
    NANO_GATES,
)
from flows.configs.text_run import TextRun
from models.shape import DecoderShape


def tiny_run() -> TextRun:
    """Preset ``tiny``: documentation on this machine -> 3 M parameters, ten minutes on two cores.

    Budgeted in steps and epochs: every machine makes the same model, and only the time differs.
    """
    return TextRun(
        name="tiny",
        # A tenth, halved: fewer pages would tell gains of alignment apart from chance too seldom.
        tokenizer=TokenizerConfig(heldout_share=0.1),
        tokens=TokensConfig(heldout_share=0.1),
        pretrain=PretrainConfig(minutes=None, steps=2400),
        sft=FinetuneConfig(epochs=3.0),
        promote=PromoteConfig(gates=DEFAULT_GATES, compare=DEFAULT_COMPARISONS),
    )


def nano_run() -> TextRun:
    """Preset ``nano``: the whole pipeline in a few minutes, without gates on skill."""
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
        promote=PromoteConfig(gates=NANO_GATES),
        distill=DistillConfig(shape=student, steps=60),
    )


def small_run() -> TextRun:
    """Preset ``small``: 100 M parameters over a night, for own pages and a stronger machine."""
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
            shape=shape, minutes=480, sequence_length=1024, short_sequence_length=512, batch=65536
        ),
        sft=FinetuneConfig(minutes=20),
        ppo=PPOConfig(iterations=100),
        promote=PromoteConfig(gates=DEFAULT_GATES, compare=DEFAULT_COMPARISONS),
    )


def assistant_run() -> TextRun:
    """Preset ``assistant``: own pages and own conversations, trained from random weights.

    The conversations come last: what a model has learnt last it does most readily.
    """
    small = small_run()
    sft = FinetuneConfig(epochs=3.0, longest=1024, batch=8192, micro_batch=8192, own_last=True)
    return small.model_copy(update={"name": "assistant", "sft": sft})


def finetune_run() -> TextRun:
    """Preset ``finetune``: somebody's model on own conversations, by adapters.

    Rates are those of published adaptations, far below what random weights stand: AdamW at 2e-4
    for adapters of rank 16 (Dettmers et al. 2023, arXiv:2305.14314), 1e-6 in PPO, whose whole
    policy is trained (Ouyang et al. 2022, arXiv:2203.02155).
    """
    adamw = OptimConfig(kind="adamw", adam_lr=2e-4, embedding_lr=2e-5, beta2=0.999, adam_eps=1e-8)
    return TextRun(
        name="finetune",
        # Measured on, not trained on: however few, they are enough.
        tokens=TokensConfig(min_train_tokens=1),
        sft=FinetuneConfig(
            lora=LoraConfig(rank=16, alpha=32.0),
            epochs=5.0,
            replay=0.0,
            longest=1024,
            batch=1024,  # some ten conversations a step: 200 of them are a hundred steps
            optim=adamw,
            schedule=ScheduleConfig(kind="cosine", warmup=0.03),
        ),
        ppo=PPOConfig(
            optim=adamw.model_copy(update={"adam_lr": 1e-6, "embedding_lr": 1e-6}),
        ),
        promote=PromoteConfig(gates=FINETUNE_GATES, compare=FINETUNE_COMPARISONS),
    )


PRESETS: dict[str, Callable[[], TextRun]] = {
    "nano": nano_run,
    "tiny": tiny_run,
    "small": small_run,
    "assistant": assistant_run,
    "finetune": finetune_run,
}
"""Presets by the name that a user types."""
OWN_FILES: dict[str, tuple[str, ...]] = {
    "assistant": ("instructions.files",),
    "finetune": ("base", "instructions.files"),
}
"""Files of a user's own that a preset is made for, so that no run begins without them."""
