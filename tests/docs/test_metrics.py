from __future__ import annotations

from tools.metrics_docs import PAGE, format_page


def test_the_metrics_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == format_page(), "run: python -m tools.metrics_docs"
