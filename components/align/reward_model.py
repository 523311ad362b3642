"""Trained reward model: a frozen decoder and the scalar head that scores an answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.align.reward_agreement import read_correlation
from components.align.train_reward import HEAD_FILE
from components.core.stats.figures import Figure
from components.text.decoder_files import load_model, load_weights
from models.answer_features import feature_width
from models.decoder import Decoder
from models.scalar_head import ScalarHead


@dataclass(frozen=True)
class RewardModel:
    """The frozen trunk, and the head that scores an answer by the features it sees."""

    trunk: Decoder
    head: ScalarHead
    correlation: Figure
    """With the principles' judgement of a policy's answers, within a prompt."""

    @classmethod
    def load(cls, folder: Path) -> RewardModel:
        """The reward model saved in ``folder``."""
        trunk = load_model(folder).requires_grad_(False)
        head = ScalarHead(feature_width(trunk.shape)).requires_grad_(False)
        load_weights(folder, head, HEAD_FILE)
        return cls(trunk, head, read_correlation(folder))
