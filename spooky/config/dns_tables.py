"""The keys of `dns`: who is asked for the addresses of backends' names, and how often."""

from spooky.config import names
from spooky.config.dns import PORT, Dns, DnsServer
from spooky.config.document import Word
from spooky.config.names import UnfitError
from spooky.config.scalars import Json, Scalar, duration
from spooky.config.shapes import Field, ListOf, Section

_DAY = 86_400


def _server() -> Scalar:
    def parse(given: Word) -> DnsServer:
        text, port = given.text, ""
        if _has_port(text):
            text, _, port = text.rpartition(":")
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise UnfitError
        return DnsServer(names.parse_ip(text.strip("[]")), int(port) if port else PORT)

    def write(server: DnsServer) -> str:
        host = f"[{server.address}]" if ":" in server.address else server.address
        return f"{host}:{server.port}"

    expected = "an IP address, or one with a port such as 10.0.0.53:5353 or [fd00::53]:53"
    json: Json = {"type": "string", "minLength": 1}
    return Scalar(expected, parse, json, DnsServer("127.0.0.1"), write)


def _has_port(text: str) -> bool:
    return "]:" in text or text.count(":") == 1


DNS = Section(
    Dns,
    {
        "servers": Field(ListOf(_server())),
        "timeout": Field(duration(0.01, 60)),
        "min_ttl": Field(duration(0.1, _DAY)),
        "max_ttl": Field(duration(0.1, _DAY)),
    },
)
