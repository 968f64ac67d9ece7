"""docs/errors.md is what the errors say."""

from __future__ import annotations

import re

from tools.errors_docs import PAGE, error_classes, format_page

from taxiway.core.errors import EXIT_CODES, ErrorKind, TaxiwayError
from taxiway.server.wire import status


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == format_page(), "run `python -m tools.errors_docs`"


def test_every_code_has_an_anchor() -> None:
    anchors = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted({error.code for error in error_classes()}) == anchors


def test_codes_are_kebab_case_and_told_once() -> None:
    own = [error for error in error_classes() if "code" in vars(error) and error is not TaxiwayError]
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", error.code) for error in own)
    assert len({error.code for error in own}) == len(own)


def test_every_error_says_what_it_means_in_its_own_words() -> None:
    for error in error_classes():
        assert vars(error).get("__doc__"), error.__name__


def test_every_kind_has_an_exit_code() -> None:
    assert set(EXIT_CODES) == set(ErrorKind)


def test_every_status_has_a_reason_phrase() -> None:
    for profile in (status.STRICT, status.TRITON):
        for error in error_classes():
            assert profile.status_of(error("")) in status.REASONS
