"""OpenSSF model signatures: made by the reference implementation, verified before anything is registered."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import signing
from tests.support.foreign_models import hugging_face_directory
from tests.support.onnx_models import doubler

from taxiway.core.errors import ExtraMissing, NotFound, SignatureRefused
from taxiway.intake.walk import Imported, Office, Wanted, import_models


@dataclass(frozen=True)
class Keys:
    private: Path
    public: Path


def make_keys(directory: Path) -> Keys:
    directory.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    keys = Keys(directory / "key.pem", directory / "key.pub")
    keys.private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    keys.public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys") / "own")


@pytest.fixture
def signed(tmp_path: Path, keys: Keys) -> Path:
    """A directory with its signature at its top, as `model_signing sign` leaves it."""
    model = hugging_face_directory(tmp_path / "bert")
    sign(model, tmp_path / "model.sig", keys)
    (tmp_path / "model.sig").rename(model / "model.sig")
    return model


def sign(model: Path, signature: Path, keys: Keys) -> None:
    signing.Config().use_elliptic_key_signer(private_key=keys.private).sign(model, signature)


def take(source: Path, tmp_path: Path, *public_keys: Path, required: bool = False) -> Imported:
    wanted = Wanted(str(source), public_keys=public_keys, require_signature=required)
    (imported,) = import_models(wanted, Office(tmp_path / "work"), None)
    return imported


def test_it_is_verified_by_the_key_that_fits(signed: Path, tmp_path: Path, keys: Keys) -> None:
    other = make_keys(tmp_path / "other")
    imported = take(signed, tmp_path, other.public, keys.public, required=True)
    assert imported.signature.as_facts() == {"state": "verified", "key": str(keys.public)}
    assert "@/model.sig" not in {entry.path for entry in imported.files}


def test_a_file_has_its_signature_beside_it(tmp_path: Path, keys: Keys) -> None:
    model = doubler(tmp_path / "model.onnx")
    sign(model, tmp_path / "model.onnx.sig", keys)
    assert take(model, tmp_path, keys.public, required=True).signature.state == "verified"
    model.write_bytes(model.read_bytes() + b"\x72\x00")  # an empty metadata entry: still ONNX
    with pytest.raises(SignatureRefused):
        take(model, tmp_path, keys.public)


def test_without_a_key_it_is_told_and_not_believed(signed: Path, tmp_path: Path) -> None:
    assert take(signed, tmp_path).signature.state == "present, not verified"
    with pytest.raises(SignatureRefused, match="no key") as refused:
        take(signed, tmp_path, required=True)
    assert "--public-key" in refused.value.hint


def test_without_a_signature(tmp_path: Path, keys: Keys) -> None:
    model = doubler(tmp_path / "model.onnx")
    assert take(model, tmp_path, keys.public).signature.state == "absent"
    with pytest.raises(SignatureRefused, match="has no signature"):
        take(model, tmp_path, keys.public, required=True)


def test_another_key_does_not_fit(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureRefused) as refused:
        take(signed, tmp_path, make_keys(tmp_path / "other").public)
    assert refused.value.facts["rule"] == "signature-mismatch"


def test_a_changed_file(signed: Path, tmp_path: Path, keys: Keys) -> None:
    (signed / "vocab.txt").write_text("changed")
    with pytest.raises(SignatureRefused, match=r"vocab\.txt"):
        take(signed, tmp_path, keys.public)


def test_a_file_more(signed: Path, tmp_path: Path, keys: Keys) -> None:
    (signed / "__pycache__").mkdir()
    (signed / "__pycache__" / "more.txt").write_text("more")
    with pytest.raises(SignatureRefused, match=r"more\.txt"):
        take(signed, tmp_path, keys.public)


def test_a_file_less(signed: Path, tmp_path: Path, keys: Keys) -> None:
    (signed / "vocab.txt").unlink()
    with pytest.raises(SignatureRefused, match=r"vocab\.txt"):
        take(signed, tmp_path, keys.public)


def test_a_signature_that_is_none(signed: Path, tmp_path: Path, keys: Keys) -> None:
    (signed / "model.sig").write_text("{}")
    with pytest.raises(SignatureRefused):
        take(signed, tmp_path, keys.public)


def test_a_key_that_is_not_there(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="public key"):
        take(signed, tmp_path, tmp_path / "gone.pub")


def test_the_library_is_an_extra(signed: Path, tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(ExtraMissing) as missing:
        take(signed, tmp_path, keys.public)
    assert missing.value.hint == "pip install taxiway[signing]"
