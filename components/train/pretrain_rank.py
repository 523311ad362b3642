"""Pretraining in one process, alone or as a rank of several; also the program torchrun starts.

    torchrun --nproc-per-node 8 -m components.train.pretrain_rank STORE/partial/KEY/scratch/job.json

Everything of the stage but the seal: ``components/train/pretrain.py`` calls it in its own process
or hands it to ``components/train/distributed/launch_ranks.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from components.core.store.artifact import Tokenizer
from components.core.store.workdir import Workdir
from components.train.data.training_corpora import TrainingCorpora, open_corpora
from components.train.device import resolve_device
from components.train.pretrain_config import PretrainConfig, PretrainInputs
from models.precision import compute_in

if TYPE_CHECKING:
    from components.train.distributed.single_process import Collectives
    from components.train.trainer.training_loop import TrainingResult
    from models.decoder import Decoder


def pretrain_on_rank(
    config: PretrainConfig, inputs: PretrainInputs, work: Workdir, collectives: Collectives
) -> dict[str, float]:
    """Train as one rank and write the checkpoint, all but its seal; returns the stats.

    Args:
        config: shape, seed, precision and device of the training.
        inputs: its artifacts.
        work: folder of the stage.
        collectives: collectives over the ranks that train together.

    Raises:
        ConfigError, DataError, MillError: as ``pretrain``.
    """
    import torch

    from components.train.trainer.pretraining_call import PretrainingCall
    from models.decoder import Decoder

    device = collectives.device or resolve_device(config.device)
    artifacts = {"tokens": inputs.tokens, **inputs.more}
    folders = {name: work.artifact_folder(artifact) for name, artifact in artifacts.items()}
    corpora = open_corpora(
        folders,
        {name: artifact.digest for name, artifact in artifacts.items()},
        config,
    )
    torch.manual_seed(config.seed)
    model = Decoder(config.shape).to(device)
    model.tokenizer = inputs.tokenizer_digest
    model.activation_checkpointing = config.activation_checkpointing
    if config.float8:
        from components.train.trainer.float8 import check_float8, use_float8

        check_float8(device)
        use_float8(model.layers)
    model = collectives.shard_model(model)
    sample = _open_sampler(model, corpora, work, inputs.tokenizer, collectives)
    with compute_in(model, config.precision, device.type):
        call = PretrainingCall(config, model, corpora, device, work, sample, collectives)
        trained = call.run()
    collectives.save_model(work.folder, model)
    return _stats(trained, model, corpora.bits_per_loss)


def _open_sampler(
    model: Decoder,
    corpora: TrainingCorpora,
    work: Workdir,
    tokenizer: Tokenizer | None,
    collectives: Collectives,
) -> Callable[[], str] | None:
    """Sampler of the model's text; None without a tokenizer, and on several ranks."""
    if tokenizer is None or collectives.world > 1:  # one rank cannot compute without the others
        return None
    from components.text.chat.chat_tokenizer import open_tokenizer
    from components.train.trainer.text_samples import TextSampler

    return TextSampler(model, open_tokenizer(work.artifact_folder(tokenizer)), corpora.eos)


def _stats(trained: TrainingResult, model: Decoder, bits_per_loss: float) -> dict[str, float]:
    stats = {
        "parameters": model.shape.parameters,
        "steps": trained.steps,
        "tokens": trained.targets,
        "loss": round(trained.loss, 4),
        "train_bits_per_byte": round(trained.loss * bits_per_loss, 4),
        "skipped": trained.skipped,
        "tokens_per_second": round(trained.targets_per_second, 1),
        "wait_seconds": round(trained.wait_seconds, 3),
        "starved_steps": trained.late_batches,
    }
    if trained.utilisation is not None:
        stats["utilisation"] = round(trained.utilisation, 4)
    return stats


if __name__ == "__main__":
    from components.train.distributed.launch_ranks import run_torchrun_rank

    sys.exit(run_torchrun_rank(pretrain_on_rank, sys.argv[1:]))
