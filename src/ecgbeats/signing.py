"""Checksums of a folder's files, and a signature over them (Ed25519, RFC 8032).

Both can be checked without us: `sha256sum -c SHA256SUMS`, and
`openssl pkeyutl -verify -pubin -inkey PUB -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ecgbeats.errors import ConfigError, ContractError, DataError
from ecgbeats.files import sha256_file, write_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"


def seal(folder: Path, key: Path | None = None) -> None:
    """Write SHA256SUMS of all files below `folder`, and with a private key its signature.

    Parameters
    ----------
    key : Path, optional
        An Ed25519 private key as PEM, as `openssl genpkey -algorithm ed25519` makes it.

    Raises
    ------
    ConfigError
        `key` is no such key.
    """
    private = None if key is None else _private(key)
    sums = "".join(f"{sha256_file(folder / name)}  {name}\n" for name in _files(folder))
    write_text(folder / SUMS, sums)
    (folder / SIGNATURE).unlink(missing_ok=True)
    if private is not None:
        (folder / SIGNATURE).write_bytes(private.sign((folder / SUMS).read_bytes()))


def check_seal(folder: Path, key: Path | None = None) -> int:
    """Make sure that `folder` holds what was sealed and nothing else; return how many files.

    Parameters
    ----------
    key : Path, optional
        The public key of who signed; without one the signature is not looked at.

    Raises
    ------
    DataError
        There are no checksums.
    ContractError
        The signature is missing or not of this key, or files were changed, removed or added;
        each is named.
    """
    if not (folder / SUMS).is_file():
        raise DataError(f"{folder}: expected {SUMS}")
    if key is not None:
        _check_signature(folder, _public(key))
    wanted: dict[str, str] = {}
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        wanted[name] = digest
    here = set(_files(folder))
    apart = [f"{name}: is missing" for name in wanted if name not in here]
    apart += [f"{name}: is not among the checksums" for name in sorted(here - wanted.keys())]
    apart += [
        f"{name}: was changed"
        for name, digest in wanted.items()
        if name in here and sha256_file(folder / name) != digest
    ]
    if apart:
        raise ContractError(f"{folder}: not what was sealed: {'; '.join(apart)}")
    return len(wanted)


def _check_signature(folder: Path, key: Ed25519PublicKey) -> None:
    from cryptography.exceptions import InvalidSignature

    if not (folder / SIGNATURE).is_file():
        raise ContractError(f"{folder}: expected {SIGNATURE}; it is not signed")
    try:
        key.verify((folder / SIGNATURE).read_bytes(), (folder / SUMS).read_bytes())
    except InvalidSignature as error:
        raise ContractError(
            f"{folder / SUMS}: was changed, or signed by another key than the one given"
        ) from error


def _private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"key: expected an Ed25519 private key as PEM in {path}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"key: expected an Ed25519 private key in {path}, got another kind")
    return key


def _public(path: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"key: expected an Ed25519 public key as PEM in {path}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"key: expected an Ed25519 public key in {path}, got another kind")
    return key


def _files(folder: Path) -> list[str]:
    """All files below `folder`, links too, but those that seal it."""
    found = (
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink()
    )
    return sorted(name for name in found if name not in (SUMS, SIGNATURE))
