from dataclasses import dataclass, replace

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from hypothesis import given
from hypothesis import strategies as st

from spooky.config.limits import Limits
from spooky.errors import Kind
from spooky.protocol.authority import split_authority
from spooky.protocol.messages import Headers, RequestHead
from spooky.protocol.request_check import check_request, check_trailers

LIMITS = Limits()
GET = RequestHead(0, b"GET", b"https", b"a.test", b"/", [], end=True)
POST = replace(GET, method=b"POST", end=False)


@dataclass(frozen=True)
class TightLimits:
    request_header_bytes: int = 500
    request_header_count: int = 3
    request_body_bytes: int = 1000


TIGHT = TightLimits()


def with_fields(*fields: tuple[bytes, bytes], head: RequestHead = GET) -> RequestHead:
    return replace(head, headers=list(fields))


@pytest.mark.parametrize(
    "head",
    [
        GET,
        replace(GET, method=b"PROPFIND"),
        replace(GET, method=b"x-own!"),
        replace(GET, scheme=b"HTTPS"),
        replace(GET, path=b"/a/b;c=d?e={f}|g&h=%20"),
        replace(GET, path=b"/a/../b"),
        replace(GET, path=b"//x"),
        replace(GET, path=b"*", method=b"OPTIONS"),
        replace(GET, authority=b"[::1]:443"),
        replace(GET, authority=b"", headers=[(b"host", b"a.test")]),
        with_fields((b"host", b"A.TEST:443")),
        with_fields((b"te", b"trailers")),
        with_fields((b"te", b"Trailers")),
        with_fields((b"x-empty", b"")),
        with_fields((b"x-tab", b"a\tb"), (b"x-obs", b"\x80\xff")),
        with_fields((b"cookie", b"a=b"), (b"cookie", b"c=d")),
        with_fields((b"!#$%&'*+-.^_`|~09az", b"every tchar")),
        with_fields((b"expect", b"100-continue"), head=POST),
        with_fields((b"content-length", b"5"), head=POST),
        with_fields((b"content-length", b"5"), (b"content-length", b"5"), head=POST),
        with_fields((b"content-length", b"0")),
    ],
)
def test_well_formed(head: RequestHead) -> None:
    assert check_request(head, LIMITS) is None


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        # RFC 9114 section 4.3.1: pseudo-header fields.
        (replace(GET, method=b""), ":method"),
        (replace(GET, method=b"GE T"), ":method"),
        (replace(GET, method=b"GET\r\n"), ":method"),
        (replace(GET, method=b"G\xcbT"), ":method"),
        (replace(GET, scheme=b""), ":scheme"),
        (replace(GET, scheme=b"http"), ":scheme"),
        (replace(GET, scheme=b"https\r\n"), ":scheme"),
        (replace(GET, path=b""), ":path"),
        (replace(GET, path=b"a"), ":path"),
        (replace(GET, path=b"*"), ":path"),
        (replace(GET, path=b"https://a.test/"), ":path"),
        (replace(GET, path=b"/a#b"), ":path"),
        (replace(GET, path=b"/a b"), ":path"),
        (replace(GET, path=b"/ HTTP/1.1\r\nx: y"), ":path"),
        (replace(GET, path=b"/\x00"), ":path"),
        (replace(GET, path=b"/\x7f"), ":path"),
        (replace(GET, path=b"/\xc3\xa9"), ":path"),
        (replace(GET, authority=b""), "neither"),
        (replace(GET, authority=b"u:p@a.test"), ":authority"),
        (replace(GET, authority=b"a.test/x"), ":authority"),
        (replace(GET, authority=b"a.test\x00"), ":authority"),
        (replace(GET, authority=b"a.test:x"), ":authority"),
        # RFC 9114 section 4.4, RFC 9220 section 3: CONNECT.
        (replace(GET, method=b"CONNECT"), "CONNECT"),
        (replace(GET, method=b"CONNECT", scheme=b""), "CONNECT"),
        (replace(GET, method=b"CONNECT", path=b""), "CONNECT"),
        (replace(GET, method=b"CONNECT", scheme=b"", path=b"", authority=b""), "CONNECT"),
        (replace(GET, method=b"CONNECT", scheme=b"", path=b"", protocol=b"x"), "CONNECT"),
        (replace(GET, protocol=b"websocket"), ":protocol"),
        # Host.
        (with_fields((b"host", b"b.test")), "differ"),
        (with_fields((b"host", b"a.test:8443")), "differ"),
        (with_fields((b"host", b"")), "host is malformed"),
        (with_fields((b"host", b"u@a.test")), "host is malformed"),
        (with_fields((b"host", b"a.test"), (b"host", b"a.test")), "more than one host"),
        (replace(GET, authority=b"", headers=[(b"host", b"")]), "host is malformed"),
        (replace(GET, authority=b"", headers=[(b"host", b"a b")]), "host is malformed"),
        # RFC 9114 section 4.2, RFC 9113 section 8.2.1: names.
        (with_fields((b"", b"x")), "empty"),
        (with_fields((b"a", b"x"), (b"", b""), (b"b", b"x")), "empty"),
        (with_fields((b"X-Upper", b"x")), "upper case"),
        (with_fields((b"x y", b"x")), "no token"),
        (with_fields((b"x:", b"x")), "no token"),
        (with_fields((b":status", b"200")), "no token"),
        (with_fields((b"x\r\ny", b"x")), "no token"),
        (with_fields((b"x\r", b"x")), "no token"),
        (with_fields((b"a", b"x"), (b"\r", b"x"), (b"b", b"x")), "no token"),
        (with_fields((b"x\x00", b"x")), "no token"),
        (with_fields((b"x\xe9", b"x")), "no token"),
        # ... and values.
        (with_fields((b"x", b"a\r\nb: c")), "control octet"),
        (with_fields((b"x", b"a\rb")), "control octet"),
        (with_fields((b"x", b"a\nb")), "control octet"),
        (with_fields((b"x", b"a\x00b")), "control octet"),
        (with_fields((b"x", b"a\x7fb")), "control octet"),
        (with_fields((b"x", b"\x0b")), "control octet"),
        (with_fields((b"x", b" a")), "whitespace"),
        (with_fields((b"x", b"a ")), "whitespace"),
        (with_fields((b"x", b" ")), "whitespace"),
        (with_fields((b"x", b"\ta")), "whitespace"),
        (with_fields((b"x", b"a\t"), (b"y", b"b")), "whitespace"),
        # RFC 9114 section 4.2: what belongs to a connection.
        (with_fields((b"connection", b"close")), "connection-specific"),
        (with_fields((b"keep-alive", b"x")), "connection-specific"),
        (with_fields((b"proxy-connection", b"x")), "connection-specific"),
        (with_fields((b"transfer-encoding", b"chunked")), "connection-specific"),
        (with_fields((b"upgrade", b"h2c")), "connection-specific"),
        (with_fields((b"te", b"gzip")), "te other"),
        (with_fields((b"te", b"trailers, gzip")), "te other"),
        (with_fields((b"te", b"")), "te other"),
        # RFC 9110 section 8.6.
        (with_fields((b"content-length", b""), head=POST), "not a number"),
        (with_fields((b"content-length", b"+5"), head=POST), "not a number"),
        (with_fields((b"content-length", b"-5"), head=POST), "not a number"),
        (with_fields((b"content-length", b"5, 5"), head=POST), "not a number"),
        (with_fields((b"content-length", b"0x5"), head=POST), "not a number"),
        (with_fields((b"content-length", b"5_0"), head=POST), "not a number"),
        (with_fields((b"content-length", b"9" * 5000), head=POST), "not a number"),
        (with_fields((b"content-length", b"5"), (b"content-length", b"6"), head=POST), "differ"),
        (with_fields((b"content-length", b"5")), "no content"),
    ],
)
def test_malformed(head: RequestHead, reason: str) -> None:
    fault = check_request(head, LIMITS)
    assert fault is not None
    assert fault.kind is Kind.BAD_REQUEST
    assert reason in fault.reason


def test_a_reason_has_nothing_that_breaks_a_log_line() -> None:
    for name in (b"x\r\nINFO: fake", b"\x1b[31m", b"\xff" * 100):
        fault = check_request(with_fields((name, b"x")), LIMITS)
        assert fault is not None
        assert fault.reason.isascii()
        assert fault.reason.isprintable()
        assert len(fault.reason) < 300


@pytest.mark.parametrize(
    "head",
    [
        RequestHead(0, b"CONNECT", b"", b"a.test:443", b"", [], end=False),
        RequestHead(0, b"CONNECT", b"https", b"a.test", b"/ws", [], False, b"websocket"),
    ],
)
def test_connect_is_not_supported(head: RequestHead) -> None:
    fault = check_request(head, LIMITS)
    assert fault is not None
    assert fault.kind is Kind.METHOD_NOT_SUPPORTED


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (with_fields(*[(b"a", b"b")] * 3), None),
        (with_fields(*[(b"a", b"b")] * 4), Kind.TOO_MANY_HEADERS),
        (with_fields((b"a", b"x" * 295)), None),
        (with_fields((b"a", b"x" * 296)), Kind.HEADERS_TOO_LARGE),
        (replace(with_fields((b"a", b"x" * 295)), path=b"/x"), Kind.HEADERS_TOO_LARGE),
        (with_fields((b"content-length", b"1000"), head=POST), None),
        (with_fields((b"content-length", b"1001"), head=POST), Kind.BODY_TOO_LARGE),
    ],
)
def test_limits(head: RequestHead, kind: Kind | None) -> None:
    """The size is RFC 9114's: names and values of all fields, pseudo ones too, plus 32 each."""
    fault = check_request(head, TIGHT)
    assert (fault.kind if fault else None) is kind
    if kind is Kind.HEADERS_TOO_LARGE and len(head.headers) == 1:
        assert fault is not None
        assert fault.reason.startswith("501 octets")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ([], None),
        ([(b"grpc-status", b"0"), (b"grpc-message", b"all is well")], None),
        ([(b"x", b"a\r\nb")], Kind.BAD_REQUEST),
        ([(b"X", b"a")], Kind.BAD_REQUEST),
        ([(b":path", b"/admin")], Kind.BAD_REQUEST),
        ([(b"transfer-encoding", b"chunked")], Kind.BAD_REQUEST),
        ([(b"x", b"y" * 500)], Kind.HEADERS_TOO_LARGE),
        ([(b"x", b"y")] * 4, Kind.TOO_MANY_HEADERS),
    ],
)
def test_trailers(fields: Headers, kind: Kind | None) -> None:
    fault = check_trailers(fields, TIGHT)
    assert (fault.kind if fault else None) is kind


OCTETS = st.binary(max_size=6) | st.sampled_from(
    [b"x", b"te", b"host", b"a.test", b"trailers", b"content-length", b"1", b"upgrade", b" ", b"\t"]
)
FIELDS = st.lists(st.tuples(OCTETS, OCTETS), max_size=5)


@given(FIELDS)
def test_one_bad_field_is_found_among_any_others(fields: Headers) -> None:
    """The passes over all fields at once agree with each field checked alone."""
    plain = [field for field in fields if field[0] not in {b"host", b"content-length"}]
    alone = [check_request(with_fields(field), LIMITS) for field in plain]
    together = check_request(with_fields(*plain), LIMITS)
    assert (together is None) == all(fault is None for fault in alone)


@given(FIELDS, OCTETS, OCTETS.map(lambda octets: b"/" + octets))
def test_h2_takes_all_that_is_let_pass(fields: Headers, authority: bytes, path: bytes) -> None:
    head = RequestHead(0, b"GET", b"https", authority, path, fields, end=True)
    if check_request(head, LIMITS) is not None:
        return
    split_authority(authority or dict(fields)[b"host"])
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    client.initiate_connection()
    server.initiate_connection()
    pseudo = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", path)]
    if authority:
        pseudo.append((b":authority", authority))
    try:
        client.send_headers(1, [*pseudo, *fields], end_stream=True)
        server.receive_data(client.data_to_send())
    except ProtocolError as error:
        raise AssertionError(head) from error
