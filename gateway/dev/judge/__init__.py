"""Judges every contact by the providers' log, the facts on Kafka and the cadence; by nothing that the gateway says.

It shares no code with the gateway, its planner, the simulator or the borrowers, and runs by itself:

    python -m gateway.dev.judge simulator.jsonl facts.jsonl cadence.yaml

prints {contacts, second, late, violations} as JSON and exits 1 when there are violations.  `facts.jsonl` holds the
CloudEvents in the order of the topic; their `time` is when they were told, as the log's `at` is when a contact was
made, on one virtual clock.

What is told at the very moment of a contact may have come just before it or just after it: a contact stands if either
makes it right.
"""
