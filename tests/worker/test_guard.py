"""What the worker's driver of guardrails does with a provider's words, with engines that fail, and with texts of any length."""

import json

import pytest

from pipeline.core.guardrails import compile_rules, said_rules
from pipeline.endpoints import Endpoint, GuardrailParameters
from pipeline.ner import NerPool
from pipeline.worker.guard import INLINE_CHARACTERS, Guards
from pipeline.worker.long_texts import LongTexts

MAIL = "alice@example.com"


def rules(**parameters):
    return compile_rules(GuardrailParameters.model_validate(parameters))


@pytest.fixture
async def guards():
    ner, long_texts = NerPool(), LongTexts()
    yield Guards(None, ner, long_texts, 30.0)
    await ner.stop()
    await long_texts.stop()


def left_s():
    return 30.0


async def test_a_provider_s_words_are_told_as_far_as_the_rules_let_them_pass(guards):
    words = f"invalid content: {MAIL}"
    for before, after in (({"pii": {"behavior": "BLOCK"}}, {}), ({}, {"pii": {"behavior": "MASK"}})):
        said = said_rules(rules(**before), rules(**after))
        assert await guards.words(said, words, left_s) == "invalid content: [REDACTED]"
    withheld = await guards.words(said_rules(rules(), rules(invalid_keywords=["content"])), words, left_s)
    assert "content" not in withheld
    assert not said_rules(rules(invalid_keywords=["content"]), rules())


async def test_a_provider_s_words_that_nobody_could_look_at_are_withheld(guards):
    await guards._ner.stop()
    said = said_rules(rules(pii={"behavior": "MASK", "entities": ["PERSON"]}), rules())
    assert "Robert" not in await guards.words(said, "Robert Miller is not allowed", left_s)


@pytest.mark.parametrize("size", [10, INLINE_CHARACTERS + 10])
async def test_short_and_long_texts_are_looked_through_alike(guards, size):
    filler = "boats go by " * (size // 12)
    body = {"messages": [{"role": "user", "content": f"{filler}write to {MAIL}"}]}
    finding = await guards.check(rules(pii={"behavior": "MASK"}), body, "input", left_s)
    assert finding.body["messages"][0]["content"] == f"{filler}write to [REDACTED]"


async def test_a_request_that_can_not_be_masked_leaves_no_text(guards):
    deep = {"messages": [{"role": {"a": 1}, "content": MAIL}]}
    endpoint = Endpoint.model_construct(name="e", revision=1, ai_gateway=_gateway({"pii": {"behavior": "MASK"}}))
    kept = guards.kept_of_refused(endpoint, deep)
    assert MAIL not in json.dumps(kept)


def _gateway(parameters):
    from pipeline.endpoints import AiGateway

    return AiGateway.model_validate({"guardrails": {"input": parameters}})
