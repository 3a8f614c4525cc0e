"""How long an ejected backend stays away, and how many may be away at a time.

Pure: plain values in, plain values out, seconds on any clock of the caller's. As in Envoy's
outlier detection, the time is a base times how often the backend was ejected, up to a cap, and
each base time in service takes one from that number. The rule that is not obvious: nobody is away
for longer than the cap from now on, so that a clock that jumps back loses no backend.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class EjectionSettings:
    """What an operator says of ejections. Times are seconds."""

    base_time: float
    max_time: float
    max_percent: int
    """Of the backends of an upstream, that may be away at a time."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is remembered of one backend. Times are seconds on the caller's clock."""

    until: float = 0.0
    """When it returns; 0: it is in service."""
    times: int = 0
    """How often it was ejected, less what a good conduct has taken off."""
    calm_since: float = 0.0
    """Since when it is in service, or since the last time that one was taken off `times`."""

    @property
    def ejected(self) -> bool:
        """Whether it is away."""
        return self.until > 0


def eject(standing: Standing, settings: EjectionSettings, now: float) -> Standing:
    """Send a backend away, for longer each time."""
    times = standing.times + 1
    length = min(settings.base_time * times, settings.max_time)
    # 0 is the mark of who is in service, whatever the clock shows.
    return Standing(until=max(now + length, 1e-3), times=times)


def settle(standing: Standing, settings: EjectionSettings, now: float) -> Standing:
    """Say how a backend stands now that time has passed: back, or with a better name."""
    if standing.ejected:
        if now >= standing.until:
            return replace(standing, until=0.0, calm_since=now)
        return replace(standing, until=min(standing.until, now + settings.max_time))
    if standing.times == 0:
        return standing
    calm = now - standing.calm_since
    if calm < 0:
        return replace(standing, calm_since=now)
    steps = int(calm / settings.base_time)
    return replace(
        standing,
        times=max(0, standing.times - steps),
        calm_since=standing.calm_since + steps * settings.base_time,
    )


def may_be_away(members: int, max_percent: int) -> int:
    """Say how many of an upstream's backends may be away at a time.

    At least one of several, however small the share; an only backend stays, unless the share is
    100 percent.
    """
    allowed = members * max_percent // 100
    return max(allowed, 1) if members > 1 and max_percent > 0 else allowed
