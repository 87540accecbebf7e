"""The contract from outside, line by line: real processes against the stand-in."""
