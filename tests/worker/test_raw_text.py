"""Where personal data lies: in the topics that the contract names for raw text, until their time is over, and nowhere else."""

import threading
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

MASKED, BLOCKED = "canary.masked@example.com", "canary.blocked@example.com"
RAW_TOPICS = ("gateway.requests-", "gateway.admitted-")


@pytest.fixture(scope="module")
def forgetful(running_stack):
    """Raw text is kept for fifteen seconds here."""
    with running_stack("--workers", "2", SLUICE_RAW_TEXT_RETENTION_S="15") as stack:
        yield stack


def places(data: Path, canary: str) -> set[str]:
    """Every file below `data` that holds the canary, tables read as such since their text is compressed."""
    found = set()
    for file in data.rglob("*"):
        try:
            if not file.is_file():
                continue
            table = file.suffix == ".parquet"
            text = str(pyarrow.parquet.read_table(file).to_pylist()).encode() if table else file.read_bytes()
        except FileNotFoundError:
            continue  # Compacted or expired while we looked.
        except pyarrow.ArrowInvalid:
            text = file.read_bytes()  # Being written.
        if canary.encode() in text:
            found.add(str(file.relative_to(data)))
    return found


def is_raw(place: str) -> bool:
    return any(part.startswith(RAW_TOPICS) for part in Path(place).parts)


def test_a_canary_is_found_only_where_raw_text_may_lie_and_later_nowhere(forgetful):
    stack = forgetful
    for name, behavior in (("mask", "MASK"), ("block", "BLOCK")):
        table = {"catalog_name": "canary", "schema_name": "tests", "table_name_prefix": name, "enabled": True}
        both = {"pii": {"behavior": behavior}}
        gateway = {
            "guardrails": {"input": both, "output": both},
            "inference_table_config": table,
            "usage_tracking_config": {"enabled": True},
        }
        stack.create_endpoint(f"canary-{name}", gateway, entities=[stack.entity("echo")])
    with stack.http() as client:
        for name, canary, status in (("mask", MASKED, 200), ("block", BLOCKED, 400)):
            body = {"messages": [{"role": "system", "content": f"for {canary}"}, {"role": "user", "content": f"I am {canary}"}]}
            assert client.post(f"/serving-endpoints/canary-{name}/invocations", json=body).status_code == status
    for canary in (MASKED, BLOCKED):
        assert any(map(is_raw, places(stack.data, canary)))
    for name in ("mask", "block"):
        stack.wait_rows(f"canary.tests.{name}_request_response", 1)
        stack.wait_rows(f"canary.tests.{name}_assessment", 1)
    for canary in (MASKED, BLOCKED):
        found = places(stack.data, canary)
        assert all(map(is_raw, found)), found
    deadline = time.monotonic() + 90
    while left := places(stack.data, MASKED) | places(stack.data, BLOCKED):
        assert time.monotonic() < deadline, left
        threading.Event().wait(0.5)


def test_the_search_itself_finds_what_is_there(forgetful, tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": [MASKED]}), tmp_path / "a.parquet")
    (tmp_path / "gateway.requests-3").mkdir()
    (tmp_path / "gateway.requests-3" / "0.log").write_bytes(b"\x00" + MASKED.encode())
    assert places(tmp_path, MASKED) == {"a.parquet", "gateway.requests-3/0.log"}
