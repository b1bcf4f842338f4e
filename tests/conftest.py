"""Settings that all tests share."""

from hypothesis import settings

settings.register_profile("hounsfield", deadline=None)  # a slow machine is no failure
settings.load_profile("hounsfield")
