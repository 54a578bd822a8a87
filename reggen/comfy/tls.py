"""Certificates: the one that a job pins, and TLS's errors in words. Blocking: `fingerprint` reads a file."""

from __future__ import annotations

import hashlib
import re
import ssl
from functools import cache
from pathlib import Path

from reggen.files import opened

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_LARGEST = 1 << 20
# OpenSSL's reasons when the other side speaks no TLS at all
_PLAIN = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}


def fingerprint(file: Path) -> bytes:
    """The SHA-256 of the first certificate in a PEM file. Raises OSError, and ValueError when there is none."""
    with opened(file) as pem:
        block = _BLOCK.search(pem.read(_LARGEST))
    if block is None:
        raise ValueError("it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    try:
        certificate = ssl.PEM_cert_to_DER_cert(block[0].decode("ascii"))
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate)
    except (ValueError, ssl.SSLError):
        raise ValueError("its certificate cannot be read") from None
    return hashlib.sha256(certificate).digest()


@cache
def usual() -> ssl.SSLContext:
    """TLS under this computer's own rules. Blocking: it reads the certificates that are trusted."""
    return ssl.create_default_context()


def unchecked() -> ssl.SSLContext:
    """TLS without a check of names and chains, for connections whose certificate is compared afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def is_pinned(connection: ssl.SSLObject | None, pin: bytes) -> bool:
    """Whether the other side showed exactly the pinned certificate."""
    shown = connection.getpeercert(binary_form=True) if connection else None
    return shown is not None and hashlib.sha256(shown).digest() == pin


OTHER = (
    "it shows another certificate than the one that `certificate` in [[servers]] names: copy the new one if it is right"
)


def untrusted(error: ssl.SSLCertVerificationError) -> str:
    """A certificate that this computer does not trust, and the key that helps."""
    why = (error.verify_message or "").rstrip(".")
    return f'its certificate is not trusted ({why}): if it is the right one, name a copy, certificate = "server.pem"'


def words(error: ssl.SSLError) -> str:
    """Another error of TLS."""
    reason = error.reason or ""
    if reason in _PLAIN:
        return "it speaks http there, not https: write http:// in its url"
    return f"no secure connection ({reason.replace('_', ' ').lower() or 'it broke off'})"


HOW_TO_COPY = "copy it: openssl s_client -connect {} </dev/null | openssl x509 > server.pem"
PLAIN_HTTP = "it speaks https there, not http: write https:// in its url"
