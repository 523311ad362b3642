"""Deterministic mixture of several corpora by weight: a pure function of the block's number.

The heaviest corpus takes block n when floor((n + 1) w) > floor(n w); the blocks that it leaves are
renumbered and shared out among the others in the same way. So after any number of blocks a mixture
of k corpora is less than k blocks from its weights, and every corpus goes through its own epochs in
its own order. Weights are fractions, so nothing is rounded however many steps there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from components.core.errors import ConfigError
from components.train.data.data_order import BlockSource, TokenBlocks


class CorpusMixture:
    """Mixture of several sources of equally long blocks.

    Raises:
        ConfigError: the weights are not of the sources, or a corpus has shorter blocks.
    """

    def __init__(self, sources: Mapping[str, BlockSource], weights: Mapping[str, float]) -> None:
        if set(sources) != set(weights):
            raise ConfigError(
                f"mixture: weights are given for {', '.join(sorted(weights)) or 'nothing'}, "
                f"tokens for {', '.join(sorted(sources))}; give a weight to each"
            )
        lengths = {name: source.sequence_length for name, source in sources.items()}
        self.sequence_length = max(lengths.values())
        for name, length in lengths.items():
            if length < self.sequence_length:
                raise ConfigError(
                    f"mixture: {name} holds only {length} tokens, less than one block of "
                    f"{self.sequence_length}; leave it out, or lower positions"
                )
        total = sum(_fraction(weight) for weight in weights.values())
        shares = {name: _fraction(weight) / total for name, weight in weights.items()}
        self.names = sorted(sources, key=lambda name: (-shares[name], name))
        self._sources = [sources[name] for name in self.names]
        self.weights = [shares[name] for name in self.names]
        left, self._of_rest = Fraction(1), []
        for part in self.weights:
            self._of_rest.append(part / left)
            left -= part
        # All corpora have been read once when the slowest has.
        rounds = [
            s.blocks_per_epoch / part for s, part in zip(self._sources, self.weights, strict=True)
        ]
        self.blocks_per_epoch = int(max(rounds))

    def read_block(self, number: int) -> TokenBlocks:
        source, inner = self.locate_block(number)
        return self._sources[source].read_block(inner)

    def locate_block(self, number: int) -> tuple[int, int]:
        """(index of the source, number of the block in it) of a block of the mixture."""
        for source, part in enumerate(self._of_rest):
            before, after = _floor(number, part), _floor(number + 1, part)
            if after > before:
                return source, before
            number -= before
        raise AssertionError("the last share of the rest is the whole of it")


def _fraction(weight: float) -> Fraction:
    """The decimal number that was written, not its binary approximation."""
    return Fraction(str(weight))


def _floor(number: int, part: Fraction) -> int:
    return number * part.numerator // part.denominator
