"""The beat classification service, as it stands in the bento.

`ecgbeats.records` imports WFDB's package for its readers of files, which the service never
calls: it reads uploads in memory (`ecgbeats.wfdb_bytes`). With pandas and matplotlib that package
is 150 MB on disk and 76 MB a worker, so that the bento has it not.
"""

import sys
from types import ModuleType

if "wfdb" not in sys.modules:
    sys.modules["wfdb"] = ModuleType("wfdb", "Not needed here.")
    try:
        import ecgbeats.records  # noqa: F401
    finally:
        del sys.modules["wfdb"]
