"""Reference of a run's config in Markdown, made from its JSON Schema and the presets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from flows.configs.presets import PRESETS
from flows.configs.run_file import run_file_schema
from flows.configs.text_run import TextRun

PARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Run", "operate.md#a-runs-file", ("preset", "name", "base", "prices")),
    ("Collect", "collect.md", ("scrape",)),
    (
        "Curate",
        "curate.md",
        (
            *("extract", "classifier", "quality_judge", "toxicity_judge", "language_model"),
            *("language", "quality", "judged_quality", "toxicity", "pii", "duplicates"),
            *("passages", "boilerplate", "site_lines", "contamination", "licence", "select"),
            *("check", "change", "dataset"),
        ),
    ),
    ("Train", "train.md", ("tokenizer", "tokens", "instructions", "pretrain", "sft")),
    ("Align", "align.md", ("preferences", "reward", "ppo", "keep_best")),
    ("Evaluate", "evaluate.md", ("loss", "choice", "facts", "compare", "safety")),
    ("Export", "export.md", ("onnx", "hf", "int8", "engine", "bundle")),
    ("Publish", "publish.md", ("registry", "package", "smoke", "promote", "dossier")),
    ("Standalone stages", "train.md#beside-pretraining", ("adapt", "distill", "merge")),
)
"""(title, page of ``docs/``, fields of the run), in the order of the chain."""
HEADER = """\
# Config of a run

Written by `modelmill schema --markdown`; not edited by hand. Every field of a run's YAML file, by
stage, with its default and what is allowed. `--set` takes the same names
(`--set pretrain.minutes=30`); presets change the defaults that stand below each table.
"""
LONGEST_DEFAULT = 80
"""Characters of a default that a cell shows; longer ones are for the file to say."""
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "length ≥ {}",
    "maxLength": "length ≤ {}",
    "minItems": "{} or more",
    "maxItems": "{} or fewer",
    "pattern": "matches `{}`",
}
TYPES = {
    "boolean": "true, false",
    "integer": "integer",
    "number": "number",
    "string": "text",
    "null": "null",
    "object": "mapping",
    "array": "list",
}


def render_reference() -> str:
    """Write every field of a run by stage, with type, default, bounds, description and presets.

    Raises:
        KeyError: a field of the run stands in no part.
    """
    schema = run_file_schema()
    groups, shared = schema["$defs"], _shared_groups(schema)
    fields = dict(schema["properties"])
    sections = [HEADER]
    for title, page, names in PARTS:
        sections.append(f"## {title}\n\nMore: [{page.partition('#')[0]}]({page}).\n")
        for name in names:
            sections.append(_section(name, fields.pop(name), groups, shared))
    if fields:
        raise KeyError(f"no part of the reference names {', '.join(fields)}")
    sections.append("## Shared groups\n\nGroups of fields that several stages have.\n")
    for name in sorted(shared):
        text = groups[name].get("description", "").partition("\n")[0]
        rows = _rows(groups[name], "", groups, shared)
        sections.append(f"### {name}\n\n{text}\n\n{_table(rows)}")
    return "\n".join(sections)


def _section(
    name: str, field: Mapping[str, Any], groups: Mapping[str, Any], shared: frozenset[str]
) -> str:
    """Heading, description, table and presets of one field of the run."""
    group = _group_name(field)
    text = field.get("description", "") or (groups[group].get("description", "") if group else "")
    head = f"### {name}\n\n{text[:1].upper()}{text[1:]}.\n"
    if group is None:
        body = f"{_allowed(field)}; default {_default(field) or 'none: it must be given'}.\n"
        return f"{head}\n{body[:1].upper()}{body[1:]}"
    own = {**groups[group], "defaults": field.get("default")}
    body = f"See [{group}](#{group.lower()}).\n" if group in shared else ""
    changes = "".join(f"* `{preset}`: {text}\n" for preset, text in _preset_changes(name))
    table = "" if group in shared else _table(_rows(own, "", groups, shared))
    return f"{head}\n{body}{table}" + (f"\nPresets that change it:\n\n{changes}" if changes else "")


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = ["| field | allowed | default | |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _rows(
    group: Mapping[str, Any], prefix: str, groups: Mapping[str, Any], shared: frozenset[str]
) -> list[tuple[str, ...]]:
    """(field, allowed, default, description) of each field, those of groups inside by dotted name.

    Args:
        group: Schema of the group; ``defaults`` in it stand in place of its fields' own.
        prefix: Dotted name of the group, with a dot at its end.
        groups: Schemas of all groups.
        shared: Names of the groups that have a section of their own.
    """
    rows: list[tuple[str, ...]] = []
    defaults = group.get("defaults") or {}
    for name, field in group.get("properties", {}).items():
        field = field | ({"default": defaults[name]} if name in defaults else {})
        inner = _group_name(field)
        text = field.get("description", "")
        if inner is None or inner in shared:
            link = f"[{inner}](#{inner.lower()})" if inner else _allowed(field)
            shown = _default_changes(field, groups[inner]) if inner else _default(field)
            rows.append((f"`{prefix}{name}`", link, shown, text))
        else:
            may_be_null = "null, or a group" if _may_be_null(field) else "group"
            rows.append((f"`{prefix}{name}`", may_be_null, "", text))
            own = {**groups[inner], "defaults": field.get("default")}
            rows += _rows(own, f"{prefix}{name}.", groups, shared)
        item = _group_name(field.get("items", {}))
        if item and item not in shared:
            rows += _rows(groups[item], f"{prefix}{name}[].", groups, shared)
    return rows


def _group_name(field: Mapping[str, Any]) -> str | None:
    """Name of the group that a field holds, also where it may be null."""
    candidates = [field, *field.get("allOf", ()), *field.get("anyOf", ())]
    names = [each["$ref"].rpartition("/")[2] for each in candidates if "$ref" in each]
    return names[0] if len(names) == 1 else None


def _may_be_null(field: Mapping[str, Any]) -> bool:
    return {"type": "null"} in field.get("anyOf", ())


def _shared_groups(schema: Mapping[str, Any]) -> frozenset[str]:
    """Names of groups that more than one place holds."""
    places = Counter(
        name
        for group in (schema, *schema["$defs"].values())
        for field in group.get("properties", {}).values()
        for name in (_group_name(field), _group_name(field.get("items", {})))
        if name
    )
    return frozenset(name for name, count in places.items() if count > 1)


def _allowed(field: Mapping[str, Any]) -> str:
    """Type and bounds of a field in words."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_allowed(each) for each in field["anyOf"]))
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    kind = TYPES[field.get("type", "object")]
    if field.get("type") == "array" and "items" in field:
        item = _group_name(field["items"])
        kind = f"list of {'groups' if item else _allowed(field['items'])}"
    bounds = [text.format(field[key]) for key, text in BOUNDS.items() if key in field]
    return ", ".join([kind, *bounds])


def _default(field: Mapping[str, Any]) -> str:
    """Default as YAML has it; empty where the field must be given."""
    return _value(field["default"]) if "default" in field else ""


def _value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else "its own (`modelmill schema`)"


def _default_changes(field: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    """Defaults of a shared group that a field has otherwise."""
    given = field.get("default")
    if not isinstance(given, dict):
        return _default(field)
    own = {name: each.get("default") for name, each in group.get("properties", {}).items()}
    changed = {name: value for name, value in given.items() if own.get(name, value) != value}
    return _value(changed) if changed else ""


def _preset_changes(stage: str) -> Iterator[tuple[str, str]]:
    """(preset, fields and values) where a preset has another value than the field's default."""
    defaults, presets = _dump_runs()
    plain = dict(_flatten(defaults[stage]))
    for preset, run in presets.items():
        values = dict(_flatten(run[stage]))
        changed = {name: value for name, value in values.items() if plain.get(name, ...) != value}
        if changed:
            yield preset, ", ".join(f"`{name}` {_value(changed[name])}" for name in changed)


@cache
def _dump_runs() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Values of a run without a preset, and of each preset: each takes a tenth of a second."""
    presets = {name: make_run().model_dump(mode="json") for name, make_run in PRESETS.items()}
    return TextRun().model_dump(mode="json"), presets


def _flatten(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, value
