"""BentoML service: one worker, one engine, the OpenAI endpoint below ``/v1``.

    bentoml serve <the folder of a Bento>

Workers are processes, each with a copy of the model; the engine batches within one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import bentoml

from components.core.settings import endpoint_api_key
from serving.api.error_responses import ApiError
from serving.bento.answer_timeout import install_answer_timeout
from serving.bento.bounded_protocol import install_protocol
from serving.bento.service_guard import ServiceGuard

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

ANSWER_SECONDS = 600
"""Longest that a whole answer may take to begin; a stream begins at once."""


class MountedEndpoint:
    """ASGI application that BentoML mounts before the model is loaded."""

    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.app is None:
            loading = ApiError(503, "The model is being loaded.", kind="server_error")
            await loading.response()(scope, receive, send)
            return
        await self.app(scope, receive, send)


endpoint = MountedEndpoint()


@bentoml.service(
    name="modelmill",
    workers=1,
    metrics={"enabled": False},  # RequestMetrics, whose labels are bounded, stand in their place
    traffic={"timeout": ANSWER_SECONDS},
    envs=[{"name": "BENTOML_DO_NOT_TRACK", "value": "true"}],
)
@bentoml.asgi_app(endpoint, path="/v1")
class OpenAIService:
    """A language model that answers like OpenAI's endpoints."""

    def __init__(self) -> None:
        from serving.api.openai_endpoint import create_app
        from serving.engine.served_folder import open_endpoint

        served = open_endpoint(Path(__file__).resolve().parents[2])
        endpoint.app = create_app(served, endpoint_api_key())


OpenAIService.add_asgi_middleware(ServiceGuard)  # type: ignore[attr-defined]
install_protocol()
install_answer_timeout()
