"""By which contacts a planned reminder was tried."""

from gateway.ledger.schema import run_script

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_script("0010_reach.sql")
