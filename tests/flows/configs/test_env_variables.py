"""``${NAME}`` in a run's file: values in place, secrets nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.action import Workspace
from components.core.errors import ConfigError
from components.core.log import mask_secrets
from components.core.settings import Settings
from components.core.store.artifact import Corpus
from components.publish.dataset.push_dataset import push_dataset
from flows.configs.target_config import read_target
from flows.configs.text_run import TextRun
from flows.runner.run_records import repeat_fields


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., TextRun]:
    def lay(text: str, *sets: str) -> TextRun:
        path = tmp_path / "acme.yaml"
        path.write_text(text)
        return read_target(str(path), sets, Settings(home=tmp_path, reference_data=tmp_path))

    return lay


def test_a_variable_is_a_value_like_any_other(
    read: Callable[..., TextRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_HOST", "docs.acme.example")
    monkeypatch.setenv("ACME_PAGES", "70")
    monkeypatch.setenv("ACME_PRESET", "nano")
    run = read(
        "preset: ${ACME_PRESET}\n"
        "scrape:\n"
        "  seeds: ['https://${ACME_HOST}/a', 'https://b.example/$${ACME_HOST}']\n"
        "  max_pages: ${ACME_PAGES}\n"
    )
    assert run.scrape.seeds == ["https://docs.acme.example/a", "https://b.example/${ACME_HOST}"]
    assert run.scrape.max_pages == 70
    assert run.pretrain.steps == 60


@pytest.mark.parametrize(
    ("text", "sets", "expected"),
    [
        (
            "preset: nano\nscrape:\n  seeds: ['https://a.example/', '${ACME_URL}']\n",
            (),
            "acme.yaml:3: scrape.seeds.1: ${ACME_URL} is not set in the environment",
        ),
        (
            "preset: nano\ndataset:\n  remote: s3://${ACME_BUCKET}\n",
            (),
            "acme.yaml:3: dataset.remote: ${ACME_BUCKET} is not set in the environment",
        ),
        (
            "preset: nano\n",
            ("dataset.remote=s3://${ACME_BUCKET}",),
            "--set dataset.remote=s3://${ACME_BUCKET}: dataset.remote: ${ACME_BUCKET} is not set",
        ),
        (
            "preset: nano\nscrape: {user_agent: '${ACME_TOKEN}'}\n",
            (),
            "acme.yaml:2: scrape.user_agent: ${ACME_TOKEN} is a secret, which records would show "
            "here: allowed in dataset.remote, scrape.cookies, scrape.headers, scrape.proxy",
        ),
        (
            "preset: nano\nscrape:\n  cookies: {session: '${ACME_SESSION}'}\n",
            (),
            "acme.yaml:3: scrape.cookies.session: ${ACME_SESSION} is not set in the environment",
        ),
        (
            "preset: nano\nscrape:\n  headers: {Authorization: t0ps3cret}\n",
            (),
            "acme.yaml:3: scrape.headers: ",
        ),
        (
            "preset: nano\nscrape: {user_agent: '${ACME_MIRROR}'}\n",
            (),
            "acme.yaml:2: scrape.user_agent: ${ACME_MIRROR} is a secret",
        ),
    ],
)
def test_what_cannot_be_put_in_place_is_one_line(
    read: Callable[..., TextRun],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    sets: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.setenv("ACME_TOKEN", "t0ps3cret")
    monkeypatch.setenv("ACME_MIRROR", "https://me:hunter2@mirror.example/")
    with pytest.raises(ConfigError) as caught:
        read(text, *sets)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "t0ps3cret" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_secrets_of_a_crawl_stay_names(
    read: Callable[..., TextRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_TOKEN", "t0ps3cret")
    monkeypatch.setenv("ACME_HOST", "a.example")
    lines = (
        "preset: nano",
        "scrape:",
        "  seeds: ['https://${ACME_HOST}/']",
        "  headers: {Authorization: 'Bearer ${ACME_TOKEN}'}",
        "  cookies: {session: '${ACME_TOKEN}'}",
        "  proxy: 'http://me:${ACME_TOKEN}@proxy.example:3128'",
    )
    run = read("\n".join(lines))
    assert run.scrape.seeds == ["https://a.example/"]
    assert "t0ps3cret" not in run.model_dump_json()
    identity = run.scrape.request_identity()
    assert identity.headers_for("https://a.example/") == {"Authorization": "Bearer t0ps3cret"}
    assert identity.proxy == "http://me:t0ps3cret@proxy.example:3128"
    assert "t0ps3cret" not in repr(identity)


def test_a_secret_is_in_no_record(
    read: Callable[..., TextRun],
    corpus_of: Callable[..., Corpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remote = tmp_path / "s3cr3t"
    monkeypatch.setenv("ACME_SECRET", remote.name)
    written = f"{tmp_path}/${{ACME_SECRET}}"
    run = read(f"preset: nano\ndataset: {{remote: '{written}'}}\n")
    assert run.dataset.remote == written
    kept = repeat_fields(run, "acme.yaml", [])
    assert kept["config"]["dataset"]["remote"] == written
    settings = Settings(home=tmp_path, reference_data=tmp_path)
    change = push_dataset(run.dataset, corpus_of(["some words of a page"]), Workspace(settings))
    assert any(path.is_file() for path in remote.rglob("*"))  # it went there
    assert change.note.endswith(f" in {written}")
    assert mask_secrets(f"cannot reach {remote}") == f"cannot reach {written}"


def test_top_level_fields_that_begin_with_x_hold_anchors(read: Callable[..., TextRun]) -> None:
    run = read(
        "preset: nano\n"
        "x-short: &short {max_new: 12}\n"
        "facts: *short\n"
        "safety: {<<: *short, questions: 8}\n"
    )
    assert (run.facts.max_new, run.safety.max_new, run.safety.questions) == (12, 12, 8)
    with pytest.raises(ConfigError, match=r"acme.yaml:2: facts.x-a: unknown field"):
        read("preset: nano\nfacts: {x-a: 1}\n")
