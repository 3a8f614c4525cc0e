"""A probe that asks for a resource over HTTP/2 and looks at the status, and at the content."""

import re
from dataclasses import dataclass

from spooky import __version__
from spooky.keeper.h2_question import put_question
from spooky.keeper.probe import ProbeFailedError, Target
from spooky.protocol.messages import RequestHead


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """Takes a backend for well that answers a request as is expected of it."""

    target: Target
    method: str
    path: str
    authority: str
    statuses: tuple[tuple[int, int], ...]
    """Those of a well backend, from and to."""
    pattern: re.Pattern[bytes] | None
    """What has to match somewhere in the content; None: anything will do."""
    body_bytes: int
    """How much of the content is looked at."""

    async def ask(self) -> str:
        """Ask, and judge the answer."""
        answer = await put_question(self.target, head_of(self), most_bytes=self.body_bytes)
        if not any(low <= answer.status <= high for low, high in self.statuses):
            raise ProbeFailedError(f"it answered with status {answer.status}")
        if self.pattern is not None and self.pattern.search(answer.content) is None:
            raise ProbeFailedError(
                f"what was looked for is not in the {len(answer.content)} octets of its answer"
            )
        return f"answered with status {answer.status}"


def head_of(probe: HttpProbe) -> RequestHead:
    """Make the head of the request."""
    return RequestHead(
        stream=0,
        method=probe.method.encode(),
        scheme=b"http" if probe.target.tls is None else b"https",
        authority=probe.authority.encode(),
        path=probe.path.encode(),
        headers=[(b"user-agent", USER_AGENT)],
        end=True,
    )


USER_AGENT = f"spooky/{__version__} (health check)".encode()
