"""The server's certificate: read, checked and renewed without a restart, with errors that say what to do.

``serve.py`` calls ``server_context`` when it starts, and ``reload`` when SIGHUP says that the files are new.
"""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path

from edgeml.errors import MonitorSettingsError
from edgeml.fleet.settings import KEY_PASSPHRASE_VARIABLE, Settings

_SOON_SECONDS = 14 * 86400


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context that ``settings`` ask for, TLS 1.2 at least; None for none. Raises MonitorSettingsError."""
    if settings.cert is None:
        if settings.key is not None or settings.client_ca is not None:
            raise MonitorSettingsError("--key and --client-ca need --cert", "give the certificate chain, too")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    reload(context, settings)
    if settings.client_ca is not None:
        _readable(settings.client_ca, "the clients' CA")
        try:
            context.load_verify_locations(settings.client_ca)
        except ssl.SSLError:
            cause = f"{settings.client_ca} holds no CA certificate"
            raise MonitorSettingsError(cause, "give a file of certificates in PEM form") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def reload(context: ssl.SSLContext, settings: Settings) -> None:
    """Read the certificate and key into ``context``; connections made from now on use them. Raises
    MonitorSettingsError, and the context goes on with the old ones.
    """
    cert = settings.cert
    assert cert is not None
    key = settings.key or cert
    _readable(cert, "the certificate")
    _readable(key, "the private key")
    # Tried on a context of its own first: half of a renewed pair must not break the one in use.
    for target in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):
        try:
            target.load_cert_chain(cert, key, password=_passphrase)
        except ssl.SSLError as error:
            raise MonitorSettingsError(*_explained(error, cert, key)) from None


def expiry_warning(settings: Settings, now: float | None = None) -> str | None:
    """What to say of a certificate that has expired or soon will, or None."""
    from cryptography import x509  # imported where used: without TLS nothing needs it here

    if settings.cert is None:
        return None
    end = x509.load_pem_x509_certificate(settings.cert.read_bytes()).not_valid_after_utc
    left = end.timestamp() - (time.time() if now is None else now)
    if left > _SOON_SECONDS:
        return None
    when = "has expired" if left <= 0 else f"expires in {left / 86400:.0f} days"
    return f"the certificate {settings.cert} {when} ({end:%Y-%m-%d}): renew it and send SIGHUP"


def _explained(error: ssl.SSLError, cert: Path, key: Path) -> tuple[str, str]:
    reason = error.reason or ""
    if "MISMATCH" in reason:
        return f"the key {key} does not belong to the certificate {cert}", "give the key the certificate was made with"
    if "DECRYPT" in reason or "PASSWORD" in reason or "CIPHER" in reason:
        return f"the key {key} is encrypted", f"set {KEY_PASSPHRASE_VARIABLE} to its passphrase"
    if "TOO_SMALL" in reason or "TOO_WEAK" in reason:
        return f"the key of {cert} is too weak for TLS", "make one of 2048 bits RSA at least, or P-256"
    return (
        f"{cert} and {key} are not a certificate chain and its private key in PEM form",
        "the chain file begins with the server's own certificate; the key is in it, or in the file of --key",
    )


def _passphrase() -> str:
    # Without a callback OpenSSL would ask on the terminal, and a service would hang.
    return os.environ.get(KEY_PASSPHRASE_VARIABLE, "")


def _readable(path: Path, what: str) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        cause = f"{what} {path} cannot be read: {error.strerror or type(error).__name__}"
        raise MonitorSettingsError(cause, "check the path and its permissions") from None
