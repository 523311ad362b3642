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
from flows.configs.field_agreement import check_heldout_shares
from flows.configs.presets import PRESETS
from flows.configs.relative_files import anchor_own_files, resolve_file_globs, try_own_files
from flows.configs.text_run import TextRun


def read_target(target: str, sets: Sequence[str], settings: Settings) -> TextRun:
    """Read the config of a target: a preset, or a YAML file over one.

    Args:
        target: name of the preset, or path of the file.
        sets: assignments ``field=value`` over it.
        settings: settings of the workspace, whose orders to forget are added to the blocklists.

    Raises:
        ConfigError: neither, or a field in it is wrong.
    """
    run = _read_target(target, sets)
    check_heldout_shares(run.tokenizer, run.tokens)
    return apply_forget_orders(run, settings)


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


def _read_target(target: str, sets: Sequence[str]) -> TextRun:
    if target in PRESETS:
        run = overlay_config(PRESETS[target](), {}, sets)
        check_secret_fields(run, ConfigSource(assignments=sets))
        try_own_files(run, ConfigSource(assignments=sets))
        return resolve_file_globs(run, sets)
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
    return resolve_file_globs(run, sets, file=path, values=values, lines=lines)
