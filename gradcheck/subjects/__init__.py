"""Anything that is checked, as a function of named arrays. Asks nothing of it: what must hold is in `properties`.

A foreign object is never modified: every call is made on a copy of its own, with the same random numbers.
"""
