"""The requests that the demo sends, and the report of what became of them."""

import asyncio
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from spooky.demo.client import Answer, http3

UPLOAD_BYTES = 1024 * 1024
BURST = 50
DEADLINE_S = 30.0


@dataclass(slots=True)
class Report:
    """How many requests were asked and answered well, and by which backends."""

    asked: int = 0
    served: Counter[str] = field(default_factory=Counter)

    @property
    def answered(self) -> int:
        """The requests that got the answer they should."""
        return self.served.total()


async def send_requests(port: int, trusted: Path) -> Report:
    """Send requests to Spooky on 127.0.0.1 and print each; ConnectionError, TimeoutError."""
    report = Report()
    upload = bytes(range(256)) * (UPLOAD_BYTES // 256)
    authority = f"localhost:{port}"
    async with asyncio.timeout(DEADLINE_S), http3("127.0.0.1", port, trusted) as client:
        plan = [("GET", f"/page/{number}", b"") for number in range(1, 9)]
        plan += [("HEAD", "/page/1", b""), ("POST", "/upload", upload), ("PUT", "/upload", upload)]
        for method, path, body in plan:
            answer = await client.request(method, authority, path, body)
            _print(report, method, path, body, answer)
        burst = await asyncio.gather(
            *(client.request("GET", authority, f"/burst/{number}") for number in range(BURST))
        )
    good = [answer for answer in burst if answer.status == 200]
    report.asked += BURST
    report.served.update(answer.headers["x-backend"] for answer in good)
    print(f"  GET  /burst/0..{BURST - 1}  {len(good)} of {BURST} answered 200, all at a time")
    return report


def _print(report: Report, method: str, path: str, body: bytes, answer: Answer) -> None:
    report.asked += 1
    backend = answer.headers.get("x-backend", "nobody")
    fault = _fault(method, body, answer)
    if not fault:
        report.served[backend] += 1
    sent = f", {len(body)} octets sent, hash agrees" if body and not fault else ""
    milliseconds = answer.seconds * 1000
    print(
        f"  {method:<4} {path:<10} {answer.status} from {backend} in {milliseconds:.1f} ms"
        + (f"  WRONG: {fault}" if fault else sent),
        flush=True,
    )


def _fault(method: str, body: bytes, answer: Answer) -> str:
    """Say what is wrong with an answer; nothing if it is as it should be."""
    if answer.status != 200:
        return answer.body.decode("utf-8", "replace").strip() or "not 200"
    if method == "HEAD":
        return "content in the answer to HEAD" if answer.body else ""
    told = json.loads(answer.body)
    if told["sha256"] != hashlib.sha256(body).hexdigest():
        return "the content changed on its way"
    return ""
