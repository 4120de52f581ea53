"""Captions of what a person's hands do, in three steps: Captioner, Extractor, Composer (SesaHand, DECISIONS D5)."""
