"""Every provider, against what nobody here wrote.

`cases/<adapter>.py` holds what is particular to one provider; the suite runs over every discovered adapter.
"""
