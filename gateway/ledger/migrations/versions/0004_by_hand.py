"""What people do by hand."""

from gateway.ledger.schema import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script("0004_by_hand.sql")
