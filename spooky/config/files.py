"""Which files a Config names to be read: certificates, keys, passphrases, authorities,
secrets, and the content of answers.

Lists paths and opens no file. Neither the configuration file itself is among them, which a Config
does not know, nor what Spooky writes.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from spooky.config.model import Certificate, Config, UpstreamTls


def files_of(config: Config) -> list[Path]:
    """List each file once, whether it is there or not, in the order of the configuration.

    A folder of authorities is listed together with what is in it now.
    """
    found: list[Path] = []
    for listener in config.listen:
        for certificate in (listener.tls.default, *listener.tls.certificates):
            found += _of_certificate(certificate)
    for upstream in config.upstream:
        found += _of_upstream(upstream.tls)
        sessions = upstream.session_persistence
        if sessions is not None and sessions.secret_file is not None:
            found.append(sessions.secret_file)
    found += [rule.respond.file for rule in config.routes if rule.respond and rule.respond.file]
    return list(dict.fromkeys(found))


def _of_certificate(certificate: Certificate) -> Iterator[Path]:
    for path in (
        certificate.cert,
        certificate.key,
        certificate.pkcs12,
        certificate.passphrase_file,
    ):
        if path is not None:
            yield path


def _of_upstream(tls: UpstreamTls) -> Iterator[Path]:
    if tls.ca is not None:
        yield tls.ca
        # A folder's own times tell of names that come and go, not of what is in the files.
        with contextlib.suppress(OSError):
            yield from sorted(tls.ca.iterdir())
    for path in (tls.client_cert, tls.client_key, tls.passphrase_file):
        if path is not None:
            yield path
