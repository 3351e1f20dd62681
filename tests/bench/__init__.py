"""The benchmarks. The first: the gateway with all its processes against LiteLLM's proxy, on one machine and the same upstream.

python -m tests.bench [--rounds N] [--only NAME]...

targets.py    what is measured: the demo provider itself, LiteLLM before it, the gateway before it
load.py       the load, in a process of its own
process.py    starting and stopping
report.py     medians, ratios, the table, the JSON file

Others, each a command of its own: tail.py (open_load.py is its load), soak.py (memory.py looks at the parts), freshness.py, guardrails.py,
held_back.py.
"""
