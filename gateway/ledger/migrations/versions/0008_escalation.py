"""Escalation."""

from gateway.ledger.schema import run_script

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_script("0008_escalation.sql")
