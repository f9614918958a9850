"""Where the project's tools keep what is theirs, and that none of them phones home.

Every value is a default: a variable that is set already wins, so that another MLflow
server, Prefect API or bento store is a matter of settings alone. An empty one counts as unset:
that is how CI hands over a secret which is not there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ecgbeats.errors import ConfigError

_QUIET = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GX_ANALYTICS_ENABLED": "False",
    "BENTOML_DO_NOT_TRACK": "True",
    "ORT_DISABLE_TELEMETRY": "1",  # on by itself since ONNX Runtime 1.29
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GIT_PYTHON_REFRESH": "quiet",
}

# MLflow's own defaults (eight tries, 120 s each) say nothing of a refused server for over four
# minutes, and of a silent one for longer. By these it is 4 to 6 s, and 94 to 96. A try's limit
# is on each block that is sent and on the wait for an answer, so a slow line may take longer.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def project_root(start: Path | None = None) -> Path:
    """The folder with dvc.yaml, here or above.

    Raises
    ------
    ConfigError
        There is none.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise ConfigError(f"{start}: expected to be inside the project; no dvc.yaml here or above")


def enter() -> Path:
    """Go to the project's folder; relative paths of MLflow and DVC start there."""
    root = project_root()
    os.chdir(root)
    prepare(root)
    return root


def prepare(root: Path) -> None:
    """Set the environment of this process and of all that it starts."""
    defaults = {
        **_QUIET,
        **_PATIENCE,
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
        "PREFECT_HOME": str(root / ".prefect"),
        "BENTOML_HOME": str(root / ".bentoml"),
        # Its temporary server may need a minute on two busy cores.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    for name, value in defaults.items():
        if not os.environ.get(name):
            os.environ[name] = value
    # Stage commands and BentoML call programs of this environment by name.
    scripts = str(Path(sys.executable).parent)
    if scripts not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = scripts + os.pathsep + os.environ.get("PATH", "")
