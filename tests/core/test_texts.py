"""Every text of a body is looked at and can be replaced, and nothing else of the body changes."""

import copy
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.pii import MASK, detect, mask
from pipeline.core.texts import BodyTexts, texts_of_answer, texts_of_request

SECRET = "alice@example.com"


def call(arguments: str) -> dict:
    return {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}


def tool(**function: object) -> dict:
    return {"messages": [], "tools": [{"type": "function", "function": {"name": "f"} | function}]}


PLACES = {
    "a message": {"messages": [{"role": "user", "content": SECRET}]},
    "the system prompt": {"messages": [{"role": "system", "content": f"You serve {SECRET}"}, {"role": "user", "content": "hi"}]},
    "a name": {"messages": [{"role": "user", "name": SECRET, "content": "hi"}]},
    "the second part": {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": SECRET}]}]},
    "a tool call's arguments": {"messages": [call(json.dumps({"a": [SECRET]}))]},
    "escaped in arguments": {"messages": [call('{"a": "alice\\u0040example.com"}')]},
    "a key of the arguments": {"messages": [call(json.dumps({SECRET: 1}))]},
    "arguments that are no JSON": {"messages": [call('{"a": "' + SECRET)]},
    "arguments with a name twice": {"messages": [call('{"a": "' + SECRET + '", "a": 1}')]},
    "under a name that steers elsewhere": {"messages": [call(json.dumps({"type": SECRET}))]},
    "a tool's result": {"messages": [{"role": "tool", "tool_call_id": "c", "content": json.dumps({"mail": SECRET})}]},
    "a tool call's id": {"messages": [{"role": "tool", "tool_call_id": SECRET, "content": "done"}]},
    "a tool's description": tool(description=SECRET),
    "a parameter's name": tool(parameters={"properties": {SECRET: {"type": "string"}}}),
    "a parameter called type": tool(parameters={"properties": {"type": {"description": SECRET}}}),
    "reasoning": {"messages": [{"role": "assistant", "content": "hi", "reasoning_content": SECRET}]},
    "a link": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"https://example.com/?u={SECRET}"}}]}]},
    "a prompt": {"prompt": SECRET},
    "one of several prompts": {"prompt": ["hi", SECRET]},
    "an embedding's input": {"input": ["hi", SECRET]},
    "the user field": {"messages": [], "user": SECRET},
    "metadata": {"messages": [], "metadata": {SECRET: "x"}},
    "a stop sequence": {"messages": [], "stop": [SECRET]},
    "a schema for the answer": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "description": SECRET}}},
    "a field of answers, in a request": {"messages": [{"role": "user", "content": "hi", "logprobs": {"a": SECRET}, "usage": SECRET}]},
    "behind the sign of a picture": {"messages": [{"role": "user", "content": f"data:image/png;base64,{SECRET}"}]},
    "a picture that is none": {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'QUFB' * 20},{SECRET}"}}]}]},
    "sound that is none": {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": SECRET}}]}]},
    "a role": {"messages": [{"role": SECRET, "content": "hi"}]},
    "a type": {"messages": [{"role": "user", "content": [{"type": SECRET, "text": "hi"}]}]},
    "a tool's choice": {"messages": [], "tool_choice": f"not {SECRET}"},
    "a field's name": {"messages": [{"role": "user", "content": "hi", SECRET: 1}]},
    "a name of the body": {"messages": [], SECRET: "hi"},
    "arguments in arguments": {"messages": [call(json.dumps({"a": json.dumps({"b": SECRET})}))]},
    "a field nobody knows": {"messages": [], "x_new": {"y": [{"z": SECRET}]}},
}  # fmt: skip
ANSWERS = {
    "a choice": {"choices": [{"message": {"role": "assistant", "content": SECRET}}]},
    "the second choice": {"choices": [{"message": {"content": "hi"}}, {"message": {"content": SECRET}}]},
    "a refusal": {"choices": [{"message": {"refusal": f"not to {SECRET}"}}]},
    "reasoning": {"choices": [{"message": {"content": "hi", "reasoning_content": SECRET}}]},
    "arguments": {"choices": [{"message": call(json.dumps({"to": SECRET}))}]},
    "a completion": {"choices": [{"text": SECRET}]},
    "a transcript": {"choices": [{"message": {"audio": {"id": "a", "transcript": SECRET}}}]},
    "an id": {"choices": [{"message": {"content": "hi", "id": SECRET}}]},
    "a usage that counts nothing": {"choices": [], "x": {"usage": SECRET}},
    "an embedding that is none": {"data": [{"object": "embedding", "embedding": [0.5, SECRET]}]},
    "an embedding of text": {"data": [{"object": "embedding", "embedding": SECRET}]},
    "a finish": {"choices": [{"message": {"content": "hi"}, "finish_reason": SECRET}]},
    "a model": {"model": SECRET, "choices": []},
    "a creation": {"created": SECRET, "choices": []},
    "an object": {"choices": [{"message": {"content": "hi", "x": [{SECRET: 1}]}}]},
    "log probabilities": {"choices": [{"message": {"content": "hi"}, "logprobs": {"content": [
        {"token": "hi ali", "logprob": -1.0}, {"token": "ce@exam", "logprob": -1.0}, {"token": "ple.com", "logprob": -1.0}]}}],
        "x": SECRET},
    "a citation": {"choices": [{"message": {"content": "hi"}}], "citations": [f"https://example.com/{SECRET}"]},
}  # fmt: skip


def masked(texts: BodyTexts) -> dict:
    return texts.replaced(mask(texts.texts, detect(texts.texts, sequences=texts.sequences)))


@pytest.mark.parametrize("place", PLACES)
def test_personal_data_is_masked_wherever_it_stands_in_a_request(place):
    body = copy.deepcopy(PLACES[place])
    cleaned = masked(texts_of_request(body))
    assert body == PLACES[place], "the body was changed in place"
    assert "alice" not in json.dumps(cleaned)
    assert MASK in json.dumps(cleaned)


@pytest.mark.parametrize("place", ANSWERS)
def test_personal_data_is_masked_wherever_it_stands_in_an_answer(place):
    body = {"id": "x", "object": "chat.completion", "usage": {"total_tokens": 12345678}} | ANSWERS[place]
    cleaned = masked(texts_of_answer(body))
    assert "alice" not in json.dumps(cleaned)
    assert MASK in json.dumps(cleaned)
    assert cleaned["usage"] == body["usage"]


def test_arguments_stay_json_though_a_number_in_them_is_masked():
    arguments = json.dumps(
        {"card": 4000056655665556, "card_number": "4000056655665556", "account_number": 123456789012, "n": 3, "ok": True}
    )
    body = {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "pay", "arguments": arguments}}]}]}
    cleaned = masked(texts_of_request(body))["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(cleaned) == {"card": MASK, "card_number": MASK, "account_number": MASK, "n": 3, "ok": True}


def test_two_names_that_are_both_masked_keep_both_values():
    body = {"messages": [{"role": "tool", "content": json.dumps({"a@example.com": 1, "b@example.com": 2})}]}
    cleaned = json.loads(masked(texts_of_request(body))["messages"][0]["content"])
    assert cleaned == {MASK: 1, f"{MASK} 2": 2}


def test_log_probabilities_do_not_outlive_the_text_they_spell():
    spelled = {"content": [{"token": "alice", "logprob": -1.0, "top_logprobs": []}]}
    choices = [{"message": {"content": SECRET}, "logprobs": spelled}, {"message": {"content": "hi"}, "logprobs": spelled}]
    cleaned = masked(texts_of_answer({"choices": choices}))["choices"]
    assert cleaned[0] == {"message": {"content": MASK}, "logprobs": None}
    assert cleaned[1] == choices[1]


def test_a_value_split_over_parts_messages_or_one_side_s_turns_is_masked():
    parts = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "it is alice.b@exa"}, {"type": "text", "text": "mple.com"}]}]
    }
    turns = {"messages": [
        {"role": "user", "name": "bob", "content": "first half: 4000 0566"}, {"role": "assistant", "content": "and the rest?"},
        {"role": "user", "name": "bob", "content": "5566 5556"},
    ]}  # fmt: skip
    assert masked(texts_of_request(parts))["messages"][0]["content"] == [
        {"type": "text", "text": f"it is {MASK}"},
        {"type": "text", "text": MASK},
    ]
    assert [m["content"] for m in masked(texts_of_request(turns))["messages"]] == [f"first half: {MASK}", "and the rest?", MASK]


def test_choices_are_not_read_as_one_text():
    body = {"choices": [{"message": {"content": "4000 0566"}}, {"message": {"content": "5566 5556"}}]}
    assert masked(texts_of_answer(body)) is body


def test_pictures_and_what_steers_the_protocol_are_no_texts():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUFB" * 1000, "detail": "high"}}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": [picture, {"type": "text", "text": "hi"}]}],
        "temperature": 1,
        "stream": False,
    }
    assert texts_of_request(body).texts == ("hi",)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["messages", "prompt", "input", "tools", "x"]), json_values), st.data())
def test_only_the_replaced_texts_change(body, data):
    found = texts_of_request(body)
    assert found.replaced(found.texts) is body
    if found.texts:
        place = data.draw(st.integers(0, len(found.texts) - 1))
        new = [text if n != place else "changed ¶" for n, text in enumerate(found.texts)]
        changed = found.replaced(new)
        assert sorted(texts_of_request(changed).texts) == sorted(new)
        assert texts_of_request(body).texts == found.texts


def arguments_of(body: dict) -> str:
    return body["messages"][0]["tool_calls"][0]["function"]["arguments"]


SPELLED = [
    {"token": "ali", "logprob": -1.0},
    {"token": "ce@exam", "logprob": -1.0, "top_logprobs": [{"token": "ce"}]},
    {"token": "ple.com"},
]


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": "fine"}, "logprobs": {"content": SPELLED}},
        {"message": {"content": "fine", "logprobs": {"content": SPELLED}}},
        {"text": "fine", "logprobs": {"tokens": ["alice", "@example", ".com"], "token_logprobs": [-1.0, -1.0, -1.0]}},
        {"text": "fine", "logprobs": {"tokens": ["fine"], "top_logprobs": [{SECRET: -1.0}]}},
        {"message": {"content": "fine"}, "logprobs": {"content": [{"token": "fine", "top_logprobs": [{"token": SECRET}]}]}},
        {"message": {"content": "fine"}, "logprobs": [{"note": SECRET}]},
    ],
)
def test_what_only_log_probabilities_spell_is_looked_at_and_goes(choice):
    kept = {"message": {"content": "fine"}, "logprobs": {"content": [{"token": "fine", "logprob": -1.0}]}}
    cleaned = masked(texts_of_answer({"choices": [choice, kept]}))["choices"]
    assert "fine" in json.dumps(cleaned[0])
    assert "ali" not in json.dumps(cleaned[0])
    assert cleaned[1] == kept


def test_log_probabilities_at_any_depth_go_with_a_masked_text_and_are_no_text_where_they_repeat_it():
    body = {"choices": [{"message": {"content": SECRET, "logprobs": {"content": SPELLED}, "x": [{"top_logprobs": SPELLED}]}}]}
    before = copy.deepcopy(body)
    found = texts_of_answer({"choices": [{"message": {"content": SECRET}, "logprobs": {"content": [{"token": SECRET}]}}]})
    assert found.texts == (SECRET,)
    assert masked(texts_of_answer(body))["choices"] == [{"message": {"content": MASK, "logprobs": None, "x": [{"top_logprobs": None}]}}]
    assert body == before


def test_what_a_request_repeats_of_an_answer_s_log_probabilities_goes_too():
    body = {"messages": [{"role": "assistant", "content": "fine", "logprobs": {"content": SPELLED}}]}
    assert masked(texts_of_request(body)) == {"messages": [{"role": "assistant", "content": "fine", "logprobs": None}]}


def test_counts_embeddings_and_ids_of_an_answer_are_no_texts():
    vector = {"object": "embedding", "index": 0, "embedding": [0.25, -1, 4000056655665556]}
    packed = {"object": "embedding", "index": 1, "embedding": "QUJD" * 100}
    body = {"id": "chatcmpl-4155552671", "object": "list", "created": 1764000000, "model": "m/x-2.5:free", "data": [vector, packed],
            "usage": {"prompt_tokens": 4000056655665556, "details": {"cached_tokens": 12345678}}}  # fmt: skip
    assert texts_of_answer(body).texts == ()
    assert texts_of_answer({"usage": {"note": "hi there"}}).texts == ("hi there",)


def test_one_word_steers_only_at_its_place():
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "tool_choice": "auto", "service_tier": "default"}
    assert texts_of_request(body).texts == ("hi",)
    body = {"messages": [{"role": "512-44-8321", "content": "hi", "finish_reason": "password"}], "x": {"type": "password"}}
    assert texts_of_request(body).texts == ("512-44-8321", "hi", "password", "password")


def test_ids_stay_what_they_are_so_that_results_belong_to_their_calls():
    calls = [{"id": f"call_415555267{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(2)]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": SECRET} for call in calls]
    body = {"messages": [{"role": "assistant", "tool_calls": calls}, *results], "previous_response_id": "resp_4155552671"}
    cleaned = masked(texts_of_request(body | {"tools": []}))
    assert cleaned["messages"] == [body["messages"][0], *(result | {"content": MASK} for result in results)]
    assert "resp_4155552671" not in texts_of_request(body).texts
    # An argument of that name is the caller's.
    assert "call_4155552671" in texts_of_request({"messages": [call('{"id": "call_4155552671"}')]}).texts


@pytest.mark.parametrize(
    "arguments",
    [
        {"card": [5200, 8282, 8282, 8210]},
        {"a": 5200, "b": 8282.0, "c": 8282, "d": 8210},
        {"a": {"x": 5200}, "b": {"x": "8282"}, "c": 8282, "d": 8210},
        {"amount": 50, "card": [5200, 8282, 8282, 8210], "ok": True},
        {"ssn": [512, 44, 8321], "n": 7},
    ],
)
def test_a_value_split_over_small_numbers_is_masked(arguments):
    written = arguments_of(masked(texts_of_request({"messages": [call(json.dumps(arguments))]})))
    assert MASK in written, arguments
    assert "8321" not in written
    assert "8210" not in written
    assert json.loads(written).keys() == arguments.keys()


def test_small_numbers_that_are_no_part_of_a_value_stay():
    written = json.dumps({"x": 17, "y": [1, 2, 3], "sizes": [1024, 768], "year": 2026, "price": 1.10, "rows": [[1, 2], [3, 4]]})
    body = {"messages": [call(written)]}
    assert masked(texts_of_request(body)) is body


def test_long_lists_of_numbers_are_data():
    body = {"messages": [call(json.dumps({"v": [1000 + n for n in range(100)], "w": [1, 4000056655665556] * 50}))]}
    found = texts_of_request(body)
    assert len(found.texts) == 3 + 50, "the function's name, two names, and the long numbers"
    assert len(texts_of_request({"messages": [call(json.dumps([[1] * 64] * 1_000))]}).texts) < 2_100


def test_only_masked_tokens_of_a_json_text_change():
    written = (
        '{ "price": 1.10,\n  "big": 123456789012345678901234567890, "a\\u00e9": ["\\/", 1e2, {"to": "SECRET"}],"x":[ ],'
        '"y":{ } , "n": null }'
    )
    body = {"messages": [call(written.replace("SECRET", SECRET))]}
    assert arguments_of(masked(texts_of_request(body))) == written.replace("SECRET", MASK)


def test_names_that_are_masked_take_no_other_s_place():
    written = json.dumps({"a@example.com": 1, MASK: 2, "b@example.com": [3]})
    cleaned = json.loads(arguments_of(masked(texts_of_request({"messages": [call(written)]}))))
    assert cleaned == {f"{MASK} 2": 1, MASK: 2, f"{MASK} 3": [3]}
    assert masked(texts_of_request({"a@example.com": 1, "b@example.com": 2})) == {MASK: 1, f"{MASK} 2": 2}


def test_thousands_of_roles_choices_and_names_take_no_square_of_the_time():
    roles = {"messages": [{"role": f"r{n}x", "content": f"hi {n}"} for n in range(20_000)]}
    choices = {"choices": [{"message": {"content": "hi"}} for _ in range(20_000)]}
    names = texts_of_request({"messages": [call(json.dumps({f"name {n}": n for n in range(20_000)}))]})
    started = time.process_time()
    assert len(texts_of_request(roles).sequences) < 30
    assert len(texts_of_answer(choices).sequences) < 200
    names.replaced([MASK if text.startswith("name") else text for text in names.texts])
    assert time.process_time() - started < 3


@pytest.mark.parametrize("role", [{"a": 1}, ["user"], None, 3, 1.5, True])
def test_a_role_that_is_no_string_fails_nothing(role):
    body = {"messages": [{"role": role, "content": SECRET}, {"role": "user", "content": "hi"}]}
    assert masked(texts_of_request(body))["messages"][0]["content"] == MASK


def nested(times: int, depth: int) -> str:
    text = SECRET
    for _ in range(times):
        text = "[" * depth + json.dumps(text) + "]" * depth
    return text


@pytest.mark.parametrize(("times", "depth"), [(6, 150), (12, 1), (2, 199), (2, 5_000)])
def test_json_in_json_is_followed_only_so_deep(times, depth):
    body = {"messages": [{"role": "user", "content": nested(times, depth)}]}
    assert SECRET not in json.dumps(masked(texts_of_request(body)))


def test_a_body_of_any_depth_is_looked_at():
    body: dict = {"content": SECRET}
    for _ in range(3_000):
        body = {"x": [body]}
    changed = masked(texts_of_request(body))
    for _ in range(3_000):
        changed = changed["x"][0]
    assert changed == {"content": MASK}


FIELDS = ["messages", "choices", "content", "role", "type", "id", "logprobs", "top_logprobs", "usage", "embedding", "data", "metadata",
          "properties", "message", "text", "image_url", "url", "token", "tokens", "model", "created", "tool_choice"]  # fmt: skip


@pytest.mark.parametrize("number", [pytest.param(10**5_000, id="long"), float("inf"), float("-inf"), float("nan"), 1e300, -0.0])
def test_no_number_fails(number):
    body = {"messages": [number], "choices": [number], "metadata": {"a": number}}
    assert masked(texts_of_request(body)) is body
    assert masked(texts_of_answer(body)) is body


names = st.text(max_size=6) | st.sampled_from(FIELDS)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4) | inner.map(json.dumps),
    max_leaves=25,
)


@given(st.dictionaries(names, anything, max_size=4))
def test_no_json_value_fails_and_no_address_is_left(body):
    before = strings(body)
    for texts_of in (texts_of_request, texts_of_answer):
        found = texts_of(body)
        assert SECRET not in "\n".join(strings(found.replaced([text.replace(SECRET, MASK) for text in found.texts])))
    assert strings(body) == before


def strings(body: dict) -> list[str]:
    """Every string of `body`."""
    todo: list = [body]
    found = []
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += [*value, *value.values()]
        elif isinstance(value, list):
            todo += value
        elif isinstance(value, str):
            found.append(value)
    return found
