"""A private certificate authority and party certificates for a trial; real deployments bring their own.

`DIR/ca.crt`, `DIR/ca.key`, and `DIR/<party>.crt`, `DIR/<party>.key` for each party. Keys are EC P-256, unencrypted,
readable by their owner only (mode 0600). The authority's key signs new parties and is needed by nobody to run.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import os
import re
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from secure_fair.errors import TransportError

AUTHORITY_DAYS = 3650
PARTY_DAYS = 825
SKEW = dt.timedelta(hours=1)  # clocks of other hosts may be behind


def make_authority(directory: Path) -> Path:
    """Write a new authority into `directory` (made when missing) and return the path of its certificate.

    It may sign parties but no further authority. Raises TransportError when one is there already.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("secure-fair trial authority")
    builder = (
        _builder(subject, subject, key.public_key(), _now(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _write(directory, "ca", key, builder.sign(key, hashes.SHA256()))


def make_party(
    directory: Path,
    name: str,
    hosts: Sequence[str] = (),
    *,
    begin: dt.datetime | None = None,
    days: int = PARTY_DAYS,
) -> Path:
    """Write a certificate for party `name`, signed by the authority in `directory`, and return its path.

    `hosts`: names or IP addresses at which the others reach it (localhost is always among them). It serves as client
    and as server. Raises TransportError when the authority is missing, or the party is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", name) or name == "ca":
        raise TransportError(f"{name!r} is no party's name; use small letters, digits and hyphens (and not `ca`)")
    try:
        authority = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        signer = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TransportError(f"{directory}: no usable authority ({error}); try `secure-fair certs init`") from None
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TransportError(f"{directory / 'ca.key'}: not an EC key; make an authority with `secure-fair certs init`")
    key = ec.generate_private_key(ec.SECP256R1())
    names = [_general_name(host) for host in dict.fromkeys((*hosts, "localhost", "127.0.0.1", "::1"))]
    builder = (
        _builder(_name(name), authority.subject, key.public_key(), begin or _now(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return _write(directory, name, key, builder.sign(signer, hashes.SHA256()))


def fingerprint(certificate: Path) -> str:
    """`sha256:` and 64 hex digits of the DER form of a PEM certificate (the first one of a chain)."""
    try:
        text = certificate.read_text(encoding="ascii")
        begin = text.index(ssl.PEM_HEADER)
        end = text.index(ssl.PEM_FOOTER, begin) + len(ssl.PEM_FOOTER)
        return fingerprint_of(ssl.PEM_cert_to_DER_cert(text[begin:end]))
    except OSError as error:
        raise TransportError(f"{certificate}: unreadable ({error.strerror}); try `secure-fair certs init`") from None
    except ValueError:
        raise TransportError(f"{certificate}: not a PEM certificate; see `secure-fair certs init`") from None


def fingerprint_of(der: bytes) -> str:
    """`sha256:` and 64 hex digits of a certificate in DER form."""
    return "sha256:" + hashlib.sha256(der).hexdigest()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - SKEW


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, begin: dt.datetime, days: int
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=public_key,
        serial_number=x509.random_serial_number(),
        not_valid_before=begin,
        not_valid_after=begin + dt.timedelta(days=days),
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not re.fullmatch(r"(?!-)[A-Za-z0-9.-]{1,253}", host):
        raise TransportError(f"{host!r} is neither a host name nor an IP address; write it without port")
    return x509.DNSName(host)


def _write(directory: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> Path:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _create(directory / f"{name}.key", pem, 0o600)
    path = directory / f"{name}.crt"
    _create(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return path


def _create(path: Path, content: bytes, mode: int) -> None:
    try:
        # O_EXCL: never replaces a key in use, and never follows a link that somebody else laid.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except FileExistsError:
        raise TransportError(f"{path}: exists already; choose an empty folder, or remove it") from None
    except OSError as error:
        raise TransportError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None
