"""The benchmark: the gateway with all its processes against LiteLLM's proxy, on one machine and the same upstream.

python -m tests.bench [--rounds N] [--only NAME]...

targets.py    what is measured: the demo provider itself, LiteLLM before it, the gateway before it
load.py       the load, in a process of its own
process.py    starting and stopping
report.py     medians, ratios, the table, the JSON file
"""
