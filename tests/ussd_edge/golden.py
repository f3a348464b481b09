"""`python -m tests.ussd_edge.golden` writes the screens of every golden journey anew; accepting the difference is up to
whoever reads it.

A journey is a text file: a paragraph of prose, then `> input` for each thing that the person types (the first, empty
one is the dialling) with the screen that answers it. Prose and inputs are kept, only screens are written.
"""

from __future__ import annotations

from pathlib import Path

from tests.ussd_edge.phone import SmallLedger, dialled

FOLDER = Path(__file__).parent / "golden"


def journeys() -> list[Path]:
    return sorted(FOLDER.glob("*.txt"))


def written_anew(text: str) -> str:
    prose, _, rest = text.partition("\n\n")
    typed = [line[2:] for line in f"\n{rest}".split("\n") if line.startswith("> ") or line == ">"]
    ledger, parts = SmallLedger(), [prose, ""]
    for number, line in enumerate(typed):
        parts += [f"> {line}".rstrip(), dialled(typed[1 : number + 1], ledger), ""]
    return "\n".join(parts)


def main() -> None:
    for path in journeys():
        path.write_text(written_anew(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"written {path.name}")


if __name__ == "__main__":
    main()
