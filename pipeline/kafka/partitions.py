"""Which partition a key belongs to: murmur2 as Kafka's Java client computes it (KIP-480 leaves keyed records as they were).

One function for everything that is counted, so that ingress, admit and serve agree. Pure and total.
"""

from __future__ import annotations

from functools import lru_cache

from aiokafka.partitioner import murmur2


# In Python, byte by byte: worth remembering for the few times that one request is on its way.
@lru_cache(maxsize=8_192)
def partition_of(key: str, partitions: int) -> int:
    """The partition (0-based) of `key` among `partitions`, the same one Kafka's default partitioner picks."""
    return (int(murmur2(key.encode())) & 0x7FFFFFFF) % partitions
