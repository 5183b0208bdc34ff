from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import ssl
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from secure_fair.cli.certs import certs as command
from secure_fair.errors import TransportError
from secure_fair.transport import certs


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_party_is_signed_by_the_authority_and_by_nobody_else(tmp_path: Path) -> None:
    authority = load(certs.make_authority(tmp_path / "a"))
    party = load(certs.make_party(tmp_path / "a", "auditor"))
    other = load(certs.make_authority(tmp_path / "b"))
    party.verify_directly_issued_by(authority)
    with pytest.raises(InvalidSignature):
        party.verify_directly_issued_by(other)


def test_extensions_and_validity_of_a_party(tmp_path: Path) -> None:
    authority = load(certs.make_authority(tmp_path))
    party = load(certs.make_party(tmp_path, "dealer", ["dealer.example", "10.0.0.3", "2001:db8::3"]))
    assert isinstance(party.public_key(), ec.EllipticCurvePublicKey)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert not party.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = party.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    extended = set(party.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert extended == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    names = party.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"dealer.example", "localhost"}
    assert {str(ip) for ip in names.get_values_for_type(x509.IPAddress)} == {
        "10.0.0.3", "2001:db8::3", "127.0.0.1", "::1",
    }  # fmt: skip
    now = dt.datetime.now(dt.UTC)
    assert party.not_valid_before_utc < now - dt.timedelta(minutes=59)
    assert party.not_valid_after_utc > now + dt.timedelta(days=800)


def test_keys_are_readable_by_their_owner_only_and_never_overwritten(tmp_path: Path) -> None:
    certs.make_authority(tmp_path)
    certs.make_party(tmp_path, "auditor")
    before = (tmp_path / "auditor.key").read_bytes()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {0o600}
    with pytest.raises(TransportError, match=r"auditor\.key: exists already"):
        certs.make_party(tmp_path, "auditor")
    with pytest.raises(TransportError, match=r"ca\.key: exists already"):
        certs.make_authority(tmp_path)
    assert (tmp_path / "auditor.key").read_bytes() == before


def test_the_fingerprint_is_of_the_der_form_of_the_first_certificate(tmp_path: Path) -> None:
    authority = certs.make_authority(tmp_path)
    party = certs.make_party(tmp_path, "auditor")
    expected = "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(party.read_text())).hexdigest()
    chain = tmp_path / "chain.crt"
    chain.write_text("a comment\n" + party.read_text() + authority.read_text())
    assert certs.fingerprint(party) == certs.fingerprint(chain) == expected
    with pytest.raises(TransportError, match="not a PEM certificate"):
        certs.fingerprint(tmp_path / "auditor.key")
    with pytest.raises(TransportError, match="No such file"):
        certs.fingerprint(tmp_path / "nobody.crt")


@pytest.mark.parametrize("name", ["ca", "../x", "A", "", "a b"])
def test_names_that_are_no_party(tmp_path: Path, name: str) -> None:
    certs.make_authority(tmp_path)
    with pytest.raises(TransportError, match="no party's name"):
        certs.make_party(tmp_path, name)


def test_a_host_with_a_port_and_a_missing_authority_are_explained(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="no usable authority"):
        certs.make_party(tmp_path, "auditor")
    certs.make_authority(tmp_path)
    with pytest.raises(TransportError, match="without port"):
        certs.make_party(tmp_path, "auditor", ["host:7400"])


def test_the_command_writes_all_parties_and_prints_their_fingerprints(tmp_path: Path) -> None:
    out = tmp_path / "certs"
    result = CliRunner().invoke(command, ["init", str(out), "--host", "auditor=auditor.example", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["fingerprints"] == {
        party: certs.fingerprint(out / f"{party}.crt") for party in ("developer", "auditor", "dealer")
    }
    names = load(out / "auditor.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "auditor.example" in names.get_values_for_type(x509.DNSName)
    text = CliRunner().invoke(command, ["init", str(tmp_path / "more")]).stdout
    assert len(re.findall("sha256:[0-9a-f]{64}", text)) == 3
    assert CliRunner().invoke(command, ["init", str(tmp_path / "x"), "--host", "eve=e"]).exit_code == 2
