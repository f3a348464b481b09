"""A statement as a file: CSV for programs, PDF for people."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from fpdf import FPDF
from fpdf.enums import TableCellFillMode
from fpdf.fonts import FontFace

from cluster.books import Line
from cluster.money import format_minor

PDF_LINES_MAX = 5_000
_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # letters of every language of the menu
_CSV_TITLES = (
    "time", "position", "offset", "transfer_id", "amount", "balance", "other_account", "other_name", "code", "note",
)  # fmt: skip
_PDF_TITLES = ("Date and time", "Other party", "Note", "In or out", "Balance")
_PDF_WIDTHS = (34, 50, 46, 28, 32)


class TooLongError(Exception):
    """More lines than a PDF is made for."""


@dataclass(frozen=True, slots=True)
class Heading:
    name: str
    account: str
    currency: str
    period: str
    opening_minor: int
    closing_minor: int
    exponent: int = 2  # decimals of the currency's unit


def write_csv(path: Path, lines: Iterable[Line], exponent: int = 2) -> int:
    """As they come; how many they were. Amounts are plain decimals, times are local."""
    told = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_CSV_TITLES)
        for told, line in enumerate(lines, 1):  # noqa: B007
            writer.writerow(
                (
                    line.time.replace(tzinfo=None).isoformat(sep=" "), line.position, line.offset, line.transfer_id,
                    _decimal(line.amount_minor, exponent), _decimal(line.balance_minor, exponent), line.other_account,
                    _safe(line.other_name), line.code, _safe(line.note),
                )
            )  # fmt: skip
    return told


def _decimal(minor: int, exponent: int) -> str:
    return format_minor(minor, exponent).replace(",", "")


def _safe(text: str) -> str:
    """A name that begins like a formula would be one in a spreadsheet."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


class _Page(FPDF):
    def footer(self) -> None:
        self.set_y(-12)
        self.set_font("DejaVu", size=7)
        self.cell(0, 6, f"{self.page_no()} / {{nb}}", align="C")


def write_pdf(path: Path, heading: Heading, lines: Sequence[Line]) -> None:
    if len(lines) > PDF_LINES_MAX:
        raise TooLongError(f"a PDF has at most {PDF_LINES_MAX:,} lines; choose a shorter span, or --csv")
    pdf = _Page(format="A4")
    pdf.set_creator("Kibubu")
    pdf.set_title(f"Statement of {heading.name}")
    pdf.add_font("DejaVu", fname=_FONTS / "DejaVuSans.ttf")
    pdf.add_font("DejaVu", style="B", fname=_FONTS / "DejaVuSans-Bold.ttf")
    pdf.add_page()
    pdf.set_font("DejaVu", "B", 15)
    pdf.cell(0, 9, heading.name, new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("DejaVu", size=9)
    for text in (
        f"Account {heading.account}, {heading.currency}, {heading.period}",
        f"Opening balance {format_minor(heading.opening_minor, heading.exponent)},"
        f" closing balance {format_minor(heading.closing_minor, heading.exponent)}",
    ):
        pdf.cell(0, 5, text, new_x="LMARGIN", new_y="NEXT")
    pdf.ln(3)
    pdf.set_font("DejaVu", size=7)
    with pdf.table(
        col_widths=_PDF_WIDTHS, text_align=("LEFT", "LEFT", "LEFT", "RIGHT", "RIGHT"), line_height=4.4,
        headings_style=FontFace(emphasis="BOLD", fill_color=(225, 230, 238)),
        cell_fill_color=(245, 247, 250), cell_fill_mode=TableCellFillMode.ROWS,
    ) as table:  # fmt: skip
        table.row(_PDF_TITLES)
        for line in lines:
            other = f"{line.other_name or '-'} (#{line.other_account})"
            cells = (f"{line.time:%d/%m/%Y %H:%M:%S}", other, line.note)
            amounts = (format_minor(minor, heading.exponent) for minor in (line.amount_minor, line.balance_minor))
            table.row((*cells, *amounts))
    pdf.output(str(path))
