"""Why a gradient is wrong: fits that are no coincidence. Knows numbers alone, and words nothing."""
