"""A request as the policies see it, and the gates that it passes before a backend is asked.

A gate may let a request pass, refuse it, or hold it and say later. It is told when an exchange
that it let pass is over. Gates are asked in order, and an exchange that is held by one of them
has no backend, no stream and no connection to one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeAlias

from spooky.errors import Kind
from spooky.policy.persistence import Session
from spooky.protocol import headers
from spooky.protocol.messages import Headers, Path, RequestHead, ResponseHead

if TYPE_CHECKING:
    from spooky.worker.mirror import Shadow
    from spooky.worker.treatment import Treatment
    from spooky.worker.upstreams import UpstreamGroup

Reply: TypeAlias = tuple[int, Headers, bytes]
"""Status, fields and content."""
Answer: TypeAlias = Callable[[RequestHead], Reply]


@dataclass(slots=True)
class Call:
    """One request, from its head on.

    `host` is in lower case and without a port, `client` the path that the request came by,
    `connection` what names the client's connection as long as it lasts.
    """

    head: RequestHead
    host: str
    client: Path
    connection: bytes
    group: "UpstreamGroup"
    """The upstream that serves it, or what stands for one where its route answers by itself."""
    own_gates: "Sequence[Gate] | None" = None
    """What it passes in place of its upstream's gates, where its route has limits of its own."""
    session: Session | None = None
    """Which backend the client had before, where its upstream keeps sessions."""
    response_fields: Headers = field(default_factory=list)
    """Fields that policies add to the response, whoever answers."""
    passed: "list[Gate]" = field(default_factory=list)
    """The gates that are to be told of its end."""
    asked_at: float = 0.0
    """When the backend that answered was asked."""
    latency: float | None = None
    """Seconds from then until the response's head; None: none has come."""
    failed: bool = False
    """Whether it ended by a backend's fault."""
    treatment: "Treatment | None" = None
    """What its route changes of the messages, if anything."""
    own: Answer | None = None
    """What its route answers by itself, if it does; no backend is asked then."""
    shadow: "Shadow | None" = None
    """The copy of it that goes elsewhere, if there is one."""

    @property
    def gates(self) -> "Sequence[Gate]":
        """The gates that it has to pass."""
        return self.group.gates if self.own_gates is None else self.own_gates


@dataclass(frozen=True, slots=True)
class Refusal:
    """A gate's no: what became of the request, and why."""

    kind: Kind
    detail: str


class Hold(Enum):
    """A gate's answer that comes later, by one of the two calls of `Held`."""

    HELD = "held"


Verdict: TypeAlias = Refusal | Hold | None
"""None: it may pass."""


class Held(Protocol):
    """The exchange that a gate holds."""

    def proceed(self) -> None:
        """Go on: the gate lets it pass."""

    def refuse_at_gate(self, refusal: Refusal) -> None:
        """End: the gate does not let it pass."""


class Gate(Protocol):
    """A policy that requests have to pass."""

    def enter(self, call: Call, held: Held) -> Verdict:
        """Say whether the request may pass. Where it may, or is held, `leave` follows."""

    def leave(self, call: Call) -> None:
        """Take note that the exchange is over, whether it still waited or had passed."""


def pass_gates(gates: Sequence[Gate], call: Call, held: Held) -> Verdict:
    """Ask all gates that were not asked yet, up to the first that does not let it pass."""
    for gate in gates[len(call.passed) :]:
        verdict = gate.enter(call, held)
        if isinstance(verdict, Refusal):
            return verdict
        call.passed.append(gate)
        if verdict is not None:
            return verdict
    if call.shadow is not None:
        call.shadow.release()
    return None


def leave_gates(call: Call) -> None:
    """Tell the gates, the last one first, and the copy of it that an exchange is over."""
    while call.passed:
        call.passed.pop().leave(call)
    if call.shadow is not None:
        call.shadow.close()


def forward(call: Call, scheme: bytes, request_id: bytes) -> RequestHead:
    """Return the head for a backend whose connections have that scheme."""
    head = headers.forward_request(call.head, call.client, request_id, scheme)
    return head if call.treatment is None else call.treatment.of_request(head, call, request_id)


def give_back(call: Call, head: ResponseHead, request_id: bytes) -> Headers:
    """Return the fields for the client, of a backend's response."""
    fields = headers.forward_response(head, request_id) + call.response_fields
    return (
        fields if call.treatment is None else call.treatment.of_response(fields, call, request_id)
    )


def own_answer(call: Call, request_id: bytes) -> Reply:
    """Return what the route of a call answers by itself."""
    assert call.own is not None
    status, fields, content = call.own(call.head)
    fields = [*fields, (b"x-request-id", request_id), *call.response_fields]
    if call.treatment is not None:
        fields = call.treatment.of_response(fields, call, request_id)
    return status, fields, b"" if call.head.method == b"HEAD" else content


def tell_failure(call: Call, fields: Headers, request_id: bytes) -> Headers:
    """Return the fields for the client, of a response that tells of a failure.

    What policies add takes the place of what such a response has by itself.
    """
    if call.response_fields:
        names = {name for name, _ in call.response_fields}
        fields = [field for field in fields if field[0] not in names] + call.response_fields
    return fields if call.treatment is None else call.treatment.of_failure(fields, call, request_id)
