"""What the README and the pages of docs/ show is run as it stands, against a real server.

A comment before a fence says what happens to it: `<!-- run -->` executes it, `<!-- serve -->` starts it in the
background until the end of the page, `<!-- prints -->` compares it with what the snippet before it printed. A page is
one story: its snippets run in order, in one directory. The only thing changed in them is the two default ports.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SNIPPET: Final = re.compile(r"^<!-- (run|serve|prints) -->\n```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MARK: Final = re.compile(r"^<!-- (?:run|serve|prints) -->$", re.MULTILINE)
PAGES: Final = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if MARK.search(page.read_text("utf-8"))
]
RUN_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Snippet:
    """One marked fence: what is done with it, its language, its text."""

    role: str
    language: str
    text: str


@dataclass
class Story:
    """The state of one page: where it runs, which ports the server really has, what was printed last."""

    folder: Path
    ports: dict[str, str] = field(default_factory=dict)
    printed: str = ""

    def with_real_ports(self, text: str) -> str:
        """The snippet's text with the default ports replaced by those that the server chose."""
        for default, real in self.ports.items():
            text = text.replace(f"localhost:{default}", f"127.0.0.1:{real}")
        return text


def read_snippets(page: Path) -> list[Snippet]:
    """The marked fences of a page, in order."""
    return [Snippet(*found) for found in SNIPPET.findall(page.read_text(encoding="utf-8"))]


def environment(folder: Path) -> dict[str, str]:
    """Ours, with this interpreter's `taxiway` and `python` found first, and no registry but the page's own."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "XDG_DATA_HOME": str(folder / "data"), "XDG_CACHE_HOME": str(folder / "cache")}


def run_snippet(snippet: Snippet, story: Story) -> str:
    """Execute it in a process of its own and return what it printed."""
    shell = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-W", "error", "-c"]}
    done = subprocess.run(
        [*shell[snippet.language], story.with_real_ports(snippet.text)],
        cwd=story.folder,
        env=environment(story.folder),
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{snippet.text}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def serving(snippet: Snippet, story: Story) -> Iterator[None]:
    """Run a `taxiway serve` on free ports from here to the end of the page; it must stop cleanly.

    It has a control process only where the page asks for one.
    """
    control = "" if "--control.enabled" in snippet.text else "--no-control.enabled"
    command = f"exec {snippet.text.strip()} --http.port 0 --grpc.port 0 --metrics.port 0 {control}"
    with (story.folder / "server.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=story.folder,
            env=environment(story.folder),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]  # printed once it is ready; the test's timeout bounds this
        assert all(said), (story.folder / "server.log").read_text(encoding="utf-8")
        ports = [line.strip().removesuffix("/metrics").rpartition(":")[2] for line in said]
        story.ports = dict(zip(("8000", "8002", "8001"), ports, strict=True))
        yield
        process.send_signal(signal.SIGINT)  # as Ctrl-C; SIGTERM would wait for a load balancer to look elsewhere
        assert process.wait(RUN_TIMEOUT_S) == 0
    finally:
        process.kill()
        process.communicate()


def assert_printed(expected: str, printed: str) -> None:
    """Compare as doctest does, where `...` stands for anything and the end of the last line does not matter."""
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    same = doctest.OutputChecker().check_output(f"{expected.strip()}\n", f"{printed.strip()}\n", options)
    assert same, f"the page says\n{expected}\nbut this was printed\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_tells_what_happens(page: Path, tmp_path: Path) -> None:
    story = Story(tmp_path)
    if any(snippet.language == "bash" for snippet in read_snippets(page)) and shutil.which("curl") is None:
        pytest.skip("curl is not installed (Debian: apt-get install curl)")
    with ExitStack() as background:
        for snippet in read_snippets(page):
            if snippet.role == "serve":
                background.enter_context(serving(snippet, story))
            elif snippet.role == "run":
                story.printed = run_snippet(snippet, story)
            else:
                assert_printed(snippet.text, story.printed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_marked_snippet_is_overlooked(page: Path) -> None:
    assert len(read_snippets(page)) == len(MARK.findall(page.read_text(encoding="utf-8")))


def test_the_readme_is_run() -> None:
    assert [snippet.role for snippet in read_snippets(ROOT / "README.md")].count("run") >= 4
