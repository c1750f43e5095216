"""On Windows the child is started in a process group of its own."""

import os
import subprocess
import sys

import pytest

from process import Process
from process._platform import _windows, spawn_options
from tests.support import python


def test_a_new_process_group_is_asked_for() -> None:
    """CTRL_C_EVENT and CTRL_BREAK_EVENT can be sent to the child without hitting the parent."""
    assert _windows.spawn_options == {"creationflags": 0x00000200}
    if sys.platform == "win32":
        assert subprocess.CREATE_NEW_PROCESS_GROUP == 0x00000200


@pytest.mark.skipif(sys.platform == "win32", reason="here the other platforms are checked")
def test_elsewhere_nothing_is_asked_for() -> None:
    """The child stays in the group of its parent, so that Ctrl-C on a terminal reaches both."""
    assert spawn_options == {}
    with Process(python("put(1, b'%d' % os.getpgrp())")) as process:
        assert int(process.output()) == os.getpgrp()
