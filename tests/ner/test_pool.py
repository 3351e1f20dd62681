"""Children that look for names: what they find, and what they keep out of a worker."""

import asyncio
import subprocess
import sys

import pytest

from pipeline.children import ChildUnavailable
from pipeline.core.pii_entities import ALL_ENTITIES, DEFAULT_ENTITIES
from pipeline.ner import NerPool, find
from pipeline.ner import pool as pool_module

TEXTS = ["Yesterday Alice Johnson flew to Berlin.", "", "Her brother Robert Miller stayed."]
PEOPLE = frozenset({"PERSON"})
WAIT_S = 30.0


@pytest.fixture
async def pool():
    made = NerPool(1)
    assert await made.find(TEXTS, PEOPLE, 0.4, timeout_s=WAIT_S)
    yield made
    await made.stop()


def named(texts, spans):
    return {(span.entity, texts[span.text][span.start : span.end]) for span in spans}


async def test_names_are_found_where_they_stand_as_the_synchronous_way_finds_them(pool):
    spans = await pool.find(TEXTS, ALL_ENTITIES, 0.4, timeout_s=WAIT_S)
    assert {("PERSON", "Alice Johnson"), ("LOCATION", "Berlin"), ("PERSON", "Robert Miller")} <= named(TEXTS, spans)
    assert spans == find(TEXTS, ALL_ENTITIES, 0.4)


async def test_only_what_is_asked_for_is_told(pool):
    spans = await pool.find(TEXTS, PEOPLE, 0.4, timeout_s=WAIT_S)
    assert named(TEXTS, spans) == {("PERSON", "Alice Johnson"), ("PERSON", "Robert Miller")}
    assert await pool.find(TEXTS, PEOPLE, 1.01, timeout_s=WAIT_S) == []
    assert await pool.find(TEXTS, DEFAULT_ENTITIES, 0.4, timeout_s=WAIT_S) == []


async def test_text_of_any_kind_comes_through(pool):
    texts = ["\ud800 Alice Johnson \U0001f600 met Robert Miller\udfff", "\x00", "日本", "x" * 200_000]
    spans = await pool.find(texts, PEOPLE, 0.4, timeout_s=WAIT_S)
    assert {("PERSON", "Alice Johnson"), ("PERSON", "Robert Miller")} <= named(texts, spans)


async def test_many_calls_share_the_children_and_each_gets_its_own_answer(pool):
    names = ["Alice Johnson", "Robert Miller", "Susan Clark", "David Wilson"]
    texts = [f"I met {name} in the morning." for name in names]
    found = await asyncio.gather(*(pool.find([text], PEOPLE, 0.4, timeout_s=WAIT_S) for text in texts))
    assert [named([text], spans) for text, spans in zip(texts, found, strict=True)] == [{("PERSON", name)} for name in names]


async def test_the_loop_goes_on_while_a_child_works(pool):
    call = asyncio.create_task(pool.find(["Alice Johnson went home. " * 2000], PEOPLE, 0.4, timeout_s=WAIT_S))
    turns = 0
    while not call.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert call.result()
    assert turns > 20


def test_the_process_that_has_a_pool_loads_no_language_model():
    program = (
        "import asyncio, sys\nfrom pipeline.ner import NerPool\n"
        "async def main():\n    pool = NerPool(1)\n"
        "    assert await pool.find(['I met Alice Johnson.'], frozenset({'PERSON'}), 0.4, timeout_s=30)\n    await pool.stop()\n"
        "asyncio.run(main())\nprint(sorted({m.split('.')[0] for m in sys.modules} & {'spacy', 'presidio_analyzer', 'thinc', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_a_long_request_is_asked_about_in_pieces_and_one_too_long_not_at_all(pool, monkeypatch):
    asked = []
    ask = pool.ask

    async def watched(request, *, timeout_s):
        asked.append(len(request[0]))
        return await ask(request, timeout_s=timeout_s)

    monkeypatch.setattr(pool, "ask", watched)
    monkeypatch.setattr(pool_module, "PIECE", 60)
    spans = await pool.find(TEXTS, PEOPLE, 0.4, timeout_s=WAIT_S)
    assert len(asked) == 2
    assert named(TEXTS, spans) == {("PERSON", "Alice Johnson"), ("PERSON", "Robert Miller")}
    monkeypatch.setattr(pool_module, "MOST", 60)
    with pytest.raises(ChildUnavailable, match="60 characters"):
        await pool.find(TEXTS, PEOPLE, 0.4, timeout_s=WAIT_S)
