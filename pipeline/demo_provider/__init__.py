"""A stand-in for the models behind the gateway: OpenAI's and Anthropic's wire formats with made-up, repeatable text.

`make run` shows everything with it without a key, and tests and benchmark use it as their upstream. It is a process of its own and
knows nothing of the gateway. What it does to a call is said by the model's name (behaviours.py), and it keeps a ledger of the calls
it got (ledger.py). It never keeps a prompt or a key: of a body the ledger has a digest, of a key only whether one came.

    behaviours.py   model name -> what to do
    answers.py      what it says, as bytes in either wire format
    streams.py      the same as server-sent events
    ledger.py       which calls came, and whether they were answered to the end
    app.py          which path does what: the raw ASGI application
    exchange.py     one answer on its way, and how it is broken
    server.py       the process: `main`
"""
