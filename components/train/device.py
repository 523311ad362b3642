"""Where a model is trained: the processor, or a GPU where there is one. Torch when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from components.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]


def device_of(asked: Device) -> torch.device:
    """The device to compute on; ``auto`` is a GPU that can be used, else the processor.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    import torch

    if asked == "cpu":
        return torch.device("cpu")
    usable = torch.cuda.is_available()
    if asked == "cuda" and not usable:
        why = "none is seen" if torch.version.cuda else "this build of torch has no CUDA"
        raise ConfigError(f"device: a GPU (cuda) is asked for, but {why}; set it to auto or cpu")
    return torch.device("cuda") if usable else torch.device("cpu")
