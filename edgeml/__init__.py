"""EdgeML."""
