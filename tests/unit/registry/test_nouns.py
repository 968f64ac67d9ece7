from posixpath import normpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import InvalidManifest
from taxiway.registry import FileEntry, Manifest
from taxiway.registry.nouns import broken_path_rule

SHA = "a" * 64


def manifest(*paths: str) -> Manifest:
    return Manifest.of(FileEntry(path, SHA, 1) for path in paths)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/etc/passwd", "../x", "@/../x", "a/..", "a//b", "a/./b", "./a", "a/", "@"),
        *("a\\b", "a\0b", "a\nb", "3", "3/model.onnx", "x" * 1025, "a\ud800"),
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(InvalidManifest):
        manifest(path)


@pytest.mark.parametrize(
    "path", ["config.pbtxt", "@/model.onnx", "@/a/b/c", "a/3/b", "@x", "ü/模型.onnx", "a b", "..."]
)
def test_a_path_below_the_model_is_taken(path: str) -> None:
    assert [entry.path for entry in manifest(path).files] == [path]


@given(st.text(st.sampled_from("./@a3\\"), max_size=12))
def test_no_path_that_is_taken_leaves_its_folder(path: str) -> None:
    if not broken_path_rule(path):
        assert normpath(path) == path
        assert path.split("/", maxsplit=1)[0] not in ("", "..")


def test_what_cannot_lie_side_by_side_is_refused() -> None:
    for paths in (["a", "a"], ["a", "a/b"], ["@/x", "@/x/y"], []):
        with pytest.raises(InvalidManifest):
            manifest(*paths)


@pytest.mark.parametrize("entry", [FileEntry("a", "A" * 64, 1), FileEntry("a", "a" * 63, 1), FileEntry("a", SHA, -1)])
def test_a_file_needs_a_digest_and_a_size(entry: FileEntry) -> None:
    with pytest.raises(InvalidManifest):
        Manifest.of([entry])


def test_the_digest_is_of_the_content_and_not_of_the_order() -> None:
    assert manifest("b", "a").digest == manifest("a", "b").digest != manifest("a").digest
    assert manifest("a").digest == "sha256:bf1e8b93e7d05dd16eb1a0fa8e124eb63ae3749f9ec7c7171d7f2d5d5f6bdfae"
