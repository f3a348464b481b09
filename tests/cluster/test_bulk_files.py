"""A bulk file's mistakes, each with its line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.bulk import ROWS_MAX, FileProblemsError, read_rows

HEAD = "phone,amount,reference\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "batch.csv"
    path.write_bytes(text.encode())
    return path


def test_what_a_file_may_look_like(tmp_path: Path) -> None:
    text = '\ufeffphone,amount,reference\r\n+254712000001,500,MAY 1\r\n"254712000002",49.50,\r\n\r\n'
    rows = read_rows(written(tmp_path, text), allow_duplicates=False)
    assert [(row.row, row.payee, row.amount_minor, row.reference) for row in rows] == [
        (1, "254712000001", 50_000, "MAY 1"), (2, "254712000002", 4_950, ""),
    ]  # fmt: skip
    turned = read_rows(written(tmp_path, "amount,phone\n5,0712000001\n"), allow_duplicates=False)
    assert (turned[0].payee, turned[0].amount_minor) == ("0712000001", 500)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: has no column phone"),
        ("phone,sum\n", "line 1: has no column amount"),
        ("phone,amount,name\n", "column 'name' is none of ours"),
        (HEAD, "the file has no rows"),
        (HEAD + "254712000001,500,\n25471200000x,500,\n", "line 3, phone: must be a phone number, is '25471200000x'"),
        (HEAD + "254712000001,5 00,\n", "line 2, amount: '5 00' is no amount"),
        (HEAD + '254712000001,"5,000",\n', "line 2, amount: '5,000' is no amount"),
        (HEAD + "254712000001,-5,\n", "line 2, amount: '-5' is no amount"),
        (HEAD + "254712000001,0,\n", "line 2, amount: the amount must be more than zero"),
        (HEAD + "254712000001,1.005,\n", "line 2, amount"),
        (HEAD + "254712000001,5," + "é" * 11 + "\n", "line 2, reference: at most 20 bytes"),
        (HEAD + "254712000001\n", "line 2, amount"),
        (HEAD + "254712000001,5,a,b\n", "line 2, phone: the line has more fields than the first"),
        (HEAD + "254712000001,5,\n254712000001,6,\n", "line 3, phone: is on line 2 already"),
        (HEAD + '254712000001,"5\n', "is no CSV in UTF-8"),
    ],
)
def test_a_mistake_names_its_line_and_field(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FileProblemsError) as caught:
        read_rows(written(tmp_path, text), allow_duplicates=False)
    assert said in str(caught.value)


def test_many_mistakes_are_told_at_once_and_not_without_end(tmp_path: Path) -> None:
    with pytest.raises(FileProblemsError) as caught:
        read_rows(written(tmp_path, HEAD + "x,y,\n" * 100), allow_duplicates=True)
    told = str(caught.value).splitlines()
    assert len(told) == 20
    assert told[:3] == [
        "line 2, phone: must be a phone number, is 'x'",
        "line 2, amount: 'y' is no amount: write shillings with at most two decimals, such as 500 or 49.50",
        "line 3, phone: must be a phone number, is 'x'",
    ]


def test_the_maximum_and_one_more(tmp_path: Path) -> None:
    line = "254712000001,5,\n"
    assert len(read_rows(written(tmp_path, HEAD + line * ROWS_MAX), allow_duplicates=True)) == ROWS_MAX
    with pytest.raises(FileProblemsError, match=f"line {ROWS_MAX + 2}: a batch has at most"):
        read_rows(written(tmp_path, HEAD + line * (ROWS_MAX + 1)), allow_duplicates=True)


def test_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "batch.csv"
    path.write_bytes(b"phone,amount\n\xff\xfe,5\n")
    with pytest.raises(FileProblemsError, match="UTF-8"):
        read_rows(path, allow_duplicates=False)
