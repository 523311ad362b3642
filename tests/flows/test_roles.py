"""Which inputs ``modelmill stage`` asks for, and which it takes beside them."""

from __future__ import annotations

from components.clean.select import SelectConfig, select
from components.core.artifact import Corpus, Lineage, Scores, Tokenizer, Tokens
from components.train.pretrain import PretrainConfig, pretrain
from flows.plan import Planned
from flows.staging import _roles

SOME = {"name": "x", "digest": "0" * 64, "lineage": Lineage(component="t", code="", config="")}


def planned(component: object, config: object, **inputs: object) -> Planned:
    return Planned("x", "", [], None, None, component, config, inputs)  # type: ignore[arg-type]


def test_a_mapping_with_a_default_takes_any_name() -> None:
    given = {"tokens": Tokens(**SOME), "tokenizer": Tokenizer(**SOME)}
    roles = _roles(planned(pretrain, PretrainConfig(), **given))
    assert roles.needed == {"tokens": Tokens}
    assert roles.kind("more.code") is Tokens
    assert roles.kind("tokenizer") is Tokenizer
    assert roles.kind("more") is None
    assert roles.kind("code") is None
    assert roles.named == "tokens, more.* (optional), tokenizer (optional)"


def test_a_mapping_without_one_has_the_plan_s_names() -> None:
    given = {"corpus": Corpus(**SOME), "scores": {"pii": Scores(**SOME), "licence": Scores(**SOME)}}
    roles = _roles(planned(select, SelectConfig(), **given))
    assert roles.needed == {"corpus": Corpus, "scores.pii": Scores, "scores.licence": Scores}
    assert roles.kind("scores.other") is None
