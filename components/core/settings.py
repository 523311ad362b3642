"""Settings of the process and folders of its workspace, with all telemetry off."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from components.core.endpoint_settings import endpoint_api_key
from components.core.environment import export_variables, http_address
from components.core.errors import ConfigError
from components.core.log import get_logger
from components.core.thread_settings import Spin, spin_setting, spin_variables, thread_count
from components.core.workspace_layout import check_layout

CHECKOUT_MARKER = "prefect.yaml"

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Every switch of every package that would report home or reach a hub."""

HISTORY_DAYS = 30
PREFECT_STARTUP_VARIABLE = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
"""Seconds that a run waits for the server it starts; Prefect's 20 are few on a busy machine."""
PREFECT_CONSOLE_LEVEL_VARIABLE = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
"""Level of Prefect's log on the terminal, also its server's; a service may set INFO."""
_MLFLOW_URI_VARIABLE, _DATABASE = "MLFLOW_TRACKING_URI", "/mlflow/mlflow.db"
log = get_logger(__name__)


@dataclass(frozen=True)
class Settings:
    """Settings of a process, and the folders of its workspace: everything that a run writes."""

    home: Path
    """Folder of the workspace, absolute."""
    reference_data: Path
    """Real inputs with known answers, for benchmarks; may be absent."""
    api_key: str | None = None
    """Key that the endpoint requires; without one it listens on loopback alone."""
    prefect_api_url: str | None = None
    """Address of a running Prefect server; without one a run starts its own."""
    history_days: int = HISTORY_DAYS
    """Days that Prefect's database keeps a flow run that has ended."""
    openlineage_url: str | None = None
    """Address that receives lineage events; without one they go to a file of the workspace."""

    threads: int | None = None
    """Threads of trainings, evaluations and the engine; None has them measured."""
    spin: Spin = "short"

    peers_python: Path | None = None
    """Interpreter with the peers of the benchmarks; without one, `make peers` made it."""
    llama_node: Path | None = None
    """Folder where npm installed node-llama-cpp; without one, that of `make peers`."""

    vllm: str | None = None
    """Program of vLLM; None looks for it on PATH."""

    @property
    def store(self) -> Path:
        return self.home / "store"

    @property
    def mlflow(self) -> Path:
        return self.home / "mlflow"

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{self.home}{_DATABASE}"

    @property
    def prefect(self) -> Path:
        return self.home / "prefect"

    @property
    def datasets(self) -> Path:
        return self.home / "datasets"

    @property
    def bentos(self) -> Path:
        return self.home / "bentos"

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def speed_file(self) -> Path:
        """Speeds of past trainings (``components/core/training_speed.py``)."""
        return self.home / "speed.json"

    @property
    def logs(self) -> Path:
        return self.home / "logs"


def find_checkout(start: Path | None = None) -> Path:
    """Root of the checkout: the nearest folder upward that holds ``prefect.yaml``.

    Raises:
        ConfigError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / CHECKOUT_MARKER).exists():
            return folder
    raise ConfigError(
        f"no {CHECKOUT_MARKER} in {here} or above: run from a checkout, or set MODELMILL_HOME"
    )


def own_checkout() -> Path:
    """Root of the checkout that this code belongs to, with ``data/`` and ``benchmarks/``.

    Raises:
        ConfigError: the code was installed without its checkout.
    """
    try:
        return find_checkout(Path(__file__).parent)
    except ConfigError:
        raise ConfigError(
            f"{Path(__file__).parents[2]} is an install without its checkout: Modelmill runs from "
            "a clone of its repository, where `make setup` installs it"
        ) from None


def _default_checkout() -> Path:
    """Checkout of the current folder; outside of any, that of this code."""
    try:
        return find_checkout()
    except ConfigError:
        return own_checkout()


def load_settings(home: Path | None = None) -> Settings:
    """Read the settings of this process, and export the variables that packages read themselves.

    Args:
        home: folder of the workspace in place of MODELMILL_HOME.

    Raises:
        ConfigError: a variable makes no sense, or another version wrote the workspace.
    """
    export_variables(TELEMETRY_OFF)
    configured_home = os.environ.get("MODELMILL_HOME") if home is None else str(home)
    home = workspace_home(configured_home)
    check_layout(home, _shown_home(home, configured_home))
    reference = os.environ.get("MODELMILL_REFERENCE_DATA")
    peers = os.environ.get("MODELMILL_PEERS_PYTHON")
    llama_node = os.environ.get("MODELMILL_LLAMA_NODE")
    settings = Settings(
        home=home,
        reference_data=Path(reference) if reference else Path("../shared/reference-data").resolve(),
        api_key=endpoint_api_key(),
        prefect_api_url=http_address("PREFECT_API_URL", "/api"),
        history_days=_history_days(os.environ.get("MODELMILL_HISTORY_DAYS")),
        openlineage_url=http_address("MODELMILL_OPENLINEAGE_URL"),
        threads=thread_count(),
        spin=spin_setting(),
        peers_python=Path(peers).expanduser() if peers else None,
        vllm=os.environ.get("MODELMILL_VLLM") or None,
        llama_node=Path(llama_node).expanduser() if llama_node else None,
    )
    _warn_of_other_mlflow(settings)
    export_variables(_package_variables(settings))
    return settings


def _warn_of_other_mlflow(settings: Settings) -> None:
    """Warn once that MLflow's own variable is ignored, and why.

    A promotion moves several aliases in one transaction, and `gc` and `forget` delete rows and
    files for good; no call of a tracking server does either. Child processes find the workspace's
    own address in the variable, so they say nothing.
    """
    address = os.environ.get(_MLFLOW_URI_VARIABLE)
    if address and not address.endswith(_DATABASE):
        log.warning(
            "%s=%s is not used: runs and versions go to %s, since promotion, gc and forget need "
            "the tables themselves, which no tracking server gives",
            _MLFLOW_URI_VARIABLE,
            address,
            settings.mlflow_uri,
        )


_FORBIDDEN_IN_HOME = {"?": "a question mark", "\n": "a line break", "\r": "a line break"}
"""SQLAlchemy takes what follows ``?`` for the options of a database and has no escape for it, so
MLflow's and Prefect's databases would end up in a folder of another name."""


def workspace_home(configured: str | None) -> Path:
    """Folder of the workspace, absolute; ``.modelmill`` of the checkout where none is configured.

    Raises:
        ConfigError: it is a file, or its path cannot stand in the address of a database.
    """
    try:
        home = (
            Path(configured).expanduser().resolve()
            if configured
            else _default_checkout() / ".modelmill"
        )
        home.exists()
    except (RuntimeError, OSError, ValueError) as error:  # no such ~user; no path of a file system
        given = str(configured).encode(errors="backslashreplace").decode()
        problem = getattr(error, "strerror", None) or error
        raise ConfigError(f"MODELMILL_HOME={given}: {problem}".rstrip(".")) from error
    shown = _shown_home(home, configured)
    for character, name in _FORBIDDEN_IN_HOME.items():
        if character in str(home):
            way_on = "name a folder" if configured else "set MODELMILL_HOME to a folder"
            raise ConfigError(
                f"{shown}: holds {name}, which no address of a database can; {way_on} without it"
            )
    if home.exists() and not home.is_dir():
        raise ConfigError(f"{shown}: is a file; name a folder")
    return home


def _shown_home(home: Path, configured: str | None) -> str:
    """The workspace in a message: the variable as it was set, else the default folder."""
    return " ".join(f"MODELMILL_HOME={configured}".split()) if configured else str(home)


def _history_days(configured: str | None) -> int:
    if not configured:
        return HISTORY_DAYS
    if not configured.isdecimal() or not 1 <= int(configured) <= 3650:
        raise ConfigError(f"MODELMILL_HISTORY_DAYS={configured}: give whole days, 1 to 3650")
    return int(configured)


def telemetry_switches() -> dict[str, bool]:
    """Telemetry switch -> whether this process and its children have it set."""
    return {name: os.environ.get(name) == value for name, value in TELEMETRY_OFF.items()}


def _package_variables(settings: Settings) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(settings.prefect),
        # Prefect's log goes to its UI; the terminal shows the run's own display.
        "PREFECT_LOGGING_LEVEL": os.environ.get("PREFECT_LOGGING_LEVEL", "INFO"),
        PREFECT_CONSOLE_LEVEL_VARIABLE: os.environ.get(PREFECT_CONSOLE_LEVEL_VARIABLE, "CRITICAL"),
        PREFECT_STARTUP_VARIABLE: os.environ.get(PREFECT_STARTUP_VARIABLE, "120"),
        # Smaller batches of task-run history reach the database before an own server ends.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
        # A server deletes old flow runs itself; `modelmill gc` does it where none keeps running.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(settings.history_days * 86_400),
        # In memory, a deployment's one slot would stay taken for good once the server restarts.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        "BENTOML_HOME": str(settings.bentos),
        _MLFLOW_URI_VARIABLE: settings.mlflow_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "TOKENIZERS_PARALLELISM": "false",
        **spin_variables(settings.spin),
    }
