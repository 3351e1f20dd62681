"""The models behind the gateway: their wire formats, their addresses and keys, and the one client that calls them.

client.py        calls a served entity: the only module here that does I/O over the network
openai.py        OpenAI's form, for `openai` and `custom`: a request and a key in, bytes and headers out, and back
anthropic.py     the same for Anthropic's Messages API
wire.py          what both forms share: outgoing calls, checks of what a provider sent, token counts
secrets.py       {{secrets/SCOPE/KEY}}, at the moment of the call
addresses.py     which addresses may be connected to
result.py        what a call came to
"""
