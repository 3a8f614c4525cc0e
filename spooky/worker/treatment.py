"""What a route changes of the messages that go its way, and the copies that it makes.

The rules are of `policy`; here they meet a request. A treatment is made once, for a route that
asks for one, and keeps nothing of a request.
"""

from dataclasses import dataclass

from spooky.config.routes import HeaderChanges, Rewrite, Route
from spooky.policy.header_rules import OF_CONTENT, HeaderRules, Values, make_header_rules
from spooky.policy.rewrite import PathRewrite, replace_prefix, rewrite_by_pattern
from spooky.protocol.headers import address_of
from spooky.protocol.messages import Headers, RequestHead
from spooky.worker.call import Call
from spooky.worker.mirror import Mirror
from spooky.worker.upload import Upload


@dataclass(frozen=True, slots=True)
class Treatment:
    """The changes of one route; None leaves as it is."""

    path: PathRewrite | None
    authority: bytes | None
    request: HeaderRules | None
    response: HeaderRules | None
    failure: HeaderRules | None
    """What of `response` is for failures that Spooky tells of by itself."""
    mirror: Mirror | None

    def begin(self, call: Call, request_id: bytes, upload: Upload) -> None:
        """Take a request in hand: change its response, copy its content, where that is asked."""
        call.treatment = self
        if self.mirror is not None:
            call.shadow = self.mirror.copy(call, request_id, upload)

    def of_request(self, head: RequestHead, call: Call, request_id: bytes) -> RequestHead:
        """Return the head for the backend, of one that is ready to be sent."""
        fields = head.headers
        if self.request is not None:
            fields = self.request.apply(fields, _values(call, request_id))
        return RequestHead(
            head.stream,
            head.method,
            head.scheme,
            self.authority or head.authority,
            head.path if self.path is None else self.path(head.path),
            fields,
            head.end,
            head.protocol,
        )

    def of_response(self, fields: Headers, call: Call, request_id: bytes) -> Headers:
        """Return the fields for the client, of those that are ready to be sent."""
        if self.response is None:
            return fields
        return self.response.apply(fields, _values(call, request_id))

    def of_failure(self, fields: Headers, call: Call, request_id: bytes) -> Headers:
        """Return the fields for the client, of a response that tells of a failure."""
        if self.failure is None:
            return fields
        return self.failure.apply(fields, _values(call, request_id))


def _values(call: Call, request_id: bytes) -> Values:
    """Say what the variables of header rules stand for."""
    return Values(
        client_ip=address_of(call.client),
        request_id=request_id,
        host=call.host.encode(),
        method=call.head.method,
        path=call.head.path.partition(b"?")[0],
        upstream=call.group.name.encode(),
    )


def make_treatment(route: Route, mirror: Mirror | None) -> Treatment | None:
    """Make the treatment of a route; None where it changes nothing."""
    path = path_rewrite(route.rewrite, route.path_prefix)
    authority = route.rewrite.host.encode() if route.rewrite.host else None
    request, response = rules_of(route.request_headers), rules_of(route.response_headers)
    if (path, authority, request, response, mirror) == (None,) * 5:
        return None
    failure = None if response is None else response.without(OF_CONTENT)
    return Treatment(path, authority, request, response, failure, mirror)


def path_rewrite(rewrite: Rewrite, prefix: str) -> PathRewrite | None:
    """Make what changes the paths of a route with that prefix."""
    if rewrite.prefix is not None:
        return replace_prefix(prefix, rewrite.prefix)
    if rewrite.regex is not None and rewrite.to is not None:
        return rewrite_by_pattern(rewrite.regex, rewrite.to)
    return None


def rules_of(changes: HeaderChanges) -> HeaderRules | None:
    """Make the rules that the configuration has."""
    return make_header_rules(changes.add, changes.set, changes.remove)
