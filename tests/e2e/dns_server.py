"""A name server of this machine, whose answers can be changed while it runs."""

import socket
import threading
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer:
    """Answers A questions from `records`, everything else with nothing; counts the questions."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.ttl = 1
        self.questions = 0
        self.asked: list[str] = []
        """The names of those that were answered."""
        self.is_silent = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            self.questions += 1
            if not self.is_silent:
                self._socket.sendto(self._answer(data), client)

    def _answer(self, data: bytes) -> bytes:
        asked = dns.message.from_wire(data)
        answer = dns.message.make_response(asked)
        question = asked.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append(name)
        addresses = self.records.get(name)
        if addresses is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A and addresses:
            records = dns.rrset.from_text_list(question.name, self.ttl, "IN", "A", addresses)
            answer.answer.append(records)
        return answer.to_wire()
