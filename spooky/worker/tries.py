"""The tries of one exchange: the first, those that follow a failure, and a hedge beside one.

It owns the attempts, their timers and the time that is left, and asks `policy` whether another try
is made; it changes nothing of the exchange, which tells it what happened and acts on the verdict.
An exchange that is over ends it.

Rule: at most two attempts run at a time, and the first head of a response that counts makes one of
them the only one.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final, Protocol

from spooky.errors import H2Code, Kind
from spooky.policy.deadline import asked_for, pass_on
from spooky.policy.retry import Cause, Failure, Verdict, cause_of, judge, may_ask_again
from spooky.worker.attempt import Attempt, Trying
from spooky.worker.call import Call, Refusal, forward
from spooky.worker.contain import contained
from spooky.worker.services import Services
from spooky.worker.upload import Upload
from spooky.worker.upstreams import Target


class Persistent(Trying, Protocol):
    """The exchange that the tries are made for."""

    def fail(self, kind: Kind, detail: str) -> None:
        """End badly."""

    def fault(self, error: Exception) -> None:
        """End because of a fault of ours."""


@dataclass(frozen=True, slots=True)
class Account:
    """What came of all tries: the last one's backend, for how long it was asked, and how soon it
    began to answer, seconds; 0: it was not asked, or did not."""

    backend: str
    identity: str
    duration: float
    answer_time: float
    retries: int


NO_TRIES: Final = Account("", "", 0.0, 0.0, 0)


class Tries:
    """What one exchange has asked of backends, and what it still may."""

    __slots__ = (
        "_asked",
        "_call",
        "_deadline",
        "_deadline_timer",
        "_exchange",
        "_next",
        "_request_id",
        "_rival",
        "_services",
        "_timer",
        "_tried",
        "_upload",
        "current",
        "last",
        "retries",
    )

    def __init__(
        self,
        exchange: Persistent,
        call: Call,
        upload: Upload,
        services: Services,
        request_id: bytes,
    ) -> None:
        self._exchange = exchange
        self._call = call
        self._upload = upload
        self._services = services
        self._request_id = request_id
        self._tried: list[Target] = []
        self._rival: Attempt | None = None
        self._next: tuple[Target | None, float] = (None, 0.0)
        self._timer: asyncio.TimerHandle | None = None
        """For the wait before a retry, or before a hedge."""
        self._deadline = 0.0
        """When all tries are over, on the clock of `time.monotonic`; 0: never."""
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._asked = False
        """The request has a deadline of its own, which backends are told."""
        self.current: Attempt | None = None
        """The one that runs, the older of two."""
        self.last: Attempt | None = None
        """The last one that was begun, or has won, also when it is over."""
        self.retries = 0
        """How many there were after the first, hedges among them."""

    def account(self, now: float) -> Account:
        """Say what came of the tries, at their end."""
        last = self.last
        if last is None:
            return Account("", "", 0.0, 0.0, self.retries)
        name, identity = last.target.id, last.target.identity
        if not last.sent_at:
            return Account(name, identity, 0.0, 0.0, self.retries)
        answer_time = last.answered_at - last.sent_at if last.answered_at else 0.0
        return Account(name, identity, now - last.sent_at, answer_time, self.retries)

    # --- time -------------------------------------------------------------------------------

    def note_deadline(self, now: float) -> bool:
        """Read how long the request may take from `now` on; False: its time is over already."""
        group = self._call.group
        total = group.timeouts.total
        if total:
            self._deadline = now + total
        own = group.repetition.deadline_header
        if own is None and self._call.head.method != b"POST":
            # gRPC has no other method.
            return True
        asked = asked_for(self._call.head.headers, own)
        if asked is None:
            return True
        if asked <= 0:
            return False
        self._asked = True
        if not total or asked < total:
            self._deadline = now + asked
            self._deadline_timer = self._services.loop.call_later(asked, self._over)
        return True

    @contained
    def _over(self) -> None:
        self._exchange.fail(Kind.DEADLINE, "the time that the request asked for is over")

    def overdue(self, active_at: float, now: float) -> Attempt | None:
        """Return an attempt that has taken longer than one may; `active_at`: the last move."""
        limit = self._call.group.repetition.policy.per_try_timeout
        if not limit or not self._upload.complete:
            return None
        for attempt in (self.current, self._rival):
            if attempt is not None:
                since = attempt.began_at
                if self._upload.received:
                    since = max(since, active_at)
                if now - since > limit:
                    return attempt
        return None

    # --- the tries --------------------------------------------------------------------------

    def first(self) -> Refusal | None:
        """Begin; a refusal where there is no backend that could be asked."""
        group = self._call.group
        repetition = group.repetition
        now = time.monotonic()
        repetition.budget.deposit(now)
        target = group.pick(self._call, self._tried)
        if target is None:
            return group.refusal(self._call, "every backend is out of service")
        self.current = self._make(target, now)
        if repetition.hedging is not None:
            head = self._call.head
            # Content that ends later, were it none at all, has one backend that hears of its end.
            wait = repetition.hedging.delay(head.method, empty=head.end)
            if wait is not None:
                self._timer = self._services.loop.call_later(wait, self._hedge)
        self._start(self.current, now)
        return None

    def _make(self, target: Target, now: float) -> Attempt:
        self._tried.append(target)
        self.last = Attempt(self._exchange, target, now)
        return self.last

    def _start(self, attempt: Attempt, now: float) -> None:
        call = self._call
        head = forward(call, attempt.target.scheme, self._request_id)
        repetition = call.group.repetition
        own = repetition.deadline_header
        if self._asked or own is not None:
            limits = (self._deadline and self._deadline - now, repetition.policy.per_try_timeout)
            left = min((limit for limit in limits if limit), default=None)
            if left is not None:
                head.headers[:] = pass_on(head.headers, own, left)
        attempt.start(head)

    def failed(self, attempt: Attempt, kind: Kind, *, unprocessed: bool) -> Verdict:
        """Say what follows from a failed try.

        After AGAIN, and GOES_ON, the attempt is over; the former has to be followed by `again`.
        """
        if self._rival is not None:
            self._leave(attempt, kind)
            self.current = self.last = self._rival if attempt is self.current else self.current
            self._rival = None
            return Verdict.GOES_ON
        cause = cause_of(kind, unprocessed=unprocessed)
        repetition = self._call.group.repetition
        method, replayable = self._call.head.method, self._upload.replayable
        verdict = judge(
            repetition.policy,
            Failure(cause, method, unprocessed, replayable, self.retries + 1),
        )
        if verdict is not Verdict.AGAIN or cause is None:
            return verdict
        verdict = self._plan(cause, time.monotonic())
        if verdict is Verdict.AGAIN:
            self._leave(attempt, kind)
            self.current = None
        return verdict

    def _plan(self, cause: Cause, now: float) -> Verdict:
        """Find a backend and a time for another try, and pay for it."""
        repetition = self._call.group.repetition
        backoff = repetition.policy.backoff
        wait = backoff.wait(self.retries + 1, repetition.rand()) if backoff.initial else 0.0
        if self._deadline and now + wait >= self._deadline:
            return Verdict.NO_TIME
        if not repetition.budget.affords(now):
            return Verdict.BUDGET_SPENT
        if cause is Cause.REFUSED:
            # It is not down, it only refused this stream: its next connection will do as well.
            self._tried.clear()
        target = None
        if not wait:
            target = self._pick(any_of_them=may_ask_again(cause, wait))
            if target is None:
                return Verdict.NO_BACKEND
        repetition.budget.withdraw(now)
        self._next = (target, wait)
        return Verdict.AGAIN

    def _pick(self, *, any_of_them: bool) -> Target | None:
        """Pick a backend that was not asked; where none is left, any, but not the last one."""
        group, tried = self._call.group, self._tried
        target = group.pick(self._call, tried)
        if target is None and any_of_them:
            target = group.pick(self._call, tried[-1:]) or group.pick(self._call, [])
        return target

    def _leave(self, attempt: Attempt, kind: Kind) -> None:
        """Count a failed attempt that another one follows, and give it up."""
        self._stop_timer()
        self._services.observer.record_retry(attempt.target.identity, kind)
        attempt.cancel(H2Code.CANCEL)

    def again(self) -> None:
        """Make the try that was decided on, at once or after its wait."""
        self.retries += 1
        target, wait = self._next
        if target is None:
            self._timer = self._services.loop.call_later(wait, self._after_wait)
        else:
            now = time.monotonic()
            self.current = self._make(target, now)
            self._start(self.current, now)

    @contained
    def _after_wait(self) -> None:
        self._timer = None
        target = self._pick(any_of_them=True)
        if target is None:
            refusal = self._call.group.refusal(self._call, "no backend is left to try again")
            self._exchange.fail(refusal.kind, refusal.detail)
            return
        now = time.monotonic()
        self.current = self._make(target, now)
        self._start(self.current, now)

    # --- hedging ----------------------------------------------------------------------------

    @contained
    def _hedge(self) -> None:
        """Begin a second attempt beside the one that takes long."""
        self._timer = None
        group = self._call.group
        now = time.monotonic()
        if self.current is None or not group.repetition.budget.affords(now):
            return
        session = self._call.session
        if session is not None and session.backend == self.current.target.identity:
            # What another backend says to it is not what the client waits for.
            return
        target = group.pick(self._call, self._tried)
        if target is None:
            return
        group.repetition.budget.withdraw(now)
        self.retries += 1
        self._rival = Attempt(self._exchange, target, now)
        self._tried.append(target)
        self._start(self._rival, now)

    def is_alone(self) -> bool:
        """Say whether no other attempt runs beside the one that does."""
        return self._rival is None

    def won(self, attempt: Attempt, now: float) -> None:
        """Go on with `attempt` alone: its response has begun."""
        hedging = self._call.group.repetition.hedging
        if hedging is None:
            return
        self._stop_timer()
        if hedging.waits is not None:
            hedging.waits.record(now - attempt.began_at)
        rival, self._rival = self._rival, None
        if rival is not None:
            loser = self.current if attempt is rival else rival
            self.current = self.last = attempt
            if loser is not None:
                self._give_up(loser, H2Code.CANCEL)

    def _give_up(self, attempt: Attempt, code: H2Code) -> None:
        """Count an attempt that neither failed nor won, and end it."""
        self._services.observer.record_given_up(attempt.target.identity)
        attempt.cancel(code)

    # --- the end ----------------------------------------------------------------------------

    def cancel(self, code: H2Code) -> None:
        """Give up what runs."""
        if self.current is not None:
            self.current.cancel(code)
        if self._rival is not None:
            self._give_up(self._rival, code)

    def end(self) -> None:
        """Wait for nothing any more."""
        self._stop_timer()
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
            self._deadline_timer = None

    def fault(self, error: Exception) -> None:
        """End the exchange because of a fault of ours (contain.Containing)."""
        self._exchange.fault(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
