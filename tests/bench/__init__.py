"""`make bench`: how fast, against the plain loop and the durable reference, on real Kafka and real Postgres."""
