"""What becomes of a request when its head has come: refused at once, or begun by its route.

It checks, finds and begins, and keeps nothing. What is refused here has no route yet, so no rule
of one applies to the answer.
"""

from spooky.errors import Kind
from spooky.protocol import headers
from spooky.protocol.messages import RequestHead
from spooky.worker.call import Call, Refusal
from spooky.worker.services import Connection, Services
from spooky.worker.upload import Upload


def receive(
    head: RequestHead, client: Connection, services: Services, request_id: bytes, upload: Upload
) -> Call | Refusal:
    """Return the request as policies see it, or why nobody may see it."""
    fault = headers.check_request(head, services.limits)
    if fault is not None:
        return Refusal(fault.kind, fault.reason)
    host = headers.host_of(head)
    if services.misdirected(client.server_name, host):
        return Refusal(Kind.MISDIRECTED, f"{host} on a connection for {client.server_name}")
    course = services.routes.find(host, head.path, head)
    if course is None:
        return Refusal(Kind.NO_ROUTE, "")
    return course.begin(head, host, client, request_id, upload)
