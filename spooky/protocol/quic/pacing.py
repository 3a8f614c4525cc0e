"""Pacing for an event loop whose timers have milliseconds (RFC 9002 section 7.7).

aioquic allows bursts of a few packets, which on a short path is over long before the timer that
would allow the next ones: the path stands idle in between. Here a burst may be as long as the
rate allows in `BURST_S`, and the rate leaves room to grow.
"""

import math

from aioquic.quic.recovery import QuicPacketPacer

PACING_GAIN = 1.25
BURST_S = 0.002
INITIAL_BURST = 10
"""Packets that may always be sent at once: the initial window (RFC 9002 section 7.2)."""

UNLIMITED = 1 << 30


class Pacer(QuicPacketPacer):
    """aioquic's pacer with longer bursts, which can be asked for many packets at once."""

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        """Take over the new window (octets) and round-trip time (seconds)."""
        rtt = max(smoothed_rtt, 1e-6)
        rate = PACING_GAIN * congestion_window / rtt
        self.packet_time = max(1e-6, min(self._max_datagram_size / rate, 1.0))
        self.bucket_max = max(INITIAL_BURST * self.packet_time, BURST_S)
        self.bucket_time = min(self.bucket_time, self.bucket_max)

    def allowance(self, now: float) -> int:
        """Count the packets that may be sent now."""
        if self.packet_time is None:
            return UNLIMITED
        self.update_bucket(now=now)
        return math.ceil(self.bucket_time / self.packet_time)

    def spend(self) -> None:
        """Note that one of the packets allowed was sent."""
        if self.packet_time is not None:
            self.bucket_time = max(0.0, self.bucket_time - self.packet_time)
