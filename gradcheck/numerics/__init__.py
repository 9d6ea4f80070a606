"""Numbers with their errors: differences, directions, kinks, rounding and agreement. Knows no layer and no network."""
