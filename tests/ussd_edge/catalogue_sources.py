"""`python -m tests.ussd_edge.catalogue_sources` brings the catalogues up to date with the code: new sentences are added
to each .po, untranslated, those that are gone go, and each .mo is compiled anew. Translating them is up to people."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from ussd_edge import menu, sms
from ussd_edge.catalogues import DOMAIN, FOLDER, SOURCE_LANGUAGE
from ussd_edge.menu.texts import LANGUAGES

_EPOCH = datetime(2026, 11, 24, tzinfo=UTC)  # the history is in the repository
KEYWORDS = {"N_": None, "_plural": (1, 2)}
TRANSLATED = [language for language in LANGUAGES if language != SOURCE_LANGUAGE]


def po_file(language: str) -> Path:
    return FOLDER / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def extracted(language: str) -> Catalog:
    """What there is to translate, as the code has it."""
    catalogue = Catalog(
        locale=language, domain=DOMAIN, header_comment=f"# Kibubu's USSD menu: {LANGUAGES[language]}.",
        project="Kibubu", version="1", msgid_bugs_address="none", last_translator="none", language_team="none",
        creation_date=_EPOCH, revision_date=_EPOCH, fuzzy=False,
    )  # fmt: skip
    for package in (menu, sms):
        for _, _, message, comments, context in extract_from_dir(Path(package.__file__).parent, keywords=KEYWORDS):
            catalogue.add(message, auto_comments=comments, context=context)
    return catalogue


def stored(language: str) -> Catalog:
    with po_file(language).open("rb") as file:
        return read_po(file, locale=language, domain=DOMAIN)


def compiled(catalogue: Catalog) -> bytes:
    written = BytesIO()
    write_mo(written, catalogue)
    return written.getvalue()


def main() -> None:
    for language in TRANSLATED:
        catalogue = stored(language)
        catalogue.update(extracted(language), no_fuzzy_matching=True, update_header_comment=False)
        catalogue.obsolete.clear()
        with po_file(language).open("wb") as file:
            write_po(file, catalogue, width=120, sort_output=True, no_location=True)
        po_file(language).with_suffix(".mo").write_bytes(compiled(stored(language)))
        print(f"written {po_file(language)}")


if __name__ == "__main__":
    main()
