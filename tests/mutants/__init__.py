"""Mistakes planted in the gateway, one at a time: which check finds each?  `make mutants`."""
