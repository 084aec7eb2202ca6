"""Provider adapters: pure translation.  No I/O, no clock, no randomness, no logging, no retry."""
