"""The HTTP side: who is asking, is the body sane, put it on the stream, wait for the answer.

http_app.py        all paths, the gate that every request passes, errors as answers
auth.py            whose token is this
http_body.py, request_body.py    the body's bytes, and what they must say
inference.py       a request to a model, onto gateway.requests and back;  sending.py  the way there
streaming.py       a streamed answer to its client;  sse.py  its form on the wire
replies.py         who waits for what, and the reader of gateway.responses;  feed.py  what waits for one streaming client
control_plane.py   the serving-endpoints API and tokens
answers.py         error forms and headers;  health.py, metrics.py    what operators ask
main.py            starts and stops all of it
"""

from pipeline.ingress.main import main

__all__ = ["main"]
