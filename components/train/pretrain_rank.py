"""Pretraining as one of the processes that train together; also the program torchrun starts.

    torchrun --nproc-per-node 8 -m components.train.pretrain_rank STORE/partial/KEY/scratch/job.json

Everything of the stage but the seal: ``components/train/pretrain.py`` calls it in its own process
or hands it to ``components/train/distributed/launch_ranks.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from components.core.store.artifact import Tokenizer
from components.core.store.workdir import Workdir
from components.train.data.training_corpora import Corpora, open_corpora
from components.train.device import device_of
from components.train.pretrain_config import PretrainConfig, PretrainInputs
from models.precision import computing

if TYPE_CHECKING:
    from components.train.distributed.single_process import Ranks
    from components.train.trainer.training_loop import Trained
    from models.decoder import Decoder


def pretrain_on_rank(
    config: PretrainConfig, inputs: PretrainInputs, work: Workdir, ranks: Ranks
) -> dict[str, float]:
    """All of the stage but its seal, as one of the ranks that train together; the stats.

    Raises:
        ConfigError, DataError, MillError: as ``pretrain``.
    """
    import torch

    from components.train.trainer.pretraining_call import Pretraining
    from models.decoder import Decoder

    device = ranks.device or device_of(config.device)
    given = {"tokens": inputs.tokens, **inputs.more}
    folders = {name: work.path(one) for name, one in given.items()}
    corpora = open_corpora(
        folders,
        {name: one.digest for name, one in given.items()},
        config,
    )
    torch.manual_seed(config.seed)
    model = Decoder(config.shape).to(device)
    model.tokenizer = inputs.tokenizer_digest
    model.recompute = config.recompute
    if config.float8:
        from components.train.trainer.float8 import check_float8, use_float8

        check_float8(device)
        use_float8(model.layers)
    model = ranks.shard(model)
    sample = _sampler(model, corpora, work, inputs.tokenizer, ranks)
    with computing(model, config.precision, device.type):
        run = Pretraining(config, model, corpora, device, work, sample, ranks)
        trained = run.train()
    ranks.save(work.folder, model)
    return _stats(trained, model, corpora.bits_per_loss)


def _sampler(
    model: Decoder, corpora: Corpora, work: Workdir, tokenizer: Tokenizer | None, ranks: Ranks
) -> Callable[[], str] | None:
    """What gives samples of the model's text; None without a tokenizer, and on many ranks."""
    if tokenizer is None or ranks.world > 1:  # one rank cannot write without the others
        return None
    from components.text.chat.chat_template import open_tokenizer
    from components.train.trainer.text_samples import Sampler

    return Sampler(model, open_tokenizer(work.path(tokenizer)), corpora.eos)


def _stats(trained: Trained, model: Decoder, bits_per_loss: float) -> dict[str, float]:
    stats = {
        "parameters": model.shape.parameters,
        "steps": trained.steps,
        "tokens": trained.targets,
        "loss": round(trained.loss, 4),
        "train_bits_per_byte": round(trained.loss * bits_per_loss, 4),
        "skipped": trained.skipped,
        "tokens_per_second": round(trained.rate, 1),
        "wait_seconds": round(trained.wait_seconds, 3),
        "starved_steps": trained.starved,
    }
    if trained.utilisation is not None:
        stats["utilisation"] = round(trained.utilisation, 4)
    return stats
