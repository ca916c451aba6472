"""How fast hwsim is, beside the loops that a good engineer would write. Run `python -m benchmarks`; see README.md."""
