"""Behaviour profiles: what is unusual for an entity, on one common scale of how often per tenant and day it is seen.

`Behaviour` is the detector, `fit` learns `Models` (calibration and forests) from the features it hands out.
"""

from detectors.behaviour.detector import Behaviour, FamilyStatus
from detectors.behaviour.inventory import Inventory
from detectors.behaviour.models import Learning, ModelRefused, Models, fit
from detectors.behaviour.profiles import Profile, ProfileError

__all__ = [
    "Behaviour",
    "FamilyStatus",
    "Inventory",
    "Learning",
    "ModelRefused",
    "Models",
    "Profile",
    "ProfileError",
    "fit",
]
