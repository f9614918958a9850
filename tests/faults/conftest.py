"""How often, from which seed, and what was tried."""

from __future__ import annotations

import os

import pytest

from tests.support.fault_report import Tried


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Tried:
    """Notes faults by kind, for the report."""
    return Tried(request.node.user_properties)


@pytest.fixture(scope="session")
def seed() -> int:
    """SEED of `make test-faults`; another one picks other moments."""
    return int(os.environ.get("ECGBEATS_FAULTS_SEED", "1"))


@pytest.fixture(scope="session")
def often() -> int:
    """N of `make test-faults`: kills of each stage."""
    return int(os.environ.get("ECGBEATS_FAULTS", "4"))
