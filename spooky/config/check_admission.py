"""What must hold between the keys of admission: nothing is asked for that could never happen.

Pure, as `check.py`, of which it is a part.
"""

from collections.abc import Iterator

from spooky.config.admission import Adaptive, Admission, UpstreamAdmission
from spooky.config.document import Finding, Places, key_of_upstream
from spooky.config.model import Config, Upstream


def check_admission(config: Config, known: Places) -> Iterator[Finding]:
    """Find queues and shedding without a limit, and limits that contradict themselves."""
    if known.is_sound("admission"):
        yield from _check_bounds(config.admission, "admission", limited=False)
    for upstream in config.upstream:
        yield from _check_upstream(upstream, known)


def _check_upstream(upstream: Upstream, known: Places) -> Iterator[Finding]:
    top = key_of_upstream(upstream.name)
    key, admission = f"{top}.admission", upstream.admission
    if not known.is_sound(key, f"{top}.backend_limits"):
        return
    backends = upstream.backend_limits
    limited = backends.max_in_flight > 0 or backends.max_queued > 0
    yield from _check_bounds(admission, key, limited=limited)
    if admission.trust_priority and admission.priority_header is None:
        yield Finding(f"{key}.trust_priority", "there is no priority_header to trust; name it")


def _check_bounds(
    admission: Admission | UpstreamAdmission, key: str, *, limited: bool
) -> Iterator[Finding]:
    """`limited`: something else already bounds what is in flight."""
    own = admission.max_in_flight > 0 or admission.adaptive is not None
    advice = "there is no limit; write max_in_flight or adaptive as well"
    if admission.queue and not (own or limited):
        yield Finding(f"{key}.queue", advice)
    if admission.shed_from < 1 and not own:
        yield Finding(f"{key}.shed_from", advice)
    if admission.adaptive is not None:
        yield from _check_adaptive(admission.adaptive, f"{key}.adaptive")


def _check_adaptive(adaptive: Adaptive, key: str) -> Iterator[Finding]:
    if adaptive.min > adaptive.max:
        text = f"expected at most max, which is {adaptive.max}, got {adaptive.min}"
        yield Finding(f"{key}.min", text)
    elif not adaptive.min <= adaptive.start <= adaptive.max:
        text = f"expected {adaptive.min}..{adaptive.max}, as min and max are, got {adaptive.start}"
        yield Finding(f"{key}.start", text)
