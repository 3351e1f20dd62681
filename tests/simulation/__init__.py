"""A deterministic simulation of the workers: the real admit, serve, finished, ownership, commit and output code against a model of
everything around it. `python -m tests.simulation --help` runs it, docs/simulation.md says what is modelled.

    scheduler    virtual time, one event loop for each process, and who runs next
    broker       the log: partitions, offsets, append times, committed offsets
    group        the consumer group: members, sessions, generations
    driver       Kafka's client as the worker's own transport classes see it: consumer, producer, reader of records
    tables       Faust's windowed tables over a changelog
    provider     the served entities
    worker       one process: the real parts put together, and what Faust does around a rebalance
    traffic      what a seed sends, when, and which faults it meets
    checks       what must hold when all is quiet
    run          one seed from beginning to end
"""
