"""The fault suite: load on a real stack, troubles while it runs, and an offline check that nothing was lost, doubled or mixed up.

load.py      clients that ask until they have a final answer, and their ledger of what was sent and answered
troubles.py  what happens to the stack meanwhile, and when
checks.py    the invariants, over the clients' ledger, the provider's own ledger and the tables; pure
run.py       one run from the start of the stack to the verdict;  __main__.py  the command
"""
