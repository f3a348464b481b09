"""Statements as files, read back: by csv, and by a PDF reader that is not the writer."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pypdf import PdfReader

from cluster.books import Line
from cluster.statement_files import PDF_LINES_MAX, Heading, TooLongError, write_csv, write_pdf

HEADING = Heading("Ọláyínká Ngũgĩ", "254712000001", "KES", "from 01/11/2026 to 24/11/2026", 1_000_000, -123_456)


def lines(count: int) -> list[Line]:
    time = datetime(2026, 11, 24, 17, 3, 5, tzinfo=UTC)
    return [
        Line(number, 0, time, f"{number:032x}", -number * 101, 1_000_000 - number, 7, "Mama Mboga", 2, "posted")
        for number in range(1, count + 1)
    ]


def test_a_csv_has_plain_decimals_and_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "statement.csv"
    odd = Line(9, 1, lines(1)[0].time, "ff", 123_456_789, -5, 8, '=HYPERLINK("x")', 2, 'a, "b"\nc')
    assert write_csv(path, iter([*lines(2), odd])) == 3
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["time"] == "2026-11-24 17:03:05"
    assert [row["amount"] for row in rows] == ["-1.01", "-2.02", "1234567.89"]
    assert rows[2]["balance"] == "-0.05"
    assert rows[2]["other_name"] == '\'=HYPERLINK("x")'
    assert rows[2]["note"] == 'a, "b"\nc'
    assert write_csv(path, iter([])) == 0


def test_a_pdf_says_all_of_it_on_as_many_pages_as_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "statement.pdf"
    write_pdf(path, HEADING, lines(150))
    reader = PdfReader(path)
    text = "\n".join(page.extract_text() for page in reader.pages)
    assert reader.metadata is not None
    assert reader.metadata.title == "Statement of Ọláyínká Ngũgĩ"
    assert len(reader.pages) > 2
    assert "Ọláyínká Ngũgĩ" in text
    assert "Opening balance 10,000.00, closing balance -1,234.56" in text
    assert text.count("In or out") == len(reader.pages)  # the titles stand on every page
    for number in (1, 75, 150):
        whole, cents = divmod(number * 101, 100)
        assert f"-{whole}.{cents:02}" in text
    assert f"1 / {len(reader.pages)}" in text


def test_an_empty_pdf_and_one_that_would_be_too_long(tmp_path: Path) -> None:
    write_pdf(tmp_path / "empty.pdf", HEADING, [])
    assert len(PdfReader(tmp_path / "empty.pdf").pages) == 1
    with pytest.raises(TooLongError, match="--csv"):
        write_pdf(tmp_path / "long.pdf", HEADING, lines(PDF_LINES_MAX + 1))
    assert not (tmp_path / "long.pdf").exists()
