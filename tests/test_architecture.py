"""What may import what, and how long files and functions may be.

The picture is in docs/architecture.md; whoever changes it here changes it there.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "spooky"
SOURCES = sorted(PACKAGE.rglob("*.py"))

LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ALLOWED: dict[str, frozenset[str]] = {
    "": words(""),
    "__main__": words("cli"),
    "cli": words(
        "config ctl demo errors handover keeper log master policy protocol shm status worker"
    ),
    "demo": words("config errors"),
    "master": words(
        "config shm handover errors log policy.backoff protocol.cid protocol.datagram "
        "protocol.ratchet"
    ),
    "worker": words("bounds config shm handover errors log metrics names protocol policy"),
    "keeper": words("config shm handover errors log names protocol policy"),
    "protocol": words("bounds errors"),
    "policy": words("errors"),
    "config": words("errors"),
    "shm": words("bounds errors"),
    "status": words("shm"),
    "handover": words("config errors shm"),
    "names": words("config"),
    "log": words("config errors"),
    "bounds": words(""),
    "errors": words(""),
    "ctl": words("errors"),
}
"""Which parts of Spooky each part may import, over and above itself."""

LIBRARIES: dict[str, frozenset[str]] = {
    "protocol": words("aioquic cryptography h2 hpack hyperframe pylsqpack"),
    "policy": words(""),
    "config": words("cryptography yaml"),
    "shm": words(""),
    "errors": words(""),
    "handover": words(""),
    "master": words("psutil setproctitle"),
    "status": words("psutil"),
}
"""Parts that may import no library but these; the others are free."""

SEAMS: dict[str, frozenset[str]] = {
    "aioquic": words("protocol.aioquic_engine protocol.quic demo.client"),
    "h2": words("protocol.h2 protocol.h2_frames protocol.h2_library demo.backend"),
    "hyperframe": words("protocol.h2 protocol.h2_frames protocol.h2_library"),
    "hpack": words(
        "protocol.h2 protocol.h2_library protocol.hpack_encoder protocol.hpack_decoder "
        "protocol.lean_sections demo.backend"
    ),
    "pylsqpack": words("protocol.h3 protocol.h3_control"),
    "spooky.protocol.aioquic_engine": words("protocol.downstream_engines"),
    "spooky.protocol.quic": words("protocol.aioquic_engine protocol.quic"),
    "spooky.protocol.quic.packets": words("protocol.retry protocol.stateless"),
    "spooky.protocol.h2": words("protocol.engines"),
    "spooky.protocol.lean_h2": words("protocol.engines"),
}
"""The modules that may import an engine, or a library that engines stand on; all others know the
events and verbs of `protocol.messages` alone. The demo's client and backend are programs apart."""

EFFECTS = words(
    "asyncio logging multiprocessing os random secrets select selectors socket subprocess "
    "threading time"
)
FORBIDDEN_STANDARD: dict[str, frozenset[str]] = {
    "protocol": EFFECTS,
    "policy": EFFECTS,
    "master": words("asyncio"),
}
STANDARD = sys.stdlib_module_names


def part_of(module: str) -> str:
    """Return the part that a module such as `spooky.worker.relay` belongs to."""
    return module.split(".")[1] if "." in module else ""


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """List the line and the full name of all that a source imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            above = parents[: len(parents) - node.level + is_package] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            # A name may be a module: `from spooky import shm`.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def objection(module: str, imported: str) -> str | None:
    """Say why `module` must not import the name `imported`; None if it may."""
    part = part_of(module)
    names = imported.split(".")
    top = names[0]
    if top == "spooky":
        own = len(names) < 2 or names[1] == part or names[1].startswith("__version")
        allowed = ALLOWED[part]
        if own or names[1] in allowed or ".".join(names[1:3]) in allowed:
            return None
        return f"{part or 'spooky'} must not import {'.'.join(names[:3])}"
    if top in STANDARD:
        if top in FORBIDDEN_STANDARD.get(part, ()):
            return f"{part} must not import {top}"
    elif part in LIBRARIES and top not in LIBRARIES[part]:
        return f"{part} must not import the library {top}"
    return None


def under(name: str, module: str) -> bool:
    """Say whether a full name is a module or something in it."""
    return name == module or name.startswith(f"{module}.")


def breach(module: str, imported: str) -> str | None:
    """Say which engine's secret `module` would see by importing a name; None: none."""
    within = [library for library in SEAMS if under(imported, library)]
    if not within:
        return None
    library = max(within, key=len)
    place = module.removeprefix("spooky.")
    if any(under(place, allowed) for allowed in SEAMS[library]):
        return None
    return f"{place} must not know {library}"


def module_name(path: Path) -> str:
    names = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_part_has_its_rule() -> None:
    parts = {part_of(module_name(path)) for path in SOURCES}
    assert parts <= set(ALLOWED), "say in ALLOWED what these may import"


def test_imports() -> None:
    wrong = [
        f"{where(path, line)}: {reason}"
        for path in SOURCES
        for line, name in imports(
            path.read_text(), module_name(path), is_package=path.name == "__init__.py"
        )
        if (reason := objection(module_name(path), name)) is not None
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_seams_hold() -> None:
    wrong = [
        f"{where(path, line)}: {reason}"
        for path in SOURCES
        for line, name in imports(
            path.read_text(), module_name(path), is_package=path.name == "__init__.py"
        )
        if (reason := breach(module_name(path), name)) is not None
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_no_file_is_let_through_the_seams_for_nothing() -> None:
    used = {
        (library, allowed)
        for path in SOURCES
        for _, name in imports(
            path.read_text(), module_name(path), is_package=path.name == "__init__.py"
        )
        for library, places in SEAMS.items()
        for allowed in places
        if under(name, library) and under(module_name(path).removeprefix("spooky."), allowed)
    }
    listed = {(library, allowed) for library, places in SEAMS.items() for allowed in places}
    assert listed == used


def test_sizes() -> None:
    wrong = []
    for path in SOURCES:
        source = path.read_text()
        lines = source.count("\n")
        if lines > LONGEST_FILE:
            wrong.append(f"{where(path, lines)}: {lines} lines, {LONGEST_FILE} are allowed")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    wrong.append(f"{where(path, node.lineno)}: {node.name} has {length} lines")
    assert not wrong, "\n" + "\n".join(wrong)


def test_modules_begin_with_a_docstring() -> None:
    wrong = [
        where(path, 1) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source", "fine"),
    [
        ("spooky.protocol.x", "import asyncio", False),
        ("spooky.protocol.x", "def f():\n    from time import time", False),
        ("spooky.protocol.x", "import yaml", False),
        ("spooky.protocol.x", "from aioquic.quic import stream", True),
        ("spooky.protocol.x", "from spooky.policy.retry import may_retry", False),
        ("spooky.protocol.x", "from spooky.errors import Kind", True),
        ("spooky.protocol.x", "from spooky import shm", False),
        ("spooky.protocol.x", "from . import cid", True),
        ("spooky.protocol.x", "from ..worker import relay", False),
        ("spooky.policy.x", "import numpy", False),
        ("spooky.policy.x", "import heapq", True),
        ("spooky.config.x", "from spooky import log", False),
        ("spooky.master.x", "import aioquic", False),
        ("spooky.master.x", "from spooky.worker.main import run", False),
        ("spooky.master.x", "from spooky.policy import backoff", True),
        ("spooky.master.x", "from spooky.policy.retry import may_retry", False),
        ("spooky.master.x", "from spooky.protocol.cid import slot_of", True),
        ("spooky.master.x", "from spooky.protocol.stateless import reset", False),
        ("spooky.shm.x", "from spooky.config.model import Config", False),
        ("spooky.shm.x", "from spooky.shm.processes import Row", True),
        ("spooky.handover", "from spooky.shm.segment import SharedMemory", True),
        ("spooky.worker.x", "from spooky.master import plan", False),
        ("spooky.worker.x", "from spooky import __version__", True),
        ("spooky.worker.x", "import spooky.cli", False),
        ("spooky.cli", "from spooky.worker.main import run", True),
        ("spooky.demo.x", "import spooky.cli", False),
    ],
)
def test_the_rules_can_fail(module: str, source: str, fine: bool) -> None:
    found = [objection(module, name) for _, name in imports(source, module, is_package=False)]
    assert all(reason is None for reason in found) is fine


WALL_CLOCK = re.compile(r"\btime\.time(_ns)?\b|\bdatetime\.now\b|CLOCK_REALTIME")
MAY_READ_IT = {"cli.py", "worker/observe.py", "worker/sessions.py"}
"""For whether certificates are valid, for what lines of the access log begin with, and for the age
of cookies, which outlive machines."""


def test_a_jump_of_the_wall_clock_moves_no_timer() -> None:
    """Timeouts, health, limits and tokens go by the monotonic clock, which nobody can set."""
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "demo" not in path.parts and WALL_CLOCK.search(path.read_text())
    }
    assert found == MAY_READ_IT


@pytest.mark.parametrize(
    ("module", "source", "fine"),
    [
        ("spooky.worker.intake", "from aioquic.quic.configuration import X", False),
        ("spooky.worker.intake", "from spooky.protocol.aioquic_engine import AioquicEngine", False),
        ("spooky.worker.x", "from spooky.protocol import quic", False),
        ("spooky.worker.x", "from spooky.protocol.messages import DownstreamEngine", True),
        ("spooky.worker.pool", "from spooky.protocol.lean_h2 import LeanEngine", False),
        ("spooky.worker.pool", "def f():\n    import h2.errors", False),
        ("spooky.protocol.h3", "from aioquic.h3.connection import H3Connection", False),
        ("spooky.protocol.retry", "from spooky.protocol.quic.connection import X", False),
        ("spooky.protocol.retry", "from spooky.protocol.quic.packets import retry_packet", True),
        ("spooky.protocol.quicker", "import aioquic", False),
        ("spooky.protocol.lean_h2", "from hyperframe.frame import Frame", False),
        ("spooky.protocol.quic.sending", "import aioquic", True),
    ],
)
def test_the_seams_can_fail(module: str, source: str, fine: bool) -> None:
    found = [breach(module, name) for _, name in imports(source, module, is_package=False)]
    assert all(reason is None for reason in found) is fine
