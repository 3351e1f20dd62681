"""What must hold when all is quiet. Each check returns what it found wrong, in words; none repairs or waits.

The limits are checked against a naive count of the same log: one pass, no crash, no replay. A request's row is its first record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import orjson

from pipeline import topics
from pipeline.envelope import from_headers
from pipeline.kafka.partitions import partition_of
from pipeline.worker.out import MARK_HEADER

SIZE_S = {"second": 1, "minute": 60, "hour": 3_600}
Submission = tuple[str, int]


def violations(room: Any) -> list[str]:
    """All of it."""
    answers, pieces = _responses(room)
    admitted, refused, counts = expected_decisions(room)
    rows = _rows(room)
    # An id of which one request is admitted and another refused: both are answered, and the ids' rows are the first's.
    mixed = {request_id for request_id, _ in admitted} & {request_id for request_id, _ in refused}
    return [
        *room.broker.backward_commits,
        *_decisions(room, admitted, refused),
        *_counters(room, counts),
        *_answered(room, answers),
        *_agreement(room, answers, pieces, rows, mixed),
        *_streams(pieces, answers),
        *_calls(room),
        *_dead_letters(room),
    ]


def expected_decisions(room: Any) -> tuple[set[Submission], set[Submission], dict[tuple[Any, ...], int]]:
    """Which requests (id, first append) are to be admitted and which refused, and what the counters say in the end, by counting the
    log once from its beginning."""
    counts: dict[tuple[Any, ...], int] = defaultdict(int)
    sent = {s.place: s for s in room.traffic.sent}
    admitted: set[Submission] = set()
    refused: set[Submission] = set()
    for record in room.broker.records(topics.REQUESTS.name):
        client = sent.get((record.partition, record.offset))
        envelope = from_headers(record.headers)
        if client is not None and not client.readable:
            continue
        if client is not None:
            endpoint, user, revision, request_id = client.endpoint, client.user, client.revision, client.request_id
            appended_ms = client.appended_ms
            if partition_of(endpoint, topics.COUNTED_PARTITIONS) != record.partition:
                continue
        else:
            assert envelope is not None
            endpoint, user, revision, request_id = envelope.endpoint, envelope.user, envelope.revision, envelope.request_id
            appended_ms = envelope.appended_ms
        keys = {}
        for limit in room.traffic.limits_of(endpoint, revision):
            size_s = SIZE_S[limit["renewal_period"]]
            subject = user if limit.get("key") == "user" else ""
            keys[endpoint, subject, size_s, appended_ms // 1000 // size_s] = limit["calls"]
        if endpoint == "unknown" or any(counts[key] >= calls for key, calls in keys.items()):
            refused.add((request_id, appended_ms))
            continue
        for key in keys:
            counts[key] += 1
        admitted.add((request_id, appended_ms))
    return admitted, refused, counts


def _decisions(room: Any, admitted: set[Submission], refused: set[Submission]) -> Iterator[str]:
    was: set[Submission] = set()
    for record in room.broker.records(topics.ADMITTED.name):
        envelope = from_headers(record.headers)
        assert envelope is not None
        was.add((envelope.request_id, envelope.appended_ms))
    if was != admitted:
        yield f"limits: admitted beyond them {sorted(was - admitted)}, wrongly refused {sorted(admitted - was)}"
    no = {
        ((r.key or b"").decode(), orjson.loads(r.value)["timestamp_ms"])
        for r in room.broker.records(topics.RECORDS.name)
        if not any(name == MARK_HEADER for name, _ in r.headers)
    }
    if no != refused:
        yield f"refusals: rows of {sorted(no - refused)} that were to be admitted, none of {sorted(refused - no)}"


def _counters(room: Any, counts: dict[tuple[Any, ...], int]) -> Iterator[str]:
    last: dict[tuple[Any, ...], list[int]] = {}
    for topic, period in ((f"sluice-limits-{period}-changelog", period) for period in SIZE_S):
        for record in room.broker.records(topic):
            subject, (start_s, _) = orjson.loads(record.key)
            endpoint, _, kind, *user = subject.split("\x1f")
            key = endpoint, user[0] if user else "", SIZE_S[period], int(start_s) // SIZE_S[period]
            value = orjson.loads(record.value)
            if key in last and value < last[key]:
                yield f"counters: {record.by} writes {value} for {key} at {record.at_s:.4f} s, where {last[key]} stood"
            last[key] = value
    told = {key: value[0] for key, value in last.items()}
    right = {key: count for key, count in counts.items() if count}
    if told != right:
        yield f"counters: {sorted(told.items() - right.items())} stand in the changelogs, {sorted(right.items() - told.items())} are right"


def _rows(room: Any) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for record in room.broker.records(topics.RECORDS.name):
        rows.setdefault((record.key or b"").decode(), orjson.loads(record.value))
    return rows


def _responses(room: Any) -> tuple[dict[str, list[dict[str, Any]]], dict[tuple[str, str], list[dict[str, Any]]]]:
    """Final answers by id, each with its `partition`; pieces by id and run, in the order of the log."""
    answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
    pieces: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in room.broker.records(topics.RESPONSES.name):
        answer = orjson.loads(record.value) | {"partition": record.partition}
        if answer["request_id"] != (record.key or b"").decode():
            answers[answer["request_id"]].append(answer | {"status_code": -1})
        if "chunk" in answer:
            pieces[answer["request_id"], answer["run_id"]].append(answer)
        else:
            answers[answer["request_id"]].append(answer)
    return answers, pieces


def _answered(room: Any, answers: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for sent in room.traffic.sent:
        if sent.readable and not any(a["partition"] == sent.reply_partition for a in answers.get(sent.request_id, ())):
            yield f"answered: {sent.request_id} ({sent.prompt}) has no answer in partition {sent.reply_partition}"
    known = {sent.request_id for sent in room.traffic.sent if sent.readable}
    for stranger in answers.keys() - known:
        yield f"answered: {stranger} was never asked"


def _agreement(
    room: Any, answers: dict[str, list[dict[str, Any]]], pieces: dict[tuple[str, str], list[dict[str, Any]]],
    rows: dict[str, dict[str, Any]], mixed: set[str],
) -> Iterator[str]:  # fmt: skip
    prompts: dict[str, set[str]] = defaultdict(set)
    for sent in room.traffic.sent:
        prompts[sent.request_id].add(sent.prompt)
    for request_id, given in answers.items():
        row = rows.get(request_id)
        if row is None:
            yield f"row: {request_id} was answered and has none"
            continue
        said = orjson.loads(row["response"] or b"null")
        of_row = row["status_code"], said
        seen = []
        for answer in given:
            status = answer["status_code"]
            if (status == 409 and len(prompts[request_id]) > 1) or request_id in mixed:
                continue
            if "body" in answer:
                seen.append((status, answer["body"]))
            elif answer["run_id"] != row["run_id"]:
                yield f"row: {request_id} was streamed by {answer['run_id']}, its row is of {row['run_id']}"
            else:
                told = "".join(p["chunk"]["choices"][0]["delta"].get("content", "") for p in pieces[request_id, answer["run_id"]])
                if status == 200 and told != said["choices"][0]["message"]["content"]:
                    yield f"row: {request_id} was told {told!r} in pieces, its row says {said}"
                seen.append((status, answer["error"] or said))
            if status == 200 and "body" in answer:
                text = answer["body"]["choices"][0]["message"]["content"]
                if text.split("|")[0] != request_id or text.split("|")[1] not in prompts[request_id]:
                    yield f"strangers: {request_id} was answered {text!r}"
        for one in seen:
            # Two requests under one id may both be refused, each at its own time.
            if one != of_row and (one[0], of_row[0]) != (429, 429):
                yield f"row: {request_id} was answered {one}, its row says {of_row} ({row['run_id']})"


def _streams(pieces: dict[tuple[str, str], list[dict[str, Any]]], answers: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    ends: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for request_id, given in answers.items():
        for answer in given:
            if answer.get("final"):
                ends[request_id, answer["run_id"]].append(answer)
    for run, parts in pieces.items():
        numbers = [p["sequence"] for p in parts]
        if numbers != list(range(len(numbers))):
            yield f"stream: the pieces of {run} are numbered {numbers}"
    for run, given in ends.items():
        # Where the client has gone, its call may be cut off while it hands a piece over that has its number already.
        cut_off = given[0]["status_code"] == 499 and given[0]["sequence"] == len(pieces[run]) + 1
        if len(given) > 1 or (given[0]["sequence"] != len(pieces[run]) and not cut_off):
            yield f"stream: {run} has {len(pieces[run])} pieces and ends {[g['sequence'] for g in given]}"


def _calls(room: Any) -> Iterator[str]:
    for call in room.calls:
        if call.finished_before:
            yield f"calls: {call.process} called for {call.request_id} at {call.at_s:.4f} s, when its record was in the log"


def _dead_letters(room: Any) -> Iterator[str]:
    there = {
        (letter["partition"], letter["offset"]) for r in room.broker.records(topics.DEAD_LETTERS.name) for letter in [orjson.loads(r.value)]
    }
    unreadable = {s.place for s in room.traffic.sent if not s.readable}
    if there != unreadable:
        yield f"dead letters: {sorted(there)} were set aside, {sorted(unreadable)} are no requests"
