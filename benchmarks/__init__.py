"""Benchmarks, a module each: they measure alikit on this machine, and come with a checkout, not with the package."""
