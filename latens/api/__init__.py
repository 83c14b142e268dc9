"""What Python users call: the estimator, training, and figures for notebooks."""

from typing import TYPE_CHECKING

from latens import late

if TYPE_CHECKING:
    from latens.api import estimator, plot, training
else:
    __getattr__, __dir__, __all__ = late(__name__, {"": "estimator plot training"})
