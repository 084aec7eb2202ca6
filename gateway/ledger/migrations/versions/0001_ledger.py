"""The ledger."""

from gateway.ledger.schema import run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_script("0001_ledger.sql")
