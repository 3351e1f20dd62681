"""The data folder: one stack at a time, files that are there as a whole or not at all, ports that stay."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.stack import ports
from pipeline.stack.data_folder import DataFolder, DataFolderBusy, DataFolderUnusable, PartState, StackState
from pipeline.stack.ports import is_free


def test_a_second_stack_on_the_same_folder_is_refused_with_the_first_ones_process_id(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "data")
    first.lock()
    with pytest.raises(DataFolderBusy, match=rf"process {os.getpid()}.*kill {os.getpid()}"):
        DataFolder(tmp_path / "data").lock()
    first.unlock()
    second = DataFolder(tmp_path / "data")
    second.lock()
    second.unlock()


def test_the_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from pipeline.stack.data_folder import DataFolder; "
    code += "DataFolder(Path(sys.argv[1])).lock(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    next_one = DataFolder(tmp_path)
    next_one.lock()
    next_one.unlock()


def test_folder_and_token_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.lock()
    folder.unlock()
    folder.write_token("sluice-made-up")
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.token_file.stat().st_mode) == 0o600
    assert folder.read_token() == "sluice-made-up"


def test_a_folder_that_can_not_be_made_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderUnusable, match=r"file/data can't be written: .*choose another with --data"):
        DataFolder(tmp_path / "file" / "data").lock()


def test_state_is_read_back_and_garbage_counts_as_none(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    state = StackState(supervisor=1, host="http://127.0.0.1:1", kafka="127.0.0.1:2", parts={"kafka": PartState(pid=3, ready=True)})
    folder.write_state(state)
    assert folder.read_state() == state
    folder.state_file.write_text('{"supervisor": "half')
    assert folder.read_state() is None


def test_a_port_is_kept_while_it_is_free_and_replaced_when_it_is_taken(tmp_path: Path) -> None:
    first = DataFolder(tmp_path).port("kafka", None)
    assert DataFolder(tmp_path).port("kafka", None) == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first))
        other.listen()
        second = DataFolder(tmp_path).port("kafka", first)
    assert second != first
    assert DataFolder(tmp_path).port("kafka", first) == second


def test_a_port_that_is_let_go_of_at_this_moment_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = DataFolder(tmp_path).port("kafka", None)
    with socket.socket() as dying:
        dying.bind(("127.0.0.1", first))
        dying.listen()

        def free_the_next_time(port: int) -> bool:
            free = is_free(port)
            dying.close()
            return free

        monkeypatch.setattr(ports, "is_free", free_the_next_time)
        assert DataFolder(tmp_path).port("kafka", None) == first
