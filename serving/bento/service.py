"""BentoML service: one worker, one engine, the OpenAI endpoint below ``/v1``.

    bentoml serve <the folder of a Bento>

Workers are processes, each with a copy of the model; the engine batches within one.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from _bentoml_sdk import Service

from components.core.endpoint_settings import endpoint_api_key
from serving.bento.answer_timeout import install_answer_timeout
from serving.bento.bounded_protocol import install_protocol
from serving.bento.bounded_websocket import install_websocket_protocol
from serving.bento.draining_server import install_draining_server
from serving.bento.endpoint_app import ANSWER_SECONDS, EndpointApp, LoadedEndpoint
from serving.bento.request_tracing import open_tracing
from serving.bento.worker_supervisor import install_worker_supervisor

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from serving.api.answers.loaded_model import LoadedModel

endpoint = LoadedEndpoint()


class EndpointService(Service[Any]):  # type: ignore[misc]
    """BentoML's service with an application of its own in front."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The application that BentoML's worker serves."""
        return EndpointApp(super().to_asgi(is_main), endpoint)


@bentoml.service(
    name="modelmill",
    workers=1,
    metrics={"enabled": False},  # RequestMetrics, whose labels are bounded, stand in their place
    traffic={"timeout": ANSWER_SECONDS},
    envs=[{"name": "BENTOML_DO_NOT_TRACK", "value": "true"}],
    service_class=EndpointService,
)
class OpenAIService:
    """A language model that answers like OpenAI's endpoints."""

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def load_model(self) -> None:
        """Load the model in a thread: probes are answered meanwhile."""
        from serving.api.openai_endpoint import create_app

        served = await asyncio.to_thread(open_own_endpoint)
        tracing = open_tracing(served.model, served.version)
        app = create_app(served, endpoint_api_key())
        # What is there now stays: else each full collection looks at it again, for 50 ms.
        gc.collect()
        gc.freeze()
        endpoint.open(served, app, tracing)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def close_endpoint(self) -> None:
        """Send what is still to be told, in a thread: the receiver may be slow."""
        await asyncio.to_thread(endpoint.close)


def open_own_endpoint() -> LoadedModel:
    """The model that is packed with this module."""
    from serving.engine.served_folder import open_endpoint

    return open_endpoint(Path(__file__).resolve().parents[2])


install_protocol()
install_websocket_protocol()
install_draining_server()
install_answer_timeout()
install_worker_supervisor()
