"""Errors a user can cause: one line that says what was wrong, where, and what to do."""


class UserError(Exception):
    """Base of all errors a user can cause; commands print the message and exit with status 2."""


class InputError(UserError):
    """A picture, folder or data set that cannot be used."""


class ConfigError(UserError):
    """A recipe, flag or override that does not fit."""


class WeightsError(UserError):
    """Model weights that are missing, incomplete or of another architecture."""


class CheckpointError(UserError):
    """A training checkpoint that cannot be restored into this run."""


class DivergedError(UserError):
    """A training run whose losses are no numbers any more, or far too large."""


class BackendError(UserError):
    """An optional package or system library that the chosen backend needs and this machine lacks."""
