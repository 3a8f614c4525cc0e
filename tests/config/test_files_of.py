"""Every file that a configuration names, for whoever watches them."""

from pathlib import Path

from spooky.config.files import files_of
from spooky.config.load import load_text

TEXT = """
listen:
  - address: 127.0.0.1
    tls:
      cert: /tls/a.pem
      key: /tls/a.key
      certificates:
        - {server_name: b.example, pkcs12: /tls/b.p12, passphrase_file: /tls/b.pass}
        - {server_name: c.example, cert: /tls/a.pem, key: /tls/c.key}
  - {address: 127.0.0.2, tls: {cert: d.pem}}
upstream:
  api:
    route: {path_prefix: /}
    backends: [{address: "https://10.0.0.1:8443"}]
    session_persistence: {secret_file: /tls/sessions.secret}
    tls: {ca: CA, client_cert: /tls/me.pem, client_key: /tls/me.key, passphrase_file: /tls/me.pass}
log: {file: /var/log/spooky.log}
"""


def listed(folder: Path, ca: Path) -> list[str]:
    text = TEXT.replace("CA", str(ca))
    return [str(path) for path in files_of(load_text(text, str(folder / "c.yaml")).config)]


def test_every_file_once(tmp_path: Path) -> None:
    assert listed(tmp_path, Path("/tls/ca.pem")) == [
        "/tls/a.pem",
        "/tls/a.key",
        "/tls/b.p12",
        "/tls/b.pass",
        "/tls/c.key",
        str(tmp_path / "d.pem"),
        "/tls/ca.pem",
        "/tls/me.pem",
        "/tls/me.key",
        "/tls/me.pass",
        "/tls/sessions.secret",
    ]


def test_a_folder_of_authorities_with_what_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    for name in ("two.pem", "one.pem"):
        (folder / name).touch()
    found = listed(tmp_path, folder)
    start = found.index(str(folder))
    assert found[start + 1 : start + 3] == [str(folder / "one.pem"), str(folder / "two.pem")]
