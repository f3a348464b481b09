"""Commands that are done as somebody: the name in an operator's certificate, which is made when it is missing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import click

from cluster.calls import Caller, CallError
from cluster.certificates import CertificateError, ensure_certificates, tls_paths
from cluster.config_files import OPERATOR
from cluster.layout import LayoutError, layout_from_environment

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,19}", re.ASCII)
EXPECTED = (CallError, CertificateError, LayoutError, OSError)
AS = click.option(
    "--as", "person", default=OPERATOR, show_default=True, help="Whose operator certificate calls; made when missing."
)


@contextlib.contextmanager
def caller_as(person: str, *more: type[Exception]) -> Iterator[Caller]:
    """An expected error, or one of `more`, is one line and not a traceback."""
    expected: tuple[type[Exception], ...] = (*EXPECTED, *more)
    if not _NAME.fullmatch(person):
        raise click.ClickException(f"--as: 1 to 20 small letters, digits and -, is {person!r}")
    try:
        layout = layout_from_environment()
        if not (layout.certificates / "ca.crt").exists():
            raise CallError(f"there is no cluster in {layout.home}; `kibubu up` makes one")
        ensure_certificates(layout.certificates, [(OPERATOR, person)])
        with Caller(layout.api_addresses, tls_paths(layout.certificates, OPERATOR, person)) as caller:
            yield caller
    except expected as error:
        raise click.ClickException(str(error)) from error
