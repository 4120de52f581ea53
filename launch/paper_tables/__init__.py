"""The papers' tables on the tiny model: their rows, what is trained and measured for each, and their page."""
