"""The console's pages in a real Chromium, of a real server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.support.keys import write_keys
from tests.support.raw_http import PATIENCE_S
from tests.support.rollouts import MODEL, Crowd, Server, good, open_shop

CHROMIUM = Path("/usr/bin/chromium")
AXE = Path(__file__).parents[2] / "console/node_modules/axe-core/axe.min.js"
PAGES = {
    "": "Overview",
    "models": "Models",
    f"models/{MODEL}": MODEL,
    "rollouts": "Rollouts",
    f"playground/{MODEL}": "Playground",
    "drift": "Drift",
    "alerts": "Alerts and error budgets",
    "requests": "Slow and failed requests",
    "hardware": "GPU and host",
    "registry": "Registry",
    f"registry/{MODEL}": f"Registry: {MODEL}",
    "reports": "Profiles and variants",
    "audit": "Audit",
    "nonsense": "Not found",
}
NARROW = {"width": 360, "height": 740}
PLAN: dict[str, Any] = {"min_step_s": 0.3, "settle_s": 0.1, "guard_for_s": 0.3, "twin": False, "steps": [50, 100]}

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="chromium is not installed (Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("pages")
    slos = json.dumps({MODEL: {"availability_percent": 99}})
    own: dict[str, Any] = {"monitoring.directory": folder / "monitoring", "monitoring.slos": slos}
    with open_shop(folder, good, good).serve(**own) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@dataclass
class Tab:
    """A page, and all that its browser complained about."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.page.on("console", lambda said: self._hear(said.type, said.text))
        self.page.on("pageerror", lambda error: self._hear("error", str(error)))

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def open(self, path: str, title: str) -> None:
        """Load it, and wait until it shows what it is for."""
        self.page.goto(f"{self.base}/console/{path}")
        expect(self.page.locator("h1")).to_contain_text(title)
        expect(self.page.locator(".heard")).to_have_attribute("data-link", "open")
        expect(self.page.get_by_text("Loading …")).to_have_count(0)


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Tab]:
    expect.set_options(timeout=PATIENCE_S * 1000)
    context = browser.new_context()
    yield Tab(context.new_page(), server.process.control)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_shows_without_a_complaint(tab: Tab, scheme: Any) -> None:
    tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    for path, title in PAGES.items():
        tab.open(path, title)
        assert tab.page.locator(".fault").count() == 0, path
        shade = tab.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)[0]")
        assert (shade < 100) == (scheme == "dark"), path
    assert tab.complaints == []


def test_narrow_screens_scroll_down_only(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 360, "height": 740})
    for path, title in PAGES.items():
        tab.open(path, title)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], path
    tab.page.get_by_role("button", name="Pages").click()
    tab.page.get_by_role("link", name="Drift").click()
    expect(tab.page.locator("h1")).to_have_text("Drift")


def test_what_is_answered_shows_at_once_and_again_after_control_was_killed(tab: Tab, server: Server) -> None:
    tab.open("", "Overview")
    requests = tab.page.locator(".card", has_text=MODEL).locator(".pair strong").first
    expect(requests).to_have_text("0/s")
    with Crowd(server.process.address):
        expect(requests).not_to_have_text("0/s")
    expect(requests).to_have_text("0/s")
    (pid,) = server.process.control_processes()
    os.kill(pid, signal.SIGKILL)
    expect(tab.page.locator(".heard")).to_have_attribute("data-link", "lost")
    expect(tab.page.locator(".banner").first).to_contain_text("reconnecting")
    expect(tab.page.locator(".heard")).to_have_attribute("data-link", "open")
    with Crowd(server.process.address):
        expect(requests).not_to_have_text("0/s")


def test_a_chart_tells_where_its_numbers_are_from(tab: Tab, server: Server) -> None:
    with Crowd(server.process.address):
        tab.open(f"models/{MODEL}", MODEL)
        chart = tab.page.get_by_role("figure", name="Requests per second")
        expect(chart.locator("canvas")).to_have_count(1)
        expect(chart.locator(".legend tbody tr")).to_have_count(1)
        chart.get_by_role("button", name="source and export").click()
        expect(chart.locator(".source")).to_contain_text("taxiway_inference_request_seconds_count")
        expect(chart.locator(".source")).to_contain_text("/v1/history?kind=version&model=fraud&fields=rps&span_s=300")
        chart.get_by_role("button", name="Table").click()
        expect(chart.get_by_role("columnheader", name="time")).to_be_visible()
        with tab.page.expect_download() as csv:
            chart.get_by_role("button", name="CSV").click()
        lines = csv.value.path().read_text().splitlines()
        assert lines[0] == "time,v1"
        assert len(lines) > 100
        with tab.page.expect_download() as png:
            chart.get_by_role("button", name="PNG").click()
        assert png.value.path().read_bytes().startswith(b"\x89PNG")
        expect(tab.page.get_by_role("figure", name="Latency heat map").get_by_text("the stronger")).to_be_visible()
    assert tab.complaints == []


def test_a_rollout_is_started_paused_and_aborted_with_a_reason(tab: Tab, server: Server) -> None:
    rollout = server.start(to="2", **PLAN)
    server.wait_for(rollout, "step")
    tab.open(f"rollouts/{rollout}", f"Rollout of {MODEL}")
    for word, after in (("Pause", "paused"), ("Resume", "step"), ("Abort", "rolled-back")):
        tab.page.get_by_role("button", name=word, exact=True).click()
        dialog = tab.page.get_by_role("dialog")
        expect(dialog.get_by_label("Reason")).to_be_focused()
        dialog.get_by_role("button", name=word).click()
        expect(dialog).to_be_visible()
        dialog.get_by_label("Reason").fill(f"{word} by the page")
        dialog.get_by_role("button", name=word).click()
        expect(dialog).to_have_count(0)
        expect(tab.page.locator(".stats")).to_contain_text(after)
    expect(tab.page.get_by_role("region", name="The story")).to_contain_text("Abort by the page")
    assert server.rollout(rollout)["phase"] == "rolled-back"
    tab.open("rollouts", "Rollouts")
    expect(tab.page.get_by_role("region", name="Rollouts")).to_contain_text("rolled-back")
    assert tab.complaints == []


def test_the_playground_asks_the_model(tab: Tab) -> None:
    tab.open(f"playground/{MODEL}", "Playground")
    numbers = tab.page.get_by_label("Numbers of x")
    numbers.fill("1, two")
    expect(tab.page.get_by_text("two is no number")).to_be_visible()
    expect(tab.page.get_by_role("button", name="Send")).to_be_disabled()
    numbers.fill("1\n41")
    tab.page.get_by_role("button", name="Send").click()
    answer = tab.page.get_by_role("region", name="Output y")
    expect(answer.get_by_role("cell", name="42", exact=True)).to_be_visible()
    tab.page.get_by_text("As curl").click()
    expect(tab.page.locator("pre").first).to_contain_text(f"/v1/playground/{MODEL}")
    assert tab.complaints == []


def test_everything_can_be_done_by_keys(tab: Tab) -> None:
    tab.open("", "Overview")
    keys = tab.page.keyboard
    keys.press("Tab")
    expect(tab.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    keys.press("Enter")
    expect(tab.page.locator("main")).to_be_focused()
    keys.press("g")
    keys.press("d")
    expect(tab.page.locator("h1")).to_have_text("Drift")
    keys.press("/")
    keys.type("frau")
    expect(tab.page.get_by_role("option").first).to_contain_text(MODEL)
    keys.press("Enter")
    expect(tab.page.locator("h1")).to_have_text(MODEL)
    keys.press("?")
    expect(tab.page.get_by_role("dialog", name="Keys")).to_be_visible()
    keys.press("Escape")
    expect(tab.page.get_by_role("dialog")).to_have_count(0)
    before = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    keys.press("t")
    assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    tab.page.go_back()
    expect(tab.page.locator("h1")).to_have_text("Drift")


def test_keys_open_the_console_as_far_as_they_reach(browser: Browser, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", reader="read", some="read:fraud")
    own: dict[str, Any] = {"auth.keys_file": keys}
    context = browser.new_context()
    with open_shop(tmp_path, good).serve(**own) as running:
        page = context.new_page()
        page.goto(f"{running.process.control}/console/models/{MODEL}")
        key = page.get_by_label("API key")
        key.fill("nonsense")
        key.press("Enter")
        expect(page.get_by_role("alert")).to_be_visible()
        key.fill("key-reader")
        key.press("Enter")
        expect(page.locator("h1")).to_have_text(MODEL)
        expect(page.locator(".heard")).to_have_attribute("data-link", "open")
        page.reload()
        expect(page.locator("h1")).to_have_text(MODEL)
        page.get_by_role("link", name="Try it").click()
        expect(page.get_by_role("button", name="Send")).to_be_disabled()
        expect(page.get_by_text("Your key lacks the scope infer.")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        key.fill("key-some")
        key.press("Enter")
        expect(page.locator(".heard")).to_have_attribute("data-link", "refused")
        page.get_by_role("link", name="Overview").click()
        expect(page.get_by_text("Your key is for some models only.")).to_be_visible()
    context.close()


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not there: npm ci in console/")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(tab: Tab, scheme: Any, server: Server) -> None:
    tab.page.emulate_media(color_scheme=scheme)
    rollouts = server.see("/v1/rollouts")["rollouts"]
    more = {f"rollouts/{one['id']}": f"Rollout of {MODEL}" for one in rollouts[:1]}
    found: list[str] = []
    for path, title in {**PAGES, **more}.items():
        tab.open(path, title)
        tab.page.evaluate(AXE.read_text())
        told = tab.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        found += [
            f"{path}: {one['id']} {[node['html'][:200] for node in one['nodes'][:3]]}" for one in told["violations"]
        ]
    assert found == []
