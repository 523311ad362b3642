"""Stage ``check``: gate of the corpus by a Great Expectations suite of ``data/expectations/``.

The suite is loaded into the config, so editing the file checks again. A corpus that fails stops
the run and names the expectation, the figure, its bound and some pages; nothing is sealed.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import ConfigError, GateFailed, error_line
from components.core.stats.figures import Figure, exact_figure, proportion_interval
from components.core.store.artifact import Corpus, Report
from components.core.store.shards import map_shards, read_shards
from components.core.store.workdir import Workdir
from components.validate.document_frame import FRAME_SCHEMA, frame_of_shard, to_pandas
from components.validate.explain_failures import ROW_COUNT_EXPECTATION, explain_failure
from components.validate.suite_config import Expectation, SuiteConfig

if TYPE_CHECKING:
    import pandas as pd

LEDGER, DUPLICATE_RULE = "ledger", "duplicates"
"""Folder in which ``select`` says of every document why it was dropped, and the rule that drops
duplicates."""


def check_corpus(config: SuiteConfig, corpus: Corpus, work: Workdir) -> Report:
    """Validate the corpus; ``report.json`` holds a figure for each expectation.

    Also what gates ask of a corpus: ``documents``, ``characters`` and, where ``select`` left its
    ledger, ``kept_share`` and ``duplicate_share`` (duplicates) of all documents read.

    Args:
        config: the suite.
        corpus: corpus to validate.
        work: folder of the report.

    Raises:
        GateFailed: an expectation does not hold.
        ConfigError: an expectation does not exist, or does not fit the frame's columns.
    """
    frames = work.scratch / "frames"
    map_shards(work, work.artifact_folder(corpus), frame_of_shard, folder=frames)
    frame = to_pandas(read_shards(frames))
    results = _run_suite(config, frame)
    failed = [
        (expectation, result)
        for expectation, result in zip(config.expectations, results, strict=True)
        if not result["success"]
    ]
    if failed:
        first, result = max(
            failed, key=_asked_rows
        )  # too few pages first: more pages may cure the rest
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        read = _count_documents_read(work.artifact_folder(corpus))
        failure = explain_failure(first, result, frame, config.examples, read)
        raise GateFailed(f"check: {failure}{more}")
    config.write_report(
        work.folder,
        [
            *_size_figures(frame, work.artifact_folder(corpus)),
            *_expectation_figures(config, results, len(frame)),
        ],
        expectations=[expectation.model_dump(mode="json") for expectation in config.expectations],
        documents=len(frame),
    )
    return work.seal(
        Report,
        stats={"expectations": float(len(results)), "documents": float(len(frame))},
    )


def _run_suite(config: SuiteConfig, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Validate the frame; results in the order of the suite."""
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig
        from great_expectations.exceptions.exceptions import GreatExpectationsError

        # Its import sets this logger to INFO, whatever stands above it.
        logging.getLogger(ProgressBarsConfig.__module__).setLevel(logging.CRITICAL)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        try:
            suite = gx.ExpectationSuite(name="corpus", expectations=_configurations(config))
        except (GreatExpectationsError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"check: not a suite: {error_line(error)[:300]}") from error
        _refuse_unknown(config, {(known.meta or {}).get("at") for known in suite.expectations})
        source = context.data_sources.add_pandas("corpus")
        asset = source.add_dataframe_asset("documents")
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
        form = {"result_format": "COMPLETE", "unexpected_index_column_names": ["url"]}
        validation = batch.validate(suite, result_format=form)
    results: dict[int, dict[str, Any]] = {}
    for result in validation.results:
        outcome: dict[str, Any] = dict(result.to_json_dict())
        at: int = outcome["expectation_config"]["meta"]["at"]
        results[at] = outcome
        _refuse_broken(config.expectations[at], outcome)
    return [results[at] for at in range(len(config.expectations))]


def _configurations(config: SuiteConfig) -> list[dict[str, Any]]:
    return [
        {"type": expectation.type, "kwargs": dict(expectation.kwargs), "meta": {"at": at}}
        for at, expectation in enumerate(config.expectations)
    ]


def _refuse_unknown(config: SuiteConfig, understood: set[int | None]) -> None:
    """Refuse unknown expectations, which Great Expectations leaves out without raising."""
    for at, expectation in enumerate(config.expectations):
        if at not in understood:
            raise ConfigError(f"check: there is no expectation {expectation.type}")


def _refuse_broken(expectation: Expectation, result: Mapping[str, Any]) -> None:
    """Refuse an expectation that raised instead of giving a result."""
    raised = result.get("exception_info") or {}
    details = [raised] if "raised_exception" in raised else list(raised.values())
    for detail in details:
        if detail.get("raised_exception"):
            raise ConfigError(
                f"check: {expectation.type} ({expectation.column}): "
                f"{error_line(detail.get('exception_message'))[:300]}; "
                f"columns: {', '.join(FRAME_SCHEMA.names)}"
            )


def _size_figures(frame: pd.DataFrame, corpus: Path) -> list[Figure]:
    """Counts of the corpus and shares of its ledger, if it has one."""
    documents = len(frame)
    characters = float(frame["characters"].sum())
    figures = [
        exact_figure("documents", documents, n=documents),
        exact_figure("characters", characters, n=documents),
    ]
    if not (corpus / LEDGER).is_dir():
        return figures
    reasons = read_shards(corpus / LEDGER, ["reasons"])["reasons"].to_pylist()
    read = max(1, len(reasons))
    duplicates = sum(DUPLICATE_RULE in rules for rules in reasons)
    return [
        *figures,
        exact_figure("kept_share", sum(not rules for rules in reasons) / read, n=len(reasons)),
        exact_figure("duplicate_share", duplicates / read, n=len(reasons)),
    ]


def _asked_rows(failed: tuple[Expectation, Mapping[str, Any]]) -> float:
    """Number of pages that an expectation asks for; too few explain most else that fails."""
    expectation = failed[0]
    return (
        float(expectation.kwargs.get("min_value") or 0)
        if expectation.type == ROW_COUNT_EXPECTATION
        else 0.0
    )


def _count_documents_read(corpus: Path) -> int | None:
    """Number of documents that ``select`` judged; None where it left no ledger."""
    if not (corpus / LEDGER).is_dir():
        return None
    return int(read_shards(corpus / LEDGER, ["id"]).num_rows)


def _expectation_figures(
    config: SuiteConfig, results: list[dict[str, Any]], documents: int
) -> list[Figure]:
    return [
        _expectation_figure(name, result["result"], documents)
        for name, result in zip(config.expectation_names(), results, strict=True)
    ]


def _expectation_figure(name: str, outcome: Mapping[str, Any], documents: int) -> Figure:
    """Figure of an expectation: the share of pages that meet it, else its observed value."""
    if "unexpected_count" in outcome and outcome.get("element_count"):
        n = int(outcome["element_count"])
        return proportion_interval(n - int(outcome["unexpected_count"]), n, name=name)
    observed = outcome.get("observed_value")
    value = float(observed) if isinstance(observed, int | float) else 1.0
    return exact_figure(name, value, n=documents)
