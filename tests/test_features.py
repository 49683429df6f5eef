"""``docs/features.md`` says what the tests show, and every feature is shown by one."""

from __future__ import annotations

from tests.support.features import DOCUMENT, TABLES, render, rows_shown

ROWS = {row for rows in TABLES.values() for row in rows}


def test_every_feature_is_shown_by_a_test() -> None:
    shown = rows_shown()
    assert sorted(ROWS - shown.keys()) == []


def test_every_mark_names_a_feature() -> None:
    assert sorted(rows_shown().keys() - ROWS) == []


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == render(), "run make features"
