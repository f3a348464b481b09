"""How hard the random tests look, none of them timed. `pytest --hypothesis-profile=thorough` looks much longer."""

from hypothesis import HealthCheck, settings

_UNHURRIED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("default", max_examples=150, deadline=None, suppress_health_check=_UNHURRIED)
settings.register_profile("thorough", max_examples=5_000, deadline=None, suppress_health_check=_UNHURRIED)
settings.load_profile("default")
