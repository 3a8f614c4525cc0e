"""Whose rights are asked for, and that the asking leaves no trace."""

import os
import pwd
import subprocess
import sys

import pytest

from spooky.config.account import find_credentials
from spooky.config.model import Config
from tests.master.running import ROOT

ASK = """
import os, signal
from spooky.config.account import Credentials, ask_as
nobody = Credentials({uid}, {gid}, ({gid},))
print(ask_as(nobody, lambda: f"{{os.getuid()}} {{os.getgid()}} {{os.getgroups()}}"))
print(os.getresuid(), os.getresgid(), signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(repr(ask_as(nobody, lambda: 1 / 0)))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_question_is_put_with_the_rights_of_the_account_alone() -> None:
    nobody = pwd.getpwnam("nobody")
    code = ASK.format(uid=nobody.pw_uid, gid=nobody.pw_gid)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        f"{nobody.pw_uid} {nobody.pw_gid} [{nobody.pw_gid}]",
        "(0, 0, 0) (0, 0, 0) set()",
        "''",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_account_has_all_its_groups() -> None:
    nobody = pwd.getpwnam("nobody")
    found = find_credentials(Config(listen=(), upstream=(), user="nobody"))
    assert found is not None
    assert (found.uid, found.gid) == (nobody.pw_uid, nobody.pw_gid)
    assert set(found.groups) == set(os.getgrouplist("nobody", nobody.pw_gid))
    assert find_credentials(Config(listen=(), upstream=())) is None
