"""PPO stage: trains the fine-tuned policy on rewards, under a KL penalty to its start.

    modelmill stage ppo --input policy=PATH --input reward=PATH --input instructions=PATH \\
        --input tokenizer=PATH --output DIR

In the style of InstructGPT (Ouyang et al. 2022, arXiv:2203.02155): the reward at the last token, a
value function, a KL penalty to the reference.

* Reward: the reward model where it agrees with the principles well enough (``min_correlation``),
  else the principles alone, since a reward that is mostly noise teaches noise.
* Value function: a linear head on the reward model's frozen hidden states in either case.
* Rollouts: each prompt, of pages kept out of fine-tuning, is answered ``samples`` times; trained on
  are the answers that differ most in reward, which carry the signal (Xu et al. 2025,
  arXiv:2504.13818).
* KL: between whole distributions, as a term of the loss; estimated from the sampled tokens and
  subtracted from the reward it was all noise.
* Optimiser: AdamW's epsilon lies above the gradients; otherwise its steps of equal size in every
  direction would spend the KL on noise.
* Kept is the iteration whose answers to other prompts the principles judge best. An attempt that
  cannot go on seals the policy it was given.

Writes ``curve.parquet`` (a row an iteration).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.align.attempt import AttemptFailed
from components.align.own.own_prompts import mix_prompts, read_own_prompts
from components.align.ppo_config import PPOConfig
from components.core.errors import ConfigError
from components.core.log import get_logger
from components.core.store.artifact import Checkpoint, Instructions, Preferences, Tokenizer
from components.core.store.workdir import Workdir
from components.text.chat.ask_model import read_questions
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokenizer,
)
from components.text.decoder_files import load_model, save_model

if TYPE_CHECKING:
    from components.align.ppo_trainer import PPOTrainer
    from components.align.reward_model import RewardModel

log = get_logger(__name__)


def ppo(
    config: PPOConfig,
    policy: Checkpoint,
    reward: Checkpoint,
    instructions: Instructions,
    tokenizer: Tokenizer,
    work: Workdir,
    preferences: Preferences | None = None,
) -> Checkpoint:
    """Align ``policy`` by PPO; a killed run that is called again resumes after its last iteration.

    Args:
        config: rewards, sampling and optimisation.
        policy: the model to align; sealed as it is (stat ``diverged``, ``too_few``,
            ``judge_failed`` or ``untrusted``) where the attempt cannot go on.
        reward: the reward model.
        instructions: its ``align.parquet`` is asked.
        tokenizer: that of both models.
        work: folder of the checkpoint; its scratch keeps saved states.
        preferences: the prompts of a team's own are asked too.

    Raises:
        ConfigError: the inputs are of different tokenizers, or ``max_new`` leaves no room for a
            question in the model's context.
        DataError: an input cannot be read.
    """
    from components.align.ppo_trainer import PPOTrainer
    from components.align.reward_model import RewardModel
    from components.align.rollout import PPOModels
    from components.align.rule_judge import RuleJudge, split_prompts

    digest = check_one_tokenizer(
        "ppo",
        record_of_model(work.artifact_folder(policy), "policy"),
        record_of_model(work.artifact_folder(reward), "reward model"),
        record_of_tokenizer(work.artifact_folder(tokenizer)),
    )
    model = load_model(work.artifact_folder(policy))
    model.tokenizer = digest
    longest_prompt = model.shape.context - config.max_new
    if longest_prompt < 1:
        raise ConfigError(
            f"ppo.max_new ({config.max_new}) must be below the model's context "
            f"({model.shape.context})"
        )
    fast_tokenizer = open_tokenizer(work.artifact_folder(tokenizer))
    asked = read_questions(
        work.artifact_folder(instructions),
        "align",
        fast_tokenizer,
        longest=longest_prompt,
        limit=config.questions,
        seed=config.seed,
    )
    judged = None if preferences is None else work.artifact_folder(preferences)
    own = [] if judged is None else read_own_prompts(judged, longest_prompt)
    prompts = mix_prompts(asked, own, config.seed, config.questions)
    reference = load_model(work.artifact_folder(policy)).requires_grad_(False)
    models = PPOModels(model, reference, RewardModel.load(work.artifact_folder(reward)))
    rollout_prompts, judged_prompts = split_prompts(prompts, config.judged)
    trainer = PPOTrainer(
        config, models, rollout_prompts, RuleJudge(config, fast_tokenizer, judged_prompts), work
    )
    try:
        stats, note = _train_policy(config, models.reward_model, trainer)
    except AttemptFailed as error:
        log.warning("ppo: %s; the policy it was given goes on", error)
        model, stats, note = reference, error.stats, f"the policy as it was: {error}"
    trainer.write_curve()
    save_model(work.folder, model)
    return work.seal(Checkpoint, stats=stats, note=note)


def _train_policy(
    config: PPOConfig, reward_model: RewardModel, trainer: PPOTrainer
) -> tuple[dict[str, float], str]:
    """Train to the last iteration; (stats, the stage's line).

    Raises:
        AttemptFailed: there are too few prompts, nothing may reward, or learning cannot go on.
    """
    if len(trainer.prompts) < config.min_prompts:
        raise AttemptFailed(
            "too_few",
            f"{len(trainer.prompts)} alignment prompts, ppo.min_prompts is {config.min_prompts}: "
            "give more pages with headings under scrape",
        )
    _check_reward(config, reward_model)
    reward_source = _log_reward_source(config, reward_model)
    trainer.train()
    stats = trainer.stats()
    gain = f"{stats['judged_gain']:+.4f} judged, " if "judged_gain" in stats else ""
    return stats, f"{gain}rewarded by {reward_source}"


def _check_reward(config: PPOConfig, reward_model: RewardModel) -> None:
    """Check that something may reward.

    Raises:
        AttemptFailed: the reward model is not trusted, and the principles take no part.
    """
    from components.align.rollout import is_reward_model_trusted

    if not config.principles and not is_reward_model_trusted(config, reward_model):
        raise AttemptFailed(
            "untrusted",
            f"the reward model's within-prompt correlation is {reward_model.correlation.value:.2f}"
            f", ppo.min_correlation is {config.min_correlation:g}, and the principles take no "
            "part: give more preferences, or lower ppo.min_correlation",
        )


def _log_reward_source(config: PPOConfig, reward_model: RewardModel) -> str:
    """Log whether model or principles reward; name the source for the stage's line."""
    from components.align.rollout import is_reward_model_trusted

    correlation = reward_model.correlation
    figure = f"{correlation.value:.2f} [{correlation.low:.2f}, {correlation.high:.2f}]"
    if is_reward_model_trusted(config, reward_model):
        log.info("ppo: the reward model rewards, its within-prompt correlation is %s", figure)
        principles = " and the principles" if config.beside_model else ""
        return f"the reward model{principles} (correlation {correlation.value:.2f})"
    log.warning(
        "ppo: the reward model's within-prompt correlation is %s, ppo.min_correlation is %g: the "
        "principles reward directly",
        *(figure, config.min_correlation),
    )
    return f"the principles (the reward model's correlation is {correlation.value:.2f})"
