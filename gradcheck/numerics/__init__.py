"""Numbers with their errors: functions of named arrays, differences, directions, kinks, rounding, agreement.

Knows the contract alone: no foreign object and no framework.
"""
