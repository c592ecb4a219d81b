"""Program -> artifact."""
