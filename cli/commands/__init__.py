"""One command a file: options, and what is printed. What it shows is made in the other rooms."""
