"""Whether a peer is slower than it must be: so much time, and a second more for so many octets.

The rule of Apache's mod_reqtimeout (`20,MinRate=500`): what was quick before earns time for later.
Only time counts in which the peer keeps us waiting, from one look to the next.
"""


class Pace:
    """One thing that a peer sends or takes. Times are seconds on one clock of the caller's."""

    __slots__ = ("_kept_s", "_looked_at", "_was_kept")

    def __init__(self, now: float) -> None:
        """Begin with a first look, at which nobody is kept waiting yet."""
        self._looked_at = now
        self._was_kept = False
        self._kept_s = 0.0

    def look(self, now: float, *, kept: bool) -> None:
        """Look again; `kept`: the peer keeps us waiting now."""
        if kept and self._was_kept:
            self._kept_s += now - self._looked_at
        self._looked_at = now
        self._was_kept = kept

    def is_too_slow(self, octets: int, rate: int, grace: float) -> bool:
        """Say so; `octets` so far, `rate` octets a second at least, `grace` seconds on top."""
        return self._kept_s > grace + octets / rate
