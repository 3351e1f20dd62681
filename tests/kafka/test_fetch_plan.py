"""What is fetched next: the same as aiokafka's own fetcher would ask for, whatever state the partitions are in."""

import asyncio
from types import SimpleNamespace

from aiokafka.consumer.fetcher import Fetcher
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kafka.fetch_plan import FetchPlan

PLACES = [TopicPartition(topic, number) for topic in ("requests", "admitted", "changelog") for number in range(4)]
STATES = st.fixed_dictionaries(
    {
        "leader": st.sampled_from([1, 1, 1, 2, -1, None]),
        "position": st.sampled_from([0, 7, 7, None]),
        "paused": st.booleans(),
        "unconsumed_s": st.sampled_from([None, None, None, 0, 0.05, 0.1]),
    }
)


def a_fetcher(states, in_flight) -> SimpleNamespace:
    cluster = SimpleNamespace(leader_for_partition=lambda place: states[place]["leader"])
    fetcher = SimpleNamespace(
        _records={
            place: SimpleNamespace(calculate_backoff=lambda s=state["unconsumed_s"]: s)
            for place, state in states.items()
            if state["unconsumed_s"] is not None
        },
        _in_flight=in_flight, _client=SimpleNamespace(cluster=cluster), _max_partition_fetch_bytes=5, _fetch_max_wait_ms=100,
        _fetch_min_bytes=1, _fetch_max_bytes=10, _isolation_level=0, _client_rack=None, _fetcher_timeout=0.2, _preferred_read_replica={},
    )  # fmt: skip
    fetcher._select_read_replica = lambda place: Fetcher._select_read_replica(fetcher, place)
    return fetcher


def an_assignment(states) -> SimpleNamespace:
    values = {
        place: SimpleNamespace(
            has_valid_position=s["position"] is not None, position=s["position"], paused=s["paused"], resume_fut=f"resume {place}"
        )
        for place, s in states.items()
    }
    return SimpleNamespace(tps=list(states), state_value=values.get)


def comparable(actions):
    requests, awaiting_reset, wait_s, leader_unknown, resumed = actions
    asked = {node: sorted((topic, *p) for topic, partitions in request.topics for p in partitions) for node, request in requests}
    return asked, {node: sorted(places) for node, places in awaiting_reset.items()}, wait_s, leader_unknown, sorted(resumed)


@given(st.fixed_dictionaries(dict.fromkeys(PLACES, STATES)), st.sets(st.sampled_from([1, 2])))
def test_it_asks_for_what_aiokafka_would_ask_for(states, in_flight):
    fetcher, assignment = a_fetcher(states, in_flight), an_assignment(states)
    assert comparable(FetchPlan(fetcher, lambda topic: True)(assignment)) == comparable(Fetcher._get_actions_per_node(fetcher, assignment))


def test_topics_that_are_not_wanted_are_left_out_until_they_are():
    states = dict.fromkeys(PLACES, {"leader": 1, "position": 7, "paused": False, "unconsumed_s": None})
    recovering = True
    plan = FetchPlan(a_fetcher(states, set()), lambda topic: recovering or topic != "changelog")
    assignment = an_assignment(states)

    def asked() -> set[str]:
        return {topic for _, request in plan(assignment)[0] for topic, _ in request.topics}

    assert asked() == {"requests", "admitted", "changelog"}
    recovering = False
    assert asked() == {"requests", "admitted"}
    assignment = an_assignment({place: state for place, state in states.items() if place.topic == "requests"})
    assert asked() == {"requests"}
    recovering = True
    assignment = an_assignment(states)
    assert asked() == {"requests", "admitted", "changelog"}


async def test_aiokafkas_fetcher_still_asks_for_its_actions_in_the_way_that_is_replaced():
    """Fails when aiokafka renames what FetchPlan takes the place of."""
    assert asyncio.iscoroutinefunction(Fetcher._fetch_requests_routine)
    assert "_get_actions_per_node" in Fetcher._fetch_requests_routine.__code__.co_names
