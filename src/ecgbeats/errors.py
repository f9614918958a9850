"""Every error that ecgbeats raises on purpose.

EcgbeatsError
├── ConfigError           params.yaml, a recipe or an argument is not usable
├── DataError             a recording, annotation or image is not usable
│   ├── FetchError        a file could not be obtained
│   │   └── ChecksumError a file was obtained and is not the published one
│   ├── NothingYet        there is none to look at so far
│   ├── ValidationFailed  a critical expectation about the data does not hold
│   └── RefusedInput      what was handed in is not what was expected
│       ├── ImageError    bytes or pixels are not the image
│       └── SignalError   text is not the recording
├── ContractError         two artefacts that meet do not belong together
├── GateFailed            the verdict on a model is "no"
├── ServiceError          DVC, MLflow, Prefect or BentoML did not do its part
└── StorageError          this machine's disk is full, or a file may not be read or written

A message names the thing, what was expected and what came.
"""

from __future__ import annotations

import errno
import re


class EcgbeatsError(Exception):
    """Base of all; the command line prints it in one line and exits with `exit_code`."""

    exit_code = 2


class ConfigError(EcgbeatsError):
    """A parameter, recipe, label scheme or argument is unknown or out of range."""


class DataError(EcgbeatsError):
    """A recording, annotation file or image cannot be used."""


class FetchError(DataError):
    """A file could not be obtained from its source."""


class ChecksumError(FetchError):
    """A file differs from its published checksum."""


class NothingYet(DataError):
    """What is looked at is in order, and holds nothing of what is looked for so far."""


class ValidationFailed(DataError):
    """At least one critical expectation about the data does not hold."""


class RefusedInput(DataError):
    """What was handed in cannot be taken.

    Attributes
    ----------
    code : str
        A stable word for programs, e.g. "damaged_image".
    expected, got : str
    """

    def __init__(self, code: str, expected: str, got: str) -> None:
        super().__init__(code, expected, got)
        self.code, self.expected, self.got = code, expected, got

    def __str__(self) -> str:
        return f"{self.code}: expected {self.expected}, got {self.got}"


class ImageError(RefusedInput):
    """Bytes are no image, or the image does not fit its spec."""


class SignalError(RefusedInput):
    """CSV or JSON is no recording, or lacks what is needed to read it."""


class ContractError(EcgbeatsError):
    """Images, model and service that meet were not made for each other."""


class GateFailed(EcgbeatsError):
    """The gate rejects the model."""

    exit_code = 1


class ServiceError(EcgbeatsError):
    """An outside system (DVC, MLflow, Prefect, BentoML) failed; its own words follow."""


class StorageError(EcgbeatsError):
    """This machine does not let a file be read or written: no room, no permission, a bad disk."""


# What is wrong with the place, not with what was asked for.
_OF_STORAGE = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOENT,
        errno.ENOSPC,
        errno.EPERM,
        errno.EROFS,
    }
)
# NumPy's words where a file took less than it was given; it does not pass on why.
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


def is_of_storage(error: OSError) -> bool:
    """Whether `error` says that a file could not be read or written here, whatever is in it."""
    return error.errno in _OF_STORAGE or bool(_SHORT_WRITE.search(str(error)))


def name_file(error: OSError, path: str) -> None:
    """Let `error` say that it came of `path`."""
    # With a name, an error's text is of these two alone.
    error.strerror, error.filename = _why(error), path


def of_storage(error: OSError) -> StorageError:
    """`error` of the system in words of ours: the file, if it is known, and why."""
    why = _why(error)
    return StorageError(f"{error.filename}: {why}" if error.filename else why)


def _why(error: OSError) -> str:
    return error.strerror or f"{error}; is the disk full?"
