"""Sluice, the part that runs per request.

A request passes through these files, in this order:

    ingress/http_app.py        who is it, is the body sane                         HTTP in
    ingress/inference.py       onto gateway.requests, wait for the answer
    worker/admit.py            rate limits, then onto gateway.admitted             core/limits.py decides
    worker/serve.py            guardrails, served entities in order, the record    core/guardrails.py, core/routing.py decide
    providers/                 the wire formats of the models behind
    ingress/replies.py         the answer comes back from gateway.responses        HTTP out

Beside it: endpoints.py (what can be configured), records.py and envelope.py (what travels), topics.py (where), errors.py (what can
go wrong). The tables are written by `jobs`, from gateway.records.
"""
