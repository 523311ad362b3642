"""Choice of a run's pipeline by its config: from pages, or from somebody's model."""

from __future__ import annotations

from components.collect.scrape_config import ScrapeConfig
from flows.configs.text_run import TextRun
from flows.pipelines.finetune import finetune_pipeline
from flows.pipelines.model_steps import PublishedModel
from flows.pipelines.text import text_pipeline
from flows.runner.runner import Runner, SourceResolver


def pipeline_name(run: TextRun) -> str:
    """Name of the run's pipeline, which Prefect shows as that of the flow."""
    return "text" if run.base is None else "finetune"


def call_pipeline(
    run: TextRun, runner: Runner, resolve: SourceResolver[ScrapeConfig]
) -> PublishedModel:
    """Run the pipeline that the config asks for: with ``base`` fine-tuning, else the whole chain.

    Args:
        run: config of every stage.
        runner: executes or plans the steps.
        resolve: fixes the date, files and earlier crawl of ``scrape``.
    """
    if run.base is not None:
        return finetune_pipeline(run, run.base, runner)
    return text_pipeline(run, runner, resolve)
