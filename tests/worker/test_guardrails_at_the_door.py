"""Guardrails on the running product: what the caller gets, what the model sees, what the tables keep."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.demo import calls
from tests.kafka_client import kafka_client

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

MAIL = "alice@example.com"
CARD = "4111 1111 1111 1111"
SCHEMA = ("guarded", "tests")


class Guarded:
    """One endpoint with its guardrails, and what it does to texts."""

    def __init__(self, stack: Any, name: str, model: str, **guardrails: Any) -> None:
        self.stack, self.name, self.model, self.prefix = stack, name, f"{model}+{name}", name.replace("-", "_")
        table = {"catalog_name": SCHEMA[0], "schema_name": SCHEMA[1], "table_name_prefix": self.prefix, "enabled": True}
        limits = guardrails.pop("rate_limits", [])
        gateway = {"guardrails": guardrails, "inference_table_config": table, "rate_limits": limits}
        stack.create_endpoint(name, gateway, entities=[stack.entity(self.model)])
        self.http: httpx.Client = stack.http()

    def ask(self, content: Any, **more: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": content}], **more}
        return self.http.post(f"/serving-endpoints/{self.name}/invocations", json=body)

    def rows(self, count: int) -> list[dict[str, Any]]:
        return self.stack.wait_rows(f"{'.'.join(SCHEMA)}.{self.prefix}_request_response", count)

    def assessments(self, count: int) -> list[dict[str, Any]]:
        return self.stack.wait_rows(f"{'.'.join(SCHEMA)}.{self.prefix}_assessment", count)


@pytest.fixture
def guarded(stack) -> Iterator[Any]:
    made: list[Guarded] = []

    def make(name: str, model: str, **guardrails: Any) -> Guarded:
        made.append(Guarded(stack, name, model, **guardrails))
        return made[-1]

    yield make
    for one in made:
        one.http.close()


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def block_of(answer: httpx.Response, finish: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")
    message = json.loads(answer.json()["message"])
    assert message["finishReason"] == finish
    return message


def test_masked_text_is_all_that_the_model_and_the_tables_see(guarded):
    endpoint = guarded("pii-mask", "echo", input={"pii": {"behavior": "MASK"}})
    assert said(endpoint.ask(f"write to {MAIL}, card {CARD}")) == "write to [REDACTED], card [REDACTED]"
    (row,) = endpoint.rows(1)
    assert "[REDACTED]" in row["request"] and "[REDACTED]" in row["response"]
    assert MAIL not in str(row) and CARD not in str(row)
    assert [(g["assessment_type"], g["direction"], g["result"]) for g in row["guardrails"]] == [("PII", "input", "MASKED")]
    assert row["guardrails"][0]["duration_ms"] > 0
    (assessment,) = endpoint.assessments(1)
    assert (assessment["assessment_type"], assessment["assessment_result"], assessment["direction"]) == ("PII", "MASKED", "input")
    assert json.loads(assessment["assessment_details"]) == {"entities": {"CREDIT_CARD": 1, "EMAIL_ADDRESS": 1}}
    assert assessment["request_id"] == row["request_id"]


def test_a_block_asks_no_model_and_shows_and_keeps_the_masked_copy(guarded):
    endpoint = guarded("pii-block", "echo", input={"pii": {"behavior": "BLOCK"}})
    message = block_of(endpoint.ask(f"write to {MAIL}"), "input_guardrail_triggered")
    (verdict,) = message["input_guardrail"]
    assert verdict["pii_detection"] is True
    assert verdict["anonymized_input"] == [{"role": "user", "content": "write to [REDACTED]"}]
    assert message["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    assert calls(endpoint.stack.demo_url, model=endpoint.model) == []
    (row,) = endpoint.rows(1)
    assert (row["status_code"], row["finish"]) == (400, "blocked")
    assert json.loads(row["request"])["messages"][0]["content"] == "write to [REDACTED]"
    assert MAIL not in str(row)
    assert [a["assessment_result"] for a in endpoint.assessments(1)] == ["BLOCKED"]


def test_an_answer_is_masked_before_anyone_sees_it(guarded):
    endpoint = guarded("pii-mask-output", f"say-ask_{MAIL}", output={"pii": {"behavior": "MASK"}})
    assert said(endpoint.ask("whom?")) == "ask [REDACTED]"
    (row,) = endpoint.rows(1)
    assert json.loads(row["response"])["choices"][0]["message"]["content"] == "ask [REDACTED]"
    assert [a["direction"] for a in endpoint.assessments(1)] == ["output"]


def test_an_answer_is_blocked_with_the_tokens_it_cost(guarded):
    endpoint = guarded("pii-block-output", f"say-ask_{MAIL}", output={"pii": {"behavior": "BLOCK"}})
    message = block_of(endpoint.ask("whom?"), "output_guardrail_triggered")
    assert message["output_guardrail"][0]["pii_detection"] is True
    assert message["usage"]["total_tokens"] > 0
    (row,) = endpoint.rows(1)
    assert (row["status_code"], row["finish"]) == (400, "blocked")
    assert MAIL not in row["request"] + row["response"]


def test_tool_call_arguments_of_an_answer_are_masked_and_stay_json(guarded):
    endpoint = guarded("pii-mask-tool", "tool", output={"pii": {"behavior": "MASK"}})
    answer = endpoint.ask(f"send it to {MAIL}").json()
    arguments = answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"text": "send it to [REDACTED]"}


def test_every_client_gets_masks_in_its_own_form(stack, guarded):
    endpoint = guarded("pii-clients", "echo", input={"pii": {"behavior": "MASK"}, "invalid_keywords": ["forbidden"]})
    with openai.OpenAI(base_url=f"{stack.host}/serving-endpoints", api_key=stack.admin_token) as client:
        answer = client.chat.completions.create(model=endpoint.name, messages=[{"role": "user", "content": f"it is {MAIL}"}])
        assert answer.choices[0].message.content == "it is [REDACTED]"
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=endpoint.name, messages=[{"role": "user", "content": "forbidden"}])
        assert "input_guardrail_triggered" in str(refused.value)
    with anthropic.Anthropic(base_url=stack.host, auth_token=stack.admin_token) as client:
        message = client.messages.create(
            model=endpoint.name, max_tokens=100, system=f"the user is {MAIL}", messages=[{"role": "user", "content": f"it is {MAIL}"}]
        )
        assert message.content[0].text == "it is [REDACTED]"
    rows = endpoint.rows(3)
    assert MAIL not in str(rows)


async def test_a_plain_producer_is_guarded_as_everyone_is(stack, guarded):
    endpoint = guarded("pii-kafka", "echo", input={"pii": {"behavior": "MASK"}})
    async with kafka_client(stack.kafka) as client:
        answer = await client.answer(await client.request(endpoint.name, text=f"it is {MAIL}"))
    assert answer["body"]["choices"][0]["message"]["content"] == "it is [REDACTED]"


def test_what_a_limit_refuses_is_kept_masked_too(guarded):
    limits = [{"calls": 1, "renewal_period": "hour"}]
    endpoint = guarded("pii-refused", "echo", input={"pii": {"behavior": "MASK"}}, rate_limits=limits)
    assert [endpoint.ask(f"it is {MAIL}").status_code for _ in range(2)] == [200, 429]
    rows = {row["status_code"]: row for row in endpoint.rows(2)}
    assert json.loads(rows[429]["request"])["messages"][0]["content"] == "it is [REDACTED]"
    assert MAIL not in str(rows)


def test_a_long_text_is_looked_through_as_a_short_one_is(guarded):
    endpoint = guarded("pii-long", "echo", input={"pii": {"behavior": "MASK"}})
    filler = "All is well with the boats on the river today. " * 1_000
    assert said(endpoint.ask(f"{filler}write to {MAIL}")) == f"{filler}write to [REDACTED]"


def test_names_are_masked_where_an_endpoint_asks_for_them(guarded):
    wanted = {"behavior": "MASK", "entities": ["PERSON", "EMAIL_ADDRESS"]}
    endpoint = guarded("pii-names", "echo", input={"pii": wanted})
    assert said(endpoint.ask(f"Yesterday Robert Miller met my sister. Write to {MAIL}")) == (
        "Yesterday [REDACTED] met my sister. Write to [REDACTED]"
    )
    (assessment,) = endpoint.assessments(1)
    assert json.loads(assessment["assessment_details"]) == {"entities": {"EMAIL_ADDRESS": 1, "PERSON": 1}}


def test_keywords_and_topics_block_and_name_themselves(guarded):
    words = [f"codename{n}" for n in range(10_000)]
    endpoint = guarded("words", "echo", input={"invalid_keywords": words, "valid_topics": ["boats: river, sail", "billing"]})
    assert said(endpoint.ask("May boats go down this river?"))
    blocked = block_of(endpoint.ask("Is the boat called CODENAME7777?"), "input_guardrail_triggered")
    assert blocked["input_guardrail"][0]["invalid_keywords"] is True
    blocked = block_of(endpoint.ask("Tell me all about the theory of numbers"), "input_guardrail_triggered")
    assert blocked["input_guardrail"][0]["off_topic"] is True
    kinds = sorted(a["assessment_type"] for a in endpoint.assessments(2))
    assert kinds == ["KEYWORD", "TOPIC"]


def test_unsafe_questions_and_answers_are_blocked_by_category(guarded):
    threat = "I will kill you and your whole family tonight"
    asked = guarded("unsafe-question", "echo", input={"safety": True})
    (verdict,) = block_of(asked.ask(threat), "input_guardrail_triggered")["input_guardrail"]
    assert verdict["flagged"] is True
    assert verdict["categories"]["violent-crimes"] is True
    assert said(asked.ask("How do I kill a process on Linux?"))
    answered = guarded("unsafe-answer", f"say-{threat.replace(' ', '_')}", output={"safety": True})
    assert block_of(answered.ask("hello"), "output_guardrail_triggered")["output_guardrail"][0]["flagged"] is True
    assert [a["assessment_type"] for a in asked.assessments(1)] == ["SAFETY"]
