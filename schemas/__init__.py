"""The contracts: what crosses Kafka and HTTP, in types.  Imports nothing of ours."""
