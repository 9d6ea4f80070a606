"""Anything that is checked, as a function of named arrays. Asks nothing of it: what must hold is in `properties`."""
