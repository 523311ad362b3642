"""Device of a training: the processor, or a GPU where there is one. Imports torch when called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from components.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

DeviceChoice = Literal["auto", "cpu", "cuda"]


def resolve_device(choice: DeviceChoice) -> torch.device:
    """Resolve a device choice; ``auto`` is a usable GPU, else the processor.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    import torch

    if choice == "cpu":
        return torch.device("cpu")
    usable = torch.cuda.is_available()
    if choice == "cuda" and not usable:
        why = "none is seen" if torch.version.cuda else "this build of torch has no CUDA"
        raise ConfigError(f"device: a GPU (cuda) is asked for, but {why}; set it to auto or cpu")
    return torch.device("cuda") if usable else torch.device("cpu")
