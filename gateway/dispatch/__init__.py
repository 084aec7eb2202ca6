"""Dispatch: claim, decide, render, route, reserve, intend, send, record.  The list is in `pipeline`."""
