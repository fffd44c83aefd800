"""The bijections that flows are made of, one idea a file."""
