"""The files of TLS: what is wrong with them is told by setting, file and reason."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.support.certificates import Authority, Pair

from taxiway.config.settings import TlsSettings
from taxiway.core.errors import InvalidConfig
from taxiway.server.tls import TlsFiles, load_material


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ca.pem")


@pytest.fixture
def pair(authority: Authority, tmp_path: Path) -> Pair:
    return authority.issue(tmp_path / "pair")


def _settings(pair: Pair, client_ca: Path | str = "") -> TlsSettings:
    return TlsSettings(certificate=str(pair.certificate), key=str(pair.key), client_ca=str(client_ca))


def _told(pair: Pair, client_ca: Path | str = "") -> str:
    with pytest.raises(InvalidConfig) as told:
        load_material(_settings(pair, client_ca))
    return told.value.message


def test_what_is_right_is_loaded_with_its_bytes(authority: Authority, pair: Pair) -> None:
    material = load_material(_settings(pair, authority.path))
    assert material.certificate == pair.certificate.read_bytes()
    assert material.key == pair.key.read_bytes()
    assert material.client_ca == authority.path.read_bytes()
    assert load_material(_settings(pair)).client_ca is None


def test_every_missing_file_is_told(pair: Pair, tmp_path: Path) -> None:
    pair.certificate.unlink()
    pair.key.unlink()
    told = _told(pair, tmp_path / "nowhere.pem")
    for key, path in (("certificate", pair.certificate), ("key", pair.key), ("client_ca", tmp_path / "nowhere.pem")):
        assert f"{path}: tls.{key} = '{path}': cannot be read: No such file or directory" in told


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00\xff" * 100])
def test_what_is_no_pem_is_told(pair: Pair, content: bytes) -> None:
    pair.certificate.write_bytes(content)
    assert f"tls.certificate = '{pair.certificate}': holds no certificate in PEM" in _told(pair)


def test_the_two_files_taken_for_each_other(pair: Pair) -> None:
    told = _told(Pair(pair.key, pair.certificate))
    assert "holds no certificate in PEM" in told
    assert "holds no private key in PEM" in told


def test_a_key_that_belongs_to_another_certificate(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    other = authority.issue(tmp_path / "other")
    told = _told(Pair(pair.certificate, other.key))
    assert f"tls.key = '{other.key}': is not the key of tls.certificate {pair.certificate}" in told


@pytest.mark.parametrize("name", ["certificate", "key"])
def test_half_a_file(pair: Pair, name: str) -> None:
    path: Path = getattr(pair, name)
    path.write_bytes(path.read_bytes()[:120])
    assert f"tls.{name} = '{path}': cannot be used" in _told(pair)


def test_half_an_authority(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    half = tmp_path / "half.pem"
    half.write_bytes(authority.path.read_bytes()[:200])
    assert f"tls.client_ca = '{half}': cannot be used" in _told(pair, half)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_passphrase(pair: Pair) -> None:
    command = ["openssl", "pkey", "-in", str(pair.key), "-aes256", "-passout", "pass:secret"]
    try:
        pair.key.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert "is encrypted; a key without a passphrase is needed" in _told(pair)


def test_a_file_beyond_all_measure(pair: Pair) -> None:
    pair.certificate.write_bytes(pair.certificate.read_bytes() + b"\n" * (1 << 20))
    assert "must be at most 1048576 bytes" in _told(pair)


def test_a_changed_pair_is_taken_once(authority: Authority, pair: Pair) -> None:
    files = TlsFiles(_settings(pair))
    before = files.material
    files.reload()
    assert files.material is before
    authority.issue(pair.certificate.parent)
    files.reload()
    after = files.material
    assert after is not before
    files.reload()
    assert files.material is after


def test_a_broken_change_is_told_once_and_leaves_what_is_in_force(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    files = TlsFiles(_settings(pair))
    before = files.material
    pair.key.write_bytes(b"")
    files.reload()
    files.reload()
    assert files.material is before
    assert [record.msg for record in caplog.records] == ["reload_failed"]
    assert "tls.key" in caplog.records[0].__dict__["taxiway_fields"]["reason"]


def test_files_that_move_while_they_are_read_are_read_another_time(
    authority: Authority, pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Certificate and key might be of two rotations; no error, no change, until they hold still."""
    files = TlsFiles(_settings(pair))
    before = files.material
    authority.issue(pair.certificate.parent)

    def load_and_be_late(settings: TlsSettings) -> object:
        material = load_material(settings)
        authority.issue(pair.certificate.parent)
        return material

    monkeypatch.setattr("taxiway.server.tls.load_material", load_and_be_late)
    files.reload()
    assert files.material is before
    monkeypatch.undo()
    files.reload()
    assert files.material is not before
    assert files.material.certificate == pair.certificate.read_bytes()
    assert not caplog.records
