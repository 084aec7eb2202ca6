"""The reminder gateway: intake, ledger, dispatch, receipts, relay.  Only `app` knows everybody."""
