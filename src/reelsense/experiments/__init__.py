"""Questions that take many runs: each is a `reelsense train` of its own. No training code here."""
