"""Every package of the lock may be used here, by its own words or by a reason that is written."""

from pathlib import Path

import pytest

from pipelines import licences
from pipelines.licences import Needed, as_table, of_the_lock
from pipelines.sbom import Licence

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found() -> list[Needed]:
    return of_the_lock(ROOT)


def test_every_licence_is_stated_and_copyleft_has_a_reason(found: list[Needed]) -> None:
    assert not [each for each in found if not each.settled]
    names = {each.package for each in found}
    assert {"tensorflow", "bentoml", "numpy", "pytest", "psycopg2-binary"} <= names
    where = {each.package: each.where for each in found}
    assert (where["numpy"], where["tensorflow"], where["pytest"]) == (
        "bento",
        "project",
        "development",
    )
    # A bento is handed on.
    assert not [each for each in found if each.where == "bento" and each.copyleft]
    # Reasons of packages that are gone, or that say it themselves by now, go too.
    assert licences._WHY.keys() <= {each.package for each in found if each.copyleft}
    assert licences._STATED.keys() <= names


@pytest.mark.parametrize(
    ("words", "expression"),
    [("not stated", False), ("GPL-3.0-only", True), ("GNU Affero General Public License", False)],
)
def test_what_is_not_stated_or_copyleft_is_not_settled(words: str, expression: bool) -> None:
    new = licences._needed(Licence("new", "1", words, expression), "bento")
    assert not new.settled
    assert ("NOT STATED" if words == "not stated" else "COPYLEFT") in as_table([new])
