"""`sluice replay`: logged requests sent through another endpoint, and what came of them compared with what came then.

    records.py     Original (a logged request, ready to be sent) and Result (what came of it): the lines of the two files
    preparing.py   a row of an inference table -> an Original, or the reason why it can't be sent
    folder.py      DATA/replays/ID: what is to be sent, what is done, and who works on it
    sending.py     Originals -> Results, over HTTP, at a rate of its own
    comparing.py   how much two answers' texts have in common; which findings of guardrails a request had
    figures.py     all pairs -> the figures of the comparison

The rows and prices are read, and the results kept, by jobs/replay.py; the page is jobs/replay_page.py's. A replayed request goes through
the gateway as any other, marked by a header (pipeline/ingress/replays.py).
"""
