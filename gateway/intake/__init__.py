"""Records from Kafka become commands for the ledger.  Only the consumer does I/O; everything else here is pure."""
