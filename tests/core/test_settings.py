"""What the environment says of threads, and what OpenMP is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.core import settings
from components.core.errors import ConfigError
from components.core.thread_settings import export_spin, thread_count


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # ``load`` writes into it
    for name in ("PREFECT_API_URL", "MODELMILL_OPENLINEAGE_URL", "MLFLOW_TRACKING_URI"):
        os.environ.pop(name, None)
    for name in ("MODELMILL_THREADS", "MODELMILL_SPIN", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        os.environ.pop(name, None)
    os.environ["MODELMILL_HOME"] = str(tmp_path)


def test_threads_are_measured_unless_a_number_is_given() -> None:
    assert settings.load_settings().threads is None
    os.environ["MODELMILL_THREADS"] = "measure"
    assert thread_count() is None
    os.environ["MODELMILL_THREADS"] = "3"
    assert settings.load_settings().threads == 3
    os.environ["MODELMILL_THREADS"] = "all"
    with pytest.raises(ConfigError, match="MODELMILL_THREADS=all: give a number, 1 to 1024, or"):
        settings.load_settings()


@pytest.mark.parametrize(
    ("spin", "count"), [(None, "1000"), ("short", "1000"), ("none", "0"), ("long", None)]
)
def test_openmp_is_told_how_long_to_spin(spin: str | None, count: str | None) -> None:
    if spin is not None:
        os.environ["MODELMILL_SPIN"] = spin
    settings.load_settings()
    assert os.environ.get("GOMP_SPINCOUNT") == count


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_what_the_user_told_openmp_stays(name: str) -> None:
    os.environ[name] = "passive"
    settings.load_settings()
    export_spin()
    told = {k: v for k, v in os.environ.items() if k in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    assert told == {name: "passive"}


def test_another_word_for_spin_is_refused() -> None:
    os.environ["MODELMILL_SPIN"] = "forever"
    with pytest.raises(ConfigError, match="MODELMILL_SPIN=forever: give one of none, short, long"):
        settings.load_settings()


@pytest.mark.parametrize("name", ["what?", "two\nlines"])
def test_a_home_that_no_database_address_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    home = tmp_path / name / "home"
    os.environ["MODELMILL_HOME"] = str(home)
    with pytest.raises(ConfigError, match=r"MODELMILL_HOME=.*: holds .*; name a folder") as told:
        settings.load_settings()
    assert "\n" not in str(told.value)
    assert not home.exists()


def test_a_checkout_whose_path_cannot_be_used_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "what?"
    checkout.mkdir()
    (checkout / settings.CHECKOUT_MARKER).touch()
    monkeypatch.chdir(checkout)
    del os.environ["MODELMILL_HOME"]
    with pytest.raises(ConfigError, match=r"what\?/.modelmill: holds .*; set MODELMILL_HOME to"):
        settings.load_settings()


@pytest.mark.parametrize(
    ("name", "given", "likely"),
    [
        ("PREFECT_API_URL", "127.0.0.1:4200", "http://127.0.0.1:4200/api"),
        ("PREFECT_API_URL", "prefect.example:4200/api", "http://prefect.example:4200/api"),
        ("PREFECT_API_URL", "http://", "http://127.0.0.1/api"),
        ("MODELMILL_OPENLINEAGE_URL", "marquez:5000", "http://marquez:5000"),
    ],
)
def test_an_address_that_is_none_names_the_likely_one(name: str, given: str, likely: str) -> None:
    os.environ[name] = given
    with pytest.raises(ConfigError) as told:
        settings.load_settings()
    assert str(told.value) == f"{name}={given}: not an address; give all of it, such as {likely}"


def test_an_address_stays_as_it_was_given() -> None:
    os.environ["PREFECT_API_URL"] = "https://user:word@prefect.example:8443/x/api"
    assert settings.load_settings().prefect_api_url == os.environ["PREFECT_API_URL"]


@pytest.mark.parametrize(
    "given", ["http://mlflow.example:5000/", "mlflow.example", "sqlite:///other.db"]
)
def test_another_mlflow_is_said_once_not_to_be_used(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, given: str
) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = given
    settings.load_settings()
    settings.load_settings()
    assert caplog.messages == [
        f"MLFLOW_TRACKING_URI={given} is not used: runs and versions go to "
        f"sqlite:///{tmp_path}/mlflow/mlflow.db, since promotion, gc and forget need the tables "
        "themselves, which no tracking server gives"
    ]


def test_an_install_without_its_checkout_says_where_modelmill_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "CHECKOUT_MARKER", "no-such-file.yaml")
    with pytest.raises(ConfigError, match=r"an install without its checkout: .* a clone of its"):
        settings.own_checkout()
