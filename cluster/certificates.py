"""Development certificates: one authority, and one certificate for each process and role.

The role is in the certificate (URI SAN `spiffe://kibubu/<role>/<name>`), so that a server knows what a caller may do
without any password. An operator of a real cluster brings certificates of the same form from their own authority.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST_DOMAIN = "kibubu"
ROLES = ("edge", "operator", "auditor", "outbox", "review", "node", "fraud", "prometheus")
SERVER_NAMES = ("localhost", "kibubu")
PIN_KEY_BYTES = 32
SESSION_KEY_BYTES = 32
_VALID_DAYS = 825
_RENEW_BEFORE = datetime.timedelta(days=30)
_CLOCK_SKEW = datetime.timedelta(hours=1)


class CertificateError(Exception):
    """Certificates cannot be made, or those that are there do not fit together."""


@dataclass(frozen=True, slots=True)
class TlsPaths:
    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def tls_paths(folder: Path, role: str, name: str) -> TlsPaths:
    return TlsPaths(folder / "ca.crt", folder / f"{role}-{name}.crt", folder / f"{role}-{name}.key")


def ensure_certificates(folder: Path, wanted: list[tuple[str, str]]) -> None:
    """Makes what is missing or soon invalid; `wanted` is (role, name). What is good stays, so running nodes keep it."""
    authority = _ensure_authority(folder)
    for role, name in wanted:
        paths = tls_paths(folder, role, name)
        if not _is_good(paths.cert, paths.key, authority.certificate):
            _issue(authority, paths, role, name)


def ensure_pin_key(path: Path) -> None:
    if not path.exists():
        write_secret(path, secrets.token_bytes(PIN_KEY_BYTES))


def ensure_session_key(path: Path) -> None:
    """Seals what the USSD edge keeps of a session; edges that share sessions share it."""
    if not path.exists():
        write_secret(path, secrets.token_bytes(SESSION_KEY_BYTES))


def write_secret(path: Path, content: bytes) -> None:
    """A file that only its owner can read, from its first moment on; whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _write_public(path: Path, certificate: x509.Certificate) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    temporary.replace(path)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _ensure_authority(folder: Path) -> Authority:
    cert_path, key_path = folder / "ca.crt", folder / "ca.key"
    if cert_path.exists() and key_path.exists():
        certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise CertificateError(f"{key_path} does not belong to {cert_path}; remove the folder to make both anew")
        if certificate.not_valid_after_utc > _now() + _RENEW_BEFORE:
            return Authority(certificate, key)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Kibubu development authority")])
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret(key_path, _pem(key))
    _write_public(cert_path, certificate)
    return Authority(certificate, key)


def _issue(authority: Authority, paths: TlsPaths, role: str, name: str) -> None:
    if role not in ROLES:
        raise CertificateError(f"role must be one of {', '.join(ROLES)}, is {role!r}")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{role}/{name}")])
    alternatives = x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/{role}/{name}"),
            *(x509.DNSName(server) for server in SERVER_NAMES),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
    )
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    issuer = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(subject, authority.certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(usages, critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    write_secret(paths.key, _pem(key))
    _write_public(paths.cert, certificate)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _is_good(cert_path: Path, key_path: Path, authority: x509.Certificate) -> bool:
    if not (cert_path.exists() and key_path.exists()):
        return False
    certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # of another authority, however that shows: make it anew
        return False
    key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    return key.public_key() == certificate.public_key() and certificate.not_valid_after_utc > _now() + _RENEW_BEFORE
