"""Versions of cadences in the ledger, and who is planned anew."""

from gateway.ledger.schema import run_script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_script("0009_again.sql")
