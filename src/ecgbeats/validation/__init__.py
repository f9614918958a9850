"""Is the data fit to learn from? Checked before anything is made of it.

`facts` and `sides` measure, `suites` say what is expected, `engine` lets Great
Expectations judge, `page` shows the result to people.
"""

from ecgbeats.validation.pictures import validate_pictures
from ecgbeats.validation.report import Finding, Outcome, Summary
from ecgbeats.validation.run import validate_dataset, validate_split
from ecgbeats.validation.suites import Limits

__all__ = [
    "Finding",
    "Limits",
    "Outcome",
    "Summary",
    "validate_dataset",
    "validate_pictures",
    "validate_split",
]
