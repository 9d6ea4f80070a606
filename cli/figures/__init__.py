"""Figures, drawn by Matplotlib. Knows no page and no command."""
