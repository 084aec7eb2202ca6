"""When vacuum comes to the queues."""

from gateway.ledger.schema import run_script

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_script("0011_queues.sql")
