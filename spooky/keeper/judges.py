"""The judges of one upstream and of one backend, and what they enter into the backends' rows.

They bring the pure judges of `policy`, the words of the configuration and the cells of shared
memory together, and log each change once, with why. The rule that is not obvious: the rows are the
only memory of what was decided, so that another keeper goes on from them.
"""

import logging
from collections.abc import Mapping

from spooky.config.failing import CircuitBreaker, PassiveHealth
from spooky.config.model import Upstream
from spooky.policy.breaker import Breaker as BreakerPolicy
from spooky.policy.breaker import BreakerSettings, BreakerStatus, State
from spooky.policy.deviation import DeviationSettings
from spooky.policy.ejection import EjectionSettings, Standing
from spooky.policy.outlier import Change, OutlierDetector, OutlierSettings, Verdict
from spooky.policy.tally import Failure, Tally
from spooky.shm.backend_cells import BackendColumn, pack_trials, unpack_trials
from spooky.shm.backends import BackendRow

log = logging.getLogger(__name__)


class Ejections:
    """Passive health of one upstream, and its part of the rows."""

    def __init__(
        self, upstream: Upstream, numbers: list[int], rows: Mapping[int, BackendRow], now: float
    ) -> None:
        """Take the numbers of the upstream's backends, and all rows by their numbers."""
        self._numbers = numbers
        self._rows = rows
        self._detector = OutlierDetector(outlier_settings(upstream.passive_health), len(numbers))
        # A keeper that was away knows nothing of that time, so the calm begins with it.
        self._calm = dict.fromkeys(numbers, now)

    def look(self, tallies: Mapping[int, Tally], now: float) -> None:
        """Judge, publish and log."""
        sums = [tallies[number] for number in self._numbers]
        standings = [self._standing(number) for number in self._numbers]
        for change in self._detector.observe(sums, standings, now):
            number = self._numbers[change.place]
            row = self._rows[number]
            row.set(BackendColumn.EJECTIONS, change.standing.times)
            row.set(BackendColumn.EJECTED_UNTIL_MS, round(change.standing.until * 1000))
            self._calm[number] = change.standing.calm_since
            _tell(row, change, now)

    def _standing(self, number: int) -> Standing:
        row = self._rows[number]
        return Standing(
            until=row.get(BackendColumn.EJECTED_UNTIL_MS) / 1000,
            times=row.get(BackendColumn.EJECTIONS),
            calm_since=self._calm[number],
        )


def _tell(row: BackendRow, change: Change, now: float) -> None:
    name = f"backend {row.name} {row.address}"
    standing = change.standing
    match change.verdict:
        case Verdict.EJECTED:
            log.warning(
                "%s: ejected for %.3g s (time %d): %s",
                *(name, standing.until - now, standing.times, change.reason),
            )
        case Verdict.RETURNED:
            log.info("%s: gets requests again: %s", name, change.reason)
        case Verdict.SPARED:
            log.warning(
                "%s: stays, as enough others of its upstream are ejected: %s", name, change.reason
            )


class Fuse:
    """The circuit breaker of one backend, and its part of the row."""

    def __init__(self, settings: BreakerSettings, row: BackendRow) -> None:
        self._settings = settings
        self._row = row
        number, _ = unpack_trials(row.get(BackendColumn.TRIALS))
        self._breaker = BreakerPolicy(
            settings,
            BreakerStatus(
                state=State(row.get(BackendColumn.BREAKER)),
                until=row.get(BackendColumn.BREAKER_UNTIL_MS) / 1000,
                round=number,
                openings=row.get(BackendColumn.BREAKER_OPENINGS),
            ),
        )

    def look(self, tally: Tally, now: float) -> None:
        """Judge, publish and log."""
        before = self._breaker.status
        change = self._breaker.observe(tally, now)
        status = self._breaker.status
        if status != before:
            self._publish(status)
        if change is None:
            return
        name, level = f"backend {self._row.name} {self._row.address}", logging.INFO
        text = f"circuit breaker {change.status.state.name.lower().replace('_', ' ')}"
        if change.status.state is State.OPEN:
            text, level = f"{text} for {status.until - now:.3g} s", logging.WARNING
        log.log(level, "%s: %s: %s", name, text, change.reason)

    def _publish(self, status: BreakerStatus) -> None:
        row = self._row
        row.set(BackendColumn.BREAKER_UNTIL_MS, round(status.until * 1000))
        row.set(BackendColumn.BREAKER_OPENINGS, status.openings)
        row.set(BackendColumn.TRIALS, pack_trials(status.round, self._settings.trials))
        # Last: who sees it half open finds the round.
        row.set(BackendColumn.BREAKER, status.state)


# --- what the configuration says, in the words of the policies --------------------------------


def is_judging(passive: PassiveHealth) -> bool:
    """Say whether any rule is switched on."""
    return bool(
        _consecutive(passive) or passive.success_rate_stdev_factor or passive.latency_factor
    )


def _consecutive(passive: PassiveHealth) -> dict[Failure, int]:
    limits = {
        Failure.CONNECT: passive.consecutive_connect_failures,
        Failure.TIMEOUT: passive.consecutive_timeouts,
        Failure.RESET: passive.consecutive_resets,
        Failure.ERROR: passive.consecutive_5xx,
    }
    return {kind: limit for kind, limit in limits.items() if limit}


def outlier_settings(passive: PassiveHealth) -> OutlierSettings:
    """Say what passive health is to go by."""
    return OutlierSettings(
        consecutive=_consecutive(passive),
        window=passive.window,
        deviation=DeviationSettings(
            success_rate_stdev_factor=passive.success_rate_stdev_factor,
            latency_factor=passive.latency_factor,
            minimum_requests=passive.minimum_requests,
            minimum_backends=passive.minimum_backends,
        ),
        ejection=EjectionSettings(
            base_time=passive.ejection_time,
            max_time=passive.max_ejection_time,
            max_percent=passive.max_ejection_percent,
        ),
    )


def breaker_settings(breaker: CircuitBreaker) -> BreakerSettings:
    """Say what a circuit breaker is to go by."""
    return BreakerSettings(
        consecutive_failures=breaker.consecutive_failures,
        failure_percent=breaker.failure_percent,
        minimum_requests=breaker.minimum_requests,
        window=breaker.window,
        open_time=breaker.open_time,
        max_open_time=breaker.max_open_time,
        trials=breaker.trials,
        successes=breaker.trial_successes,
    )
