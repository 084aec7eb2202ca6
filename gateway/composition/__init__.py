"""How the parts are made of the configuration and of each other; `gateway/app.py` starts and stops what is made here.

Nothing here runs by itself or stops anything.  Who takes a rotated secret says so where it is made.
"""
