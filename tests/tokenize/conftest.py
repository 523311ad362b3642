"""Documentation pages of a library that does not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from components.core.store.artifact import Corpus

DEFINED = """## {module}.{name}

```python
def {name}(self, {first}, *, depth: int = {depth}) -> str
```

{verb} the `{first}` of the {noun} number {depth}. Anything else raises.

"""
VERBS = ("Return", "Open", "Close", "Count", "Measure", "Encode")
NOUNS = ("file", "stream", "graph", "matrix", "session", "queue", "column")


def page(index: int) -> dict[str, Any]:
    module = f"pkg.mod{index}"
    members = "".join(
        DEFINED.format(
            module=module,
            name=f"{VERBS[n % 6].lower()}_{NOUNS[n % 7]}_{index}",
            first=NOUNS[(n + index) % 7],
            verb=VERBS[n % 6],
            noun=NOUNS[n % 7],
            depth=index * 10 + n,
        )
        for n in range(6)
    )
    text = f"# {module}\n\nTools for the {NOUNS[index % 7]} of kind {index}.\n\n{members}"
    return {"text": text, "title": module, "url": f"https://docs.example/{module}.html"}


@pytest.fixture
def docs(corpus_of: Callable[..., Corpus]) -> Corpus:
    return corpus_of([page(index) for index in range(40)], shards=3)
