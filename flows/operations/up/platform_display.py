"""Terminal display of ``up``: live lines while services start, a table, then a line an event."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flows.operations.up.platform_state import FAILED, RESTARTING, STARTING, UP, ServiceState
from flows.runner.progress_display import format_duration, rows_table

_MARKS = {UP: ("✓", "green"), FAILED: ("✗", "red"), RESTARTING: ("↻", "yellow")}
_WAITING = ("…", "cyan")


class UpDisplay:
    """Display of service states; on a terminal a live line each until all services answer."""

    def __init__(self, console: Console, limit: float) -> None:
        self.console = console
        self._limit = limit
        self._states: dict[str, ServiceState] = {}
        self._complete = False
        self._live: Live | None = None

    def begin(self, states: Sequence[ServiceState]) -> None:
        """Show the services to be started."""
        self._states = {state.name: state for state in states}
        if self.console.is_terminal:
            self._live = Live(self, console=self.console, refresh_per_second=4)
            self._live.start()

    def update_service(self, state: ServiceState) -> None:
        """Show that a service started, answered, died or was given up."""
        known = self._states.get(state.name)
        self._states[state.name] = state
        if self._live is not None or state == known:
            return
        if self._complete and state.state != STARTING:
            now = datetime.now().astimezone().strftime("%H:%M:%S")
            self.console.print(Text.assemble((f"{now} ", "dim"), self._line(state)), soft_wrap=True)
        elif state.state == UP and (known is None or known.state != UP):
            self.console.print(self._line(state), soft_wrap=True)

    def stop(self) -> None:
        """Stop the live display; its lines stay as they are."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show_complete(self, note: str) -> None:
        """Show the table of addresses, once all services answer."""
        self.stop()
        self._complete = True
        self.console.print()
        self.console.print(address_table(list(self._states.values())))
        self.console.print(note, soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from (self._line(state) for state in self._states.values())

    def _line(self, state: ServiceState) -> Text:
        mark, colour = _MARKS.get(state.state, _WAITING)
        if state.state == STARTING:
            waited = f"{time.time() - state.since:.0f} s of {self._limit:.0f} s"
            text = f"starting, {waited}" if state.pid else "waits"
        elif state.state == UP:
            text = f"{format_duration(state.seconds):>8}  {state.address}  {state.note}"
        else:
            text = f"{state.state}: {state.note}"
        return Text.assemble((f"{mark} ", colour), f"{state.title:<10}", text)


def address_table(states: Sequence[ServiceState]) -> Table:
    """Table of services, with the address and a note of each."""
    return rows_table(
        ("service", "address", ""), [(state.title, state.address, state.note) for state in states]
    )
