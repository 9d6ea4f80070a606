"""A run's folder: written, read again, shown as tables. Knows no command."""
