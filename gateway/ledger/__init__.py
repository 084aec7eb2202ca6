"""The ledger: every SQL statement of the service, one module per use case, batched and repeatable by key."""
