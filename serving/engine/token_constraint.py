"""Interface of a constraint on an answer: the tokens that may come next, by a grammar."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TokenConstraint(Protocol):
    """State of one constrained answer; an engine asks before each draw and tells the outcome."""

    def allowed_tokens(self, remaining: int) -> NDArray[np.bool_]:
        """Tokens that may come next [v], the model's end tokens where the answer may end.

        Args:
            remaining: tokens that may still be drawn, this one included; an answer that has to be
                closed is led to its end in time.
        """
        ...

    def settle_token(self, token: int) -> int:
        """The token to take in place of a drawn one: itself, or, where the answer could not be
        closed behind it in the tokens that remain, the next one of a way that can (an end token
        where the answer is whole). Asked once for each draw, before ``accept_token``."""
        ...

    def accept_token(self, token: int) -> None:
        """Go on behind a token that was drawn."""
        ...

    @property
    def ended(self) -> bool:
        """Nothing may follow."""
        ...

    @property
    def was_cut(self) -> bool:
        """The answer was led to its end against the model's draw, since its tokens ran out."""
        ...

    @property
    def failure(self) -> str:
        """Bound that the answer ran into, so that it is not whole; empty for none."""
        ...
