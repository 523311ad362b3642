"""Several corpora mixed by weight, exactly and without a draw: a pure function of the number.

The heaviest corpus takes block n when floor((n + 1) w) > floor(n w); what it leaves is numbered
anew and shared out among the others in the same way. So after any number of blocks a mixture of k
corpora is less than k blocks from its weights, and every corpus goes through its own epochs in its
own order. Weights are fractions, so nothing is rounded over however many steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from components.core.errors import ConfigError
from components.train.data.data_order import Blocks, Rows


class Mixture:
    """Blocks of several sources, which are equally long.

    Raises:
        ConfigError: the weights are not of the sources, or a corpus has shorter blocks.
    """

    def __init__(self, sources: Mapping[str, Rows], weights: Mapping[str, float]) -> None:
        if set(sources) != set(weights):
            raise ConfigError(
                f"mixture: weights are given for {', '.join(sorted(weights)) or 'nothing'}, "
                f"tokens for {', '.join(sorted(sources))}; give a weight to each"
            )
        lengths = {name: source.positions for name, source in sources.items()}
        self.positions = max(lengths.values())
        for name, length in lengths.items():
            if length < self.positions:
                raise ConfigError(
                    f"mixture: {name} holds only {length} tokens, less than one block of "
                    f"{self.positions}; leave it out, or lower positions"
                )
        total = sum(_fraction(weight) for weight in weights.values())
        shares = {name: _fraction(weight) / total for name, weight in weights.items()}
        self.names = sorted(sources, key=lambda name: (-shares[name], name))
        self._sources = [sources[name] for name in self.names]
        self.shares = [shares[name] for name in self.names]
        left, self._of_rest = Fraction(1), []
        for part in self.shares:
            self._of_rest.append(part / left)
            left -= part
        # Every corpus has been there once when the slowest has.
        rounds = [s.per_epoch / part for s, part in zip(self._sources, self.shares, strict=True)]
        self.per_epoch = int(max(rounds))

    def row(self, number: int) -> Blocks:
        source, inner = self.place(number)
        return self._sources[source].row(inner)

    def place(self, number: int) -> tuple[int, int]:
        """(which source, the number of the block in it) of a block of the mixture."""
        for source, part in enumerate(self._of_rest):
            before, after = _floor(number, part), _floor(number + 1, part)
            if after > before:
                return source, before
            number -= before
        raise AssertionError("the last share of the rest is the whole of it")


def _fraction(weight: float) -> Fraction:
    """The number that was written, not the binary one beside it."""
    return Fraction(str(weight))


def _floor(number: int, part: Fraction) -> int:
    return number * part.numerator // part.denominator
