"""Nothing of a malicious artifact is run, each refusal names its reason, and each clean twin passes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.malicious import CASES, POLYGLOTS, RAW_PICKLES, Case

from taxiway.core.errors import TaxiwayError
from taxiway.intake.scan.content import Kind, identify
from taxiway.intake.walk import Office, Wanted, import_models


def every(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=every)
def test_it_is_refused_for_its_reason_and_nothing_of_it_runs(case: Case, tmp_path: Path) -> None:
    canary, place = tmp_path / "canary", tmp_path / "model"
    place.mkdir()
    source = case.build(place, canary)
    with pytest.raises(TaxiwayError) as refused:
        import_models(Wanted(str(source)), Office(tmp_path / "work"), None)
    assert not canary.exists()
    assert isinstance(refused.value, case.error), refused.value.message
    assert refused.value.facts["rule"] == case.rule
    assert refused.value.facts["file"]
    assert refused.value.message.isprintable()
    json.dumps(refused.value.to_data())
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("case", {case.twin: case for case in CASES}.values(), ids=every)
def test_its_clean_twin_passes(case: Case, tmp_path: Path) -> None:
    source = case.twin(tmp_path)
    trusted = digests(source) if case.trusted else frozenset[str]()
    (imported,) = import_models(Wanted(str(source), trust=trusted), Office(tmp_path / "work"), None)
    assert imported.files


def test_the_corpus_is_large_and_its_names_differ() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 30


@pytest.mark.parametrize("name", POLYGLOTS)
def test_what_can_be_unpickled_is_a_pickle_whatever_else_it_is(name: str, tmp_path: Path) -> None:
    assert identify(POLYGLOTS[name](tmp_path / "canary")) is Kind.PICKLE


def test_the_corpus_is_alive(tmp_path: Path) -> None:
    """Python's own unpickler runs those that say so: what is refused above is no dummy."""
    expected: list[Path] = []
    alive = {name: payload for name, (payload, runs) in RAW_PICKLES.items() if runs} | POLYGLOTS
    for name, payload in alive.items():
        expected.append(tmp_path / f"{name}.canary")
        (tmp_path / f"{name}.pkl").write_bytes(payload(expected[-1]))
    subprocess.run([sys.executable, "-c", _LOAD_ALL, str(tmp_path)], check=True, capture_output=True, timeout=60)
    assert [path.name for path in expected if not path.exists()] == []


_LOAD_ALL = """
import contextlib, pathlib, pickle, sys
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.pkl")):
    with contextlib.suppress(Exception):
        pickle.loads(path.read_bytes())
"""


def digests(source: Path) -> frozenset[str]:
    """What `--trust` would name for each file of a source."""
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    return frozenset(f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files)
