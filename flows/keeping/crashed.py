"""Tells Prefect's database that a flow run's process is gone."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID


def crash(identifiers: Sequence[str]) -> None:
    """Set flow runs to ``Crashed`` with Prefect's own functions, without a server."""
    import asyncio

    from prefect.server.database import provide_database_interface
    from prefect.server.models.flow_runs import set_flow_run_state
    from prefect.server.schemas.states import State, StateType

    async def tell() -> None:
        db = provide_database_interface()
        try:
            async with db.session_context(begin_transaction=True) as session:
                for identifier in identifiers:
                    state = State(
                        type=StateType.CRASHED, name="Crashed", message="its process is gone"
                    )
                    await set_flow_run_state(session, UUID(identifier), state, force=True)
        finally:
            engine = await db.engine()
            await engine.dispose()

    asyncio.run(tell())
