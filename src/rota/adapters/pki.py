"""The keyring as PEM files in one folder; signs with `cryptography`, looks without it.

========= ======================================================================
ca.crt     the CA's certificate: the same at all members
ca.key     its key: any member may admit the next one
agent.key  this agent's key, made here, never sent
agent.crt  its certificate, and then the CA's
next.key   the key that it is about to use, and
next.crt   the certificate for that
========= ======================================================================

The next key becomes the present one by two renames, the key's first. So a `next.crt` without a
`next.key` is a change that broke off in between, and is finished by whoever looks.

The library costs 50 ms and 11 MB: it is imported where something has to be made, which a start
does not need.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rota.core.address import is_host, is_ip
from rota.core.certificate import LATE, Certificate, certificates, fingerprint, read_certificate
from rota.core.settings_certificates import LIFE_S
from rota.errors import InputError, UnavailableError
from rota.ports.clock import Clock
from rota.ports.credentials import Credentials

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.x509 import CertificateBuilder, GeneralName, KeyUsage, Name

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_HOSTS = 64
#: A clock that is behind by less than this sees a fresh certificate as valid.
SKEW = timedelta(days=1)
CA_LIFE = timedelta(days=365 * 50)
#: Where nobody says how long: `[certificates] life` is not read yet when an agent starts.
LIFE = timedelta(seconds=LIFE_S)


class TlsKeyring:
    """See :class:`rota.ports.keyring.Keyring`. Safe to use from several threads."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._ca, self._ca_key = folder / "ca.crt", folder / "ca.key"
        self._cert, self._key = folder / "agent.crt", folder / "agent.key"
        self._next_cert, self._next_key = folder / "next.crt", folder / "next.key"
        self._lock = threading.Lock()

    def credentials(self) -> Credentials | None:
        """Return what the agent shows, or ``None`` while it has no certificate yet."""
        self._finish_switch()
        if not all(path.exists() for path in (self._ca, self._cert, self._key)):
            return None
        return Credentials(ca=self._ca, cert=self._cert, key=self._key, pin=self._present().pin)

    def found(self, name: str, hosts: Sequence[str]) -> Credentials:
        """Make a CA, and what an agent called ``name`` shows. What is there already stays."""
        wanted = _all_hosts(name, hosts)
        self._finish_switch()
        with self._lock:
            if not self._ca.exists():
                self._make_ca()
            if not self._cert.exists():
                self._sign_own(name, wanted, LIFE)
        return self._complete()

    def request(self, name: str) -> bytes:
        """Return a certificate request for this agent's key, which is made if there is none."""
        with self._lock:
            return _request(name, self._own_key())

    def sign(
        self, request: bytes, name: str, hosts: Sequence[str], life: timedelta = LIFE
    ) -> bytes:
        """Return a certificate for the key of a request."""
        from cryptography.hazmat.primitives import serialization

        wanted = _all_hosts(name, hosts)
        return self._sign(_requested_key(request), name, wanted, life).public_bytes(
            serialization.Encoding.PEM
        )

    def install(self, *, ca: bytes, ca_key: bytes, cert: bytes) -> Credentials:
        """Take over a cluster's CA, and the certificate that a member signed for this agent."""
        with self._lock:
            _refuse_misfits(ca, ca_key, cert, self._own_key())
            self._drop_next()
            # The certificate last: with it, all is there.
            self._write(self._ca, ca)
            if ca_key:
                self._write(self._ca_key, ca_key)
            self._write(self._cert, cert.rstrip() + b"\n" + ca)
        return self._complete()

    def adopt(self, *, ca: bytes, ca_key: bytes) -> None:
        """Take over a cluster's CA where there is none yet; :meth:`found` then signs with it."""
        with self._lock:
            if not self._ca.exists():
                self._write(self._ca_key, ca_key)
                self._write(self._ca, ca)

    def present(self) -> Certificate:
        """Return what this agent's certificate says."""
        return self._present()

    def authority(self) -> Certificate:
        """Return what the certificate of the cluster's authority says."""
        return self._said_in(self._ca)

    def renew(self, name: str, hosts: Sequence[str], life: timedelta | None = None) -> bool:
        """Sign this agent's certificate anew if it lacks a host, or is due, or late."""
        wanted = _all_hosts(name, hosts)
        with self._lock:
            present = self._present()
            left = present.left(self._clock.now())
            if life is None:
                life = min(present.until - present.since - SKEW, LIFE)
                is_due = not life / LATE <= left <= life
            else:
                is_due = present.is_due(self._clock.now(), life)
            if not is_due and present.hosts.issuperset(wanted):
                return False
            self._sign_own(name, wanted, life)
        return True

    # -- another key ----------------------------------------------------------------------------

    def prepare(self, name: str) -> bytes:
        """Make a key beside the present one, in place of an earlier such; return a request for it."""
        with self._lock:
            self._drop_next()
            key = _new_key()
            self._write(self._next_key, _pem(key))
            return _request(name, key)

    def prepared(self, cert: bytes) -> str:
        """Keep the certificate for the key that was made; return its pin."""
        with self._lock:
            _refuse_misfits(self.ca(), b"", cert, self._load_key(self._next_key))
            self._write(self._next_cert, cert.rstrip() + b"\n" + self.ca())
        return self.coming()

    def coming(self) -> str:
        """Return the pin of the next key; empty if there is none, or no certificate for it yet."""
        if not (self._next_key.exists() and self._next_cert.exists()):
            return ""
        return self._said_in(self._next_cert).pin

    def switch(self) -> Credentials:
        """Show the next key from now on; without one nothing changes."""
        with self._lock:
            if self.coming():
                self._rename(self._next_key, self._key)
        return self._complete()

    def drop_coming(self) -> None:
        """Delete the next key. Safe to call twice."""
        with self._lock:
            self._drop_next()

    def _finish_switch(self) -> None:
        with self._lock:
            if self._next_cert.exists() and not self._next_key.exists():
                self._rename(self._next_cert, self._cert)

    def _drop_next(self) -> None:
        # The certificate first: alone it would say that its key is in use.
        for path in (self._next_cert, self._next_key):
            with _translated(f"delete {path}"):
                path.unlink(missing_ok=True)

    @property
    def is_authority(self) -> bool:
        """Whether the CA's key is here."""
        return self._ca_key.exists()

    def ca(self) -> bytes:
        """Return the CA's certificate (PEM)."""
        return self._read(self._ca)

    def ca_key(self) -> bytes:
        """Return the CA's key (PEM)."""
        return self._read(self._ca_key)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the CA's certificate in hex; empty while there is no CA."""
        return fingerprint(self._first(self._ca)) if self._ca.exists() else ""

    def forget(self) -> None:
        """Delete all of it."""
        self._drop_next()
        for path in (self._cert, self._key, self._ca_key, self._ca):
            with _translated(f"delete {path}"):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    # -- what is there --------------------------------------------------------------------------

    def _complete(self) -> Credentials:
        made = self.credentials()
        if made is None:
            raise UnavailableError(f"{self._folder} lacks the agent's key", hint=_HINT)
        return made

    def _present(self) -> Certificate:
        return self._said_in(self._cert)

    def _said_in(self, path: Path) -> Certificate:
        try:
            return read_certificate(self._first(path))
        except InputError as error:
            raise UnavailableError(f"{path}: {error.message}", hint=_HINT) from error

    def _first(self, path: Path) -> bytes:
        found = certificates(self._read(path))
        if not found:
            raise UnavailableError(f"{path} has no certificate in it", hint=_HINT)
        return found[0]

    def _read(self, path: Path) -> bytes:
        with _translated(f"read {path}"):
            return path.read_bytes()

    # -- what is made ---------------------------------------------------------------------------

    def _make_ca(self) -> None:
        """Make the CA's key, then its certificate; one without the other is made anew."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        key = _new_key()
        subject = _subject(f"rota cluster {secrets.token_hex(8)}")
        extensions = (
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_usage(key_cert_sign=True, crl_sign=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        )
        builder = self._builder(CA_LIFE).subject_name(subject).issuer_name(subject)
        builder = builder.public_key(key.public_key())
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        cert = builder.sign(key, hashes.SHA256())
        self._write(self._ca_key, _pem(key))
        self._write(self._ca, cert.public_bytes(serialization.Encoding.PEM))

    def _sign_own(self, name: str, hosts: Sequence[str], life: timedelta) -> None:
        from cryptography.hazmat.primitives import serialization

        cert = self._sign(self._own_key().public_key(), name, hosts, life)
        leaf = cert.public_bytes(serialization.Encoding.PEM)
        self._write(self._cert, leaf + self.ca())

    def _sign(
        self, public_key: EllipticCurvePublicKey, name: str, hosts: Sequence[str], life: timedelta
    ) -> x509.Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

        with _translated(f"use the CA in {self._folder}"):
            ca = x509.load_pem_x509_certificate(self.ca())
        ca_key = self._load_key(self._ca_key)
        # Routes between servers dial each other: every agent is both.
        both = x509.ExtendedKeyUsage([Usage.SERVER_AUTH, Usage.CLIENT_AUTH])
        extensions = (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(digital_signature=True), True),
            (both, False),
            (x509.SubjectAlternativeName([_general_name(host) for host in hosts]), False),
            (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False),
        )
        builder = self._builder(life).subject_name(_subject(name)).issuer_name(ca.subject)
        builder = builder.public_key(public_key)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(ca_key, hashes.SHA256())

    def _builder(self, life: timedelta) -> CertificateBuilder:
        from cryptography import x509

        now = self._clock.now()
        builder = x509.CertificateBuilder().serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - SKEW).not_valid_after(now + life)

    def _own_key(self) -> EllipticCurvePrivateKey:
        if not self._key.exists():
            self._write(self._key, _pem(_new_key()))
        return self._load_key(self._key)

    def _load_key(self, path: Path) -> EllipticCurvePrivateKey:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

        with _translated(f"use {path}"):
            key = serialization.load_pem_private_key(self._read(path), password=None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise UnavailableError(f"{path} is another kind of key", hint=_HINT)
        return key

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file whole, for this user's eyes alone, so that a power cut leaves old or new."""
        with _translated(f"write {path}"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_name(f"{path.name}.new")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        self._rename(fresh, path)

    def _rename(self, source: Path, target: Path) -> None:
        with _translated(f"write {target}"):
            source.replace(target)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


_HINT = "put the agent's folder `tls/` back as it was; or remove it, and join again by a token"


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn what the system or the library finds wrong with a file into our error."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"cannot {what}: {error.strerror}") from error
    except ValueError as error:
        raise UnavailableError(f"cannot {what}: it is damaged", hint=_HINT) from error


def _all_hosts(name: str, hosts: Sequence[str]) -> list[str]:
    """Return all that a certificate is for, each once, the agent's name first.

    Raises:
        InputError: a host is no name and no IP address, or there are too many.
    """
    for host in hosts:
        if not is_host(host):
            raise InputError(f"bad host {host!r}", hint="a host's name or an IP address")
    every = (name, *LOOPBACK, *hosts)
    found = dict.fromkeys(str(ipaddress.ip_address(h)) if is_ip(h) else h for h in every)
    if len(found) > MAX_HOSTS:
        raise InputError(f"{len(found)} hosts for one certificate, the limit is {MAX_HOSTS}")
    return list(found)


# -- with the library ---------------------------------------------------------------------------


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())


def _request(name: str, key: EllipticCurvePrivateKey) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    request = x509.CertificateSigningRequestBuilder().subject_name(_subject(name))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _subject(name: str) -> Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> GeneralName:
    from cryptography import x509

    return x509.IPAddress(ipaddress.ip_address(host)) if is_ip(host) else x509.DNSName(host)


def _usage(**granted: bool) -> KeyUsage:
    from cryptography import x509

    known = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: granted.get(name, False) for name in known})


def _requested_key(request: bytes) -> EllipticCurvePublicKey:
    """Return the key of a request that its owner signed.

    Raises:
        InputError: it is damaged, signed by another key, or of another kind than ours.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        read = x509.load_pem_x509_csr(request)
        is_signed, key = read.is_signature_valid, read.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError("the certificate request cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != ec.SECP256R1.name:
        raise InputError("the certificate request is for another kind of key than of curve P-256")
    if not is_signed:
        raise InputError("the certificate request is not signed by its own key")
    return key


def _refuse_misfits(ca: bytes, ca_key: bytes, cert: bytes, own: EllipticCurvePrivateKey) -> None:
    """Do nothing if the certificate is the CA's for our key, and the CA's key is the CA's.

    Raises:
        InputError: they do not belong together.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization

    try:
        issuer, leaf = x509.load_pem_x509_certificate(ca), x509.load_pem_x509_certificate(cert)
        leaf.verify_directly_issued_by(issuer)
        key = serialization.load_pem_private_key(ca_key, password=None) if ca_key else None
    except (ValueError, TypeError, InvalidSignature) as error:
        raise InputError("the certificate is not of the CA that came with it") from error
    is_its = key is None or key.public_key() == issuer.public_key()
    if not is_its or leaf.public_key() != own.public_key():
        raise InputError("the certificate is for another key than this agent's")
