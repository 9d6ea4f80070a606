"""Why a gradient is wrong: fits that are no coincidence, and the usual losses. Forms no sentence."""
