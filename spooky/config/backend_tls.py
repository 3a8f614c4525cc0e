"""The TLS that Spooky speaks as a client of its backends, from the configuration.

It owns the `ssl.SSLContext` of an upstream: what is trusted, which certificate of ours is shown,
and that nothing but HTTP/2 is offered. It is made once, where the files can still be read.

A rule: a private key that is encrypted is never asked for on a terminal.
"""

import ssl
from pathlib import Path

from spooky.config.keyfiles import read_contents
from spooky.config.model import Certificate, UpstreamTls
from spooky.errors import StartupError

# The cipher suites of TLS 1.2 that HTTP/2 allows (RFC 9113 appendix A has the others).
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def make_client_context(tls: UpstreamTls) -> ssl.SSLContext:
    """Return the context for the `https://` backends of an upstream.

    Raises:
        StartupError: a file cannot be read or is not what it should be; the text names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["h2"])
    if tls.verify:
        _trust(context, tls.ca)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.client_cert is not None:
        _show(context, tls.client_cert, tls)
    return context


def _trust(context: ssl.SSLContext, ca: Path | None) -> None:
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return
    try:
        if ca.exists() and not ca.is_file() and not ca.is_dir():
            raise StartupError(f"{ca}: is no regular file")
        files = sorted(path for path in ca.iterdir() if path.is_file()) if ca.is_dir() else [ca]
        texts = [path.read_text(encoding="ascii", errors="replace") for path in files]
        found = [text for text in texts if "-----BEGIN CERTIFICATE-----" in text]
        if found:
            context.load_verify_locations(cadata="\n".join(found))
    except ssl.SSLError as error:
        raise StartupError(f"{ca}: not a usable PEM certificate: {_reason(error)}") from error
    except OSError as error:
        raise StartupError(f"{ca}: cannot be read: {error.strerror}") from error
    if not found:
        raise StartupError(f"{ca}: there is no PEM certificate of an authority to trust")


def _show(context: ssl.SSLContext, certificate: Path, tls: UpstreamTls) -> None:
    files = Certificate(cert=certificate, key=tls.client_key, passphrase_file=tls.passphrase_file)
    # OpenSSL would only say that something is wrong with one of the files.
    if faults := read_contents(files).faults:
        raise StartupError("; ".join(fault.text for fault in faults))
    passphrase = b""
    try:
        if tls.passphrase_file is not None:
            passphrase = tls.passphrase_file.read_bytes().splitlines()[0]
        # A callable, for without one OpenSSL asks on the terminal.
        context.load_cert_chain(certificate, tls.client_key, password=lambda: passphrase)
    except (OSError, ValueError) as error:
        fault = f"{certificate}: not a usable certificate for TLS: {_reason(error)}"
        raise StartupError(fault) from error


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
