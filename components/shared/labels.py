"""Which items of a validation or test window are its labels, for retrieval's figures and for prompts."""

from pydantic import NonNegativeInt

from components.shared.config import strict


@strict
class LabelSettings:
    """The labels of a window; where no item is strong enough, its first one."""

    most: NonNegativeInt = 0
    """The first so many count; 0 = all."""
    min_engagement: float = 0.0
    """Engagement that a label needs."""


WHOLE_WINDOW = LabelSettings()
