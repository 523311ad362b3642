"""Collection of graphs with adapters whose servers have ended."""

from __future__ import annotations

from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan
from serving.adapters.adapter_build import ADAPTERS_FOLDER
from serving.gateway.server_home import find_dead_homes, list_homes

PLACE = "adapters"
_ENDED = "graph with adapters of a server that has ended"
_SERVED = "served by a living process"


def plan_adapter_gc(settings: Settings) -> GcPlan:
    """Plan which graphs with adapters go: whatever their age, since no other server reads them.

    A server deletes those of ended ones when it starts; the last one's wait for a collection.
    """
    root = settings.home / ADAPTERS_FOLDER
    plan = GcPlan(PLACE, root)
    dead = find_dead_homes(root)
    for folder in list_homes(root):
        if folder in dead:
            plan.add_deletion(f"{PLACE}/{folder.name}", _ENDED, [folder])
        else:
            plan.add_retained(_SERVED, [folder])
    return plan
