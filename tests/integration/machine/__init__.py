"""The machine of `test_ledger_machine`: the ledger's operations in any order, and what must hold after each."""
