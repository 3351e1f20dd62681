"""A replay on disk: what a kill leaves behind is gone on with, and no text stays when it is finished."""

import os

import pytest

from pipeline.replay.folder import ReplayFailed, Replays
from pipeline.replay.records import Original, Result

OPTIONS = ("a.b.c_request_response", "true", "target", None)


def an_original(place):
    return Original(
        place=place, request_id=f"r{place}", timestamp_ms=place, endpoint_name="one", model=None, request="{}", answer="text",
        status_code=200, execution_time_ms=1, input_tokens=1, output_tokens=1, guardrails=[], masked=False,
    )  # fmt: skip


def a_result(place):
    return Result(
        place=place, request_id=f"new{place}", replayed_ms=place, status_code=200, error_code=None, served_entity="e",
        execution_time_ms=1, input_tokens=1, output_tokens=1, guardrails=[], similarity=0.5,
    )  # fmt: skip


@pytest.fixture
def replays(tmp_path):
    return Replays(tmp_path)


def test_the_same_options_are_the_same_replay_until_it_is_finished(replays):
    made = replays.new(*OPTIONS, iter([an_original(0), "without text", an_original(1), "without text"]))
    assert (made.plan.requests, made.plan.skipped) == (2, {"without text": 2})
    found = replays.unfinished(*OPTIONS)
    assert found is not None and found.plan == made.plan
    assert [original.place for original in found.originals()] == [0, 1]
    assert replays.unfinished(OPTIONS[0], "status_code = 200", "target", None) is None
    found.finish()
    assert replays.unfinished(*OPTIONS) is None


def test_a_result_that_a_kill_cut_off_does_not_count_and_the_next_one_is_whole(replays):
    made = replays.new(*OPTIONS, map(an_original, range(3)))
    for place in (0, 2):
        made.add(a_result(place))
    file = made.path / "results.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    assert set(made.results()) == {0}
    made.add(a_result(1))
    assert made.results() == {0: a_result(0), 1: a_result(1)}


def test_a_full_disk_ends_it_in_plain_words_and_what_it_spoiled_does_not_count(replays):
    made = replays.new(*OPTIONS, map(an_original, range(3)))
    made.add(a_result(0))
    file = made.path / "results.jsonl"
    spoiled = file.read_bytes()
    file.unlink()
    file.symlink_to("/dev/full")
    with pytest.raises(ReplayFailed, match="make room on the disk"):
        made.add(a_result(1))
    file.unlink()
    file.write_bytes(spoiled + b'{"place": 1, "req\n' + a_result(2).model_dump_json().encode() + b"\n")
    assert set(made.results()) == {0, 2}


def test_one_process_works_on_a_replay_at_a_time(replays):
    made = replays.new(*OPTIONS, map(an_original, range(3)))
    with made.working(), pytest.raises(ReplayFailed, match="another process works on replay"), made.working():
        pass
    late = replays.unfinished(*OPTIONS)
    made.finish()
    with pytest.raises(ReplayFailed, match="has just finished"), late.working():
        pass


def test_text_is_its_owners_alone_and_goes_when_the_replay_is_finished(replays):
    made = replays.new(*OPTIONS, map(an_original, range(3)))
    made.add(a_result(0))
    assert (made.path / "requests.jsonl").stat().st_mode & 0o077 == 0
    assert made.path.stat().st_mode & 0o077 == 0
    made.finish()
    assert sorted(os.listdir(made.path)) == ["lock", "replay.json"]


def test_text_that_a_kill_left_behind_is_removed_by_the_next_replay_and_work_under_way_is_not(replays):
    unplanned, finished, working = (replays.new(*OPTIONS[:3], limit, iter([an_original(0)])) for limit in (1, 2, 3))
    (unplanned.path / "replay.json").unlink()
    text = (finished.path / "requests.jsonl").read_bytes()
    finished.finish()
    (finished.path / "requests.jsonl").write_bytes(text)
    with working.working():
        (working.path / "replay.json").rename(working.path / "aside")
        replays.tidy()
    (working.path / "aside").rename(working.path / "replay.json")
    replays.tidy()
    assert not unplanned.path.exists()
    assert not (finished.path / "requests.jsonl").exists()
    assert [original.request_id for original in working.originals()] == ["r0"]


def test_a_plan_that_can_not_be_read_is_named(replays):
    made = replays.new(*OPTIONS, iter([an_original(0)]))
    (made.path / "replay.json").write_text("{")
    with pytest.raises(ReplayFailed, match=r"replay\.json can't be read"):
        replays.unfinished(*OPTIONS)
