"""The only place that reads the environment, and the one that switches all telemetry off."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from components.core.errors import ConfigError
from components.core.log import get_logger

MARKER = "prefect.yaml"

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


THREADS = "MODELMILL_THREADS"
MEASURE = "measure"
MOST_THREADS = 1024
Spin = Literal["none", "short", "long"]
"""How long a thread that waits for others keeps its core busy before it sleeps."""
SPINS: dict[str, Spin] = {"none": "none", "short": "short", "long": "long"}
SPIN_COUNTS: dict[Spin, str] = {"none": "0", "short": "1000"}
"""OpenMP's. 1,000 turns are some tens of microseconds: the time between two parallel regions of a
step, and little beside a scheduler's time slice. ``long`` leaves it as the library has it (300,000
turns where it does not know of other programs), beside which a busy neighbour costs most."""


STARTUP = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
"""How long a run waits for the server it starts; Prefect's 20 s are few on a busy machine."""
CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
"""What Prefect (its server and worker too) writes to the terminal; a service may want INFO."""


TRACKING, _DATABASE = "MLFLOW_TRACKING_URI", "/mlflow/mlflow.db"
log = get_logger(__name__)


@dataclass(frozen=True)
class Settings:
    """Where everything lies. One workspace: delete it and nothing is left behind."""

    home: Path
    """The workspace, absolute."""
    reference_data: Path
    """Real inputs with known answers, for benchmarks; may be absent."""
    api_key: str | None = None
    """Key that the endpoint asks for; without one it listens on loopback alone."""
    prefect_api_url: str | None = None
    """Address of a running Prefect server; without one a run starts its own."""
    history_days: int = HISTORY_DAYS
    """How long Prefect's database keeps a flow run that has ended."""
    openlineage_url: str | None = None
    """Address that takes lineage events; without one they go to a file of the workspace."""

    threads: int | None = None
    """Threads for trainings, evaluations and the engine; None has them measured."""
    spin: Spin = "short"

    peers_python: Path | None = None
    """Interpreter that has the peers of the benchmarks; without one, this process's own."""

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
    def speed(self) -> Path:
        """How quick trainings were here (``components/core/training_speed.py``)."""
        return self.home / "speed.json"

    @property
    def logs(self) -> Path:
        return self.home / "logs"


def checkout(start: Path | None = None) -> Path:
    """The checkout's root: the nearest folder upward that holds ``prefect.yaml``.

    Raises:
        ConfigError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / MARKER).exists():
            return folder
    raise ConfigError(f"no {MARKER} in {here} or above: run from a checkout, or set MODELMILL_HOME")


def _own_checkout() -> Path:
    """The checkout of the current folder; outside of any, the one that this code is run from."""
    try:
        return checkout()
    except ConfigError:
        return checkout(Path(__file__).parent)


def load() -> Settings:
    """The settings of this process; also exports what the packages below read themselves."""
    home = workspace_home(os.environ.get("MODELMILL_HOME"))
    reference = os.environ.get("MODELMILL_REFERENCE_DATA")
    peers = os.environ.get("MODELMILL_PEERS_PYTHON")
    settings = Settings(
        home=home,
        reference_data=Path(reference) if reference else Path("../shared/reference-data").resolve(),
        api_key=endpoint_key(),
        prefect_api_url=_address("PREFECT_API_URL", "/api"),
        history_days=_history_days(os.environ.get("MODELMILL_HISTORY_DAYS")),
        openlineage_url=_address("MODELMILL_OPENLINEAGE_URL"),
        threads=thread_count(),
        spin=spin(),
        peers_python=Path(peers).expanduser() if peers else None,
    )
    _tell_of_another_mlflow(settings)
    export(_exports(settings))
    return settings


def _address(name: str, path: str = "") -> str | None:
    """The address that a variable holds; None where it is not set.

    Args:
        path: what its path usually is, for the way on.

    Raises:
        ConfigError: it is no http address.
    """
    given = os.environ.get(name)
    if not given:
        return None
    try:
        parts = urlsplit(given)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number, a bracket that does not close
        whole = False
    if not whole:
        host = given.rpartition("://")[2].partition("/")[0] or "127.0.0.1"
        likely = f"http://{host}{path}"
        raise ConfigError(f"{name}={given}: not an address; give all of it, such as {likely}")
    return given


def _tell_of_another_mlflow(settings: Settings) -> None:
    """Say once that MLflow's own variable is not heard: the registry lies in the workspace.

    Processes that this one starts find the workspace's own address there.
    """
    given = os.environ.get(TRACKING)
    if given and not given.endswith(_DATABASE):
        log.warning(
            "%s=%s is not used: runs and versions go to %s", TRACKING, given, settings.mlflow_uri
        )


_UNFIT_IN_HOME = {"?": "a question mark", "\n": "a line break", "\r": "a line break"}
"""SQLAlchemy takes what follows ``?`` for the options of a database, and knows no escape for it; so
MLflow's and Prefect's databases would land in a folder of another name."""


def workspace_home(given: str | None) -> Path:
    """The workspace's folder, absolute; ``.modelmill`` of the checkout where none is given.

    Raises:
        ConfigError: it is a file, or its path cannot stand in the address of a database.
    """
    try:
        home = Path(given).expanduser().resolve() if given else _own_checkout() / ".modelmill"
    except RuntimeError as error:  # of ~user where there is no such user
        raise ConfigError(f"MODELMILL_HOME={given}: {error}".rstrip(".")) from error
    told = " ".join(f"MODELMILL_HOME={given}".split()) if given else str(home)
    for character, name in _UNFIT_IN_HOME.items():
        if character in str(home):
            way_on = "name a folder" if given else "set MODELMILL_HOME to a folder"
            raise ConfigError(
                f"{told}: holds {name}, which no address of a database can; {way_on} without it"
            )
    if home.exists() and not home.is_dir():
        raise ConfigError(f"{told}: is a file; name a folder")
    return home


def _history_days(given: str | None) -> int:
    if not given:
        return HISTORY_DAYS
    if not given.isdecimal() or not 1 <= int(given) <= 3650:
        raise ConfigError(f"MODELMILL_HISTORY_DAYS={given}: give whole days, 1 to 3650")
    return int(given)


def thread_count() -> int | None:
    """The number of threads that was asked for; None asks for a measurement.

    Read by itself, since a Bento is served where there is no workspace.

    Raises:
        ConfigError: it is neither a number nor ``measure``.
    """
    asked = os.environ.get(THREADS) or MEASURE
    if asked == MEASURE:
        return None
    if not asked.isdecimal() or not 1 <= int(asked) <= MOST_THREADS:
        raise ConfigError(f"{THREADS}={asked}: give a number, 1 to {MOST_THREADS}, or {MEASURE}")
    return int(asked)


def openmp_threads() -> int | None:
    """The bound that the user's OMP_NUM_THREADS sets; None where it names no number."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) else None


def spin() -> Spin:
    """How long waiting threads spin.

    Raises:
        ConfigError: MODELMILL_SPIN is no word for it.
    """
    asked = os.environ.get("MODELMILL_SPIN") or "short"
    if asked not in SPINS:
        raise ConfigError(f"MODELMILL_SPIN={asked}: give one of {', '.join(SPINS)}")
    return SPINS[asked]


def export_spin() -> None:
    """Tell OpenMP how long to spin; it reads that once, when torch is imported."""
    export(_spinning(spin()))


def _spinning(chosen: Spin) -> dict[str, str]:
    """What OpenMP reads; nothing where the user has told it something already."""
    if (
        chosen not in SPIN_COUNTS
        or "GOMP_SPINCOUNT" in os.environ
        or "OMP_WAIT_POLICY" in os.environ
    ):
        return {}
    return {"GOMP_SPINCOUNT": SPIN_COUNTS[chosen]}


def telemetry_off() -> dict[str, bool]:
    """Switch -> whether this process and what it starts have it set."""
    return {name: os.environ.get(name) == value for name, value in TELEMETRY_OFF.items()}


def export(values: dict[str, str]) -> None:
    """Set what packages read from this process's environment when they are imported."""
    os.environ.update(values)


def environment_variable(name: str) -> str | None:
    """What a config's ``${NAME}`` stands for; None where it is not set."""
    return os.environ.get(name)


def endpoint_key() -> str | None:
    """The endpoint's key alone: a Bento is served where there is no workspace."""
    return os.environ.get("MODELMILL_API_KEY") or None


def _exports(settings: Settings) -> dict[str, str]:
    return {
        **TELEMETRY_OFF,
        "PREFECT_HOME": str(settings.prefect),
        # Prefect's lines go to its UI and not to the terminal, which has lines of its own.
        "PREFECT_LOGGING_LEVEL": os.environ.get("PREFECT_LOGGING_LEVEL", "INFO"),
        CONSOLE_LEVEL: os.environ.get(CONSOLE_LEVEL, "CRITICAL"),
        STARTUP: os.environ.get(STARTUP, "120"),
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
        TRACKING: settings.mlflow_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "TOKENIZERS_PARALLELISM": "false",
        **_spinning(settings.spin),
    }


def child_environment(extra: dict[str, str]) -> dict[str, str]:
    """This process's environment with ``extra`` laid over it, for a program we start."""
    return {**os.environ, **extra}
