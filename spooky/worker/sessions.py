"""The sessions of an upstream: read from a client's cookies, kept from backends, and bound.

A gate of the upstream looks at the cookies; the upstream asks who has the session when it picks,
and the exchange says who has answered. So a session is bound to whoever did answer, whatever was
tried before, and a client hears of it only when that is news.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from spooky.config.model import SessionPersistence, Upstream
from spooky.errors import Kind
from spooky.policy.cookies import without_cookie
from spooky.policy.persistence import CookieRules, CookieSessions, Session, WhenGone
from spooky.protocol.messages import Headers
from spooky.worker.call import Call, Held, Refusal, Verdict

if TYPE_CHECKING:
    from spooky.worker.upstreams import UpstreamGroup


class Sessions:
    """The sessions of one upstream (call.Gate)."""

    def __init__(
        self,
        cookies: CookieSessions,
        when_gone: WhenGone,
        identities: Iterable[str],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Take the backends in the order of their places; `wall` reads the clock on the wall, s."""
        self.may_move = when_gone is WhenGone.PICK_ANOTHER
        """Whether another backend may take over a session."""
        self.keeps: Sequence[bool] = ()
        """Of each backend whether it may serve the sessions that it has, as of now."""
        self._cookies = cookies
        self._wall = wall
        self.lay_out(identities)

    def lay_out(self, identities: Iterable[str]) -> None:
        """Take other backends, in the order of their places."""
        self._places = {identity: place for place, identity in enumerate(identities)}
        self.keeps = [True] * len(self._places)
        self._cookies.lay_out(self._places)

    def enter(self, call: Call, _held: Held) -> Verdict:
        """Find the client's session; refuse where nobody may serve it."""
        values = [value for name, value in call.head.headers if name == b"cookie"]
        if not any(self._cookies.name in value for value in values):
            return None
        call.session = self._cookies.find(values, self._wall())
        call.head = replace(call.head, headers=self._without_ours(call.head.headers))
        if call.session is None or self.may_move or self.held_by(call.session) is not None:
            return None
        is_gone = call.session.backend is None
        why = "is not configured any more" if is_gone else "may not serve now"
        return Refusal(Kind.NO_BACKEND, f"the backend of its session {why}")

    def leave(self, call: Call) -> None:
        """Nothing: what there is of a session is the client's."""

    def _without_ours(self, fields: Headers) -> Headers:
        left = [
            (name, without_cookie(self._cookies.name, value) if name == b"cookie" else value)
            for name, value in fields
        ]
        return [(name, value) for name, value in left if value or name != b"cookie"]

    def held_by(self, session: Session, exclude: Collection[int] = ()) -> int | None:
        """Return who has a session, if he may serve it and is none of `exclude`."""
        place = None if session.backend is None else self._places.get(session.backend)
        if place is None or place in exclude or not self.keeps[place]:
            return None
        return place

    def bind(self, call: Call, backend: str) -> None:
        """Tell the client that the backend of this identity has its session, if that is news."""
        session = call.session
        if session is None or session.backend != backend or session.is_stale:
            cookie = self._cookies.issue(backend, self._wall())
            if cookie is not None:
                call.response_fields.append((b"set-cookie", cookie))


def keep_sessions(
    groups: Sequence["UpstreamGroup"],
    upstreams: Sequence[Upstream],
    key: bytes,
    own_keys: Mapping[str, bytes],
) -> None:
    """Give each group the sessions that its upstream is to keep.

    `key` signs the cookies of upstreams that have none of their own by name in `own_keys`.
    """
    for group, upstream in zip(groups, upstreams, strict=True):
        rules = upstream.session_persistence
        if rules is not None:
            identities = [backend.identity for backend in upstream.backends]
            signing = own_keys.get(upstream.name, key)
            cookies = CookieSessions(signing, upstream.name, identities, _rules(upstream, rules))
            group.sessions = Sessions(cookies, WhenGone(rules.when_gone), identities)
            group.gates = (*group.gates, group.sessions)


def _rules(upstream: Upstream, rules: SessionPersistence) -> CookieRules:
    # Upstreams that share a host would overwrite one another's cookie if they had the same name.
    own = f"spooky-{sha256(upstream.name.encode()).hexdigest()[:8]}"
    return CookieRules(rules.name or own, rules.timeout, rules.path, rules.same_site)
