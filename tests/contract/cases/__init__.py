"""One file per adapter, named after it, with a `CASE` written from the vendor's documentation."""
