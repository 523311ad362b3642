"""MLflow's UI over the workspace's registry, run by ``python -m`` with the PORT.

``mlflow server`` is a process that starts another one and waits for it; here the same application
runs in one process, which takes half the memory and dies as a whole.
"""

from __future__ import annotations

import sys

from components.core.environment import export_variables
from components.core.process.failure_line import load_settings_or_exit
from components.core.process.ports import LOOPBACK
from components.core.settings import Settings
from components.publish.registry.mlflow_client import connect_mlflow
from components.publish.registry.mlflow_tables import artifact_root


def serve_registry_ui(settings: Settings, port: int) -> None:
    """Serve the UI on a loopback port until SIGTERM; other host names than its own are refused."""
    export_variables(
        {
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"{LOOPBACK}:{port},localhost:{port}",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "_MLFLOW_SGI_NAME": "uvicorn",
        }
    )
    connect_mlflow(settings)  # makes the database whole where there is none
    from mlflow.server import constants
    from mlflow.server.handlers import initialize_backend_stores

    export_variables(
        {
            constants.BACKEND_STORE_URI_ENV_VAR: settings.mlflow_uri,
            constants.REGISTRY_STORE_URI_ENV_VAR: settings.mlflow_uri,
            constants.ARTIFACT_ROOT_ENV_VAR: artifact_root(settings),
        }
    )
    initialize_backend_stores(
        settings.mlflow_uri,
        settings.mlflow_uri,
        artifact_root(settings),
    )
    import uvicorn

    uvicorn.run(
        "mlflow.server.fastapi_app:app",
        host=LOOPBACK,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    serve_registry_ui(load_settings_or_exit(), int(sys.argv[1]))
