"""What borrowers say back."""

from gateway.ledger.schema import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_script("0002_contacts.sql")
