"""Record of somebody's model that others are made of: its name, its digests and its licence.

``base_model.json`` lies beside the imported weights. What is made of them leads back to it by its
lineage, so the registry and the model card find it there.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import canonical_json, digest_value

BASE_MODEL_FILE = "base_model.json"
NO_LICENCE = "no licence stated"


class BaseRecord(BaseModel):
    """Content of ``base_model.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Name of its folder; empty where it came without one."""
    architecture: str
    """Class of transformers that loads it."""
    weights: dict[str, str]
    """File -> sha256, as model hubs publish it."""
    tokenizer: str
    """sha256 of its ``tokenizer.json``; empty where it has none."""
    licence: str
    """Name of the licence; empty where none is stated."""
    licence_file: str
    """File that states it."""

    @property
    def weights_sha256(self) -> str:
        """sha256 of the one file of weights; of several that of their names and digests."""
        digests = list(self.weights.values())
        return digests[0] if len(digests) == 1 else digest_value(self.weights)

    @property
    def licence_name(self) -> str:
        """The licence as people read it; says so where none is stated."""
        return self.licence or NO_LICENCE

    @property
    def label(self) -> str:
        """The name, else the class of the model."""
        return self.name or self.architecture


def write_base_record(folder: Path, record: BaseRecord) -> None:
    """Write ``base_model.json``."""
    write_atomically(folder / BASE_MODEL_FILE, canonical_json(record.model_dump(mode="json")))


def read_base_record(folder: Path) -> BaseRecord:
    """Read ``base_model.json``.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return BaseRecord.model_validate_json((folder / BASE_MODEL_FILE).read_bytes())
    except (OSError, ValueError, ValidationError) as error:
        line = str(error).splitlines()[0]
        raise DataError(f"{folder.name}: {BASE_MODEL_FILE} cannot be read: {line}") from error
