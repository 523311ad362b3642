"""Python API of Modelmill: run and plan pipelines, run stages of your own, load and ask models.

    >>> import modelmill
    >>> run = modelmill.run("nano")  # doctest: +SKIP
    >>> run.figures["loss.bits_per_byte"]  # doctest: +SKIP
    >>> modelmill.chat("nano@champion", "What does json.dumps do?")  # doctest: +SKIP

It is the command line's own code: the same presets and files, store, locks, records, caching and
resume. Errors are raised as they are (``ConfigError``, ``DataError``, ``GateFailed`` and others of
``MillError``), with the line that the command line would print. Nothing is printed unless
``show=True``, signals are left to your program, and every call works in a script, in a thread and
in a notebook. ``home`` is the folder of the workspace; without it that of ``MODELMILL_HOME``, else
``.modelmill`` in the checkout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import (
    ConfigError,
    DataError,
    GateFailed,
    MillError,
    TrainingDiverged,
    TransientError,
)
from components.core.process.import_interrupts import deliver_between_imports
from modelmill.library_call import library_call

if TYPE_CHECKING:
    from components.clean.select import SelectConfig, select
    from components.clean.selection_rule import BoundsRule, CorpusRule, Rule
    from components.core.config.stage_config import StageConfig
    from components.core.settings import Settings
    from components.core.stats.figures import Figure, exact_figure, mean_interval
    from components.core.stats.report_config import ReportConfig
    from components.core.store.artifact import (
        Artifact,
        Checkpoint,
        Corpus,
        Report,
        Scores,
        Tokenizer,
        Tokens,
    )
    from components.core.store.shards import map_shards, read_shards
    from components.core.store.workdir import Workdir
    from flows.api.chat_model import ChatModel, Messages
    from flows.api.find_model import Reference
    from flows.api.finished_run import Plan, Run
    from flows.api.own_stage import StageInput
    from flows.api.run_source import Overrides, Source
    from flows.api.stored_artifact import StoredArtifact
    from flows.configs.text_run import TextRun

__all__ = [
    "Artifact",
    "BoundsRule",
    "ChatModel",
    "Checkpoint",
    "ConfigError",
    "Corpus",
    "CorpusRule",
    "DataError",
    "Figure",
    "GateFailed",
    "MillError",
    "Plan",
    "Report",
    "ReportConfig",
    "Rule",
    "Run",
    "Scores",
    "SelectConfig",
    "StageConfig",
    "StoredArtifact",
    "TextRun",
    "Tokenizer",
    "Tokens",
    "TrainingDiverged",
    "TransientError",
    "Workdir",
    "artifact",
    "chat",
    "exact_figure",
    "load",
    "map_shards",
    "mean_interval",
    "plan",
    "read_shards",
    "run",
    "select",
    "stage",
]

_HOMES = {
    "components.clean.select": ("SelectConfig", "select"),
    "components.clean.selection_rule": ("BoundsRule", "CorpusRule", "Rule"),
    "components.core.config.stage_config": ("StageConfig",),
    "components.core.stats.figures": ("Figure", "exact_figure", "mean_interval"),
    "components.core.stats.report_config": ("ReportConfig",),
    "components.core.store.artifact": (
        *("Artifact", "Checkpoint", "Corpus", "Report", "Scores", "Tokenizer", "Tokens"),
    ),
    "components.core.store.shards": ("map_shards", "read_shards"),
    "components.core.store.workdir": ("Workdir",),
    "flows.api.chat_model": ("ChatModel",),
    "flows.api.finished_run": ("Plan", "Run"),
    "flows.api.stored_artifact": ("StoredArtifact",),
    "flows.configs.text_run": ("TextRun",),
}
"""Module -> names of it that stand here too, imported at their first use."""
_PLACES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'modelmill' has no attribute {name!r}")
    value = getattr(deliver_between_imports(lambda: import_module(_PLACES[name])), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


@library_call
def run(
    source: Source,
    overrides: Overrides = None,
    *,
    home: str | PathLike[str] | None = None,
    until: str | None = None,
    refresh: bool = False,
    plain: bool = True,
    show: bool = False,
) -> Run:
    """Run a pipeline; stages whose result is in the store are not run again.

    Args:
        source: a preset (``"tiny"``), a YAML file over one, a mapping of such a file's fields
            (``{"preset": "tiny", "pretrain": {"steps": 100}}``) or a ``TextRun``.
        overrides: values over it, as a mapping (``{"pretrain.steps": 100}``, nested or dotted) or
            as the assignments of ``--set`` (``["pretrain.steps=100"]``).
        home: folder of the workspace.
        until: name of the last stage to run.
        refresh: crawl again instead of using the last crawl.
        plain: run without a Prefect server; False shows the run in Prefect's UI.
        show: print a line for every finished stage.

    Returns:
        The run: its stages, artifacts, figures with intervals, version and answers.

    Raises:
        ConfigError: the source or a field is wrong; no stage has run.
        MillError: a stage failed; the same call goes on from there.
        KeyboardInterrupt: the run was stopped; the same call goes on from there.

    Example:
        >>> run = modelmill.run("nano", {"pretrain.steps": 30})  # doctest: +SKIP
        >>> run["select"].folder, run.version, run.figures  # doctest: +SKIP
    """
    from flows.api.library_run import RunRequest, run_pipeline

    request = RunRequest(source, overrides, until, refresh=refresh, plain=plain, show=show)
    return run_pipeline(_settings(home), request)


@library_call
def plan(
    source: Source, overrides: Overrides = None, *, home: str | PathLike[str] | None = None
) -> Plan:
    """Plan a run: what would run, why, and for how long. Nothing runs, nothing is written.

    Args:
        source: as of ``run``.
        overrides: as of ``run``.
        home: folder of the workspace.

    Returns:
        The plan: ``steps``, ``totals()``, ``refusals``; as text the table of ``modelmill plan``.

    Raises:
        ConfigError: the source or a field is wrong.

    Example:
        >>> print(modelmill.plan("tiny", {"select.quality.min_words": 60}))  # doctest: +SKIP
    """
    from flows.api.library_run import plan_pipeline

    return plan_pipeline(_settings(home), source, overrides)


@library_call
def stage(
    function: Callable[..., Artifact],
    config: StageConfig | Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    home: str | PathLike[str] | None = None,
    show: bool = False,
    **inputs: StageInput | Mapping[str, StageInput],
) -> StoredArtifact:
    """Run one stage into the store, cached and resumed as in a pipeline.

    The function may be one of Modelmill's or of your own file or notebook: ``(config, INPUTS…,
    work) -> Artifact``. Its key holds the config, the inputs' digests and the function's code with
    all that it uses: your functions, classes and values, files of yours that it imports, versions
    of packages. Refused are lambdas, code without source, and global values that no key can hold.
    A function of a script or notebook maps its shards in this process; one of an importable file
    in worker processes.

    Args:
        function: the stage.
        config: its config, or a mapping of its fields; None takes the defaults.
        name: name of the stage in ``modelmill show``; the function's by default.
        home: folder of the workspace.
        show: print a line when it is finished.
        inputs: role -> an artifact, its name or digest, or a folder (a ``Path``) of such files,
            which is copied into the store. A role that takes several gets a mapping.

    Returns:
        The artifact, with its folder.

    Raises:
        ConfigError: the function is no stage or cannot be keyed, or an input is missing or of
            another kind.
        MillError: the stage failed; the same call goes on from there.

    Example:
        >>> report = modelmill.stage(count_words, corpus=run["select"])  # doctest: +SKIP
    """
    from flows.api.own_stage import StageCall, run_own_stage

    call = StageCall(function, config, inputs, name or "", show)
    return run_own_stage(_settings(home), call)


@library_call
def artifact(name: str, *, home: str | PathLike[str] | None = None) -> StoredArtifact:
    """Find a sealed artifact by its name (``sealed/KEY``) or the beginning of its key or digest.

    Args:
        name: at least 6 signs of the key or digest, as ``modelmill show`` lists them.
        home: folder of the workspace.

    Returns:
        The artifact: digest, stats, folder, figures, lineage.

    Raises:
        ConfigError: no artifact matches, or several.

    Example:
        >>> modelmill.artifact("4f1c09ab").folder  # doctest: +SKIP
    """
    from flows.api.stored_artifact import find_artifact

    return find_artifact(_settings(home), name)


@library_call
def load(
    reference: Reference,
    *,
    tokenizer: Reference | None = None,
    device: str = "cpu",
    home: str | PathLike[str] | None = None,
) -> ChatModel:
    """Load a model into this process: its tokenizer and its torch module.

    Args:
        reference: ``NAME@ALIAS``, ``NAME/VERSION``, ``NAME`` (its champion), the digest of a
            bundle or checkpoint, ``run["sft"]``, or a folder: of a bundle, a checkpoint, or as
            transformers saves a model.
        tokenizer: folder or artifact of the tokenizer, for a checkpoint's folder whose tokenizer
            is not in the store.
        device: torch's name of the device, such as ``cuda``.
        home: folder of the workspace.

    Returns:
        The model: ``chat``, ``generate``, ``tokenizer``, ``module``, ``shape``, ``lineage``.

    Raises:
        ConfigError: there is no such model; names what there is.
        DataError: a file of it is damaged.

    Example:
        >>> model = modelmill.load("tiny@champion")  # doctest: +SKIP
        >>> model.chat("What does json.dumps do?", temperature=0)  # doctest: +SKIP
    """
    from flows.api.chat_model import load_chat_model

    return load_chat_model(_settings(home), reference, tokenizer, device)


@library_call
def chat(
    reference: Reference,
    messages: Messages,
    *,
    temperature: float = 0.7,
    seed: int | None = None,
    max_tokens: int | None = None,
    home: str | PathLike[str] | None = None,
) -> str:
    """Ask a model one question; ``load`` it once to ask several.

    Args:
        reference: as of ``load``.
        messages: a question, or messages in OpenAI's form: ``role`` and ``content``.
        temperature: 0 takes the likeliest token each time.
        seed: seed of the random numbers; None draws other ones each time.
        max_tokens: most tokens of the answer; None is 256, or what the context leaves.
        home: folder of the workspace.

    Returns:
        The answer's text.

    Raises:
        ConfigError: there is no such model, or an argument is out of bounds.
        DataError: a file of the model is damaged, or the chat template refuses a message.

    Example:
        >>> modelmill.chat("tiny@champion", "What does json.dumps do?", seed=1)  # doctest: +SKIP
    """
    model = load(reference, home=home)
    return model.chat(messages, temperature=temperature, seed=seed, max_tokens=max_tokens)


def _settings(home: str | PathLike[str] | None) -> Settings:
    """Settings of the workspace; Prefect reads its environment when it is imported, so first."""
    from components.core.settings import load_settings

    if not isinstance(home, str | PathLike | None):
        raise ConfigError(f"home: given {home!r}: give the folder of a workspace")
    return load_settings(None if home is None else Path(home))
