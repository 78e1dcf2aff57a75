"""Benchmarks: figures as ratios beside a bare server in the same run; never part of the tests."""
