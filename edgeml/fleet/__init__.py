"""The monitor: the central server that devices report to. It knows bundles and windows, never programs."""
