"""Prefect's temporary server, a process of its own: `python -m pipelines.temporary_server PORT`."""

from __future__ import annotations

import sys

from pipelines.importing import without_collector


def main(port: int) -> None:
    """Serve Prefect's API on loopback until asked to end."""
    with without_collector():
        import uvicorn
        from prefect.server.api.server import create_app
    uvicorn.run(
        create_app, factory=True, host="127.0.0.1", port=port, lifespan="on", log_level="error"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
