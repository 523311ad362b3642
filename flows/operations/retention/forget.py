"""Orders to forget a page or domain: affected copies, rebuild without it, purge, verification.

Garbage collection follows lineage upstream, from what must be kept; an order follows it downstream,
from the page to everything made from it. Both read one graph of artifacts
(``components/core/store/lineage_graph.py``) and delete folders by the same function
(``components/core/io/trash.py``); a purge also has a journal, since it must not stay half done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from components.core.config.blocklist import Blocklist
from components.core.config.config_errors import ConfigSource, collect_problems
from components.core.errors import ConfigError, GateFailed, MillError
from components.core.io.locks import hold_lock
from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan
from components.lineage.affected_copies import AffectedCopies, find_affected
from components.lineage.conversation_rows import find_row_address
from components.lineage.forget_orders import normalise_target, read_orders, record_order
from components.lineage.known_addresses import (
    FILE_SCHEME,
    known_addresses,
    resolve_address,
    suggest_addresses,
)
from components.lineage.text_search import SearchHit, search_workspace
from components.publish.promotion import audit_log
from components.publish.promotion.promotion_record import recover_promotion
from components.publish.registry.delete_versions import mark_forgotten
from components.publish.registry.model_registry import (
    CHAMPION,
    VERSION_SCHEME,
    RegisteredVersion,
)
from flows.configs.target_config import apply_forget_orders
from flows.configs.text_run import TextRun
from flows.operations.retention.purge import (
    begin_purge,
    carry_out_purge,
    find_left_over,
    plan_copies,
    plan_purge,
    read_unfinished_purge,
    recorded_remotes,
)
from flows.runner.run_pipeline import RunOptions, run_target
from flows.runner.run_records import read_records

Confirm = Callable[[str], bool]


@dataclass(frozen=True)
class ForgetOptions:
    """Options of ``modelmill forget``."""

    target: str
    why: str = ""
    rebuild: bool = False
    purge: bool = False
    force: bool = False
    dry_run: bool = False
    plain: bool = False


@dataclass(frozen=True)
class Rebuild:
    """Run to repeat without the forgotten pages."""

    run: str
    name: str
    target: str
    folder: Path
    config: TextRun | None
    """None if its record does not hold it."""


@dataclass
class ForgetOutcome:
    """Outcome of an order."""

    target: str
    new: bool
    dry_run: bool
    affected: AffectedCopies
    runs: list[str]
    """Names of runs that made or used something affected."""
    rebuilds: list[Rebuild]
    rebuilt: list[str] = field(default_factory=list)
    refused: str = ""
    """Reason why a rebuilt version was not promoted."""
    purged: dict[str, int] | None = None
    left: list[SearchHit] = field(default_factory=list)
    plans: list[GcPlan] = field(default_factory=list)
    """Deletions of a purge, by system; of a dry run alone."""

    def as_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "new": self.new,
            "dry_run": self.dry_run,
            "affected": self.affected.as_json(),
            "runs": self.runs,
            "rebuild": [
                {"run": r.run, "name": r.name, "repeatable": r.config is not None}
                for r in self.rebuilds
            ],
            "rebuilt": self.rebuilt,
            "refused": self.refused,
            "purged": self.purged,
            "left": [asdict(hit) for hit in self.left],
            "places": [plan.as_json() for plan in self.plans if plan.deletions],
        }


def forget_target(
    settings: Settings, options: ForgetOptions, confirm: Confirm, console: Console
) -> ForgetOutcome:
    """Record the order; rebuild and purge if requested.

    Args:
        settings: workspace in which the target is forgotten.
        options: options from the command line.
        confirm: asks the user a yes-or-no question.
        console: receives progress.

    Raises:
        ConfigError: the target is no URL and no domain, or a run cannot be repeated.
        MillError: a champion without a successor would be deleted, or a run is active.
    """
    if options.purge and not options.dry_run:  # first: it deletes what the name is looked up in
        _finish_interrupted_purge(settings, console)
    target = _resolve_target(settings, options.target)
    affected = find_affected(settings, [target])
    records = read_records(settings.runs)
    rebuilds = list(_choose_rebuilds(records, affected))
    runs = [record["run"] for record in records if _is_affected(record, affected)]
    if options.dry_run:
        new = target not in {order.target for order in read_orders(settings)}
        plans = plan_copies(settings, affected, recorded_remotes(records))
        return ForgetOutcome(target, new, True, affected, runs, rebuilds, plans=plans)
    if options.purge and affected:
        _refuse_while_running(records)
        if not confirm(_confirmation_question(target, affected, options)):
            raise MillError("nothing was deleted and no order was recorded")
    order, new = record_order(settings, target, options.why)
    mark_forgotten(settings, affected.versions, target)
    if new:
        facts = {"target": target, "why": options.why, "pages": len(affected.pages)}
        audit_log.append_entry(
            settings, "forget", **facts, versions=[v.uri for v in affected.versions]
        )
    outcome = ForgetOutcome(order.target, new, False, affected, runs, rebuilds)
    if options.rebuild:
        _rebuild(settings, outcome, options, console)
    if options.purge:
        _purge(settings, outcome, options, recorded_remotes(records))
    return outcome


def _resolve_target(settings: Settings, page_or_domain: str) -> str:
    """Resolve a page or domain to the normalised form of orders.

    ``host/path``, ``folder/file`` and ``file:number`` are searched for among the addresses of this
    workspace, and those it was ordered to forget: their crawls may be gone.

    Raises:
        ConfigError: it is empty or matches no known address; suggests similar ones.
    """
    text = page_or_domain.strip()
    if "://" in text or not text:
        return normalise_target(text)
    row = find_row_address(settings, text)
    if row is not None:
        return row
    ordered = {order.target for order in read_orders(settings) if "://" in order.target}
    known = sorted({*known_addresses(settings), *ordered})
    if "/" in text:
        return resolve_address(text, known, or_above=True)
    domain = normalise_target(text)
    files = [address for address in known if address.startswith(FILE_SCHEME)]
    namesakes = [address for address in files if address.endswith(f"/{text}")]
    if namesakes and not any(Blocklist([domain]).covers(address) for address in known):
        raise ConfigError(
            f"{text}: no domain of this workspace{suggest_addresses(text, namesakes)}"
        )
    return domain


def _finish_interrupted_purge(settings: Settings, console: Console) -> None:
    """Carry out a purge that was interrupted, whatever its target."""
    with hold_lock(settings.home / "purge.lock"):
        unfinished = read_unfinished_purge(settings)
        if unfinished is not None:
            message = f"a purge of {', '.join(unfinished.targets)} was interrupted; it is resumed"
            console.print(message, markup=False)
            carry_out_purge(settings, unfinished)


def _refuse_while_running(records: Sequence[dict[str, Any]]) -> None:
    for record in records:
        if record["state"] == "running":
            raise MillError(f"run {record['run']} is active: wait for it or stop it, then repeat")


def _confirmation_question(target: str, affected: AffectedCopies, options: ForgetOptions) -> str:
    parts = [
        f"{len(affected.nodes)} artifacts",
        f"{len(affected.datasets)} dataset versions",
        f"{len(affected.versions)} model versions",
        f"{len(affected.bentos)} Bentos",
    ]
    after = " after the rebuild" if options.rebuild else ""
    return f"Delete {', '.join(parts)} that hold or were made of {target}{after}, for good?"


def _choose_rebuilds(
    records: Sequence[dict[str, Any]], affected: AffectedCopies
) -> Iterator[Rebuild]:
    """For each run name the run of its champion, else the newest that registered a version."""
    champions = {entry.uri for entry in affected.versions if CHAMPION in entry.aliases}
    chosen: dict[str, dict[str, Any]] = {}
    for record in records:  # newest first
        registered = _registered_versions(record)
        if not registered or not _is_affected(record, affected):
            continue
        name = str(record["name"])
        if name not in chosen or (
            registered & champions and not _registered_versions(chosen[name]) & champions
        ):
            chosen[name] = record
    for name, record in sorted(chosen.items()):
        repeat = record.get("repeat") or {}
        folder = Path(repeat.get("folder", "."))
        yield Rebuild(
            record["run"], name, str(record["preset"]), folder, _recorded_config(record, repeat)
        )


def _is_affected(record: dict[str, Any], affected: AffectedCopies) -> bool:
    return bool({step["digest"] for step in record["steps"]} & affected.digests)


def _registered_versions(record: dict[str, Any]) -> set[str]:
    """Addresses of the versions that a run made or found in the registry."""
    artifacts = (step["artifact"] for step in record["steps"])
    return {name for name in artifacts if name.startswith(VERSION_SCHEME)}


def _recorded_config(record: dict[str, Any], repeat: dict[str, Any]) -> TextRun | None:
    if not repeat.get("config"):
        return None
    try:
        config = TextRun.model_validate(repeat["config"])
    except ValidationError as error:
        problems = (
            ConfigSource()
            .format_problems(collect_problems(error, TextRun, repeat["config"]))
            .replace("\n", "; ")
        )
        raise ConfigError(
            f"run {record['run']}: its config no longer fits this version ({problems}); "
            "run its target yourself, then `modelmill forget … --purge`"
        ) from error
    scrape = config.scrape.model_copy(update={"folder": repeat.get("files_folder", "")})
    return config.model_copy(update={"scrape": scrape})


def _rebuild(
    settings: Settings, outcome: ForgetOutcome, options: ForgetOptions, console: Console
) -> None:
    """Repeat each run; a gate that refuses one ends neither the others nor the order."""
    for rebuild in outcome.rebuilds:
        if rebuild.config is None:
            raise ConfigError(
                f"run {rebuild.run} cannot be repeated: its record holds no config (an older "
                "version wrote it, or it holds a secret); run "
                f"`modelmill run {rebuild.target}` with its settings, "
                "then `modelmill forget … --purge`"
            )
        config = apply_forget_orders(rebuild.config, settings)
        message = f"rebuilding {rebuild.name} as in run {rebuild.run}, without {outcome.target}"
        console.print(message, markup=False)
        run = RunOptions(rebuild.target, plain=options.plain, config=config)
        try:
            with chdir(rebuild.folder if rebuild.folder.is_dir() else Path.cwd()):
                outcome.rebuilt.append(run_target(settings, run, console).run)
        except GateFailed as refusal:
            outcome.refused = str(refusal)


def _purge(
    settings: Settings, outcome: ForgetOutcome, options: ForgetOptions, remotes: Sequence[str]
) -> None:
    _refuse_while_running(read_records(settings.runs))
    recover_promotion(settings)
    affected = find_affected(settings, [outcome.target])
    champions = [entry for entry in affected.versions if CHAMPION in entry.aliases]
    if champions and not options.force:
        raise MillError(_no_successor_line(champions, outcome, options))
    with hold_lock(settings.home / "purge.lock"):
        purge, texts = plan_purge(settings, [outcome.target], affected, remotes)
        audit_log.check_end(settings)
        begin_purge(settings, purge)
        carry_out_purge(settings, purge)
    outcome.purged = purge.counts()
    outcome.left = find_left_over(settings, texts)


def _no_successor_line(
    champions: Sequence[RegisteredVersion], outcome: ForgetOutcome, options: ForgetOptions
) -> str:
    named = ", ".join(f"{entry.model} version {entry.version}" for entry in champions)
    why = (
        f" ({outcome.refused})" if outcome.refused else "" if options.rebuild else "; add --rebuild"
    )
    return (
        f"nothing was deleted: {named} is champion, was made of {outcome.target}, and no clean "
        f"version took its place{why}; --force deletes it all the same and leaves no champion"
    )


def verify_absence(settings: Settings, what: str) -> dict[str, Any]:
    """Search the workspace for a page, domain or text.

    A URL or domain is searched for by lineage in everything that holds pages; anything else, as
    text, in the unpacked content of every file. ``clean`` is true if nothing was found and
    everything could be read.

    Raises:
        ConfigError: ``what`` is empty.
    """
    if not what.strip():
        raise ConfigError("--verify: name the page, domain or text to search for")
    try:
        target = _resolve_target(settings, what)
    except ConfigError:
        findings = search_workspace(settings, [what])
        clean = not findings.hits and not findings.unreadable
        return {"looked_for": "text", "clean": clean, **findings.as_json()}
    affected = find_affected(settings, [target])
    holders = [f"store/{node.name}" for node in affected.nodes]
    holders += [f"datasets/{pin.version}" for pin in affected.datasets]
    holders += [version.uri for version in affected.versions]
    holders += [f"bentos/{bento.folder}" for bento in affected.bentos]
    unreadable = [
        f"store/partial/{key}: a stage that did not finish" for key in affected.unfinished
    ]
    return {
        "looked_for": target,
        "clean": not holders and not unreadable,
        "found": [{"path": name, "where": "made of it or holds it"} for name in holders],
        "unread": unreadable,
        "named": [hit.path for hit in search_workspace(settings, [target]).hits],
    }
