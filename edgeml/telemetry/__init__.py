"""Telemetry on the device: what a model sees and does, counted in windows, kept through power cuts, and sent.

The recorder counts inside ``Model`` and closes a window now and then; the spool keeps windows on disk until the
monitor has acknowledged them; the agent sends them. ``WIRE.md`` is the form of what is sent. The monitor's side is
``edgeml.fleet``, which reads the same forms with ``window`` and ``wire``.
"""
