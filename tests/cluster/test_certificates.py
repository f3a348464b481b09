"""Development certificates: the role is in them, keys are for their owner alone, and what is good stays."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509

from cluster import certificates
from cluster.certificates import ROLES, CertificateError, TlsPaths, ensure_certificates, ensure_pin_key, tls_paths
from node.service.auth import role_of

WANTED = [
    ("node", "n1"), ("edge", "edge"), ("operator", "anna"), ("fraud", "fraud"), ("prometheus", "prometheus"),
    ("auditor", "auditor"), ("outbox", "sms"), ("review", "review"),
]  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def certificate(paths: TlsPaths) -> x509.Certificate:
    return x509.load_pem_x509_certificate(paths.cert.read_bytes())


def test_each_certificate_proves_one_role_to_a_server(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, WANTED)
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())
    for role, name in WANTED:
        made = certificate(tls_paths(tmp_path, role, name))
        made.verify_directly_issued_by(authority)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        assert uris == [f"spiffe://kibubu/{role}/{name}"]
        assert role_of({"peer_uri": [uri.encode() for uri in uris]}) == role
        assert "kibubu" in names.get_values_for_type(x509.DNSName)
        assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert {role for role, _ in WANTED} == set(ROLES)


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    ensure_certificates(folder, WANTED)
    ensure_pin_key(tmp_path / "keys" / "pin.key")
    keys = [*folder.glob("*.key"), tmp_path / "keys" / "pin.key"]
    assert len(keys) == len(WANTED) + 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o400}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not list(folder.glob(".*"))  # nothing half-written stays


def test_twice_changes_nothing(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, WANTED)
    ensure_pin_key(tmp_path / "pin.key")
    before = files(tmp_path)
    ensure_certificates(tmp_path, WANTED)
    ensure_pin_key(tmp_path / "pin.key")
    assert files(tmp_path) == before
    assert len((tmp_path / "pin.key").read_bytes()) == 32


def test_a_new_one_leaves_the_others(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, WANTED)
    before = files(tmp_path)
    ensure_certificates(tmp_path, [*WANTED, ("edge", "second")])
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 2


def test_what_is_soon_invalid_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_certificates(tmp_path, WANTED)
    before = files(tmp_path)
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=825 - 29)
    monkeypatch.setattr(certificates, "_now", lambda: later)
    ensure_certificates(tmp_path, WANTED)
    assert not set(before.values()) & set(files(tmp_path).values())
    for role, name in WANTED:
        made = certificate(tls_paths(tmp_path, role, name))
        made.verify_directly_issued_by(x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes()))


def test_one_of_another_authority_and_one_without_its_key_are_made_anew(tmp_path: Path) -> None:
    ensure_certificates(tmp_path / "a", WANTED)
    ensure_certificates(tmp_path / "b", WANTED)
    edge, node = tls_paths(tmp_path / "a", "edge", "edge"), tls_paths(tmp_path / "a", "node", "n1")
    foreign = tls_paths(tmp_path / "b", "edge", "edge")
    foreign.cert.replace(edge.cert)
    node.key.unlink()
    ensure_certificates(tmp_path / "a", WANTED)
    authority = x509.load_pem_x509_certificate(edge.ca.read_bytes())
    certificate(edge).verify_directly_issued_by(authority)
    assert node.key.exists()


def test_an_authority_whose_key_is_anothers_is_not_used(tmp_path: Path) -> None:
    ensure_certificates(tmp_path / "a", [])
    ensure_certificates(tmp_path / "b", [])
    (tmp_path / "b" / "ca.key").replace(tmp_path / "a" / "ca.key")
    with pytest.raises(CertificateError, match="does not belong to"):
        ensure_certificates(tmp_path / "a", WANTED)


def test_a_role_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="role must be one of edge, operator, "):
        ensure_certificates(tmp_path, [("root", "x")])
