"""Store of keys and values of token sequences that were read before, for prompts that begin alike.

A system prompt, or a conversation's earlier turns, are computed once. Each entry holds one whole
row as it was when it was freed, so that taking it up again is one copy; entries are found by their
blocks of tokens, each named by a hash over all blocks before it (as in vLLM's prefix caching and
SGLang's RadixAttention, arXiv:2312.07104), so that looking up costs the same however many there
are. The entries used longest ago go first.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BLOCK_TOKENS = 32
"""Tokens of a block. Copying fewer gains nothing against reading them."""


@dataclass(frozen=True, eq=False)
class PrefixBlocks:
    """A sequence of tokens, with the name of each whole block from its beginning."""

    tokens: NDArray[np.int32]
    names: tuple[bytes, ...]

    @classmethod
    def of(cls, tokens: Sequence[int], adapter: int = 0) -> PrefixBlocks:
        """Name the blocks of a sequence, whose keys and values are those of an adapter's row."""
        array = np.asarray(tokens, dtype=np.int32)
        names: list[bytes] = []
        name = adapter.to_bytes(4, "little")
        for start in range(0, len(array) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            block = array[start : start + BLOCK_TOKENS].tobytes()
            name = hashlib.blake2b(name + block, digest_size=16).digest()
            names.append(name)
        return cls(array, tuple(names))

    def common_length(self, other: PrefixBlocks) -> int:
        """Number of tokens that both begin with; 0 if it is less than a block."""
        if not self.names or not other.names or self.names[0] != other.names[0]:
            return 0
        least = min(len(self.tokens), len(other.tokens))
        differs = self.tokens[:least] != other.tokens[:least]
        return int(differs.argmax()) if differs.any() else least


@dataclass(eq=False)
class PrefixEntry:
    """Saved keys and values of one sequence."""

    blocks: PrefixBlocks
    saved: NDArray[np.generic]


@dataclass
class PrefixCache:
    """Least recently used entries leave once there is no room.

    Args:
        most_bytes: of the saved keys and values; 0 keeps none.
    """

    most_bytes: int
    used_bytes: int = 0
    _entries: OrderedDict[int, PrefixEntry] = field(default_factory=OrderedDict)
    _by_name: defaultdict[bytes, dict[int, PrefixEntry]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """Entries that hold a block, by their ids, the newest last."""

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def find(self, blocks: PrefixBlocks) -> tuple[PrefixEntry | None, int]:
        """Find the entry that a sequence shares most tokens with, and their number."""
        deepest: PrefixEntry | None = None
        for name in blocks.names:
            holders = self._by_name.get(name)
            if not holders:
                break
            deepest = next(reversed(holders.values()))
        if deepest is None:
            return None, 0
        self._entries.move_to_end(id(deepest))
        return deepest, blocks.common_length(deepest.blocks)

    def wants(self, blocks: PrefixBlocks) -> bool:
        """True if a sequence holds a whole block that no entry has."""
        return self.most_bytes > 0 and any(not self._by_name.get(name) for name in blocks.names)

    def add(self, blocks: PrefixBlocks, saved: NDArray[np.generic]) -> None:
        """Keep a sequence; the one that it goes on from needs no place of its own any more.

        Args:
            blocks: tokens of the sequence.
            saved: their keys and values.
        """
        if saved.nbytes > self.most_bytes:
            return
        earlier, common = self.find(blocks)
        if earlier is not None and common == len(earlier.blocks.tokens):
            self._drop(earlier)
        entry = PrefixEntry(blocks, saved)
        self._entries[id(entry)] = entry
        self.used_bytes += saved.nbytes
        for name in blocks.names:
            self._by_name[name][id(entry)] = entry
        while self.used_bytes > self.most_bytes:
            self._drop(next(iter(self._entries.values())))

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()
        self._by_name.clear()
        self.used_bytes = 0

    def _drop(self, entry: PrefixEntry) -> None:
        del self._entries[id(entry)]
        self.used_bytes -= entry.saved.nbytes
        for name in entry.blocks.names:
            holders = self._by_name[name]
            del holders[id(entry)]
            if not holders:
                del self._by_name[name]
