"""What the gateway shows of itself: metrics, gauges read from the ledger, the event loop's lag, and logs."""
