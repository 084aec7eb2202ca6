"""When a reminder is made: cadences, what is known of a debt, and what follows from both.  Pure."""
