"""Speed, size and instructions, against the peers and against yesterday.

``python -m benchmarks`` measures every contender and writes benchmarks/results, ``benchmarks.report`` makes the
README's tables and pictures of that, ``benchmarks.instructions`` is the guard in CI, ``benchmarks.profile`` shows where
the time goes. The other modules that can be run look closer at one thing each.
"""
