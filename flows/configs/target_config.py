"""Config of a run by its target: a preset, or a YAML file over one, with ``--set`` on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.core.config.config_errors import ConfigSource, show_value
from components.core.config.stage_config import overlay_config, read_yaml
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.lineage.forget_orders import read_orders, split_targets
from flows.configs.env_variables import check_secret_fields, resolve_variables
from flows.configs.field_agreement import answer_lengths, check_base, check_heldout_shares
from flows.configs.presets import OWN_FILES, PRESETS
from flows.configs.relative_files import anchor_own_files, resolve_file_globs, try_own_files
from flows.configs.text_run import TextRun

_WAYS_TO_GIVE = {
    "base": "--set base=FOLDER",
    "instructions.files": "--set 'instructions.files=[chats.jsonl]'",
}


def read_target(
    target: str, sets: Sequence[str], settings: Settings, *, of_stage: bool = False
) -> TextRun:
    """Read the config of a target: a preset, or a YAML file over one.

    Args:
        target: name of the preset, or path of the file.
        sets: assignments ``field=value`` over it.
        settings: settings of the workspace, whose orders to forget are added to the blocklists.
        of_stage: one stage alone is run, for which the run's own files may be missing.

    Raises:
        ConfigError: neither, or a field in it is wrong or missing.
    """
    preset, run = _read_target(target, sets)
    if not of_stage:
        _check_own_files(preset, run)
    return _check_whole(run, settings)


def complete_config(run: TextRun, sets: Sequence[str], settings: Settings) -> TextRun:
    """Config of a run that was built in Python, checked as one that was read.

    Args:
        run: config of every stage.
        sets: assignments ``field=value`` over it.
        settings: settings of the workspace, whose orders to forget are added to the blocklists.

    Raises:
        ConfigError: a field is wrong, or a file that it names cannot be used.
    """
    if sets:
        folder = {"folder": run.scrape.folder}  # is in no dump, and so not in what is laid over
        run = overlay_config(run, {}, sets)
        run = run.model_copy(update={"scrape": run.scrape.model_copy(update=folder)})
    return _check_whole(_try_files("", run, sets)[1], settings)


def _check_whole(run: TextRun, settings: Settings) -> TextRun:
    """Refuse fields that do not agree; add the orders to forget."""
    check_heldout_shares(run.tokenizer, run.tokens)
    if run.base is not None:
        check_base(run.base, run.loss, answer_lengths(run))
    return apply_forget_orders(run, settings)


def _check_own_files(preset: str, run: TextRun) -> None:
    """Refuse a run without the files of the user that its preset is made for.

    Raises:
        ConfigError: names all that are missing, and how to give them.
    """
    needed = OWN_FILES.get(preset, ()) if run.base is None else ("instructions.files",)
    given = {"base": run.base is not None, "instructions.files": bool(run.instructions.files)}
    missing = [field for field in needed if not given[field]]
    if missing:
        ways = " ".join(_WAYS_TO_GIVE[field] for field in missing)
        what = "base" if run.base is not None else f"the preset {preset}"
        raise ConfigError(f"{what} needs {' and '.join(missing)}: add {ways}")


def apply_forget_orders(config: TextRun, settings: Settings) -> TextRun:
    """Add everything that this workspace was ordered to forget to the config's blocklists."""
    targets = [order.target for order in read_orders(settings)]
    if not targets:
        return config
    addresses, domains = split_targets(targets)
    blocklist = sorted({*config.scrape.blocklist, *targets})
    blocked = {
        "blocked_urls": tuple(sorted({*config.select.blocked_urls, *addresses})),
        "blocked_domains": tuple(sorted({*config.select.blocked_domains, *domains})),
    }
    scrape = config.scrape.model_copy(update={"blocklist": blocklist})
    select = config.select.model_copy(update=blocked)
    return config.model_copy(update={"scrape": scrape, "select": select})


def _try_files(preset: str, run: TextRun, sets: Sequence[str]) -> tuple[str, TextRun]:
    """``preset`` and its config with ``sets`` on it, whose files have been tried."""
    check_secret_fields(run, ConfigSource(assignments=sets))
    try_own_files(run, ConfigSource(assignments=sets))
    return preset, resolve_file_globs(run, sets)


def _read_target(target: str, sets: Sequence[str]) -> tuple[str, TextRun]:
    """Preset and config of a target."""
    if target in PRESETS:
        return _try_files(target, overlay_config(PRESETS[target](), {}, sets), sets)
    path = Path(target)
    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(
            f"{target}: neither a preset ({', '.join(PRESETS)}) nor a YAML file over one"
        )
    values, lines = read_yaml(path)
    values = resolve_variables(values, ConfigSource(path, lines))
    preset = values.pop("preset", None)
    if not isinstance(preset, str) or preset not in PRESETS:
        line = lines.get(("preset",), 1)
        raise ConfigError(
            f"{path}:{line}: preset: given {show_value(preset)}: must name the preset that "
            f"the file changes: {', '.join(PRESETS)}"
        )
    named = {"name": path.stem.lower().replace("_", "-"), **anchor_own_files(values, path)}
    run = overlay_config(PRESETS[preset](), named, sets, file=path, lines=lines)
    source = ConfigSource(path, lines, sets)
    check_secret_fields(run, source)
    try_own_files(run, source)
    return preset, resolve_file_globs(run, sets, file=path, values=values, lines=lines)
