"""Which inputs ``modelmill stage`` asks for, and which it takes beside them."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from components.clean.select import select
from components.core.store.artifact import Corpus, Lineage, Scores, Tokenizer, Tokens
from components.train.pretrain import pretrain
from flows.cli.main import app
from flows.pipelines.stage_roles import roles_of

SOME = {"name": "x", "digest": "0" * 64, "lineage": Lineage(component="t", code="", config="")}


def test_a_mapping_with_a_default_takes_any_name() -> None:
    given = {"tokens": Tokens(**SOME), "tokenizer": Tokenizer(**SOME)}
    roles = roles_of(pretrain, given)
    assert roles.needed == {"tokens": Tokens}
    assert roles.kind("more.code") is Tokens
    assert roles.kind("tokenizer") is Tokenizer
    assert roles.kind("more") is None
    assert roles.kind("code") is None
    assert roles.listing == "tokens, more.* (optional), tokenizer (optional)"


def test_a_mapping_without_one_has_the_plan_s_names() -> None:
    given = {"corpus": Corpus(**SOME), "scores": {"pii": Scores(**SOME), "licence": Scores(**SOME)}}
    roles = roles_of(select, given)
    assert roles.needed == {"corpus": Corpus, "scores.pii": Scores, "scores.licence": Scores}
    assert roles.kind("scores.other") is None


@pytest.mark.parametrize(
    ("words", "told", "untold"),
    [
        ((), "merge: model, adapter", "\0"),
        (("import_hf",), "import_hf: folder", "merge: "),
        (("pretrain",), "pretrain: tokens, more.* (optional), tokenizer (optional)", "sft: "),
        (("scrape",), "scrape: no input", "extract: "),
    ],
)
def test_help_names_the_roles(words: tuple[str, ...], told: str, untold: str) -> None:
    done = CliRunner().invoke(app, ["stage", *words, "--help"])
    assert done.exit_code == 0, done.output
    assert told in done.output
    assert untold not in done.output
