"""Training any task: one loop, one pure step, one state; no paper is known here."""
