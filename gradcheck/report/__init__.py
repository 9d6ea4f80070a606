"""Results of checks, and all that is said of results, in words and in JSON. Computes nothing; knows no command."""
