"""The tests, by cost: unit (no I/O), contract (providers), integration, faults, e2e, bench. See CONTRIBUTING.md."""
