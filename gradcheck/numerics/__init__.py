"""Numbers with their errors: functions of named arrays, differences, directions, kinks, rounding, agreement.

Imports only the contract: no foreign objects and no framework.
"""
