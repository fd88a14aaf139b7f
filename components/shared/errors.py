"""The errors a user can act on. Everything else is a bug and keeps its traceback."""


class UserError(ValueError):
    """A mistake in the input or the configuration; the message names it and the remedy."""


class ConfigError(UserError):
    """A profile or a configuration section that cannot be read; names the file and the key."""


class DataError(UserError):
    """Data that a step cannot use; names the file, row or column."""


class ContractError(DataError):
    """A critical expectation failed; names the expectation, the count and sample rows."""


class LeakageError(DataError):
    """A label reached a place where the model could see it before being asked."""


class ModelError(UserError):
    """A base model or checkpoint that is missing, unsafe or unreadable."""


class OutputError(UserError):
    """An output that a disk was too full for; names it."""


class TrainingError(UserError):
    """Training cannot go on (NaN loss, no usable group …); names the figure and the knob."""
