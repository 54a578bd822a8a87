"""Certificates: the one that a job pins, and the errors of TLS in words. `fingerprint` blocks: it reads a file."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from functools import cache
from pathlib import Path

from reggen.files import opened

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_LARGEST = 1 << 20
# OpenSSL's reasons when the other side does not speak TLS at all
_PLAIN = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}

OTHER_CERTIFICATE = (
    "its certificate is not the one that `certificate` in [[servers]] names: copy the new one if it is right"
)
HOW_TO_COPY = "copy it: openssl s_client -connect {} </dev/null | openssl x509 > server.pem"
PLAIN_HTTP = "it speaks https there, not http: write https:// in its url"


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
def verified_context() -> ssl.SSLContext:
    """TLS by this computer's own rules. Blocking: reads the certificates that the computer trusts."""
    return ssl.create_default_context()


def unverified_context() -> ssl.SSLContext:
    """TLS without a check of names and chains, for connections whose certificate is compared afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def is_pinned(connection: ssl.SSLObject | None, pin: bytes) -> bool:
    """Check that the other side showed exactly the pinned certificate."""
    shown = connection.getpeercert(binary_form=True) if connection else None
    return shown is not None and hashlib.sha256(shown).digest() == pin


async def is_spoken(host: str, port: int, seconds: float) -> bool:
    """Try to open a TLS connection, and close it again."""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port, ssl=unverified_context())
    except OSError:  # TimeoutError among them
        return False
    writer.transport.abort()
    return True


def untrusted(error: ssl.SSLCertVerificationError) -> str:
    """The reason why this computer does not trust a certificate, and the key that helps."""
    reason = (error.verify_message or "").rstrip(".")
    return f'its certificate is not trusted ({reason}): if it is the right one, name a copy, certificate = "server.pem"'


def reason(error: ssl.SSLError) -> str:
    """The reason of any other error of TLS."""
    code = error.reason or ""
    if code in _PLAIN:
        return "it speaks http there, not https: write http:// in its url"
    return f"no secure connection ({code.replace('_', ' ').lower() or 'it broke off'})"
