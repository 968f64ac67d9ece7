"""OpenSSF model signatures (`model.sig`): verified where a key is given, by the reference implementation.

What is verified is the staged copy, so a file that is changed afterwards is not what gets registered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway.core.errors import ExtraMissing, NotFound, SignatureRefused
from taxiway.intake.nouns import Staged


@dataclass(frozen=True, slots=True)
class SignatureState:
    """What is known of a signature. `state` is `absent`, `present, not verified` or `verified`."""

    state: str
    key: str = ""

    def as_facts(self) -> dict[str, Any]:
        """As JSON, for the version's facts."""
        return {"state": self.state} | ({"key": self.key} if self.key else {})


def verify_signature(staged: Staged, keys: Sequence[Path], *, required: bool) -> SignatureState:
    """Hold the signature against the files, if there are both a signature and a key.

    Raises:
        SignatureRefused: it is required and missing or cannot be verified for want of a key; or no key fits, or a file
            was changed, added or taken away since.
        ExtraMissing: the library is not installed.
        NotFound: a key's file is not there.
    """
    for key in keys:
        if not key.is_file():
            raise NotFound(f"there is no public key at {key}", hint="give a PEM file: --public-key FILE", path=str(key))
    if staged.signature is None:
        if required:
            raise SignatureRefused(
                f"{staged.name} has no signature, and one is required",
                hint="sign it: model_signing sign key --private_key KEY --signature model.sig PATH",
                file="model.sig",
                rule="signature-required",
            )
        return SignatureState("absent")
    if not keys:
        if required:
            raise SignatureRefused(
                f"{staged.name} has a signature, and no key to verify it with was given",
                hint="name the signer's: --public-key FILE",
                file=staged.signature.path,
                rule="signature-key",
            )
        return SignatureState("present, not verified")
    problems: list[str] = []
    for key in keys:
        problem = _verify(staged, staged.signature.at, key)
        if not problem:
            return SignatureState("verified", str(key))
        problems.append(f"{key}: {problem}")
    raise SignatureRefused(
        f"the signature of {staged.name} does not fit: {'; '.join(problems)}",
        hint="get the model from its publisher again, with the signature that belongs to it",
        file=staged.signature.path,
        rule="signature-mismatch",
    )


def _verify(staged: Staged, signature: Path, key: Path) -> str:
    """Why the signature does not fit under this key; empty if it does."""
    verifying = _library()
    model = staged.root if staged.single is None else staged.root / staged.single
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(model, signature)
    except Exception as problem:  # noqa: BLE001 - the library raises whatever its own libraries do
        return " ".join(str(problem).split())[:400] or type(problem).__name__
    return ""


def _library() -> Any:  # noqa: ANN401 - imported on demand, without types
    try:
        from model_signing import verifying  # noqa: PLC0415 - the extra is optional, and slow to import
    except ImportError as problem:
        raise ExtraMissing(
            f"signatures cannot be verified: {problem}", hint="pip install taxiway[signing]", extra="signing"
        ) from problem
    return verifying
