"""A probe that asks a gRPC server for its own opinion, by grpc.health.v1.Health/Check.

Only SERVING is well. A server without the service, or with another opinion, is not.
"""

import urllib.parse
from dataclasses import dataclass
from typing import Final

from spooky.keeper.h2_question import Answer, put_question
from spooky.keeper.probe import ProbeFailedError, Target
from spooky.keeper.probe_http import USER_AGENT
from spooky.protocol.grpc_health import PATH, ServingStatus, decode_answer, encode_question
from spooky.protocol.messages import RequestHead

_MOST_BYTES: Final = 4096
"""The answer has a few octets; more is no answer to this question."""


@dataclass(frozen=True, slots=True)
class GrpcProbe:
    """Takes a backend for well that says SERVING."""

    target: Target
    authority: str
    service: str
    """"" for the server as a whole."""

    async def ask(self) -> str:
        """Ask, and judge the answer."""
        head = RequestHead(
            stream=0,
            method=b"POST",
            scheme=b"http" if self.target.tls is None else b"https",
            authority=self.authority.encode(),
            path=PATH,
            headers=[
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
                (b"user-agent", USER_AGENT),
            ],
            end=False,
        )
        question = encode_question(self.service)
        answer = await put_question(self.target, head, question, most_bytes=_MOST_BYTES)
        _refuse_errors(answer)
        try:
            status = decode_answer(bytes(answer.content))
        except ValueError as error:
            raise ProbeFailedError(f"its gRPC answer is malformed: {error}") from None
        if status is not ServingStatus.SERVING:
            raise ProbeFailedError(f"it says {status.name}")
        return "said SERVING"


def _refuse_errors(answer: Answer) -> None:
    """Raise for what is no answer of a gRPC server, or its refusal."""
    if answer.status != 200:
        raise ProbeFailedError(f"it answered with status {answer.status}")
    # An error without a message has its status in the head ("Trailers-Only").
    fields = dict(answer.trailers or answer.headers)
    code = fields.get(b"grpc-status")
    if code is None:
        raise ProbeFailedError("it does not speak gRPC: its answer has no grpc-status")
    if code != b"0":
        text = urllib.parse.unquote(fields.get(b"grpc-message", b"").decode("latin-1"))
        shown = "".join(one if one.isprintable() else " " for one in text).strip()
        raise ProbeFailedError(
            f"gRPC status {code.decode('latin-1')}" + (f": {shown}" if shown else "")
        )
