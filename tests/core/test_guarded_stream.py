"""A guarded stream releases what examining the whole answer would, holds back little, and stops before what it forbids."""

import json
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.guarded_stream import StreamExamination
from pipeline.core.guarded_text import MOST_WAITING
from pipeline.core.guardrails import EngineFailed, FindKeywords, FindPersonalData, JudgeSafety, compile_rules, done_here, driven, examine
from pipeline.core.pii import MASK, PiiSpan, resolved
from pipeline.core.pii.streams import HOLD
from pipeline.core.safety import SafetyVerdict
from pipeline.core.together import Together
from pipeline.endpoints import GuardrailParameters
from pipeline.errors import GuardrailBlocked, Unavailable

MASKING = {"pii": {"behavior": "MASK"}}
BLOCKING = {"pii": {"behavior": "BLOCK"}}
KEYWORDS = ["blue harbour", "zanzibar", "C++", "密码", "project nine lives"]
VALUES = ["alice@example.com", "4000 0566 5566 5556", "NL91ABNA0417164300", "512-44-8321", "+49 30 901820", "198.51.100.23"]
HARMLESS = [
    "and",
    "then, perhaps",
    "order 4000 0566 5566 5557",
    "\n",
    "version 10.4.2",
    "a blue",
    "harbours",
    "zanzibari",
    "好的",
    "C + 1",
    "nine",
]


def rules_of(**parameters):
    return compile_rules(GuardrailParameters.model_validate(parameters))


def a_chunk(delta=None, *, index=0, reason=None, **more):
    choice = {"index": index, "delta": delta or {}, "finish_reason": reason, **more}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def said(pieces, channel="content", **more):
    return [a_chunk({channel: piece}, **more) for piece in pieces]


def drive(steps, do=done_here):
    try:
        work = next(steps)
        while True:
            try:
                result = do(work)
            except EngineFailed as exc:
                work = steps.throw(exc)
            else:
                work = steps.send(result)
    except StopIteration as end:
        return end.value


def run(rules, chunks, do=done_here):
    """Of each chunk what it released, the end's last; and the examination."""
    examination = StreamExamination(rules, time.perf_counter)
    out = [drive(examination.feed(chunk), do) for chunk in chunks]
    return [*out, drive(examination.finish(), do)], examination


def joined(out, channel="content", index=0):
    return "".join(
        choice["delta"].get(channel) or "" for chunks in out for chunk in chunks for choice in chunk["choices"] if choice["index"] == index
    )


def cut(text, places):
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def whole(rules, text):
    finding = driven(examine(rules, {"choices": [{"message": {"content": text}}]}, "output", time.perf_counter))
    return finding, finding.body["choices"][0]["message"]["content"]


def results(examination):
    return {run.assessment_type: run.result for run in examination.runs}


def details(examination):
    return {a.assessment_type: (a.assessment_result, json.loads(a.assessment_details)) for a in examination.assessments}


@given(st.lists(st.sampled_from([*VALUES, *HARMLESS, *KEYWORDS]), max_size=9), st.sampled_from([" ", ", ", " so "]), st.data())
def test_however_a_text_is_cut_what_comes_out_is_the_whole_text_masked(words, apart, data):
    text = apart.join(words)
    pieces = cut(text, sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12))))
    rules = rules_of(**MASKING, invalid_keywords=KEYWORDS)
    finding, masked = whole(rules, text)
    out, examination = run(rules, said(pieces))
    released = joined(out)
    if finding.error is None:
        assert released == masked
        assert examination.error is None
        assert results(examination) == {run.assessment_type: run.result for run in finding.runs}
        assert details(examination) == {
            a.assessment_type: (a.assessment_result, json.loads(a.assessment_details)) for a in finding.assessments
        }
    else:
        assert examination.error.message == finding.error.message
        first = min(found.start() for k in KEYWORDS for found in re.finditer(rf"(?<!\w){re.escape(k)}(?!\w)", masked))
        assert masked[:first].startswith(released)


@given(st.sampled_from(KEYWORDS), st.data())
def test_nothing_of_a_keyword_goes_out_however_it_is_cut(keyword, data):
    before = data.draw(st.sampled_from(["", "Well, it is ", "A harmless sentence. 好的 "]))
    text = f"{before}{keyword.upper()} and more"
    pieces = cut(text, sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12))))
    out, examination = run(rules_of(invalid_keywords=KEYWORDS), said(pieces))
    assert before.startswith(joined(out))
    assert isinstance(examination.error, GuardrailBlocked)
    verdict = json.loads(examination.error.message)
    assert (verdict["output_guardrail"][0]["invalid_keywords"], verdict["finishReason"]) == (True, "output_guardrail_triggered")
    assert details(examination) == {"KEYWORD": ("BLOCKED", {"keywords": {keyword: 1}, "count": 1})}


@given(st.sampled_from(VALUES), st.data())
def test_nothing_of_a_value_goes_out_where_it_blocks(value, data):
    before = "Well, it is "
    text = f"{before}{value} as I said, and so on and on and on, for more than is held back of any text whatever it may be."
    pieces = cut(text, sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12))))
    out, examination = run(rules_of(**BLOCKING), said(pieces))
    assert before.startswith(joined(out))
    assert examination.error.message == whole(rules_of(**BLOCKING), text)[0].error.message
    ((kind, (result, told)),) = details(examination).items()
    assert (kind, result, sum(told["entities"].values())) == ("PII", "BLOCKED", 1)
    assert results(examination) == {"PII": "BLOCKED"}


@pytest.mark.parametrize("value", VALUES)
def test_no_more_than_promised_is_held_back_and_the_rest_at_once(value):
    text = f"Let me tell you that {value} is it, " * 6 + "and that is all."
    examination = StreamExamination(rules_of(**MASKING), time.perf_counter)
    held = 0
    for piece in text:
        # A mask stands for what it took away, so it ends what was held.
        chunks = drive(examination.feed(a_chunk({"content": piece})))
        released = joined([chunks])
        held = 0 if MASK in released else held + 1 - len(released)
        assert held <= HOLD
    plain = StreamExamination(rules_of(**MASKING, invalid_keywords=["zanzibar"]), time.perf_counter)
    assert joined([drive(plain.feed(a_chunk({"content": "The answer is simple. It "})))]).startswith("The answer is simple.")


@pytest.mark.parametrize("channel", ["content", "refusal", "reasoning", "reasoning_content"])
def test_each_channel_is_guarded(channel):
    out, examination = run(rules_of(**MASKING), said(list("write to alice@example.com now"), channel))
    assert joined(out, channel) == f"write to {MASK} now"
    assert details(examination) == {"PII": ("MASKED", {"entities": {"EMAIL_ADDRESS": 1}})}


def test_choices_and_channels_are_apart_and_counted_together():
    chunks = []
    for left, right in zip(list("mail alice@example.com ok"), list("card 4000 0566 5566 5556x "), strict=False):
        chunks += [a_chunk({"content": left}), a_chunk({"content": right}, index=1)]
    chunks += said(["see 198.51.100.23 there"], "reasoning")
    out, examination = run(rules_of(**MASKING), chunks)
    assert joined(out) == f"mail {MASK} ok"
    assert joined(out, index=1).startswith("card 4000")
    assert joined(out, "reasoning") == f"see {MASK} there"
    assert details(examination)["PII"][1] == {"entities": {"EMAIL_ADDRESS": 1, "IP_ADDRESS": 1}}
    assert len(examination.runs) == 1


def test_a_choice_s_end_comes_after_its_text_and_ends_only_that_choice():
    chunks = [
        a_chunk({"role": "assistant", "content": ""}),
        a_chunk({"content": "mail alice@exam"}),
        a_chunk({"content": "mail bob@exam"}, index=1),
        a_chunk({"content": "ple.com"}, reason="stop"),
        a_chunk({"content": "after the end"}),
        a_chunk({"content": "ple.org"}, index=1),
    ]
    out, _ = run(rules_of(**MASKING), chunks)
    assert out[0][0]["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert out[3][0]["choices"] == [{"index": 0, "delta": {"content": MASK}, "finish_reason": "stop"}]
    assert out[4] == []
    assert out[-1][0]["choices"] == [{"index": 1, "delta": {"content": MASK}, "finish_reason": None}]
    together = Together()
    for chunk in (chunk for several in out for chunk in several):
        together.add(chunk)
    assert [choice["message"]["content"] for choice in together.body({})["choices"]] == [f"mail {MASK}"] * 2


def test_completions_are_guarded():
    def piece(text, reason=None):
        return {
            "id": "c",
            "object": "text_completion",
            "choices": [{"index": 0, "text": text, "finish_reason": reason, "logprobs": {"t": text}}],
        }

    out, _ = run(rules_of(**MASKING), [piece("to alice@exam"), piece("ple.com"), piece("", "length")])
    flat = [choice for chunks in out for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["text"] for choice in flat) == f"to {MASK}"
    assert flat[-1] == {"index": 0, "text": MASK, "finish_reason": "length"}


def calls(*parts, index=0):
    return [{"index": index, "function": {"arguments": part}} for part in parts]


def test_tool_calls_wait_for_the_end_and_come_masked():
    first = {"index": 1, "id": "call_2", "type": "function", "function": {"name": "send", "arguments": '{"to": "ali'}}
    chunks = [a_chunk({"tool_calls": [first]})]
    chunks += [a_chunk({"tool_calls": [call]}) for call in calls('ce@example.com"}', index=1)]
    chunks += [a_chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]})]
    out, examination = run(rules_of(**MASKING), [*chunks, a_chunk(reason="tool_calls")])
    assert out[:3] == [[], [], []]
    (choice,) = out[3][0]["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["delta"]["tool_calls"] == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "send", "arguments": f'{{"to": "{MASK}"}}'}},
    ]
    assert details(examination) == {"PII": ("MASKED", {"entities": {"EMAIL_ADDRESS": 1}})}
    cut_off, _ = run(rules_of(**MASKING), chunks)
    assert cut_off[3][0]["choices"][0]["delta"] == choice["delta"]


@pytest.mark.parametrize("parameters", [BLOCKING, {"invalid_keywords": ["alice"]}])
def test_tool_calls_can_stop_the_stream(parameters):
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "send", "arguments": '{"to": "alice@example.com"}'}}
    out, examination = run(
        rules_of(**parameters), [a_chunk({"content": "Sending. Now. "}), a_chunk({"tool_calls": [call]}, reason="tool_calls")]
    )
    assert isinstance(examination.error, GuardrailBlocked)
    assert "alice" not in json.dumps(out)
    assert [a.assessment_result for a in examination.assessments] == ["BLOCKED"]
    old, examination = run(rules_of(**parameters), [a_chunk({"function_call": {"name": "send", "arguments": "alice@example.com"}})])
    assert (old, isinstance(examination.error, GuardrailBlocked)) == ([[], []], True)


def test_what_would_carry_text_past_the_guardrails_is_dropped_or_looked_at():
    chunk = a_chunk(
        {"content": "all is well ", "annotations": [{"by": "alice@example.com"}], "role": "alice at example dot com"},
        logprobs={"content": [{"token": "alice@example.com"}]}, extra="alice@example.com",
    ) | {"obfuscation": "alice@example.com", "id": "alice@example.com", "model": "m"}  # fmt: skip
    out, _ = run(rules_of(**MASKING), [chunk, a_chunk(reason="alice@example.com")])
    assert "alice" not in json.dumps(out)
    assert out[0][0]["id"] == MASK
    assert joined(out) == "all is well "
    assert [c["choices"][0]["finish_reason"] for chunks in out for c in chunks][-1] == "stop"


def failing(*kinds):
    def do(work):
        if isinstance(work, kinds):
            raise EngineFailed("it hangs")
        return done_here(work)

    return do


ALL = {**MASKING, "invalid_keywords": ["zanzibar"], "safety": True}
FAILURES = [(FindPersonalData, "PII"), (FindKeywords, "KEYWORD"), (JudgeSafety, "SAFETY")]


@pytest.mark.parametrize(("work", "kind"), FAILURES)
def test_an_engine_s_failure_ends_the_stream(work, kind):
    out, examination = run(rules_of(**ALL), said(["The one thing. ", "And the other. ", "So. "]), failing(work))
    assert joined(out) == ""
    assert isinstance(examination.error, Unavailable)
    assert results(examination)[kind] == "BLOCKED"
    assert details(examination) == {kind: ("BLOCKED", {"error": "it hangs"})}
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    out, examination = run(rules_of(**ALL), [a_chunk({"tool_calls": [call]}, reason="stop")], failing(work))
    assert (out, isinstance(examination.error, Unavailable)) == ([[], []], True)


@pytest.mark.parametrize(("work", "kind"), FAILURES)
def test_where_the_endpoint_says_so_the_stream_goes_on_unchecked_and_the_engine_is_left_alone(work, kind):
    asked = []

    def do(what):
        asked.append(type(what))
        return failing(work)(what)

    text = "The one thing. And the other, 198.51.100.23. So it goes on. "
    out, examination = run(replace(rules_of(**ALL), lets_pass=True), said(cut(text, range(5, len(text), 5))), do)
    assert joined(out) == (text if kind == "PII" else text.replace("198.51.100.23", MASK))
    assert examination.error is None
    others = {"PII": "MASKED", "KEYWORD": "PASSED", "SAFETY": "PASSED"}
    assert results(examination) == others | {kind: "UNCHECKED"}
    assert asked.count(work) == 1


SENTENCES = ["The first is fine. ", "Mail alice@example.com, the second says. ", "The third is bad. ", "The fourth never comes. "]


def judge(work):
    if isinstance(work, JudgeSafety):
        bad = "bad" in work.texts[0]
        return SafetyVerdict(bad, {"violent-crimes": bad}, {"violent-crimes": 0.9}, 0.9)
    return done_here(work)


def test_a_sentence_is_judged_before_it_goes_out():
    judged = []

    def do(work):
        if isinstance(work, JudgeSafety):
            judged.append(work.texts[0])
        return judge(work)

    out, examination = run(rules_of(**MASKING, safety=True), said(list("".join(SENTENCES))), do)
    assert joined(out) == f"The first is fine. Mail {MASK}, the second says. "
    assert isinstance(examination.error, GuardrailBlocked)
    assert details(examination)["SAFETY"] == (
        "BLOCKED",
        {"categories": {"violent-crimes": True}, "category_scores": {"violent-crimes": 0.9}},
    )
    # Each sentence once, after those before it, and masked.
    assert [text.count(". ") for text in judged] == [1, 2, 3]
    assert "alice" not in "".join(judged)


def test_the_last_words_are_judged_at_the_end_and_the_context_is_bounded():
    lengths = []

    def do(work):
        if isinstance(work, JudgeSafety):
            lengths.append(len(work.texts[0]))
        return judge(work)

    out, examination = run(rules_of(safety=True), said(["All is well here. "] * 200 + ["and this is bad"]), do)
    assert joined(out) == "All is well here. " * 200
    assert isinstance(examination.error, GuardrailBlocked)
    assert max(lengths) <= 1_000 + 2 * MOST_WAITING


@pytest.mark.parametrize("text", ["word " * 400, "x" * 3_000, "a sentence of some words, " * 80])
def test_what_is_no_sentence_waits_only_so_long(text):
    out, fed, longest = 0, 0, 0
    examination = StreamExamination(rules_of(safety=True), time.perf_counter)
    for piece in cut(text, range(7, len(text), 7)):
        out += len(joined([drive(examination.feed(a_chunk({"content": piece})), judge)]))
        fed += len(piece)
        longest = max(longest, fed - out)
    assert longest <= MOST_WAITING
    assert out + len(joined([drive(examination.finish(), judge)])) == len(text)


def find_names(work):
    if not isinstance(work, FindPersonalData) or not work.by_model:
        return judge(work)
    (text,) = work.texts
    names = ["Ada F. Example", "Ada F.", "Bob Sample", "REDACTED"]
    return resolved(
        PiiSpan(0, text.find(name), text.find(name) + len(name), "PERSON", 0.8) for name in names if name in text
    )  # fmt: skip


WITH_NAMES = {"pii": {"behavior": "MASK", "entities": ["PERSON", "EMAIL_ADDRESS"]}, "safety": True}


@given(st.lists(st.integers(0, 83), max_size=10))
def test_names_are_looked_for_in_whole_sentences(places):
    text = "I saw Ada F. Example and wrote to alice@example.com. Then came Bob Sample\nand left."
    judged = []

    def do(work):
        judged.extend(work.texts if isinstance(work, JudgeSafety) else ())
        return find_names(work)

    out, examination = run(rules_of(**WITH_NAMES), said(cut(text, sorted(places))), do)
    assert joined(out) == f"I saw {MASK} and wrote to {MASK}. Then came {MASK}\nand left."
    assert details(examination)["PII"] == ("MASKED", {"entities": {"EMAIL_ADDRESS": 1, "PERSON": 2}})
    assert not any(name in text for text in judged for name in ("Ada", "Example", "Bob"))


def test_a_name_blocks_before_it_goes_out():
    rules = rules_of(pii={"behavior": "BLOCK", "entities": ["PERSON"]})
    out, examination = run(rules, said(list("All is well. And Bob Sample is here. Is he?")), find_names)
    assert joined(out) == "All is well. "
    assert details(examination) == {"PII": ("BLOCKED", {"entities": {"PERSON": 1}})}


def test_an_empty_stream_has_run_everything():
    out, examination = run(rules_of(**ALL), [a_chunk({"role": "assistant"}), a_chunk(reason="stop")])
    assert [c["choices"][0]["finish_reason"] for chunks in out for c in chunks] == [None, "stop"]
    assert results(examination) == {"PII": "PASSED", "KEYWORD": "PASSED", "SAFETY": "PASSED"}


def test_after_an_error_nothing_goes_out_any_more():
    rules = rules_of(invalid_keywords=["zanzibar"])
    out, examination = run(rules, said(["to zanzibar ", "and home ", "again "]) + said(["other "], index=1))
    assert joined(out) == "" and joined(out, index=1) == ""
    assert out[-1] == []
    assert results(examination) == {"KEYWORD": "BLOCKED"}


def test_after_an_error_no_other_engine_is_asked():
    asked = []

    def do(work):
        asked.append(type(work))
        return done_here(work)

    out, examination = run(rules_of(**ALL), said(["hello zanzibar"]), do)
    assert isinstance(examination.error, GuardrailBlocked)
    assert joined(out) == ""
    assert asked[-1] is FindKeywords
