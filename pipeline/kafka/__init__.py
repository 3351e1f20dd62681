"""Kafka as the gateway uses it: how to connect, the topics' creation, partitions, and following a compacted topic."""
