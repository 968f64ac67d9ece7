"""The console's committed pages: built from the source beside them, small, with nothing that their policy forbids."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from taxiway.control.console.pages import STATIC

SOURCE = Path(__file__).parents[3] / "console"
MOST_BYTES = 100_000


def _digests(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_they_are_what_the_source_builds() -> None:
    told = json.loads((STATIC / "built.json").read_text())
    tops = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")
    sources = [*(SOURCE / name for name in tops), *(path for path in (SOURCE / "src").rglob("*") if path.is_file())]
    assert told["sources"] == _digests(SOURCE, sources), "make console, and commit what it wrote"
    files = [path for path in STATIC.rglob("*") if path.is_file() and path.name != "built.json"]
    assert told["files"] == _digests(STATIC, files), "make console, and commit what it wrote"


def test_they_are_small() -> None:
    sent = [path for path in (STATIC / "assets").iterdir() if path.suffix in (".js", ".css")]
    assert {path.suffix for path in sent} == {".js", ".css"}
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in sent) <= MOST_BYTES


def test_nothing_is_inline_or_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:", page)
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert named
    assert all(one.startswith("/console/") for one in named), named
    for one in named:
        assert one == "/console/plain" or (STATIC / one.removeprefix("/console/")).is_file(), one
    styles = "".join(path.read_text() for path in (STATIC / "assets").glob("*.css"))
    assert "url(" not in styles
    assert "@import" not in styles


def test_no_registry_is_named() -> None:
    assert '"resolved"' not in (SOURCE / "package-lock.json").read_text()
    assert "registry" not in (SOURCE / ".npmrc").read_text().replace("omit-lockfile-registry-resolved", "")
