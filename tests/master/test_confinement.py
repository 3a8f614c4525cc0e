"""What a process gives up, tried out by processes that then want it back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.master.running import ROOT

CRASH = """
import os, resource
from spooky.master.confinement import forbid_core_dumps
_, hard = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
{also}
os.abort()
"""

GAIN = """
import os, subprocess
from spooky.master.confinement import renounce_privileges
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
{also}
os.execv({program!r}, ["id", "-u"])
"""


def _status(code: str, folder: Path) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pid = os.posix_spawn(
        "/usr/bin/env",
        ["env", "-C", str(folder), sys.executable, "-c", code],
        environment,
    )
    return os.waitpid(pid, 0)[1]


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    if not os.WCOREDUMP(_status(CRASH.format(also=""), tmp_path)):
        pytest.skip("no core would be left here anyway")
    assert not os.WCOREDUMP(_status(CRASH.format(also="forbid_core_dumps()"), tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a program setuid")
@pytest.mark.parametrize(("also", "who"), [("", "0"), ("renounce_privileges()", "65534")])
def test_no_program_gives_rights_back(also: str, who: str) -> None:
    program = Path("/usr/bin") / f"spooky-test-{os.getpid()}"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    try:
        program.chmod(0o4755)
        code = GAIN.format(also=also, program=str(program))
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
    finally:
        program.unlink()
    assert done.stdout.strip() == who
