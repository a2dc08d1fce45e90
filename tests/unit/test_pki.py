"""Keys and certificates: what is made, what is left alone, and what is read of them."""

import contextlib
import os
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from rota.adapters.pki import LIFE, LOOPBACK, TlsKeyring
from rota.core.certificate import certificates, fingerprint, read_certificate
from rota.errors import InputError, UnavailableError

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class At:
    """A clock that stands."""

    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return 0.0


def keyring(folder: Path, clock: At | None = None) -> TlsKeyring:
    return TlsKeyring(folder / "tls", clock or At())


def leaf(ring_folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates((ring_folder / "tls" / "agent.crt").read_bytes())[0]


def names(cert: x509.Certificate) -> set[str]:
    san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    ips = {str(ip) for ip in san.get_values_for_type(x509.IPAddress)}
    return ips | set(san.get_values_for_type(x509.DNSName))


def spki(cert: x509.Certificate) -> str:
    key = cert.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key)
    return digest.finalize().hex()


def test_founding_makes_a_ca_and_a_certificate_for_all_the_hosts(tmp_path: Path) -> None:
    made = keyring(tmp_path).found("a1", ["10.0.0.7", "fd00:0::7", "build-1.example"])
    cert, ca = x509.load_pem_x509_certificates(made.cert.read_bytes())
    cert.verify_directly_issued_by(ca)
    assert ca.public_bytes(serialization.Encoding.PEM) == made.ca.read_bytes()
    assert names(cert) == {"a1", "10.0.0.7", "fd00::7", "build-1.example", *LOOPBACK}
    usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {
        x509.oid.ExtendedKeyUsageOID.SERVER_AUTH,
        x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert ca.not_valid_before_utc == cert.not_valid_before_utc == NOW - timedelta(days=1)
    assert ca.not_valid_after_utc - NOW > timedelta(days=10_000)
    assert made.pin == spki(cert)


def test_two_clusters_have_different_cas(tmp_path: Path) -> None:
    one, two = (keyring(tmp_path / name) for name in "ab")
    one.found("a1", [])
    two.found("a1", [])
    assert one.fingerprint() != two.fingerprint()


def test_only_the_agents_own_user_can_read_what_is_written(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        keyring(tmp_path).found("a1", [])
    finally:
        os.umask(old)
    folder = tmp_path / "tls"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert found == dict.fromkeys(("ca.crt", "ca.key", "agent.crt", "agent.key"), 0o600)


def test_founding_again_changes_nothing(tmp_path: Path) -> None:
    first = keyring(tmp_path).found("a1", ["10.0.0.7"])
    before = {path: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    assert keyring(tmp_path).found("a2", ["10.0.0.8"]) == first
    assert {path: path.read_bytes() for path in (tmp_path / "tls").iterdir()} == before


@pytest.mark.parametrize(
    "lost", [("agent.crt",), ("ca.crt", "agent.crt", "agent.key"), ("ca.crt",)]
)
def test_what_a_crash_left_half_done_is_brought_to_its_end(
    tmp_path: Path, lost: tuple[str, ...]
) -> None:
    keyring(tmp_path).found("a1", [])
    for name in lost:
        (tmp_path / "tls" / name).unlink()
    made = keyring(tmp_path).found("a1", [])
    cert, ca = x509.load_pem_x509_certificates(made.cert.read_bytes())
    cert.verify_directly_issued_by(ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)


def test_an_agent_without_a_certificate_shows_nothing(tmp_path: Path) -> None:
    ring = keyring(tmp_path)
    assert (ring.credentials(), ring.fingerprint()) == (None, "")
    ring.request("a1")
    assert (ring.credentials(), ring.fingerprint()) == (None, "")


def test_a_start_does_not_import_the_library(tmp_path: Path) -> None:
    keyring(tmp_path).found("a1", [])
    code = (
        "import sys; from pathlib import Path; from rota.adapters.clocks import SystemClock;"
        "from rota.adapters.pki import TlsKeyring;"
        f"ring = TlsKeyring(Path({str(tmp_path / 'tls')!r}), SystemClock());"
        "ring.found('a1', []); assert not ring.renew('a1', []); ring.fingerprint();"
        "sys.exit('cryptography' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- admitting ----------------------------------------------------------------------------------


def test_a_signed_certificate_is_for_the_key_of_the_request(tmp_path: Path) -> None:
    member, fresh = keyring(tmp_path / "member"), keyring(tmp_path / "fresh")
    member.found("a1", [])
    request = fresh.request("whoever")
    assert fresh.request("whoever") != b""
    cert = member.sign(request, "a2", ["10.0.0.8"])
    made = fresh.install(ca=member.ca(), ca_key=member.ca_key(), cert=cert)
    assert names(leaf(tmp_path / "fresh")) == {"a2", "10.0.0.8", *LOOPBACK}
    assert made.pin == read_certificate(certificates(cert)[0]).pin == spki(leaf(tmp_path / "fresh"))
    assert fresh.fingerprint() == member.fingerprint()
    # The new one can admit the next.
    third = keyring(tmp_path / "third")
    signed = fresh.sign(third.request("a3"), "a3", [])
    third.install(ca=fresh.ca(), ca_key=fresh.ca_key(), cert=signed)
    leaf(tmp_path / "third").verify_directly_issued_by(x509.load_pem_x509_certificate(member.ca()))


def other_request(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def forged_request() -> bytes:
    """A request for one key that another one signed."""
    whole = x509.load_pem_x509_csr(other_request(ec.generate_private_key(ec.SECP256R1())))
    der = bytearray(whole.public_bytes(serialization.Encoding.DER))
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point, old = (
        public.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        for public in (key, whole.public_key())
    )
    at = der.index(old)
    der[at : at + len(old)] = point
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)


def test_requests_that_are_not_as_ours_are_refused(tmp_path: Path) -> None:
    ring = keyring(tmp_path)
    ring.found("a1", [])
    for request, words in (
        (b"", "the certificate request cannot be read"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "read"),
        (other_request(rsa.generate_private_key(65537, 2048)), "another kind of key than of curve"),
        (other_request(ec.generate_private_key(ec.SECP384R1())), "another kind of key than of"),
        (forged_request(), "the certificate request is not signed by its own key"),
    ):
        with pytest.raises(InputError, match=words):
            ring.sign(request, "a2", [])


@pytest.mark.parametrize(
    "host", ["", "a b", "*", "10.0.0.7/8", "fe80::1%eth0", "ä", "x" * 300, "a\n"]
)
def test_what_is_no_host_is_refused_by_name(tmp_path: Path, host: str) -> None:
    with pytest.raises(InputError, match="bad host"):
        keyring(tmp_path).found("a1", [host])
    assert not (tmp_path / "tls").exists()


def test_too_many_hosts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="104 hosts for one certificate, the limit is 64"):
        keyring(tmp_path).found("a1", [f"10.0.0.{n}" for n in range(100)])


def test_what_does_not_belong_together_is_not_installed(tmp_path: Path) -> None:
    one, two, fresh = (keyring(tmp_path / name) for name in ("one", "two", "fresh"))
    one.found("a1", [])
    two.found("a1", [])
    cert = one.sign(fresh.request("a2"), "a2", [])
    foreign = one.sign(two.request("a3"), "a3", [])
    for parts, words in (
        ({"ca": two.ca(), "ca_key": two.ca_key(), "cert": cert}, "not of the CA that came with it"),
        ({"ca": one.ca(), "ca_key": two.ca_key(), "cert": cert}, "another key than this agent's"),
        ({"ca": one.ca(), "ca_key": one.ca_key(), "cert": foreign}, "another key than this agent"),
        ({"ca": one.ca(), "ca_key": b"x", "cert": cert}, "not of the CA that came with it"),
    ):
        with pytest.raises(InputError, match=words):
            fresh.install(**parts)
    assert {path.name for path in (tmp_path / "fresh" / "tls").iterdir()} == {"agent.key"}
    fresh.install(ca=one.ca(), ca_key=one.ca_key(), cert=cert)


def test_forgetting_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    ring = keyring(tmp_path)
    ring.found("a1", [])
    ring.forget()
    ring.forget()
    assert list(tmp_path.iterdir()) == []


# -- renewal ------------------------------------------------------------------------------------


def test_a_certificate_that_lacks_an_address_is_renewed_for_the_same_key(tmp_path: Path) -> None:
    ring = keyring(tmp_path)
    before = ring.found("a1", ["10.0.0.7"])
    assert not ring.renew("a1", ["10.0.0.7"])
    assert not ring.renew("a1", [])
    assert ring.renew("a1", ["10.0.0.9"])
    assert names(leaf(tmp_path)) == {"a1", "10.0.0.9", *LOOPBACK}
    assert ring.credentials() == before
    assert not ring.renew("a1", ["10.0.0.9"])


def test_a_certificate_is_renewed_in_its_last_thirty_days(tmp_path: Path) -> None:
    clock = At()
    ring = keyring(tmp_path, clock)
    pin = ring.found("a1", []).pin
    end = leaf(tmp_path).not_valid_after_utc
    clock.time = end - timedelta(days=31)
    assert not ring.renew("a1", [], LIFE)
    clock.time = end - timedelta(days=29)
    assert ring.renew("a1", [], LIFE)
    assert leaf(tmp_path).not_valid_after_utc > end
    # At a start it waits a bit longer: who runs can change the key as well.
    end = leaf(tmp_path).not_valid_after_utc
    clock.time = end - LIFE / 5
    assert not ring.renew("a1", [])
    clock.time = end - LIFE / 7
    assert ring.renew("a1", [])
    # Also long after its end: the machine was off.
    clock.time = end + timedelta(days=4000)
    assert ring.renew("a1", [])
    credentials = ring.credentials()
    assert credentials is not None
    assert credentials.pin == pin


# -- faults -------------------------------------------------------------------------------------


def test_damaged_files_are_named(tmp_path: Path) -> None:
    ring = keyring(tmp_path)
    ring.found("a1", [])
    for name, call, words in (
        ("agent.crt", ring.credentials, "agent.crt has no certificate in it"),
        ("ca.crt", ring.fingerprint, "ca.crt has no certificate in it"),
        ("agent.key", lambda: ring.request("a1"), "cannot use .*agent.key: it is damaged"),
        ("ca.key", lambda: ring.renew("a1", ["10.0.0.1"]), "cannot use .*ca.key: it is damaged"),
    ):
        path = tmp_path / "tls" / name
        whole = path.read_bytes()
        path.write_bytes(b"nonsense")
        with pytest.raises(UnavailableError, match=words) as caught:
            call()
        assert "join again by a token" in (caught.value.hint or "")
        path.write_bytes(whole)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("a file")
    with pytest.raises(UnavailableError, match=r"cannot write .*tls/ca.key: "):
        keyring(tmp_path).found("a1", [])


# -- reading without the library ----------------------------------------------------------------


@pytest.mark.parametrize(
    "until", [NOW + timedelta(days=1), datetime(2060, 1, 2, 3, 4, 5, tzinfo=UTC)]
)
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_certificate_is_read_as_the_library_reads_it(until: datetime, kind: str) -> None:
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    key = ec.generate_private_key(ec.SECP384R1())
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "x" * 60)] * 9)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(NOW)
        .not_valid_after(until)
        .serial_number(x509.random_serial_number())
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("a.b"), x509.RFC822Name("a@b"), x509.DNSName("c" * 200)]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    read = read_certificate(cert.public_bytes(serialization.Encoding.DER))
    assert read.pin == spki(cert)
    assert read.until == until
    assert read.hosts == {"a.b", "c" * 200}
    assert fingerprint(cert.public_bytes(serialization.Encoding.DER)) == (
        cert.fingerprint(hashes.SHA256()).hex()
    )


@given(st.binary(max_size=200))
def test_what_is_no_certificate_is_refused_and_never_crashes(data: bytes) -> None:
    with pytest.raises(InputError, match="that is no certificate"):
        read_certificate(data)
    assert certificates(data) == []


@given(st.data())
def test_a_certificate_that_was_cut_or_changed_is_read_or_refused(data: st.DataObject) -> None:
    der = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        read_certificate(bytes(der[: data.draw(st.integers(1, len(der)))]))


def _sample() -> bytes:
    key = ec.derive_private_key(7, ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(7)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=9))
    san = x509.SubjectAlternativeName([x509.DNSName("a"), x509.DNSName("b")])
    cert = builder.public_key(key.public_key()).add_extension(san, critical=False)
    return cert.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


SAMPLE = _sample()
