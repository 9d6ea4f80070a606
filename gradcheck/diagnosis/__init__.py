"""Why a gradient is wrong: fits that are no coincidence, and the usual losses. The wording is in `report`."""
