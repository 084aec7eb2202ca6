"""The real servers behind the tests: Apache Kafka and Postgres, started by the fixtures in tests/conftest.py."""
