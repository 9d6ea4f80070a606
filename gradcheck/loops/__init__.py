"""Training loops as they are: watched step by step, and two of them compared. No loop is written anew for it."""
