"""Guardrails over history: what they would have done, told by request and by requester, with the code that the workers run."""

import json
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.errors import AnalysisException
from typer.testing import CliRunner

from jobs import backtest
from jobs.backtest import BacktestFailed, Changed, Report, RuleRate, judged_row
from pipeline import cli
from pipeline.cli.backtest import _print
from pipeline.core.guardrails import compile_rules, done_here
from pipeline.endpoints import GuardrailParameters, Guardrails

MAIL = "alice@example.com"


def rules(**parameters):
    return compile_rules(GuardrailParameters.model_validate(parameters) if parameters else None)


def a_row(question, answer="fine", status=200, ran=()):
    body = {"choices": [{"message": {"content": answer}}]}
    return {
        "request_id": "r", "timestamp_ms": 1, "requester": MAIL, "status_code": status, "finish": "ok",
        "request": json.dumps({"messages": [{"role": "user", "content": question}]}), "response": json.dumps(body),
        "guardrails": [{"assessment_type": kind, "direction": side, "result": result} for kind, side, result in ran],
    }  # fmt: skip


def test_each_rule_is_tried_alone_and_the_worst_result_counts():
    judged = judged_row(a_row(f"password of {MAIL}"), rules(pii={"behavior": "MASK"}, invalid_keywords=["password"]), rules())
    assert judged["findings"] == [{"rule": "input PII", "result": "MASKED"}, {"rule": "input KEYWORD", "result": "BLOCKED"}]
    assert (judged["was"], judged["would"], judged["delivered"]) == ("PASSED", "BLOCKED", True)


def test_what_was_masked_when_it_was_logged_is_taken_to_be_found_again():
    row = a_row("write to [REDACTED]", ran=[("PII", "input", "MASKED")])
    judged = judged_row(row, rules(pii={"behavior": "BLOCK"}), rules())
    assert (judged["was"], judged["would"], judged["assumed"]) == ("MASKED", "BLOCKED", True)
    assert judged_row(row, rules(invalid_keywords=["x"]), rules())["would"] == "PASSED"


def test_only_answers_are_looked_at_not_errors():
    blocked = a_row("hello", answer=MAIL, status=400, ran=[("KEYWORD", "input", "BLOCKED")])
    assert judged_row(blocked, rules(), rules(pii={"behavior": "BLOCK"}))["findings"] == []


def test_a_delivered_answer_is_examined_where_the_request_has_no_text():
    row = a_row("hello", answer=MAIL) | {"request": None}
    judged = judged_row(row, rules(invalid_keywords=["hello"]), rules(pii={"behavior": "BLOCK"}))
    assert judged["findings"] == [{"rule": "output PII", "result": "BLOCKED"}]
    assert (judged["input"], judged["output"], judged["would"]) == ("NO_TEXT", "EXAMINED", "BLOCKED")


def test_a_delivered_answer_without_text_is_counted_and_an_error_is_not():
    after = rules(pii={"behavior": "BLOCK"})
    assert judged_row(a_row("hello") | {"response": None}, rules(), after)["output"] == "NO_TEXT"
    assert judged_row(a_row("hello", status=502) | {"response": None}, rules(), after)["output"] == "NOTHING"


ODD = {
    "no JSON": "hello", "null": "null", "a list": '["hello"]', "a number": "5", "nothing": "", "a lone surrogate": '"\ud800"',
    "deep": '{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}",
}  # fmt: skip


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_an_odd_request_counts_as_not_checked_and_its_answer_is_examined(text):
    judged = judged_row(a_row("") | {"request": text}, rules(invalid_keywords=["hello"]), rules(invalid_keywords=["fine"]))
    assert (judged["input"], judged["output"], judged["would"]) == ("NOT_CHECKED", "EXAMINED", "BLOCKED")
    assert judged["findings"] == [{"rule": "output KEYWORD", "result": "BLOCKED"}]


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_an_odd_answer_counts_as_not_checked_and_its_request_is_examined(text):
    judged = judged_row(a_row("hello") | {"response": text}, rules(invalid_keywords=["hello"]), rules(invalid_keywords=["fine"]))
    assert (judged["input"], judged["output"], judged["would"]) == ("EXAMINED", "NOT_CHECKED", "BLOCKED")


@pytest.mark.parametrize("failure", [TypeError, RecursionError, MemoryError])
def test_whatever_the_examination_of_a_body_raises_is_counted(monkeypatch, failure):
    def examine(rules, body, direction, clock_s):
        if body.get("odd"):
            raise failure
        return real(rules, body, direction, clock_s)

    real = backtest.examine
    monkeypatch.setattr(backtest, "examine", examine)
    row = a_row("") | {"request": '{"odd": true}'}
    judged = judged_row(row, rules(pii={"behavior": "MASK"}), rules(invalid_keywords=["fine"]))
    assert (judged["input"], judged["output"], judged["would"]) == ("NOT_CHECKED", "EXAMINED", "BLOCKED")


def test_a_role_that_is_an_object_ends_nothing():
    row = a_row("") | {"request": json.dumps({"messages": [{"role": {"a": 1}, "content": "hello"}]})}
    judged = judged_row(row, rules(pii={"behavior": "MASK"}, valid_topics=["cooking"]), rules(invalid_keywords=["fine"]))
    assert (judged["output"], judged["would"]) == ("EXAMINED", "BLOCKED")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["messages", "role", "content", "choices", "prompt", "x"]), inner)
    ),
    max_leaves=15,
)
RUN = st.fixed_dictionaries(
    {
        "assessment_type": st.sampled_from(["PII", "KEYWORD", None]),
        "direction": st.sampled_from(["input", "output", None]),
        "result": st.sampled_from(["PASSED", "MASKED", "BLOCKED", "UNCHECKED", None]),
    }
)


@given(
    request=st.none() | JSON.map(json.dumps) | st.text(max_size=10),
    response=st.none() | JSON.map(json.dumps) | st.text(max_size=10),
    status=st.sampled_from([200, 400, 503, None, float("nan")]),
    finish=st.sampled_from(["ok", "blocked", "failed", None]),
    ran=st.none() | st.lists(st.none() | RUN, max_size=3),
)
def test_no_row_ends_the_backtest(request, response, status, finish, ran):
    row = {"request_id": "r", "timestamp_ms": 1, "requester": None, "status_code": status, "finish": finish, "guardrails": ran}
    both = rules(pii={"behavior": "MASK"}, invalid_keywords=["x"])
    judged = judged_row(row | {"request": request, "response": response}, both, both)
    assert list(judged) == list(backtest._JUDGED)
    assert judged["requester"] == ""
    assert {judged["was"], judged["would"]} <= {"PASSED", "MASKED", "BLOCKED"}


def test_what_it_came_to_then_is_told_by_finish_and_by_what_masked():
    def was(finish, *ran):
        return judged_row(a_row("hello", status=503, ran=ran) | {"finish": finish}, rules(), rules())["was"]

    assert was("blocked", ("KEYWORD", "input", "BLOCKED")) == "BLOCKED"
    assert was("blocked") == "BLOCKED"
    # An engine that failed stopped the request: no guardrail did.
    assert was("failed", ("SAFETY", "input", "BLOCKED")) == "PASSED"
    assert was("failed", ("PII", "input", "MASKED"), ("SAFETY", "input", "BLOCKED")) == "MASKED"
    assert was(None, ("PII", "input", "MASKED")) == "MASKED"


def test_a_failed_engine_found_no_personal_data():
    row = a_row("hello", status=503, ran=[("PII", "input", "BLOCKED")]) | {"finish": "failed"}
    judged = judged_row(row, rules(pii={"behavior": "BLOCK"}), rules())
    assert (judged["would"], judged["assumed"], judged["masked"]) == ("PASSED", False, False)


def test_what_can_t_be_examined_is_taken_to_come_to_what_it_came_to_then():
    masked = a_row("x", ran=[("PII", "input", "MASKED")]) | {"request": None}
    assert judged_row(masked, rules(pii={"behavior": "MASK"}), rules())["would"] == "MASKED"
    # Whoever forbids nothing there lets it pass.
    assert judged_row(masked, rules(), rules(invalid_keywords=["x"]))["would"] == "PASSED"
    stopped = a_row("hello", status=400, ran=[("KEYWORD", "output", "BLOCKED")]) | {"finish": "blocked"}
    assert judged_row(stopped, rules(), rules(invalid_keywords=["x"]))["would"] == "BLOCKED"
    assert judged_row(stopped, rules(invalid_keywords=["x"]), rules())["would"] == "PASSED"


def test_a_side_whose_engine_fails_now_is_taken_to_come_to_what_it_came_to_then(monkeypatch):
    def fails(work):
        if "hello" in work.texts:
            raise OSError
        return done_here(work)

    monkeypatch.setattr(backtest, "_do", fails)
    both = rules(invalid_keywords=["x"])
    of_input = a_row("hello", ran=[("PII", "input", "MASKED")])
    judged = judged_row(of_input, both, both)
    assert judged["findings"] == [{"rule": "input KEYWORD", "result": "UNCHECKED"}, {"rule": "output KEYWORD", "result": "PASSED"}]
    assert judged["would"] == "MASKED"
    assert judged_row(a_row("hello", ran=[("PII", "output", "MASKED")]), both, both)["would"] == "PASSED"


def test_rows_that_were_masked_are_counted_whatever_the_new_rules_look_for():
    row = a_row("the word [REDACTED]", ran=[("PII", "input", "MASKED")])
    assert judged_row(row, rules(invalid_keywords=["x"]), rules())["masked"] is True
    assert judged_row(a_row("the word"), rules(invalid_keywords=["x"]), rules())["masked"] is False


@pytest.mark.parametrize(
    "request_body, response_body",
    [
        ({"prompt": f"write to {MAIL}"}, {"object": "text_completion", "choices": [{"index": 0, "text": f"{MAIL} it is"}]}),
        ({"prompt": ["hello", f"write to {MAIL}"]}, {"choices": [{"text": "no"}, {"text": f"{MAIL} it is"}]}),
    ],
)
def test_completions_are_examined(request_body, response_body):
    row = a_row("") | {"request": json.dumps(request_body), "response": json.dumps(response_body)}
    judged = judged_row(row, rules(pii={"behavior": "MASK"}), rules(pii={"behavior": "BLOCK"}))
    assert judged["findings"] == [{"rule": "input PII", "result": "MASKED"}, {"rule": "output PII", "result": "BLOCKED"}]


@pytest.mark.parametrize("given_input", [f"write to {MAIL}", ["hello", f"write to {MAIL}"]])
def test_embeddings_are_examined(given_input):
    answer = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}], "model": "small"}
    row = a_row("") | {"request": json.dumps({"input": given_input}), "response": json.dumps(answer)}
    judged = judged_row(row, rules(pii={"behavior": "MASK"}, valid_topics=["cooking"]), rules(pii={"behavior": "BLOCK"}))
    assert {f["rule"]: f["result"] for f in judged["findings"]} == {
        "input PII": "MASKED", "input TOPIC": "BLOCKED", "output PII": "PASSED",
    }  # fmt: skip
    assert (judged["input"], judged["output"]) == ("EXAMINED", "EXAMINED")


class History:
    """A session whose tables keep the condition they are asked with, and then can't be read."""

    def __init__(self):
        self.conf = self
        self.condition = None

    def set(self, name, value):
        pass

    def table(self, name):
        return self

    def where(self, condition):
        self.condition = condition
        raise AnalysisException("enough")


def looked_at(monkeypatch, endpoint, rows):
    """Which of `rows` (id, time, endpoint, finish, guardrails, attempts) `run` looks at. SQLite reads the condition as Spark does."""
    history = History()
    monkeypatch.setattr(backtest, "spark_session", lambda settings: history)
    with pytest.raises(BacktestFailed, match="a.b.c_request_response"):
        backtest.run("a.b.c", endpoint, Guardrails(), days=7, now_ms=8 * backtest.DAY_MS, settings=None)
    database = sqlite3.connect(":memory:")
    database.create_function("size", 1, lambda value: None if value is None else len(json.loads(value)))
    database.execute("CREATE TABLE history (request_id, timestamp_ms, endpoint_name, finish, guardrails, attempts)")
    listed = [[*row[:4], *(None if part is None else json.dumps(part) for part in row[4:])] for row in rows]
    database.executemany("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)", listed)
    return [found for (found,) in database.execute(f"SELECT request_id FROM history WHERE {history.condition}")]  # noqa: S608


def test_only_the_endpoint_s_rows_of_these_days_are_looked_at(monkeypatch):
    now = 2 * backtest.DAY_MS
    rows = [("mine", now, "one", "ok", [], []), ("other's", now, "two", "ok", [], []), ("old", backtest.DAY_MS - 1, "one", "ok", [], [])]
    assert looked_at(monkeypatch, "one", rows) == ["mine"]
    assert looked_at(monkeypatch, "two", rows) == ["other's"]


def test_only_rows_that_no_guardrail_saw_are_left_out(monkeypatch):
    now, run, call = 2 * backtest.DAY_MS, [{"result": "PASSED"}], [{"status_code": 429}]
    columns = {
        "over a limit": ("refused", [], []), "bad input": ("rejected", [], []), "older and over a limit": ("refused", None, None),
        "older": (None, None, None), "older, served": (None, [], call), "served": ("ok", run, call), "no rules": ("ok", [], []),
        "the provider's 429": ("refused", [], call), "the provider's 400": ("rejected", run, call), "it passed": ("rejected", run, []),
        "blocked": ("blocked", run, []), "failed": ("failed", [], []),
    }  # fmt: skip
    left = {"over a limit", "bad input", "older and over a limit"}
    found = looked_at(monkeypatch, "one", [(name, now, "one", *row) for name, row in columns.items()])
    assert set(columns) - set(found) == left


@pytest.mark.parametrize("endpoint", ["it's", "a' OR 'a' = 'a", "", "one\n", "a\\"])
def test_a_name_that_no_endpoint_can_have_never_reaches_the_query(monkeypatch, endpoint):
    history = History()
    monkeypatch.setattr(backtest, "spark_session", lambda settings: history)
    with pytest.raises(BacktestFailed, match="no endpoint can have the name"):
        backtest.run("a.b.c", endpoint, Guardrails(), days=7, now_ms=0, settings=None)
    assert history.condition is None


def a_report(**changed):
    figures = {
        "table": "a.b.c", "endpoint": "one", "days": 7, "requests": 9, "without_text": 0, "without_answer": 0,
        "not_checked": {"input": 0, "output": 0}, "masked": 0, "assumed": 0, "rates": [], "changed": [], "stopped": {},
    }  # fmt: skip
    return Report(**figures | changed)


def test_what_looks_like_markup_in_the_data_is_printed_as_it_is(capsys):
    odd = "id[/b]x"
    changed = [Changed(odd, 0, "[red]bob", "PASSED", "BLOCKED", ["input [PII]"], True)]
    _print(a_report(rates=[RuleRate("input [PII]", 1, 1)], changed=changed, stopped={"[/]bob": [odd]}, endpoint="[/i]one"))
    shown = capsys.readouterr().out
    assert shown.count(odd) == 2
    assert all(text in shown for text in ("[red]bob", "[/]bob", "[/i]one", "input [PII]"))


def test_what_could_not_be_examined_is_printed(capsys):
    _print(a_report())
    assert not any(word in capsys.readouterr().out for word in ("no text", "could not be", "lost"))
    _print(a_report(without_text=2, without_answer=3, not_checked={"input": 4, "output": 5}, masked=6, assumed=1))
    shown = capsys.readouterr().out
    assert "9 requests to one of the last 7 days in a.b.c" in shown
    assert "2 of them have no text in the table" in shown
    assert "3 answers that were delivered have no text" in shown
    assert "4 requests could not be read" in shown and "5 answers could not be read" in shown
    assert (
        "6 were masked" in shown and "personal data of 1 (assumed)" in shown and "keywords and topics in the masked parts are lost" in shown
    )


def test_the_command_names_the_endpoint_where_the_table_is_given_too(monkeypatch, tmp_path):
    asked = []

    def run(table, endpoint, guardrails, **given):
        asked.append((table, endpoint))
        return a_report(endpoint=endpoint)

    monkeypatch.setattr(backtest, "run", run)
    file = tmp_path / "guardrails.json"
    file.write_text(json.dumps({"input": {"safety": True}}))
    words = ["backtest", "two", "--guardrails", str(file), "--table", "a.b.c", "--data", str(tmp_path), "--format", "json"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    assert asked == [("a.b.c", "two")]
    assert json.loads(done.stdout)["endpoint"] == "two"


@pytest.mark.stack
@pytest.mark.timeout(240)
def test_last_week_s_requests_are_examined_from_the_command_line(stack, tmp_path):
    name = "backtested"
    table = {"catalog_name": "backtest", "schema_name": "tests", "table_name_prefix": "week", "enabled": True}
    limits = [{"calls": 6, "renewal_period": "hour"}]
    entity = stack.entity("echo")
    stack.create_endpoint(name, {"inference_table_config": table, "rate_limits": limits}, entities=[entity])
    ids = {}
    texts = {
        "mail": f"write to {MAIL}", "name": "Yesterday Robert Miller met my sister.", "word": "a forbidden word", "plain": "hello there",
        "threat": "I will kill you and your whole family tonight", "card": "my card is 4111 1111 1111 1111", "refused": f"{MAIL} again",
    }  # fmt: skip
    with stack.http(stack.token("bob@example.com")) as client:
        for kind, text in texts.items():
            answer = client.post(f"/serving-endpoints/{name}/invocations", json={"messages": [{"role": "user", "content": text}]})
            assert answer.status_code == (429 if kind == "refused" else 200)
            ids[answer.headers["x-request-id"]] = kind
    stack.wait_rows("backtest.tests.week_request_response", len(texts))
    file = tmp_path / "guardrails.yaml"
    wanted = ["PERSON", "EMAIL_ADDRESS", "CREDIT_CARD"]
    guardrails = {
        "input": {"pii": {"behavior": "BLOCK", "entities": wanted}, "invalid_keywords": ["forbidden"]},
        "output": {"safety": True, "pii": {"behavior": "MASK"}},
    }
    file.write_text(json.dumps(guardrails))
    command = [sys.executable, "-m", "pipeline", "backtest", name, "--guardrails", str(file), "--days", "7", "--data", str(stack.data)]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["endpoint"], report["requests"], report["without_text"], report["assumed"]) == (name, 6, 0, 0)
    assert (report["without_answer"], report["not_checked"], report["masked"]) == (0, {"input": 0, "output": 0}, 0)
    rates = {rate["rule"]: (rate["examined"], rate["blocked"], rate["masked"], rate["failed"]) for rate in report["rates"]}
    assert rates == {"input PII": (6, 3, 0, 0), "input KEYWORD": (6, 1, 0, 0), "output PII": (6, 0, 2, 0), "output SAFETY": (6, 1, 0, 0)}
    changed = {ids[one["request_id"]]: (one["was"], one["would"], one["rules"]) for one in report["changed"]}
    assert changed == {
        "mail": ("PASSED", "BLOCKED", ["input PII", "output PII"]),
        "name": ("PASSED", "BLOCKED", ["input PII"]),
        "word": ("PASSED", "BLOCKED", ["input KEYWORD"]),
        "threat": ("PASSED", "BLOCKED", ["output SAFETY"]),
        "card": ("PASSED", "BLOCKED", ["input PII", "output PII"]),
    }
    assert {requester: sorted(map(ids.get, stopped)) for requester, stopped in report["stopped"].items()} == {
        "bob@example.com": ["card", "mail", "name", "threat", "word"]
    }
    shown = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert shown.returncode == 0, shown.stderr
    assert "5 requests would have ended otherwise" in shown.stdout
    assert "bob@example.com" in shown.stdout
