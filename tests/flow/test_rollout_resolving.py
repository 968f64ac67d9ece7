"""What `to` means, against a real registry: versions, aliases, what the server has, and what nobody knows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support.rollouts import MODEL, Shop, good, open_shop

from taxiway.core.errors import InvalidArgument, NotFound
from taxiway.core.traffic import Companion
from taxiway.registry import Manifest
from taxiway.rollout.nouns import CANDIDATE, Candidate
from taxiway.rollout.resolving import Resolver


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return open_shop(tmp_path, good, good)


@pytest.fixture
def resolver(shop: Shop) -> Resolver:
    return Resolver(shop.registry, shop.folder / "cache")


def test_a_registered_version_is_laid_out_and_known_by_its_digest(shop: Shop, resolver: Resolver) -> None:
    found = resolver.candidate(MODEL, CANDIDATE, "2", {1: True})
    with shop.registry() as registry:
        digest = registry.resolve(f"{MODEL}:2").digest
    assert (found.arm, found.version, found.digest) == (CANDIDATE, 2, digest)
    assert (Path(found.path) / "2" / "model.onnx").is_file()
    assert resolver.candidate(MODEL, CANDIDATE, "2", {1: True}) == found


def test_an_alias_means_the_version_it_points_to_now(shop: Shop, resolver: Resolver) -> None:
    shop.point("candidate", 2)
    assert resolver.candidate(MODEL, "new", "candidate", {1: True}, 10.0).version == 2
    assert resolver.candidate(MODEL, "new", "candidate", {1: True}, 10.0).percent == 10.0


def test_an_alias_may_look_like_a_variant(shop: Shop, resolver: Resolver) -> None:
    shop.point("2024-champion", 2)
    assert resolver.candidate(MODEL, CANDIDATE, "2024-champion", {1: True}).version == 2
    with pytest.raises(NotFound, match="007-x"):
        resolver.candidate(MODEL, CANDIDATE, "007-x", {1: True})


def test_a_variant_becomes_a_version_once(shop: Shop, resolver: Resolver) -> None:
    with shop.registry() as registry:
        manifest = Manifest.of(
            [*registry.resolve(f"{MODEL}:2").manifest.files[:-1], registry.put_bytes(b"q").at("@/model.onnx")]
        )
        registry.add_variant(f"{MODEL}:2-int8.mix3", manifest, recipe={"type": "static"}, actor="ada")
    found = resolver.candidate(MODEL, CANDIDATE, "2-int8.mix3", {1: True})
    assert (found.version, found.digest) == (3, manifest.digest)
    assert (Path(found.path) / "3" / "model.onnx").read_bytes() == b"q"
    assert resolver.candidate(MODEL, CANDIDATE, "2-int8.mix3", {1: True}) == found
    with shop.registry() as registry:
        assert registry.why(f"{MODEL}:3").lineage[0].edge.parent == f"{MODEL}:2-int8.mix3"
    with pytest.raises(NotFound):
        resolver.candidate(MODEL, CANDIDATE, "2-absent", {1: True})


def test_what_the_server_has_is_not_laid_out_again(resolver: Resolver) -> None:
    found = resolver.candidate(MODEL, CANDIDATE, "2", {1: True, 2: True})
    assert (found.version, found.path) == (2, "")
    assert found.digest


def test_a_version_that_no_registry_knows_may_be_the_servers(tmp_path: Path) -> None:
    resolver = Resolver(lambda: None, tmp_path)
    assert resolver.candidate("resnet", CANDIDATE, "3", {2: True, 3: True}) == Candidate(CANDIDATE, 3)
    with pytest.raises(NotFound, match="has no version '4'") as told:
        resolver.candidate("resnet", CANDIDATE, "4", {2: True, 3: True})
    assert "2, 3" in told.value.hint


@pytest.mark.parametrize("to", ["", "0", "-1", "1.5", "a b", "9" * 30, "fraud:2", "²"])
def test_what_is_no_version_is_told_so(resolver: Resolver, to: str) -> None:
    with pytest.raises((InvalidArgument, NotFound)):
        resolver.candidate(MODEL, CANDIDATE, to, {1: True})


def test_an_alias_that_is_not_there_is_told_so(resolver: Resolver) -> None:
    with pytest.raises(NotFound, match="'nowhere'"):
        resolver.candidate(MODEL, CANDIDATE, "nowhere", {1: True})


def test_a_version_whose_files_have_gone_is_laid_out_again(shop: Shop, resolver: Resolver, tmp_path: Path) -> None:
    found = resolver.candidate(MODEL, CANDIDATE, "2", {1: True})
    companion = Companion(f"{MODEL}/2", MODEL, 2, found.path, ("sha256:0",))
    assert resolver.found_again(companion) is companion
    shutil.rmtree(shop.folder / "cache")
    assert resolver.found_again(companion) == companion
    assert (Path(found.path) / "2" / "model.onnx").is_file()
    shutil.rmtree(shop.folder / "cache")
    elsewhere = Resolver(shop.registry, tmp_path / "elsewhere").found_again(companion)
    assert (Path(elsewhere.path) / "2" / "model.onnx").is_file()
    assert Path(elsewhere.path).is_relative_to(tmp_path / "elsewhere")
    assert elsewhere.trusted == companion.trusted


def test_what_no_registry_laid_out_stays_as_it_is(tmp_path: Path) -> None:
    resolver = Resolver(lambda: None, tmp_path)
    for path in ("", "/nowhere/any more"):
        companion = Companion("resnet/3", "resnet", 3, path)
        assert resolver.found_again(companion) == companion
