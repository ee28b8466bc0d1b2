"""A suite's signed table of contents (InRelease): its signature, its age, and what it lists.

Format: the Debian wiki's "DebianRepository/Format". Only the text that the signature covers is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlpkg.debian.mirror import Mirrors
from mlpkg.digest import Digest, parse_digest
from mlpkg.errors import LockError

if TYPE_CHECKING:
    from pysequoia import Cert

SIGNATURE_LIMIT = 64 << 10
"""Most bytes of signatures (trixie's have 4 kB)."""

_FRAME = b"-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE = b"\n-----BEGIN PGP SIGNATURE-----"


@dataclass(frozen=True, slots=True)
class Release:
    """A verified Release text: the files it lists by path below ``dists/<suite>``, with digest and size."""

    suite: str
    by_hash: bool
    files: Mapping[str, tuple[Digest, int]]


def verified_release(signed: bytes, mirrors: Mirrors, *, suite: str, address: str, now: datetime) -> Release:
    """Check an InRelease file. Raises LockError that names `address`.

    At least one signature must be valid and by a certificate of the keyring; the text must be about
    `suite`; and it must not have expired at `now`, unless it comes from a snapshot.
    """
    from debian import deb822  # noqa: PLC0415

    fields = deb822.Release(_signed_text(signed, mirrors, address))
    try:
        files = {
            row["name"]: (parse_digest("sha256:" + row["sha256"]), int(row["size"]))
            for row in fields.get("SHA256", ())
        }
    except (KeyError, TypeError, ValueError) as error:
        raise LockError(f"{address}: its list of files makes no sense: {error}") from error
    if suite not in (fields.get("Suite"), fields.get("Codename")):
        found = fields.get("Codename") or fields.get("Suite") or "no suite"
        raise LockError(
            f"{address}: is about {found}, not about {suite}", hint="check [debian] mirror in mlpkg.toml"
        )
    expires = fields.get("Valid-Until")
    if expires and not mirrors.snapshot and _date(expires, address) < now:
        raise LockError(
            f"{address}: expired on {expires}; the mirror is no longer kept up to date, or this machine's clock is wrong",
            hint="use another mirror, or set [debian] snapshot for an archive that is meant to be old",
        )
    return Release(suite, fields.get("Acquire-By-Hash") == "yes", files)


def _check_frame(signed: bytes, address: str) -> None:
    """Let nothing near the OpenPGP library but a cleartext signature (RFC 9580 §7), as apt does.

    Other messages may be compressed, 1,000 to one and as often as one likes, and nobody has signed them yet.
    """
    frame, block, signature = signed.partition(_SIGNATURE)
    if not block or not frame.startswith(_FRAME) or len(signature) > SIGNATURE_LIMIT:
        raise LockError(
            f"{address}: not signed by anybody: it is no cleartext signature", hint="use another mirror"
        )


def _signed_text(signed: bytes, mirrors: Mirrors, address: str) -> str:
    import pysequoia  # noqa: PLC0415

    _check_frame(signed, address)
    certificates = [
        certificate
        for keyring in mirrors.keyrings
        for certificate in _certificates(keyring.name, keyring.data)
    ]
    try:
        checked = pysequoia.verify(bytes=signed, store=lambda _ids: certificates)
    except (RuntimeError, OSError) as error:
        # Later lines hold a stack trace of the library.
        reason = str(error).partition("\n")[0]
        names = ", ".join(keyring.name for keyring in mirrors.keyrings)
        raise LockError(
            f"{address}: not signed by a key of {names}: {reason}",
            hint="if the mirror is right, set [debian] keyring in mlpkg.toml to a file with its keys",
        ) from error
    if not checked.valid_sigs or checked.bytes is None:
        raise LockError(f"{address}: holds no signed text")
    return bytes(checked.bytes).decode("utf-8", "replace")


def _certificates(name: str, data: bytes) -> list[Cert]:
    import pysequoia  # noqa: PLC0415

    try:
        return pysequoia.Cert.split_bytes(data)
    except RuntimeError as error:
        raise LockError(
            f"{name}: not an OpenPGP keyring: {str(error).partition(chr(10))[0]}",
            hint="set [debian] keyring in mlpkg.toml to a file with the archive's keys",
        ) from error


def _date(text: str, address: str) -> datetime:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        date = parsedate_to_datetime(text)
    except ValueError as error:
        raise LockError(f"{address}: Valid-Until is not a date: {text!r}") from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)
