"""PPO: the fine-tuned policy learns from the reward model, held near where it came from.

    modelmill stage ppo --input policy=PATH --input reward=PATH --input instructions=PATH \\
        --input tokenizer=PATH --output DIR

In the style of InstructGPT (Ouyang et al. 2022, arXiv:2203.02155): the reward at the last token, a
value function, a hold on the model it came from. The value function is a linear head on the reward
model's frozen hidden states, which scoring an answer computes anyway. A question is answered
``samples`` times and learnt from by the answers that differ most in reward, which is where the
signal is (Xu et al. 2025, arXiv:2504.13818). The KL is that of whole distributions, in the loss: as
a penalty of the tokens said it is all noise. AdamW's epsilon lies above the gradients, since its
even step in every direction spends the KL on noise too. Of all iterations that one is kept whose
answers to training questions the principles judge best. Writes ``curve.parquet`` (a row an
iteration).
"""

from __future__ import annotations

from components.align.recipe import PPOConfig
from components.core.artifact import Checkpoint, Instructions, Tokenizer
from components.core.errors import ConfigError
from components.core.weights import load_model, save_model
from components.core.workdir import Workdir
from components.text.answering import read_questions
from components.text.chat import open_tokenizer


def ppo(
    config: PPOConfig,
    policy: Checkpoint,
    reward: Checkpoint,
    instructions: Instructions,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Checkpoint:
    """Align ``policy``; a killed run that is called again goes on after its last iteration.

    Raises:
        ConfigError: ``max_new`` leaves no room for a question in the model's context.
        DataError: an input cannot be read, or no training question fits.
        MillError: a loss was not finite.
    """
    from components.align.learning import Learning
    from components.align.rollout import Players, RewardModel
    from components.align.selection import Jury, set_apart

    model = load_model(work.path(policy))
    longest = model.shape.context - config.max_new
    if longest < 1:
        raise ConfigError(
            f"ppo.max_new ({config.max_new}) must be below the model's context "
            f"({model.shape.context})"
        )
    opened = open_tokenizer(work.path(tokenizer))
    found = read_questions(
        work.path(instructions),
        "train",
        opened,
        longest=longest,
        limit=config.questions,
        seed=config.seed,
    )
    reference = load_model(work.path(policy)).requires_grad_(False)
    players = Players(model, reference, RewardModel.load(work.path(reward)))
    asked, apart = set_apart(found, config.judged)
    learning = Learning(config, players, asked, Jury(config, opened, apart), work)
    learning.run()
    save_model(work.folder, model)
    return work.seal(Checkpoint, stats=learning.stats())
